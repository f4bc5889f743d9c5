"""When live streams are asked about again: their own organization's changes, and the end they are known to have."""

from __future__ import annotations

import asyncio
import time

import pytest

from dataplane.edge.agent import Cut
from dataplane.edge.livestreams import MAX_CLOSE_REASON_BYTES, _told
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
    assert await eyeball.is_closed(5)
    assert [item["hostname"] for item in stage.control.rechecked] == ["ssh.widgetcorp.localhost"]


async def test_a_stream_is_asked_about_at_its_known_end(stage: Stage) -> None:
    await stage.connector()
    stage.control.ends_in_seconds = 0.5
    eyeball = await stage.eyeball()
    began = time.monotonic()
    assert (await eyeball.upgrade(headers={"Cf-Access-Token": make_token()})).status == 101
    # Meanwhile somebody gave more time: the answer says so, and the stream goes on until that is over too.
    await stage.until(lambda: len(stage.control.rechecked) == 1)
    assert 0.4 <= time.monotonic() - began < 2
    assert not await eyeball.is_closed(0.2)
    stage.control.cut = {"reason": "approval_required", "message": "Your temporary access has ended."}
    assert await eyeball.is_closed(2)


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
    began = time.monotonic()
    assert await eyeball.is_closed(8)
    assert time.monotonic() - began < 6
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
