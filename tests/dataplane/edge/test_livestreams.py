"""When live streams are asked about again: their own organization's changes, and the end they are known to have."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest

from dataplane.edge.agent import AgentApi, Allowed, Cut, Rechecked
from dataplane.edge.httpclient import ControlPlaneUnreachableError
from dataplane.edge.livestreams import MAX_CLOSE_REASON_BYTES, LiveStream, LiveStreams, _told
from dataplane.edge.snapshots import SnapshotStore
from tests.dataplane.edge.conftest import Stage
from tests.dataplane.edge.fakes import ORG, OTHER_ORG, make_token


async def test_only_streams_of_the_changed_organization_are_asked_about(stage: Stage) -> None:
    stage.control.snapshot["changes"] = {ORG: 1, OTHER_ORG: 1}
    version = stage.control.change()
    await stage.until(lambda: stage.edge.snapshots.current.version == version)
    await stage.connector()
    eyeball = await stage.eyeball()
    assert (await eyeball.upgrade(headers={"Cf-Access-Token": make_token()})).status == 101
    others = stage.control.change(changes={ORG: 1, OTHER_ORG: version + 1})
    await stage.until(lambda: stage.edge.snapshots.current.version == others)
    await asyncio.sleep(0.3)
    assert stage.control.rechecked == []
    stage.control.cut = {"reason": "session_revoked", "message": "Revoked."}
    stage.control.change(changes={ORG: others + 1, OTHER_ORG: version + 1})
    assert await eyeball.is_closed()
    assert [item["hostname"] for item in stage.control.rechecked] == ["ssh.widgetcorp.localhost"]


class SlowFor:
    """A control plane that never answers about one organization's streams; each call must be about one only."""

    def __init__(self, slow: set[str]) -> None:
        self.slow = slow
        self.asked: list[str] = []
        self.given_up = asyncio.Event()

    async def recheck(self, streams: Sequence[Mapping[str, object]]) -> Rechecked:
        (organization,) = {str(stream["application_id"]) for stream in streams}
        self.asked.append(organization)
        if organization in self.slow:
            await self.given_up.wait()
            raise ControlPlaneUnreachableError("no answer in time")
        return Rechecked([Cut(str(stream["stream_id"]), "session_revoked", "") for stream in streams], {})


async def test_one_organizations_slow_answers_delay_the_ends_of_no_others_streams(tmp_path: Path) -> None:
    cut: list[str] = []

    def open_stream(organization: str) -> LiveStream:
        # The application's id says whose it is, for the fake above.
        return LiveStream(
            Allowed(organization, "n", None, None, None, 0),
            "192.0.2.1",
            None,
            1,
            lambda _code, _reason: cut.append(organization),
            organization,
        )

    control = SlowFor({ORG})
    agent = cast(AgentApi, control)
    live = LiveStreams(agent, SnapshotStore(agent, tmp_path))
    for organization in (ORG, OTHER_ORG):
        live.add(open_stream(organization))
    checking = asyncio.ensure_future(live._recheck(everything=True))
    async with asyncio.timeout(30):
        while not cut:
            await asyncio.sleep(0.01)
    assert cut == [OTHER_ORG], "before the slow one is given up"
    control.given_up.set()
    assert await checking is False
    control.slow.clear()
    live.remove(next(stream for stream in live._streams.values() if stream.organization_id == OTHER_ORG))
    assert await live._recheck(everything=False)
    assert cut == [OTHER_ORG, ORG], "what had no answer is asked about again"


async def test_a_stream_is_asked_about_at_its_known_end(stage: Stage) -> None:
    await stage.connector()
    stage.control.ends_in_seconds = 0.5
    eyeball = await stage.eyeball()
    began = time.monotonic()
    assert (await eyeball.upgrade(headers={"Cf-Access-Token": make_token()})).status == 101
    # Meanwhile somebody gave more time: the answer says so, and the stream goes on until that is over too.
    await stage.until(lambda: len(stage.control.rechecked) == 1)
    assert 0.4 <= time.monotonic() - began < 30, "a minute later all streams are asked about"
    assert not await eyeball.is_closed(0.2)
    stage.control.cut = {"reason": "approval_required", "message": "Your temporary access has ended."}
    assert await eyeball.is_closed()


async def test_a_stream_without_a_known_end_is_left_alone(stage: Stage) -> None:
    await stage.connector()
    eyeball = await stage.eyeball()
    assert (await eyeball.upgrade(headers={"Cf-Access-Token": make_token()})).status == 101
    assert not await eyeball.is_closed(0.7)
    assert stage.control.rechecked == []


async def test_an_end_that_nobody_confirms_cuts(stage: Stage) -> None:
    """Streams outlive an outage, but not the time they were given."""
    await stage.connector()
    spared = await stage.eyeball()
    assert (await spared.upgrade(headers={"Cf-Access-Token": make_token()})).status == 101
    stage.control.ends_in_seconds = 0.3
    eyeball = await stage.eyeball()
    assert (await eyeball.upgrade(headers={"Cf-Access-Token": make_token()})).status == 101
    await stage.control.stop()
    assert await eyeball.is_closed()
    assert not await spared.is_closed(0.1)
    await stage.control.start()


@pytest.mark.parametrize(
    ("cut", "told"),
    [
        (Cut("s", "gone", ""), "gone"),
        (Cut("s", "gone", "It is gone."), "gone: It is gone."),
        (Cut("s", "gone", "It is gone.", "ab12"), "gone: It is gone. (reference ab12)"),
        (Cut("s", "gone", "é" * 200, "ab12"), f"gone: {'é' * 48}… (reference ab12)"),
    ],
)
def test_what_a_cut_client_is_told_fits_a_close_frame(cut: Cut, told: str) -> None:
    assert _told(cut) == told
    assert len(_told(cut).encode()) <= MAX_CLOSE_REASON_BYTES
