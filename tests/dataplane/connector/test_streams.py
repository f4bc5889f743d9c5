"""TCP services over WebSocket and raw, bastion rules, back-pressure, half-close: real process, real origins."""

import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dataplane.wire import names
from dataplane.wire import websocket as ws
from dataplane.wire.h2frames import ErrorCode
from tests.dataplane.connector.lab import LabConnection, LabEdge, connector, echo, tcp_server, within

Config = dict[str, Any]


@contextlib.asynccontextmanager
async def serving(
    edge: LabEdge, base: Config, directory: Path, *ingress: dict[str, Any]
) -> AsyncIterator[LabConnection]:
    rules = [*ingress] if ingress[-1].get("hostname") is None else [*ingress, {"service": "http_status:404"}]
    async with connector(directory, config={**base, "ingress": rules}) as process:
        connection = await edge.registered()
        connection.process = process  # type: ignore[attr-defined]
        yield connection


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_ssh_service_echoes_through_websocket(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with (
        tcp_server(echo) as port,
        serving(
            edge, base, tmp_path, {"hostname": "ssh.example.com", "service": f"ssh://127.0.0.1:{port}"}
        ) as connection,
    ):
        stream = connection.open_websocket("SSH.example.com:8443")
        assert await stream.status() == 200
        assert (await stream.meta()).source == "origin"
        assert await stream.origin_headers() == [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-Websocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ]
        await stream.send_message(b"SSH-2.0-test\r\n")
        assert await stream.read_messages(14) == b"SSH-2.0-test\r\n"
        await stream.send_message(b"ping", opcode=ws.PING)
        assert await stream.read(6) == b"\x8a\x04ping"
        await stream.send_message(b"text is dropped", opcode=ws.TEXT)
        await stream.send_message(b"done")
        assert await stream.read_messages(4) == b"done"


async def test_messages_of_any_size_arrive_whole_and_leave_in_16_kib_pieces(
    edge: LabEdge, base: Config, tmp_path: Path
) -> None:
    payload = os.urandom(3_000_000)
    async with (
        tcp_server(echo) as port,
        serving(edge, base, tmp_path, {"service": f"tcp://localhost:{port}"}) as connection,
    ):
        stream = connection.open_websocket("x")
        sender = asyncio.get_running_loop().create_task(stream.send_message(payload))
        assert await within(stream.read_messages(len(payload))) == payload
        await sender


async def test_origin_close_ends_the_stream_after_all_data(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    payload = os.urandom(3_000_000)

    async def send_and_close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(payload)
        await writer.drain()

    async with (
        tcp_server(send_and_close) as port,
        serving(edge, base, tmp_path, {"service": f"tcp://127.0.0.1:{port}"}) as connection,
    ):
        stream = connection.open_websocket("x")
        assert hashlib.sha256(await stream.read_messages(len(payload))).digest() == hashlib.sha256(payload).digest()
        assert await stream.read_all() == ws.encode_close(ws.CLOSE_NORMAL, mask=None)
        assert stream.has_ended


async def test_websocket_close_half_closes_the_origin(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async def answer_after_eof(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = await reader.read()
        writer.write(b"got %d bytes" % len(received))
        await writer.drain()

    async with (
        tcp_server(answer_after_eof) as port,
        serving(edge, base, tmp_path, {"service": f"tcp://127.0.0.1:{port}"}) as connection,
    ):
        stream = connection.open_websocket("x")
        await stream.send_message(bytes(100_000))
        await stream.send(ws.encode_close(1000, mask=b"abcd"))
        assert await stream.read_messages(16) == b"got 100000 bytes"
        assert await stream.read_all() == ws.encode_close(1000, mask=None)
        await stream.wait_for(lambda: stream.reset_code == ErrorCode.NO_ERROR)


async def test_raw_stream_keeps_half_close_both_ways(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    late = asyncio.get_running_loop().create_future()

    async def finish_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.write_eof()
        late.set_result(await reader.read())

    async with (
        tcp_server(finish_first) as port,
        serving(edge, base, tmp_path, {"service": f"tcp://127.0.0.1:{port}"}) as connection,
    ):
        stream = connection.open([(names.H_TCP_SRC, "lab")], host=f"127.0.0.1:{port}")
        assert await stream.status() == 200
        assert await stream.read_all() == b"hello"
        assert stream.has_ended
        assert stream.reset_code is None
        await stream.send(b"after your end")
        await stream.send(b"", end=True)
        assert await within(late) == b"after your end"


async def test_raw_stream_goes_only_where_an_ingress_rule_goes(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with (
        tcp_server(echo) as port,
        tcp_server(echo) as other,
        serving(edge, base, tmp_path, {"service": f"tcp://127.0.0.1:{port}"}) as connection,
    ):
        stream = connection.open([(names.H_TCP_SRC, "lab")], host=f"127.0.0.1:{other}")
        assert await stream.status() == 502
        assert (await stream.meta()).reason == "destination_refused"
        named = connection.open([(names.H_TCP_SRC, "lab")], host=f"localhost:{port}")
        assert await named.status() == 502
        assert (await named.meta()).reason == "destination_invalid"


async def test_edge_reset_closes_the_origin_connection(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    gone = asyncio.get_running_loop().create_future()

    async def wait_for_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            gone.set_result(await reader.read())
        except ConnectionResetError:
            gone.set_result(b"")

    async with (
        tcp_server(wait_for_end) as port,
        serving(edge, base, tmp_path, {"service": f"tcp://127.0.0.1:{port}"}) as connection,
    ):
        stream = connection.open_websocket("x")
        assert await stream.status() == 200
        stream.reset()
        assert await within(gone) == b""


@pytest.mark.parametrize("frame", [b"\x82\x01x", b"\xf2\x80abcd"])
async def test_broken_frames_end_only_their_stream(edge: LabEdge, base: Config, tmp_path: Path, frame: bytes) -> None:
    async with (
        tcp_server(echo) as port,
        serving(edge, base, tmp_path, {"service": f"tcp://127.0.0.1:{port}"}) as connection,
    ):
        healthy, broken = connection.open_websocket("x"), connection.open_websocket("x")
        assert await healthy.status() == await broken.status() == 200
        await broken.send(frame)
        answer = await broken.read_all()
        assert answer[:1] == b"\x88"
        assert int.from_bytes(answer[2:4], "big") == ws.CLOSE_PROTOCOL_ERROR
        await healthy.send_message(b"fine")
        assert await healthy.read_messages(4) == b"fine"


async def test_data_sent_before_the_dial_is_done_is_not_lost(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with (
        tcp_server(echo) as port,
        serving(edge, base, tmp_path, {"service": f"tcp://localhost:{port}"}) as connection,
    ):
        stream = connection.open_websocket("x")
        await stream.send_message(b"early bird")
        assert await stream.read_messages(10) == b"early bird"


FAILURES = {
    "refused": ("ssh://127.0.0.1:{port}", "origin_refused", "connection refused by 127.0.0.1:{port}"),
    "refused by name": ("ssh://localhost:{port}", "origin_refused", "connection refused by"),
    "unresolvable": ("ssh://no-such-host.invalid:22", "origin_unresolvable", "no-such-host.invalid does not resolve"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_failed_dial_names_its_reason(edge: LabEdge, base: Config, tmp_path: Path, name: str) -> None:
    service, reason, detail = FAILURES[name]
    port = closed_port()
    async with serving(edge, base, tmp_path, {"service": service.format(port=port)}) as connection:
        stream = connection.open_websocket("x", [("cf-ray", "ray-1")])
        headers = await within(stream.headers)
        assert headers[":status"] == "502"
        assert headers["content-length"] == "0"
        meta = await stream.meta()
        assert (meta.source, meta.reason) == ("cloudflared", reason)
        assert meta.detail.startswith(detail.format(port=port))
        line = await connection.process.logged("stream refused")
        assert (line["reason"], line["ray"], line["level"]) == (reason, "ray-1", "warning")


async def test_connect_timeout_is_honoured(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        rule = {"service": f"tcp://127.0.0.1:{port}", "originRequest": {"connectTimeout": "1s"}}
        async with serving(edge, base, tmp_path, rule) as connection:
            stream = connection.open_websocket("x")
            assert await stream.status() == 502
            meta = await stream.meta()
            assert meta.reason == "origin_timeout"
            assert meta.detail == f"no answer from 127.0.0.1:{port} within 1 s"
        for filler in fillers:
            filler.close()


async def test_plain_get_to_a_tcp_service_is_refused(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    opened = []

    async def note(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        opened.append(True)

    async with (
        tcp_server(note) as port,
        serving(edge, base, tmp_path, {"service": f"tcp://127.0.0.1:{port}"}) as connection,
    ):
        stream = connection.open([], end=True)
        assert await stream.status() == 400
        assert (await stream.meta()).reason == "websocket_required"
    assert not opened


# ---- bastion -------------------------------------------------------------------------------------------------------


async def test_bastion_reaches_the_destination_asked_for(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with (
        tcp_server(echo) as port,
        serving(edge, base, tmp_path, {"service": "bastion"}) as connection,
    ):
        for destination in (f"127.0.0.1:{port}", f"ssh://localhost:{port}/ignored"):
            stream = connection.open_websocket("x", [(names.H_JUMP, destination)])
            assert await stream.status() == 200
            await stream.send_message(b"hello")
            assert await stream.read_messages(5) == b"hello"


REFUSED_DESTINATIONS = {
    "missing": (None, "destination_missing"),
    "no port": ("127.0.0.1", "destination_invalid"),
    "decimal": ("2130706433:22", "destination_invalid"),
    "octal": ("0177.0.0.1:22", "destination_invalid"),
    "hexadecimal": ("0x7f000001:22", "destination_invalid"),
    "mapped": ("[::ffff:127.0.0.1]:22", "destination_invalid"),
    "metadata": ("169.254.169.254:80", "destination_refused"),
    "link-local v6": ("[fe80::1]:22", "destination_refused"),
    "metadata v6": ("[fd00:ec2::254]:80", "destination_refused"),
    "unspecified": ("0.0.0.0:22", "destination_refused"),
    "unspecified v6": ("[::]:22", "destination_refused"),
    "multicast": ("224.0.0.1:22", "destination_refused"),
    "broadcast": ("255.255.255.255:22", "destination_refused"),
}


async def test_bastion_refuses_dangerous_destinations(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with serving(edge, base, tmp_path, {"service": "bastion"}) as connection:
        for name, (destination, reason) in REFUSED_DESTINATIONS.items():
            extra = [(names.H_JUMP, destination)] if destination else []
            stream = connection.open_websocket("x", extra)
            assert await stream.status() == 502, name
            assert (await stream.meta()).reason == reason, name


async def test_bastion_never_leads_to_the_connectors_own_metrics(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    port = closed_port()
    async with serving(edge, {**base, "metrics": f"127.0.0.1:{port}"}, tmp_path, {"service": "bastion"}) as connection:
        stream = connection.open_websocket("x", [(names.H_JUMP, f"localhost:{port}")])
        assert await stream.status() == 502
        assert (await stream.meta()).reason == "destination_refused"


async def test_ac62_no_ip_rule_opens_the_connectors_own_metrics(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    port = closed_port()
    rules = [{"prefix": prefix, "allow": True} for prefix in ("0.0.0.0/0", "::/0")]
    rule = {"service": "bastion", "originRequest": {"ipRules": rules}}
    async with serving(edge, {**base, "metrics": f"127.0.0.1:{port}"}, tmp_path, rule) as connection:
        # The unspecified address reaches loopback too.
        for host in ("127.0.0.1", "127.0.0.2", "localhost", "0.0.0.0", "[::]", "[::1]"):
            stream = connection.open_websocket("x", [(names.H_JUMP, f"{host}:{port}")])
            assert await stream.status() == 502, host
            assert (await stream.meta()).reason == "destination_refused", host


async def test_bastion_ip_rules_are_the_allow_list(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with tcp_server(echo) as port, tcp_server(echo) as other:
        rules = [{"prefix": "127.0.0.0/8", "ports": [port], "allow": True}]
        rule = {"service": "bastion", "originRequest": {"ipRules": rules}}
        async with serving(edge, base, tmp_path, rule) as connection:
            allowed = connection.open_websocket("x", [(names.H_JUMP, f"localhost:{port}")])
            assert await allowed.status() == 200
            for destination in (f"127.0.0.1:{other}", f"localhost:{other}", "10.0.0.1:22", f"[::1]:{port}"):
                refused = connection.open_websocket("x", [(names.H_JUMP, destination)])
                assert await refused.status() == 502
                meta = await refused.meta()
                assert meta.reason == "destination_refused"
                assert "ipRules" in meta.detail
            raw = connection.open([(names.H_TCP_SRC, "lab")], host=f"127.0.0.1:{other}")
            assert (await raw.meta()).reason == "destination_refused"


# ---- back-pressure -------------------------------------------------------------------------------------------------


async def test_stalled_origin_is_bounded_and_slows_no_other_stream(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    release = asyncio.Event()
    counted = asyncio.get_running_loop().create_future()

    async def stall(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        await release.wait()
        total = 1
        while data := await reader.read(1 << 20):
            total += len(data)
        counted.set_result(total)

    async with (
        tcp_server(stall) as stalled_port,
        tcp_server(echo) as port,
        serving(
            edge,
            base,
            tmp_path,
            {"hostname": "stalled", "service": f"tcp://127.0.0.1:{stalled_port}"},
            {"hostname": "quick", "service": f"tcp://127.0.0.1:{port}"},
        ) as connection,
    ):
        stalled, quick = connection.open_websocket("stalled"), connection.open_websocket("quick")
        assert await stalled.status() == await quick.status() == 200
        total = 64 << 20
        sender = asyncio.get_running_loop().create_task(stalled.send_message(bytes(total)))
        for _ in range(50):
            await quick.send_message(b"still quick")
            assert await quick.read_messages(11) == b"still quick"
        assert not sender.done()
        release.set()
        await within(sender, 30)
        await stalled.send(ws.encode_close(1000, mask=b"abcd"))
        assert await within(counted) == total


async def test_stalled_reader_stops_the_origin(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    sent = 0

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < 64 << 20:
            writer.write(bytes(1 << 16))
            await writer.drain()
            sent += 1 << 16

    edge.stream_window = 1 << 20
    async with (
        tcp_server(flood) as port,
        serving(edge, base, tmp_path, {"service": f"tcp://127.0.0.1:{port}"}) as connection,
    ):
        stream = connection.open_websocket("x")
        await stream.wait_for(lambda: len(stream.buffer) >= 1 << 20)
        seen = -1
        while seen != sent:  # until the origin could write nothing for a while
            seen = sent
            await asyncio.sleep(0.3)
        assert sent < 40 << 20
        assert len(await stream.read_messages(64 << 20)) == 64 << 20


async def test_two_hundred_parallel_streams(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with (
        tcp_server(echo) as port,
        serving(edge, base, tmp_path, {"service": f"tcp://127.0.0.1:{port}"}) as connection,
    ):

        async def one(number: int) -> None:
            stream = connection.open_websocket("x")
            payload = os.urandom(1000 + number * 100)
            await stream.send_message(payload)
            assert await stream.read_messages(len(payload)) == payload
            stream.reset()

        await within(asyncio.gather(*(one(number) for number in range(200))), 30)
