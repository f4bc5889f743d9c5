"""What the edge tells about the way to a host: latency of connections, and how requests went."""

import asyncio
from typing import Any

from dataplane.edge.dials import MAX_KEPT, Dials
from dataplane.edge.errors import Refusal
from tests.dataplane.edge.conftest import Stage
from tests.dataplane.edge.fakes import make_token


def bearer() -> dict[str, str]:
    return {"Cf-Access-Token": make_token()}


async def report(stage: Stage) -> None:
    """Now, in the edge's own thread."""
    reporting = asyncio.run_coroutine_threadsafe(stage.edge.reporter.report(), stage.thread.loop)
    await asyncio.wrap_future(reporting)


def told(stage: Stage) -> list[dict[str, Any]]:
    return [dial for report in stage.control.reports for dial in report["dials"]]


async def test_a_stream_that_reached_its_host_is_reported_once(stage: Stage) -> None:
    await stage.connector()
    eyeball = await stage.eyeball()
    assert (await eyeball.upgrade(headers=bearer())).status == 101
    await report(stage)
    await report(stage)
    (dial,) = told(stage)
    connection = stage.edge.tunnels.registered()[0]
    assert (dial["reason"], dial["connection_id"]) == ("", connection.id)
    assert dial["hostname"] == eyeball.hostname and dial["ms"] >= 0


async def test_connections_tell_their_round_trip(stage: Stage) -> None:
    await stage.connector()
    await stage.until(lambda: stage.edge.tunnels.registered()[0].rtt_seconds is not None)
    await report(stage)
    assert 0 <= stage.control.reports[-1]["connections"][0]["rtt_ms"] < 10_000


class Exchange:
    """What Dials asks of an exchange."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[Refusal | None] = loop.create_future()
        self.end_reason = "completed"


async def watched(dials: Dials, refusal: Refusal | None, hostname: str = "ssh.widgetcorp.tech", end: str = "") -> None:
    exchange = Exchange()
    dials.watch(exchange, tunnel_id="t", hostname=hostname, connection_id="c", destination=None)  # type: ignore[arg-type]
    exchange.end_reason = end or exchange.end_reason
    if refusal is not None or end:
        exchange.done.set_result(refusal)
    exchange.answered.set_result(None)
    await asyncio.sleep(0)


async def test_the_reason_of_a_failure_is_kept_and_the_newest_counts() -> None:
    dials = Dials()
    await watched(dials, None)
    await watched(dials, Refusal(502, "origin_refused", "connection refused"))
    (dial,) = dials.fresh()
    assert (dial.reason, dial.message) == ("origin_refused", "connection refused")


async def test_what_is_not_the_hosts_fault_is_left_out() -> None:
    dials = Dials()
    await watched(dials, Refusal(403, "access_revoked", "revoked"))
    await watched(dials, None, end="client_closed")
    assert dials.fresh() == []


async def test_a_newer_result_is_not_lost_to_a_report_under_way() -> None:
    dials = Dials()
    await watched(dials, None)
    sent = dials.fresh()
    await watched(dials, Refusal(502, "origin_refused", "connection refused"))
    dials.told(sent)
    assert [dial.reason for dial in dials.fresh()] == ["origin_refused"]


async def test_memory_is_bounded() -> None:
    dials = Dials()
    for number in range(MAX_KEPT + 5):
        await watched(dials, None, f"host-{number}.widgetcorp.tech")
    assert len(dials._fresh) == MAX_KEPT
