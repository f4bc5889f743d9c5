"""What the edge tells about an application's live streams: how many, and how far away their people are."""

import asyncio
from typing import Any

from dataplane.edge.tcpinfo import round_trip_seconds
from dataplane.edge.ways import MAX_REMEMBERED, Ways
from tests.dataplane.edge.conftest import Stage
from tests.dataplane.edge.test_dials import bearer, report


def told(stage: Stage) -> list[dict[str, Any]]:
    ways: list[dict[str, Any]] = stage.control.reports[-1]["ways"]
    return ways


async def test_live_streams_are_counted_and_measured_by_the_kernel(stage: Stage) -> None:
    await stage.connector()
    eyeballs = [await stage.eyeball() for _ in range(2)]
    for eyeball in eyeballs:
        assert (await eyeball.upgrade(headers=bearer())).status == 101
    await report(stage)
    (way,) = told(stage)
    assert way["streams"] == 2
    # On loopback a few microseconds; never nothing, which would be no measurement.
    assert 0 < way["rtt_ms"] < 1000


async def test_a_stream_that_is_over_is_told_and_then_forgotten(stage: Stage) -> None:
    await stage.connector()
    eyeball = await stage.eyeball()
    assert (await eyeball.upgrade(headers=bearer())).status == 101
    await eyeball.close()
    await stage.until(lambda: len(stage.edge.streams) == 0)
    await report(stage)
    # A report of the edge's own may have told of it while it lived.
    ways = [way for sent in stage.control.reports for way in sent["ways"]]
    assert ways and all(way["rtt_ms"] > 0 for way in ways)
    await report(stage)
    assert told(stage) == []


class Stream:
    def __init__(self, application_id: str, seconds: float | None) -> None:
        self.allowed = self
        self.application_id = application_id
        self.round_trip = lambda: seconds


class Streams(list[Any]):
    def on_add(self, listener: Any) -> None:
        self.note = listener


def test_the_median_counts_and_what_is_remembered_is_bounded() -> None:
    streams = Streams()
    ways = Ways(streams)  # type: ignore[arg-type]
    streams += [Stream("a", seconds) for seconds in (0.010, 0.500, 0.030, None)]
    for number in range(MAX_REMEMBERED + 5):
        streams.note(Stream(f"over-{number}", 0.001))
    current = ways.current()
    assert (current[0].application_id, current[0].streams, current[0].rtt_seconds) == ("a", 4, 0.030)
    assert len(ways._measured) == MAX_REMEMBERED
    ways.told(current)
    assert [way.application_id for way in ways.current()][:1] == ["a"]


def test_a_transport_that_does_not_tell() -> None:
    assert round_trip_seconds(None) is None
    assert round_trip_seconds(asyncio.Transport()) is None
