"""HTTP services: proxying, bodies, trailers, upgrades, TLS and Unix origins, fixed answers."""

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from dataplane.wire import names
from tests.dataplane.connector.lab import LabEdge, connector, make_authority, tcp_server, within
from tests.dataplane.connector.test_streams import closed_port, serving

Config = dict[str, Any]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Origin:
    """Answers every request with `answer`; remembers head and body."""

    def __init__(self, answer: bytes, *, reads_body: bool = False) -> None:
        self.answer = answer
        self.reads_body = reads_body
        self.heads: list[str] = []
        self.bodies: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.heads.append(head)
        if self.reads_body:
            self.bodies.append(await self.read_body(head, reader))
        writer.write(self.answer)
        await writer.drain()

    @staticmethod
    async def read_body(head: str, reader: asyncio.StreamReader) -> bytes:
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        if "content-length" in fields:
            return await reader.readexactly(int(fields["content-length"]))
        assert fields["transfer-encoding"] == "chunked"
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        return body


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


async def test_get_is_proxied_with_headers_both_ways(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    origin = Origin(
        b"HTTP/1.1 201 Made\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n"
        b"Cf-Cloudflared-Evil: 1\r\nContent-Length: 5\r\n\r\nhello"
    )
    async with (
        tcp_server(origin) as port,
        serving(edge, base, tmp_path, {"service": f"http://127.0.0.1:{port}"}) as connection,
    ):
        extra = [("accept", "*/*"), ("cookie", "x=1"), ("cookie", "y=2"), ("cf-access-jwt-assertion", "token")]
        stream = connection.open(extra, host="app.example.com", path="/a/b?c=d%20e", end=True)
        assert await stream.status() == 201
        assert (await stream.headers)["content-length"] == "5"
        assert (await stream.meta()).source == "origin"
        assert await stream.origin_headers() == [
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("Content-Length", "5"),
        ]
        assert await stream.read_all() == b"hello"
    lines = origin.heads[0].split("\r\n")
    assert lines[0] == "GET /a/b?c=d%20e HTTP/1.1"
    assert lines[1] == "Host: app.example.com"
    assert "cookie: x=1; y=2" in lines
    assert "cf-access-jwt-assertion: token" in lines
    assert any(line.startswith("cf-warp-tag-id: ") for line in lines)
    assert not any(line.lower().startswith("transfer-encoding") for line in lines)


@pytest.mark.parametrize("is_sized", [True, False])
async def test_request_body_reaches_the_origin(edge: LabEdge, base: Config, tmp_path: Path, is_sized: bool) -> None:
    origin, body = Origin(OK, reads_body=True), os.urandom(2_000_000)
    async with (
        tcp_server(origin) as port,
        serving(edge, base, tmp_path, {"service": f"http://127.0.0.1:{port}"}) as connection,
    ):
        extra = [("content-length", str(len(body)))] if is_sized else []
        stream = connection.open(extra, method="POST")
        await stream.send(body, end=True)
        assert await stream.status() == 200
        assert await stream.read_all() == b"hello"
    assert origin.bodies == [body]


async def test_chunked_answer_with_trailers(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    origin = Origin(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 7\r\n\r\n"
    )
    async with (
        tcp_server(origin) as port,
        serving(edge, base, tmp_path, {"service": f"http://localhost:{port}"}) as connection,
    ):
        stream = connection.open([], end=True)
        assert await stream.read_all() == b"hello world"
        assert stream.trailers == [("x-sum", "7")]
        assert "content-length" not in await stream.headers


async def test_answer_until_close_and_large_download(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    body = os.urandom(5_000_000)
    async with (
        tcp_server(Origin(b"HTTP/1.0 200 OK\r\n\r\n" + body)) as port,
        serving(edge, base, tmp_path, {"service": f"http://127.0.0.1:{port}"}) as connection,
    ):
        assert await connection.open([], end=True).read_all() == body


async def test_head_has_no_body(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with (
        tcp_server(Origin(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")) as port,
        serving(edge, base, tmp_path, {"service": f"http://127.0.0.1:{port}"}) as connection,
    ):
        stream = connection.open([], method="HEAD", end=True)
        assert (await within(stream.headers))["content-length"] == "5000"
        assert await stream.read_all() == b""


BROKEN = {
    "not http": b"SSH-2.0-OpenSSH\r\n\r\n",
    "cut body": b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "header injection": b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
    "empty": b"",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_origins_are_a_502_or_a_reset(edge: LabEdge, base: Config, tmp_path: Path, name: str) -> None:
    async with (
        tcp_server(Origin(BROKEN[name])) as port,
        serving(edge, base, tmp_path, {"service": f"http://127.0.0.1:{port}"}) as connection,
    ):
        stream = connection.open([], end=True)
        await stream.read_all()
        if name == "cut body":
            assert await stream.status() == 200
            assert not stream.has_ended
            assert stream.reset_code
        else:
            assert await stream.status() == 502
            assert (await stream.meta()).reason == "origin_protocol"


async def test_upgrade_relays_raw_bytes(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Upgrade: websocket" in head
        assert b"Connection: Upgrade" in head
        assert b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==" in head
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nfirst"
        )
        while data := await reader.read(1000):
            writer.write(data.upper())

    async with (
        tcp_server(upgrade) as port,
        serving(edge, base, tmp_path, {"service": f"ws://127.0.0.1:{port}"}) as connection,
    ):
        stream = connection.open_websocket("app", path="/socket")
        assert await stream.status() == 200
        assert ("Upgrade", "websocket") in await stream.origin_headers()
        assert await stream.read(5) == b"first"
        await stream.send(b"raw bytes")
        assert await stream.read(9) == b"RAW BYTES"
        await stream.send(b"", end=True)
        await stream.wait_for(lambda: stream.is_over)


async def test_unfriendly_paths_and_methods_are_refused(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    origin = Origin(OK)
    async with (
        tcp_server(origin) as port,
        serving(edge, base, tmp_path, {"service": f"http://127.0.0.1:{port}"}) as connection,
    ):
        for request in ({"path": "/a b"}, {"path": "http://other/"}, {"method": "GET /x"}):
            stream = connection.open([], end=True, **request)
            assert await stream.status() == 400
            assert (await stream.meta()).reason == "request_invalid"
    assert origin.heads == []


async def test_unreachable_http_origin_names_the_reason(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    port = closed_port()
    async with serving(edge, base, tmp_path, {"service": f"http://127.0.0.1:{port}"}) as connection:
        stream = connection.open([("content-length", "5")], method="POST")
        await stream.send(b"hello", end=True)
        assert await stream.status() == 502
        assert (await stream.meta()).detail == f"connection refused by 127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def tls_origin(handler: Handler, context: ssl.SSLContext) -> AsyncIterator[int]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_https_origin_is_verified(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    ca_file, context = make_authority(tmp_path / "tls", host_names=("origin.internal",))
    origin = Origin(OK)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await origin(reader, writer)
        writer.close()

    async with tls_origin(handler, context) as port:
        service = f"https://127.0.0.1:{port}"
        rules = [
            {"hostname": "good", "service": service},
            {"hostname": "unknown-ca", "service": service, "originRequest": {"originServerName": "origin.internal"}},
            {"hostname": "wrong-name", "service": service},
            {"hostname": "unverified", "service": service, "originRequest": {"noTLSVerify": True}},
        ]
        rules[0]["originRequest"] = {"caPool": str(ca_file), "originServerName": "origin.internal"}
        rules[2]["originRequest"] = {"caPool": str(ca_file)}
        async with serving(edge, base, tmp_path, *rules) as connection:
            for host in ("good", "unverified"):
                stream = connection.open([], host=host, end=True)
                assert await stream.read_all() == b"hello", host
            for host in ("unknown-ca", "wrong-name"):
                stream = connection.open([], host=host, end=True)
                assert await stream.status() == 502
                meta = await stream.meta()
                assert meta.reason == "origin_tls"
                assert "was not accepted" in meta.detail


async def test_unix_socket_origin(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    origin = Origin(OK)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await origin(reader, writer)
        writer.close()

    server = await asyncio.start_unix_server(handler, tmp_path / "app.sock")
    rules = [
        {"hostname": "app", "service": f"unix:{tmp_path}/app.sock"},
        {"service": f"unix:{tmp_path}/missing.sock"},
    ]
    async with server, serving(edge, base, tmp_path, *rules) as connection:
        assert await connection.open([], host="app", end=True).read_all() == b"hello"
        missing = connection.open([], host="other", end=True)
        assert await missing.status() == 502
        assert (await missing.meta()).reason == "origin_missing"


async def test_fixed_answers_and_rule_order(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    rules = [
        {"hostname": "hello.example.com", "service": "hello_world"},
        {"hostname": "*.example.com", "path": "^/teapot", "service": "http_status:418"},
        {"service": "http_status:404"},
    ]
    async with serving(edge, base, tmp_path, *rules) as connection:
        hello = connection.open([], host="hello.example.com", end=True)
        assert b"hello.example.com" in await hello.read_all()
        assert ("Content-Type", "text/html; charset=utf-8") in await hello.origin_headers()
        statuses = {
            ("a.example.com", "/teapot/1"): 418,
            ("a.example.com", "/other"): 404,
            ("example.com", "/teapot"): 404,
        }
        for (host, path), status in statuses.items():
            stream = connection.open([], host=host, path=path, end=True)
            assert await stream.status() == status
            assert (await stream.meta()).source == "origin"
            assert await stream.read_all() == b""


async def test_no_rules_answer_503_and_management_is_closed(edge: LabEdge, base: Config, tmp_path: Path) -> None:
    async with connector(tmp_path, config=base):
        connection = await edge.registered()
        stream = connection.open([], end=True)
        assert await stream.status() == 503
        assert (await stream.meta()).reason == "no_ingress"
        management = connection.open([], host=names.MANAGEMENT_HOST, path="/logs", end=True)
        assert await management.status() == 404


async def test_body_for_a_fixed_answer_does_not_block_the_connection(
    edge: LabEdge, base: Config, tmp_path: Path
) -> None:
    async with serving(edge, base, tmp_path, {"service": "http_status:404"}) as connection:
        for _ in range(3):
            stream = connection.open([], method="POST")
            assert connection.h2.send_data(stream.stream_id, bytes(1 << 20)) == 1 << 20
            connection.flush()
            assert await stream.status() == 404
