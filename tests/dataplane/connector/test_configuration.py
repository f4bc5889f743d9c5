"""Pushed configuration: versions, refusals, swaps that leave live streams alone."""

import json
from pathlib import Path
from typing import Any

from dataplane.wire import names
from tests.dataplane.connector.lab import LabConnection, LabEdge, connector, echo, tcp_server

Config = dict[str, Any]
LOCAL = [{"service": "http_status:404"}]


def rules(status: int) -> dict[str, Any]:
    return {"ingress": [{"service": f"http_status:{status}"}]}


async def status_of(connection: LabConnection) -> int:
    return await connection.open([], end=True).status()


async def test_versions_only_go_up(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with connector(tmp_path, config={**base, "ingress": LOCAL}):
        connection = await edge.registered()
        assert await status_of(connection) == 404
        assert await connection.push_config(0, rules(410)) == {"lastAppliedVersion": 0, "err": None}
        assert await status_of(connection) == 410
        assert await connection.push_config(7, rules(411)) == {"lastAppliedVersion": 7, "err": None}
        assert await status_of(connection) == 411
        for stale in (7, 3):
            assert await connection.push_config(stale, rules(412)) == {"lastAppliedVersion": 7, "err": None}
        assert await status_of(connection) == 411


async def test_all_connections_share_the_configuration(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    base["ha-connections"] = 2
    async with connector(tmp_path, config={**base, "ingress": LOCAL}):
        await edge.registered(2)
        await edge.connections[0].push_config(1, rules(410))
        assert await status_of(edge.connections[1]) == 410


async def test_version_survives_a_reconnect(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with connector(tmp_path, config={**base, "ingress": LOCAL}):
        connection = await edge.registered()
        await connection.push_config(5, rules(410))
        connection.transport.abort()
        await edge.wait_for(lambda: len(edge.connections) == 2)
        connection = await edge.registered()
        assert await connection.push_config(4, rules(411)) == {"lastAppliedVersion": 5, "err": None}
        assert await status_of(connection) == 410


async def test_refused_configuration_reports_why_and_changes_nothing(
    edge: LabEdge, base: Config, tmp_path: Path
) -> None:
    broken = {
        "must match every request": {"ingress": [{"hostname": "a.b", "service": "bastion"}]},
        "needs a scheme": {"ingress": [{"service": "localhost"}]},
        "integer number of seconds": {
            "ingress": LOCAL,
            "originRequest": {"connectTimeout": "10s"},
        },
        "socks-proxy is not offered": {"ingress": [{"service": "socks-proxy"}]},
        "ipRules": {"ingress": [{"service": "bastion", "originRequest": {"ipRules": [{"prefix": "x"}]}}]},
    }
    async with connector(tmp_path, config={**base, "ingress": LOCAL}) as process:
        connection = await edge.registered()
        await connection.push_config(1, rules(410))
        for version, (text, config) in enumerate(broken.items(), start=2):
            answer = await connection.push_config(version, config)
            assert answer["lastAppliedVersion"] == 1
            assert text in answer["err"]
        assert await status_of(connection) == 410
        assert await connection.push_config(9, rules(411)) == {"lastAppliedVersion": 9, "err": None}
        await process.logged("configuration version 2 refused")


async def test_unreadable_pushes_are_a_502(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    bodies = [b"", b"{", b"[]", b'{"version":"1","config":{}}', b'{"version":1}', b'{"version":-1,"config":{}}']
    async with connector(tmp_path, config={**base, "ingress": LOCAL}):
        connection = await edge.registered()
        for body in [*bodies, json.dumps({"version": 1, "config": "x" * (1 << 20)}).encode()]:
            stream = await connection.push(body)
            assert await stream.status() == 502
            assert (await stream.meta()).reason == "configuration_invalid"
        assert await status_of(connection) == 404


async def test_live_streams_survive_a_swap(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with tcp_server(echo) as port:
        local = [{"service": f"tcp://127.0.0.1:{port}"}]
        async with connector(tmp_path, config={**base, "ingress": local}):
            connection = await edge.registered()
            stream = connection.open_websocket("x")
            assert await stream.status() == 200
            assert (await connection.push_config(1, rules(404)))["err"] is None
            await stream.send_message(b"untouched")
            assert await stream.read_messages(9) == b"untouched"
            assert await connection.open_websocket("x").status() == 404


async def test_pushed_bastion_rules_limit_destinations(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with tcp_server(echo) as port, connector(tmp_path, config={**base, "ingress": LOCAL}):
        connection = await edge.registered()
        jump = [(names.H_JUMP, f"127.0.0.1:{port}")]
        assert await connection.open_websocket("x", jump).status() == 404
        ip_rules = [{"prefix": "127.0.0.1/32", "ports": [port], "allow": True}]
        config = {"ingress": [{"service": "bastion", "originRequest": {"ipRules": ip_rules}}]}
        assert (await connection.push_config(1, config))["err"] is None
        assert await connection.open_websocket("x", jump).status() == 200
        elsewhere = [(names.H_JUMP, "127.0.0.1:1")]
        assert (await connection.open_websocket("x", elsewhere).meta()).reason == "destination_refused"


async def test_starts_from_the_last_good_configuration(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    """F-38: no push comes after the start, as when no control plane answers."""
    state = ("--state-dir", str(tmp_path / "state"))
    async with connector(tmp_path, *state, config={**base, "ingress": LOCAL}):
        connection = await edge.registered()
        await connection.push_config(7, rules(410))
        await connection.push_config(8, {"ingress": [{"service": "socks-proxy"}]})
    (kept,) = (tmp_path / "state").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert json.loads(kept.read_text())["version"] == 7
    await edge.wait_for(lambda: not edge.serving)
    async with connector(tmp_path, *state, config={**base, "ingress": LOCAL}):
        connection = await edge.registered()
        assert await status_of(connection) == 410
        # The same version is taken once more: a copy that somebody changed on disk does not outlive the push.
        assert await connection.push_config(7, rules(411)) == {"lastAppliedVersion": 7, "err": None}
        assert await status_of(connection) == 411


async def test_a_copy_that_cannot_be_used_is_as_good_as_none(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    state = tmp_path / ".sallyport"
    state.mkdir(mode=0o700)
    kept = state / f"{base['tunnel']}.config.json"
    other = {"tunnel": "0" * 36, "version": 3, "config": rules(410)}
    broken = {"tunnel": base["tunnel"], "version": 3, "config": {"ingress": [{"service": "socks-proxy"}]}}
    for content in ("", "{", "[]", json.dumps(other), json.dumps(broken)):
        kept.write_text(content)
        kept.chmod(0o600)
        async with connector(tmp_path, config={**base, "ingress": LOCAL}):
            connection = await edge.registered()
            assert await status_of(connection) == 404
            connection.transport.abort()
        await edge.wait_for(lambda: not edge.serving)


async def test_no_copy_is_kept_when_told_so(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with connector(tmp_path, config={**base, "ingress": LOCAL}, environment={"TUNNEL_STATE_DIR": ""}):
        await (await edge.registered()).push_config(7, rules(410))
    assert not list((tmp_path / ".sallyport").glob("*.config.json"))
