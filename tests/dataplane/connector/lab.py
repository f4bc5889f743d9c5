"""A small edge built from wire.h2 and wire.rpc, origins to reach, and the real connector as a process."""

import asyncio
import contextlib
import datetime
import json
import os
import ssl
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dataplane.wire import h2events as e
from dataplane.wire import names, rpc
from dataplane.wire import websocket as ws
from dataplane.wire.credentials import TunnelCredentials
from dataplane.wire.h2 import ErrorCode, H2Connection
from dataplane.wire.headers import Header, ResponseMeta, parse_headers, parse_response_meta

TIMEOUT_SECONDS = 30.0
CREDENTIALS = TunnelCredentials("a" * 32, bytes(range(32)), uuid.UUID("79a60ee2-9a98-4f5f-96c7-76c88b2075be"))
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


async def within(awaitable: Awaitable[Any], seconds: float = TIMEOUT_SECONDS) -> Any:
    async with asyncio.timeout(seconds):
        return await awaitable


def make_authority(
    directory: Path, *, host_names: tuple[str, ...] = (names.SNI_TUNNEL,)
) -> tuple[Path, ssl.SSLContext]:
    """(CA file, server context) of a fresh authority."""
    now = datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in host_names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    ca_file, key_file = directory / "ca.pem", directory / "ca.key"
    ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca_file, key_file)
    return ca_file, context


class LabStream:
    """Client side of one stream; data is acknowledged when read()."""

    def __init__(self, connection: "LabConnection", stream_id: int) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.headers: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self.buffer = bytearray()
        self.trailers: list[Header] = []
        self.has_ended = False
        self.reset_code: int | None = None
        self.changed = asyncio.Event()

    @property
    def is_over(self) -> bool:
        return self.has_ended or self.reset_code is not None

    async def status(self) -> int:
        return int((await within(self.headers))[":status"])

    async def meta(self) -> ResponseMeta:
        return parse_response_meta((await within(self.headers))[names.H_RESPONSE_META])

    async def origin_headers(self) -> list[Header]:
        return parse_headers((await within(self.headers))[names.H_RESPONSE_HEADERS])

    async def read(self, count: int) -> bytes:
        await self.wait_for(lambda: len(self.buffer) >= count or self.is_over)
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        self.connection.h2.acknowledge(self.stream_id, len(data))
        self.connection.flush()
        return data

    async def read_all(self) -> bytes:
        data = bytearray()
        while not self.is_over or self.buffer:
            await self.wait_for(lambda: bool(self.buffer) or self.is_over)
            data += await self.read(len(self.buffer))
        return bytes(data)

    async def send(self, data: bytes, *, end: bool = False) -> None:
        view = memoryview(data)
        while True:
            view = view[self.connection.h2.send_data(self.stream_id, view, end_stream=end) :]
            self.connection.flush()
            if not view:
                return
            self.changed.clear()
            await within(self.changed.wait())

    async def send_message(self, payload: bytes, *, opcode: int = ws.BINARY) -> None:
        await self.send(ws.encode_frame(opcode, payload, mask=os.urandom(4)))

    async def read_messages(self, count: int) -> bytes:
        """`count` payload bytes of binary messages; checks the 16 KiB rule."""
        payload = bytearray()
        while len(payload) < count:
            head = await self.read(2)
            assert head[0] == 0x82, head
            length = head[1]
            if length == 126:
                length = int.from_bytes(await self.read(2), "big")
            assert length <= ws.MAX_TUNNEL_MESSAGE_BYTES
            payload += await self.read(length)
        return bytes(payload)

    def reset(self) -> None:
        self.connection.h2.reset(self.stream_id, ErrorCode.CANCEL)
        self.connection.flush()

    async def wait_for(self, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not predicate():
                self.changed.clear()
                await self.changed.wait()


class LabConnection(asyncio.Protocol):
    def __init__(self, edge: "LabEdge") -> None:
        self.edge = edge
        self.h2 = H2Connection("client", stream_window=edge.stream_window, connection_window=64 << 20)
        self.rpc = rpc.RpcServerSession()
        self.streams: dict[int, LabStream] = {}
        self.registration: rpc.RegisterConnection | None = None
        self.local_config: bytes | None = None
        self.is_unregistered = False
        self.aborted_with: str | None = None
        self.is_lost = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.h2.initiate()
        self.control_id = self.h2.open_stream(self.request([(names.H_UPGRADE, names.UPGRADE_CONTROL)]))
        self.flush()

    @staticmethod
    def request(extra: list[Header], *, host: str = "x", path: str = "/", method: str = "GET") -> list[Header]:
        return [(":method", method), (":scheme", "https"), (":authority", host), (":path", path), *extra]

    def open(self, extra: list[Header], *, end: bool = False, **request: str) -> LabStream:
        stream_id = self.h2.open_stream(self.request(extra, **request), end_stream=end)
        stream = self.streams[stream_id] = LabStream(self, stream_id)
        self.flush()
        return stream

    def open_websocket(self, host: str, extra: list[Header] | None = None, path: str = "/") -> LabStream:
        headers = [(names.H_UPGRADE, "websocket"), ("sec-websocket-key", KEY), ("sec-websocket-version", "13")]
        return self.open(headers + (extra or []), host=host, path=path)

    async def push(self, body: bytes) -> LabStream:
        stream = self.open([(names.H_UPGRADE, names.UPGRADE_CONFIGURATION)], method="POST")
        await stream.send(body, end=True)
        return stream

    async def push_config(self, version: int, config: dict[str, Any]) -> dict[str, Any]:
        stream = await self.push(json.dumps({"version": version, "config": config}).encode())
        assert await stream.status() == 200
        return json.loads(await stream.read_all())

    def flush(self) -> None:
        self.transport.writelines([bytes(piece) for piece in self.h2.data_to_send()])

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            self.take(event)
        self.flush()

    def take(self, event: e.Event) -> None:
        stream_id = getattr(event, "stream_id", 0)
        if isinstance(event, e.DataReceived) and stream_id == self.control_id:
            self.h2.acknowledge(stream_id, event.flow_length)
            self.take_rpc(bytes(event.data))
        elif isinstance(event, e.WindowUpdated | e.SettingsReceived) and not stream_id:
            for stream in self.streams.values():
                stream.changed.set()
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        if isinstance(event, e.HeadersReceived):
            if event.is_trailers:
                stream.trailers = event.headers
            else:
                stream.headers.set_result(dict(event.headers))
        elif isinstance(event, e.DataReceived):
            stream.buffer += event.data
        elif isinstance(event, e.StreamEnded):
            stream.has_ended = True
        elif isinstance(event, e.StreamReset):
            stream.reset_code = event.code
        stream.changed.set()

    def take_rpc(self, data: bytes) -> None:
        reply = b""
        for event in self.rpc.receive_data(data):
            if isinstance(event, rpc.RegisterConnection):
                reply += self.edge.answer_registration(self, event)
            elif isinstance(event, rpc.UpdateLocalConfiguration):
                self.local_config = event.config
                reply += self.rpc.respond_empty(event.question_id)
            elif isinstance(event, rpc.UnregisterConnection):
                self.is_unregistered = True
                reply += self.rpc.respond_empty(event.question_id)
            else:
                self.aborted_with = event.reason
        reply = self.rpc.data_to_send() + reply
        if reply:
            self.h2.send_data(self.control_id, reply)
        self.edge.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        for stream in self.streams.values():
            stream.reset_code = stream.reset_code or ErrorCode.INTERNAL_ERROR
            stream.changed.set()
        self.edge.changed.set()


class LabEdge:
    """Set `refusal` to refuse registrations; `connections` holds every connection ever made."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.refusal: tuple[str, int, bool] | None = None
        self.remotely_managed = True
        self.stream_window = 4 << 20
        self.connections: list[LabConnection] = []
        self.changed = asyncio.Event()
        self.server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(self.accept, "127.0.0.1", self.port, ssl=self.context)
        self.port = self.server.sockets[0].getsockname()[1]

    def accept(self) -> LabConnection:
        connection = LabConnection(self)
        self.connections.append(connection)
        return connection

    def stop(self) -> None:
        if self.server is not None:
            self.server.close()
        for connection in self.connections:
            if connection.transport is not None:
                connection.transport.abort()

    def answer_registration(self, connection: LabConnection, event: rpc.RegisterConnection) -> bytes:
        if self.refusal is not None:
            cause, retry_ns, should_retry = self.refusal
            return connection.rpc.respond_error(event.question_id, cause, retry_ns, should_retry)
        if event.secret != CREDENTIALS.secret:
            return connection.rpc.respond_error(event.question_id, "Unauthorized: wrong secret", 0, True)
        connection.registration = event
        return connection.rpc.respond_registered(event.question_id, uuid.uuid4(), "lab", self.remotely_managed)

    @property
    def serving(self) -> list[LabConnection]:
        return [
            item for item in self.connections if item.registration and not item.is_lost and not item.is_unregistered
        ]

    async def wait_for(self, predicate: Callable[[], bool], seconds: float = TIMEOUT_SECONDS) -> None:
        async with asyncio.timeout(seconds):
            while not predicate():
                self.changed.clear()
                await self.changed.wait()

    async def registered(self, count: int = 1, seconds: float = TIMEOUT_SECONDS) -> LabConnection:
        await self.wait_for(lambda: len(self.serving) >= count, seconds)
        return self.serving[0]


class ConnectorProcess:
    """`sallyport tunnel run` with its JSON log lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, str]] = []
        self.raw: list[str] = []
        self.changed = asyncio.Event()
        self.reader = asyncio.get_running_loop().create_task(self.read_log())

    async def read_log(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.raw.append(line.decode())
            with contextlib.suppress(ValueError):
                self.lines.append(json.loads(line))
            self.changed.set()

    async def logged(self, text: str, seconds: float = TIMEOUT_SECONDS) -> dict[str, str]:
        async with asyncio.timeout(seconds):
            while True:
                for line in self.lines:
                    if text in line["message"]:
                        return line
                self.changed.clear()
                await self.changed.wait()

    async def ended(self) -> int:
        code = await within(self.process.wait())
        await within(self.reader)
        return code


@contextlib.asynccontextmanager
async def connector(
    directory: Path, *arguments: str, config: dict[str, Any] | None = None, environment: dict[str, str] | None = None
) -> AsyncIterator[ConnectorProcess]:
    """Runs in an empty working directory with HOME=directory; killed at the end."""
    import yaml

    (directory / ".sallyport").mkdir(mode=0o700, exist_ok=True)
    if config is not None:
        (directory / ".sallyport" / "config.yml").write_text(yaml.safe_dump(config))
    credentials = directory / "credentials.json"
    if not credentials.exists():
        credentials.write_text(CREDENTIALS.to_file_json())
        credentials.chmod(0o600)
    empty = directory / "empty"
    empty.mkdir(exist_ok=True)
    root = Path(__file__).parents[3]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "dataplane.cli",
        "tunnel",
        "run",
        "--log-format",
        "json",
        *arguments,
        stderr=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
        cwd=empty,
        env={"HOME": str(directory), "PATH": os.environ["PATH"], "PYTHONPATH": str(root)} | (environment or {}),
    )
    running = ConnectorProcess(process)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await within(process.wait())
        await within(running.reader)


@contextlib.asynccontextmanager
async def tcp_server(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """The port of an origin."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(guarded, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
