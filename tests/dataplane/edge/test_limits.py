"""What hostile or slow peers cost, and what they cannot do to others."""

import asyncio
import json

import pytest

from dataplane.edge import public
from dataplane.edge.listener import Limits
from dataplane.edge.tunnels import parse_local_config
from tests.dataplane.edge.conftest import Stage
from tests.dataplane.edge.fakes import TEAM, WEB_HOST, aud, make_token


async def test_slow_head_is_answered_408(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "HEAD_SECONDS", 0.2)
    eyeball = await stage.eyeball()
    eyeball.writer.write(b"GET / HTTP/1.1\r\nHost: ")
    response = await eyeball.response()
    assert (response.status, response.reason) == (408, "request_timeout")
    assert await eyeball.is_closed()


async def test_silent_and_idle_connections_are_closed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "FIRST_HEAD_SECONDS", 0.2)
    monkeypatch.setattr(public, "IDLE_SECONDS", 0.2)
    silent = await stage.eyeball()
    idle = await stage.eyeball()
    assert (await idle.request()).status == 302
    assert await silent.is_closed()
    assert await idle.is_closed()


async def test_dripping_body_is_cut(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "BODY_PERIOD_SECONDS", 0.5)
    await stage.connector()
    eyeball = await stage.eyeball(WEB_HOST)
    headers = {"Cf-Access-Token": make_token(aud=[aud("web")]), "Content-Length": "100000"}
    await eyeball.send_head("POST", "/up", headers)
    eyeball.writer.write(b"drip")
    response = await eyeball.response()
    assert (response.status, response.reason) == (408, "request_timeout")


async def test_connections_per_address_are_capped(stage: Stage) -> None:
    stage.edge._public._limits = Limits(total=100, per_address=2, handshakes=100)
    kept = [await stage.eyeball(), await stage.eyeball()]
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await stage.eyeball()
    assert (await kept[0].request()).status == 302
    await kept[1].close()
    await stage.until(lambda: stage.edge._public.connection_count == 1)
    assert (await (await stage.eyeball()).request()).status == 302


async def test_half_open_handshakes_are_capped_and_released(stage: Stage) -> None:
    stage.edge._public._limits = Limits(total=100, per_address=100, handshakes=3)
    half = [await asyncio.open_connection(*stage.edge.public_address) for _ in range(3)]
    await stage.until(lambda: stage.edge._public.connection_count == 3)
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await stage.eyeball()
    for _, writer in half:
        writer.close()
        await writer.wait_closed()
    await stage.until(lambda: stage.edge._public.connection_count == 0)
    assert (await (await stage.eyeball()).request()).status == 302


async def test_reports_survive_what_a_hostile_connector_says(stage: Stage) -> None:
    connector = await stage.connector()
    await asyncio.wait_for(connector.configured.wait(), 5)
    connector.config_answer = {"lastAppliedVersion": 2**40, "err": None}
    stage.control.change_tunnel(config_version=4)
    await stage.until(lambda: len(connector.configs) == 2)
    connector._h2.send_data(connector._control, connector._rpc.update_local_configuration(b'{"ingress": [], "x": NaN}'))
    connector._flush()
    await stage.until(lambda: (stage.control.reports[-1]["connections"] or [{}])[0].get("config_error"))
    (row,) = stage.control.reports[-1]["connections"]
    assert row["applied_version"] == 3
    assert row["local_config"] is None


@pytest.mark.parametrize(
    "config",
    [
        b"{",
        b"[]",
        b"3",
        b'{"x": NaN}',
        b'{"x": 1e999}',
        b'{"x": "\\u0000"}',
        b'{"x": "\\ud800"}',
        b'{"x": ' + b"[" * 50 + b"]" * 50 + b"}",
        b"[" * 100_000,
        b'{"x": ' + b"9" * 5000 + b"}",
        b'{"x": "' + b"a" * 300_000 + b'"}',
        b"\xff\xfe",
    ],
)
def test_local_configurations_that_could_hurt_readers_are_refused(config: bytes) -> None:
    assert parse_local_config(config) is None


def test_plain_local_configuration_is_kept() -> None:
    document = {"ingress": [{"service": "ssh://h:22", "originRequest": {"connectTimeout": 10}}], "warp-routing": {}}
    assert parse_local_config(json.dumps(document).encode()) == document


async def test_refused_login_ends_the_transfer(stage: Stage) -> None:
    key = "B" * 43 + "="
    stage.control.refusals[key] = {"reason": "login_denied", "message": "The login was denied."}
    response = await (await stage.eyeball(TEAM)).request("GET", "/cdn-cgi/access/transfer/" + key)
    assert (response.status, response.reason) == (410, "login_denied")


async def test_recheck_follows_a_change_even_when_the_control_plane_was_away(stage: Stage) -> None:
    """Live streams outlive an outage, and are asked about as soon as it ends."""
    await stage.connector()
    eyeball = await stage.eyeball()
    assert (await eyeball.upgrade(headers={"Cf-Access-Token": make_token()})).status == 101
    await stage.control.stop()
    await asyncio.sleep(1.2)
    stage.control.cut = {"reason": "session_revoked", "message": ""}
    stage.control.change()
    await stage.control.start()
    assert await eyeball.is_closed()


async def test_background_loops_survive_a_bad_round(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage.edge.reporter, "document", lambda: {"bad": object()})
    await asyncio.sleep(0.2)
    await stage.connector()
    await asyncio.sleep(0.5)
    monkeypatch.undo()
    count = len(stage.control.reports)
    await stage.until(lambda: len(stage.control.reports) > count)
