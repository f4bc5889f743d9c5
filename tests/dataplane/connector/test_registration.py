"""Registration, refusals, reconnecting and stopping, with the real process over real TLS."""

import asyncio
import ipaddress
import json
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest

from dataplane.connector import supervisor
from dataplane.connector.settings import EdgeAddress
from dataplane.wire.credentials import TunnelCredentials
from tests.dataplane.connector.lab import (
    CREDENTIALS,
    LabEdge,
    connector,
    echo,
    make_authority,
    tcp_server,
)

Config = dict[str, Any]
NOT_FOUND = [{"service": "http_status:404"}]


async def test_four_connections_register_with_the_same_identity(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    del base["ha-connections"]
    async with connector(tmp_path, "ssh-pool", config={**base, "ingress": NOT_FOUND}):
        await edge.registered(4)
    registrations = [connection.registration for connection in edge.connections]
    assert sorted(item.conn_index for item in registrations) == [0, 1, 2, 3]
    first = registrations[0]
    assert first.conn_index == 0
    assert first.account_tag == CREDENTIALS.account_tag
    assert first.secret == CREDENTIALS.secret
    assert first.tunnel_id == CREDENTIALS.tunnel_id
    assert set(first.options.features) >= {"allow_remote_config", "serialized_headers"}
    assert len({item.options.client_id for item in registrations}) == 1
    assert first.options.client_id != uuid.UUID(int=0)
    assert first.options.origin_local_ip == bytes(10) + b"\xff\xff" + bytes([127, 0, 0, 1])


@pytest.mark.parametrize("source", ["flag", "variable", "file", "contents"])
async def test_credentials_from_every_source(
    edge: LabEdge, base: Config, tmp_path: Path, source: str, authority: Any
) -> None:
    del base["credentials-file"]
    arguments, environment = [], {"TUNNEL_EDGE": f"127.0.0.1:{edge.port}", "TUNNEL_CACERT": str(authority[0])}
    if source == "flag":
        arguments = ["--token", CREDENTIALS.to_token()]
    elif source == "variable":
        environment["TUNNEL_TOKEN"] = CREDENTIALS.to_token()
    elif source == "file":
        (tmp_path / "token").write_text(CREDENTIALS.to_token() + "\n")
        arguments = ["--token-file", str(tmp_path / "token")]
    else:
        environment["TUNNEL_CRED_CONTENTS"] = CREDENTIALS.to_file_json()
    async with connector(tmp_path, *arguments, environment=environment) as process:
        await edge.registered()
        assert any("visible to every user" in line["message"] for line in process.lines) == (source == "flag")
    assert all(CREDENTIALS.to_token()[:40] not in line for line in process.raw)


async def test_wrong_secret_is_reported_and_retried(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    wrong = TunnelCredentials(CREDENTIALS.account_tag, bytes(32), CREDENTIALS.tunnel_id)
    (tmp_path / "credentials.json").write_text(wrong.to_file_json())
    async with connector(tmp_path, config={**base, "ingress": NOT_FOUND}) as process:
        line = await process.logged("refused the registration")
        assert "Unauthorized: wrong secret" in line["message"]
        assert line["level"] == "error"
        await edge.wait_for(lambda: len(edge.connections) >= 3)
        assert process.process.returncode is None
    assert edge.serving == []


async def test_refused_connector_comes_back_when_the_edge_accepts(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    edge.refusal = ("the tunnel was deleted", 0, False)
    async with connector(tmp_path, config={**base, "ingress": NOT_FOUND}) as process:
        await process.logged("the tunnel was deleted")
        edge.refusal = None
        await edge.registered()


async def test_unknown_authority_is_refused_with_a_hint(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other, _ = make_authority(tmp_path / "other")
    async with connector(tmp_path, config={**base, "cacert": str(other), "ingress": NOT_FOUND}) as process:
        line = await process.logged("certificate was not accepted")
        assert "--cacert" in line["message"]
    assert edge.serving == []


async def test_edge_with_another_name_is_refused(base: Config, tmp_path: Path) -> None:
    ca_file, context = make_authority(tmp_path, host_names=("evil.example",))
    impostor = LabEdge(context)
    await impostor.start()
    config = {**base, "cacert": str(ca_file), "edge": [f"127.0.0.1:{impostor.port}"], "ingress": NOT_FOUND}
    async with connector(tmp_path, config=config) as process:
        await process.logged("certificate was not accepted")
    assert impostor.serving == []
    impostor.stop()


async def test_reconnects_after_a_lost_connection_every_time(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with connector(tmp_path, config={**base, "ingress": NOT_FOUND}):
        for round_number in range(1, 6):
            connection = await edge.registered()
            connection.transport.abort()
            await edge.wait_for(lambda seen=round_number: len(edge.connections) > seen, 3.0)
        await edge.registered(seconds=3.0)


async def test_reconnects_within_seconds_after_an_edge_restart(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with connector(tmp_path, config={**base, "ingress": NOT_FOUND}) as process:
        await edge.registered()
        edge.stop()
        await process.logged("cannot reach edge")
        await edge.start()
        await edge.registered(seconds=4.0)


async def test_ended_control_stream_leads_to_a_new_connection(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with connector(tmp_path, config={**base, "ingress": NOT_FOUND}):
        first = await edge.registered()
        first.h2.reset(first.control_id)
        first.flush()
        await edge.wait_for(lambda: len(edge.connections) == 2)
        await edge.registered()


async def test_protocol_error_closes_only_that_connection(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    base["ha-connections"] = 2
    async with connector(tmp_path, config={**base, "ingress": NOT_FOUND}) as process:
        first = await edge.registered(2)
        first.transport.write(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00")
        line = await process.logged("broke the protocol")
        assert "WINDOW_UPDATE of 0" in line["message"]
        await edge.wait_for(lambda: len(edge.connections) == 3)
        assert not edge.connections[1].is_lost


async def test_local_configuration_is_reported_unless_remotely_managed(
    edge: LabEdge, base: Config, tmp_path: Path
) -> None:
    edge.remotely_managed = False
    ingress = [{"hostname": "ssh.example.com", "service": "ssh://localhost:22"}, *NOT_FOUND]
    config = {**base, "originRequest": {"connectTimeout": "10s"}, "ingress": ingress}
    async with connector(tmp_path, config=config):
        connection = await edge.registered()
        await edge.wait_for(lambda: connection.local_config is not None)
    assert json.loads(connection.local_config) == {
        "ingress": [
            {"hostname": "ssh.example.com", "service": "ssh://localhost:22", "originRequest": {"connectTimeout": 10}},
            {"service": "http_status:404", "originRequest": {"connectTimeout": 10}},
        ],
        "warp-routing": {},
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_graceful_stop_unregisters_and_lets_streams_finish(
    edge: LabEdge, base: Config, tmp_path: Path, number: signal.Signals
) -> None:
    async with tcp_server(echo) as port:
        config = {**base, "ingress": [{"service": f"tcp://127.0.0.1:{port}"}]}
        async with connector(tmp_path, config=config) as process:
            connection = await edge.registered()
            stream = connection.open_websocket("x")
            assert await stream.status() == 200
            process.process.send_signal(number)
            await edge.wait_for(lambda: connection.is_unregistered)
            await stream.send_message(b"still alive")
            assert await stream.read_messages(11) == b"still alive"
            assert process.process.returncode is None
            stream.reset()
            assert await process.ended() == 0
    await edge.wait_for(lambda: connection.is_lost)
    assert connection.aborted_with == "rpc: shutdown"
    assert len(edge.connections) == 1


async def test_idle_connector_stops_at_once(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with connector(tmp_path, config={**base, "grace-period": "60s", "ingress": NOT_FOUND}) as process:
        await edge.registered()
        process.process.terminate()
        assert await process.ended() == 0


async def test_grace_period_ends_stubborn_streams(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with tcp_server(echo) as port:
        config = {**base, "grace-period": "1s", "ingress": [{"service": f"tcp://127.0.0.1:{port}"}]}
        async with connector(tmp_path, config=config) as process:
            stream = (await edge.registered()).open_websocket("x")
            assert await stream.status() == 200
            process.process.terminate()
            assert await process.ended() == 0
            assert await stream.read_all() == b""


async def test_second_signal_stops_without_grace(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with tcp_server(echo) as port:
        config = {**base, "grace-period": "120s", "ingress": [{"service": f"tcp://127.0.0.1:{port}"}]}
        async with connector(tmp_path, config=config) as process:
            connection = await edge.registered()
            stream = connection.open_websocket("x")
            assert await stream.status() == 200
            process.process.terminate()
            await edge.wait_for(lambda: connection.is_unregistered)
            process.process.terminate()
            assert await process.ended() == 0


async def test_stop_while_the_edge_is_away(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    edge.stop()
    async with connector(tmp_path, config={**base, "ingress": NOT_FOUND}) as process:
        await process.logged("cannot reach edge")
        process.process.terminate()
        assert await process.ended() == 0


async def test_ping_is_answered_and_readiness_is_served(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    config = {**base, "metrics": "127.0.0.1:0", "ingress": NOT_FOUND}
    async with connector(tmp_path, config=config) as process:
        await edge.registered()
        await process.logged("registered")
        port = int((await process.logged("metrics on"))["message"].rstrip(")").rpartition(" ")[2])
        bodies = {}
        for path in ("/ready", "/healthcheck", "/metrics", "/nothing"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            bodies[path] = (await reader.read()).decode()
            writer.close()
    assert bodies["/ready"].startswith("HTTP/1.1 200")
    assert json.loads(bodies["/ready"].partition("\r\n\r\n")[2])["readyConnections"] == 1
    assert bodies["/healthcheck"].endswith("OK\n")
    assert "cloudflared_tunnel_ha_connections 1" in bodies["/metrics"]
    assert bodies["/nothing"].startswith("HTTP/1.1 404")


async def test_log_directory_of_the_tutorial_is_used(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    config = {**base, "logDirectory": str(tmp_path / "log"), "ingress": NOT_FOUND}
    async with connector(tmp_path, config=config):
        await edge.registered()
    text = (tmp_path / "log" / f"{CREDENTIALS.tunnel_id}.log").read_text()
    assert "connecting to" in text


REFUSED_STARTS = {
    "no edge": ({"edge": []}, "no edge to connect to"),
    "bad edge": ({"edge": ["host:http"]}, "is not host:port"),
    "quic": ({"protocol": "quic"}, "use http2"),
    "other tunnel": ({"tunnel": str(uuid.UUID(int=5))}, "belong to tunnel 79a60ee2"),
    "no such CA": ({"cacert": "/nonexistent/ca.pem"}, "cannot use the CA file"),
    "no such credentials": ({"credentials-file": "/nonexistent.json"}, "cannot read /nonexistent.json"),
    "last rule": ({"ingress": [{"hostname": "a.b", "service": "bastion"}]}, "last ingress rule must match every"),
    "socks": ({"ingress": [{"service": "socks-proxy"}]}, "not offered"),
    "connector-side access": (
        {
            "ingress": [
                {
                    "service": "bastion",
                    "originRequest": {"access": {"required": True, "teamName": "t", "audTag": ["a"]}},
                }
            ]
        },
        "access.required is not offered",
    ),
}


@pytest.mark.parametrize("name", REFUSED_STARTS)
async def test_unusable_settings_end_with_one_clear_line(base: Config, tmp_path: Path, name: str) -> None:
    change, text = REFUSED_STARTS[name]
    async with connector(tmp_path, config={**base, **change}) as process:
        assert await process.ended() == 1
    assert text in process.raw[-1]
    assert "Traceback" not in "".join(process.raw)


async def test_nothing_to_run_explains_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.yml").write_text("tunnel: x\ningress: nonsense\n")  # the working directory
    async with connector(tmp_path) as process:
        assert await process.ended() == 1
    assert "no tunnel to run" in process.raw[-1]


async def test_fault_32_an_edge_that_moved_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is asked for at every attempt, and leads somewhere else by then."""
    where = [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("127.0.0.2")]
    met: list[str] = []

    async def arrived(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(writer.get_extra_info("sockname")[0])
        writer.close()

    async def resolved(host: str, port: int, *, timeout_seconds: float) -> list[Any]:
        assert host == "edge.example.test"
        return [where[0]]

    monkeypatch.setattr(supervisor, "resolve", resolved)
    first = await asyncio.start_server(arrived, "127.0.0.1", 0)
    port = first.sockets[0].getsockname()[1]
    second = await asyncio.start_server(arrived, "127.0.0.2", port)
    address = EdgeAddress("edge.example.test", port)
    async with asyncio.timeout(30), first, second:
        (await supervisor._connect_tcp(address)).close()
        where.pop(0)
        (await supervisor._connect_tcp(address)).close()
        while len(met) < 2:
            await asyncio.sleep(0.01)
    assert met == ["127.0.0.1", "127.0.0.2"]
