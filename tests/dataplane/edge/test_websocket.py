"""The SSH path: upgrade, relay, back-pressure, cut."""

import asyncio
import hashlib
import os

import pytest

from tests.dataplane.edge.conftest import Stage
from tests.dataplane.edge.eyeball import Messages
from tests.dataplane.edge.fakes import make_token

MEBIBYTE = 1 << 20


def bearer(**claims: object) -> dict[str, str]:
    return {"Cf-Access-Token": make_token(**claims)}  # type: ignore[arg-type]


async def test_allowed_upgrade_echoes(stage: Stage) -> None:
    connector = await stage.connector()
    eyeball = await stage.eyeball()
    response = await eyeball.upgrade(headers=bearer())
    assert response.status == 101
    assert response.get("upgrade") == "websocket"
    assert response.get("sec-websocket-accept")
    eyeball.send_message(b"SSH-2.0-test\r\n")
    assert await Messages(eyeball).read(14) == b"SSH-2.0-test\r\n"
    fields, _ = connector.requests[-1]
    assert fields["cf-access-jwt-assertion"] == "assertion.for.origin"
    assert "cf-access-token" not in fields


async def test_five_megabytes_both_ways(stage: Stage) -> None:
    await stage.connector()
    eyeball = await stage.eyeball()
    assert (await eyeball.upgrade(headers=bearer())).status == 101
    messages = Messages(eyeball)
    payload = os.urandom(5 * MEBIBYTE)

    async def send() -> None:
        for offset in range(0, len(payload), 16384):
            eyeball.send_message(payload[offset : offset + 16384])
            await eyeball.writer.drain()

    sending = asyncio.get_running_loop().create_task(send())
    received = await messages.read(len(payload))
    await sending
    assert hashlib.sha256(received).digest() == hashlib.sha256(payload).digest()


async def test_stalled_stream_leaves_the_others_alone(stage: Stage) -> None:
    """Upward: the connector reads nothing of one stream, whose share of the window is capped."""
    connector = await stage.connector()
    stalled = await stage.eyeball()
    assert (await stalled.upgrade("/stall", bearer())).status == 101
    for _ in range(256):
        stalled.send_message(bytes(16384))
    await stage.until(lambda: connector.stalled_bytes == 256 * 1024)
    other = await stage.eyeball()
    assert (await other.upgrade(headers=bearer())).status == 101
    payload = os.urandom(2 * MEBIBYTE)
    for offset in range(0, len(payload), 16384):
        other.send_message(payload[offset : offset + 16384])
    assert await Messages(other).read(len(payload)) == payload
    assert connector.stalled_bytes == 256 * 1024


async def test_reader_that_stalls_gets_everything_later(stage: Stage) -> None:
    """Downward: a client that does not read holds back its stream only, within bounds."""
    await stage.connector()
    eyeball = await stage.eyeball()
    assert (await eyeball.upgrade(headers=bearer())).status == 101
    payload = os.urandom(8 * MEBIBYTE)

    async def send() -> None:
        for offset in range(0, len(payload), 16384):
            eyeball.send_message(payload[offset : offset + 16384])
            await eyeball.writer.drain()

    sending = asyncio.get_running_loop().create_task(send())
    other = await stage.eyeball()
    assert (await other.upgrade(headers=bearer())).status == 101
    other.send_message(b"still here")
    assert await Messages(other).read(10) == b"still here"
    assert await Messages(eyeball).read(len(payload)) == payload
    await sending


async def test_dial_failure_is_named(stage: Stage) -> None:
    await stage.connector()
    response = await (await stage.eyeball()).upgrade("/refuse", bearer())
    assert (response.status, response.reason) == (502, "origin_refused")
    assert b"127.0.0.1:22" in response.body


async def test_answer_without_upgrade_is_not_a_101(stage: Stage) -> None:
    await stage.connector()
    response = await (await stage.eyeball()).upgrade("/no-upgrade", bearer())
    assert (response.status, response.reason) == (502, "origin_no_websocket")


async def test_tunnel_without_connection(stage: Stage) -> None:
    response = await (await stage.eyeball()).upgrade(headers=bearer())
    assert (response.status, response.reason) == (503, "tunnel_not_connected")


async def test_closed_connector_ends_the_relay(stage: Stage) -> None:
    connector = await stage.connector()
    eyeball = await stage.eyeball()
    assert (await eyeball.upgrade(headers=bearer())).status == 101
    await connector.stop()
    assert await eyeball.is_closed()


async def test_client_that_leaves_resets_the_stream(stage: Stage) -> None:
    connector = await stage.connector()
    eyeball = await stage.eyeball()
    assert (await eyeball.upgrade(headers=bearer())).status == 101
    await eyeball.close()
    await stage.until(lambda: connector.resets == 1)
    await stage.until(lambda: len(stage.edge.streams) == 0)


async def test_revoked_stream_gets_a_close_frame(stage: Stage) -> None:
    await stage.connector()
    eyeball = await stage.eyeball()
    assert (await eyeball.upgrade(headers=bearer())).status == 101
    messages = Messages(eyeball)
    eyeball.send_message(b"hello")
    assert await messages.read(5) == b"hello"
    stage.control.cut = {"reason": "session_revoked", "message": "Your session was revoked."}
    stage.control.change()
    close = await messages.read_close(5)
    assert close is not None
    assert close.code == 1008
    assert "session_revoked" in close.reason
    assert stage.control.rechecked[0]["session_nonce"] == "nonce-alice"
    assert await eyeball.is_closed()


async def test_cut_inside_a_frame_closes_without_corrupting_it(stage: Stage) -> None:
    await stage.connector()
    eyeball = await stage.eyeball()
    assert (await eyeball.upgrade("/half-frame", bearer())).status == 101
    stage.control.cut = {"reason": "session_revoked", "message": ""}
    stage.control.change()
    messages = Messages(eyeball)
    assert await messages.read_close(5) is None
    # Nothing was put into the frame that never ended.
    assert await messages.read(10) == b"x" * 10
    assert messages.left == 0


async def test_cut_waits_for_the_end_of_the_frame(stage: Stage) -> None:
    connector = await stage.connector()
    eyeball = await stage.eyeball()
    assert (await eyeball.upgrade("/half-frame", bearer())).status == 101
    stage.control.cut = {"reason": "session_revoked", "message": ""}
    stage.control.change()
    await stage.until(lambda: stage.control.rechecked)
    await asyncio.sleep(0.1)
    connector.complete_half_frame()
    messages = Messages(eyeball)
    close = await messages.read_close(5)
    assert close is not None
    assert close.code == 1008
    assert await messages.read(1000) == b"x" * 1000


async def test_stalled_reader_holds_a_bounded_amount(stage: Stage) -> None:
    """Fault 25: what a client does not read stays with the origin, not in the edge."""
    connector = await stage.connector()
    connector.flood = os.urandom(64 * MEBIBYTE)
    eyeball = await stage.eyeball()
    assert (await eyeball.upgrade("/flood", bearer())).status == 101
    sizes = [0, -1]
    while sizes[-1] != sizes[-2]:
        await asyncio.sleep(0.3)
        sizes.append(connector.unsent_bytes)
    # Reader limit of the test client, socket buffers and one stream window are what may be under way.
    assert sizes[-1] > 32 * MEBIBYTE
    assert await Messages(eyeball).read(64 * MEBIBYTE) == connector.flood


@pytest.mark.parametrize(
    ("origin", "status"),
    [(None, 403), ("https://evil.example", 403), ("null", 403), ("https://ssh.widgetcorp.localhost", 101)],
)
async def test_cookie_needs_own_origin(stage: Stage, origin: str | None, status: int) -> None:
    """AC-60."""
    await stage.connector()
    headers = {"Cookie": f"CF_Authorization={make_token()}"}
    if origin is not None:
        headers["Origin"] = origin
    response = await (await stage.eyeball()).upgrade(headers=headers)
    assert response.status == status
    if status == 403:
        assert response.reason == "websocket_origin_refused"


async def test_destination_is_the_authorized_one(stage: Stage) -> None:
    connector = await stage.connector()
    eyeball = await stage.eyeball()
    headers = {**bearer(), "Cf-Access-Jump-Destination": "ssh://10.0.0.5:22/x"}
    assert (await eyeball.upgrade(headers=headers)).status == 101
    assert connector.requests[-1][0]["cf-access-jump-destination"] == "10.0.0.5:22"
    assert stage.control.authorized[-1]["destination"] == "ssh://10.0.0.5:22/x"
