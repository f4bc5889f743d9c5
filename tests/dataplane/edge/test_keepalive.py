"""A connector that stops answering is dropped; one that answers is kept."""

import asyncio

import pytest

from dataplane.edge import keepalive
from tests.dataplane.edge.conftest import Stage


async def test_vanished_connector_is_dropped(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepalive, "PING_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(keepalive, "PING_TIMEOUT_SECONDS", 2)
    living, dead = await stage.connector(index=0), await stage.connector(index=1)
    dead.thawed.clear()
    await stage.until(lambda: len(stage.edge.tunnels.registered()) == 1)
    await asyncio.sleep(0.2)  # several more rounds
    assert stage.edge.tunnels.registered()[0].registration.index == 0
    assert not living.closed.is_set()


async def test_unanswered_ping_ends_the_wait() -> None:
    dead = asyncio.Event()
    sent: list[bytes] = []
    beat = keepalive.Keepalive(sent.append, dead.set)
    assert await beat.check(0.01) is False
    answered = asyncio.get_running_loop().create_task(beat.check(5))
    await asyncio.sleep(0)
    beat.answered(sent[-1])
    assert await answered is True
    assert beat.rtt_seconds is not None and 0 <= beat.rtt_seconds < 5
    assert [len(payload) for payload in sent] == [8, 8]


async def test_silence_after_a_ping_is_death(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepalive, "PING_INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr(keepalive, "PING_TIMEOUT_SECONDS", 0.02)
    dead = asyncio.Event()
    beat = keepalive.Keepalive(lambda _: None, dead.set)
    beat.start()
    await asyncio.wait_for(dead.wait(), 30)


async def test_only_the_answer_to_the_newest_ping_measures_the_way() -> None:
    sent: list[bytes] = []
    beat = keepalive.Keepalive(sent.append, lambda: None)
    beat.start()
    beat.answered(b"\0" * 8)
    assert beat.rtt_seconds is None
    beat.answered(sent[0])
    assert beat.rtt_seconds is not None
    beat.stop()
