"""The edge's neighbours in tests: a control plane that speaks the agent API and a connector built from the
wire."""

import asyncio
import hashlib
import json
import ssl
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from dataplane.wire.credentials import TunnelCredentials
from dataplane.wire.h2 import H2Connection
from dataplane.wire.h2events import DataReceived, HeadersReceived, StreamEnded, StreamReset, WindowUpdated
from dataplane.wire.headers import META_ORIGIN, connector_failure, serialize_headers
from dataplane.wire.names import (
    H_RESPONSE_HEADERS,
    H_RESPONSE_META,
    H_UPGRADE,
    SNI_TUNNEL,
    UPGRADE_CONFIGURATION,
    UPGRADE_CONTROL,
    UPGRADE_WEBSOCKET,
)
from dataplane.wire.rpc import ConnectionOptions, Registered, RegistrationRefused, RpcClientSession
from dataplane.wire.websocket import BINARY, FrameParser, PayloadReceived, accept_key, encode_frame

EDGE_TOKEN = "edge-token-for-tests-0123456789"
ORG, OTHER_ORG = "a" * 32, "b" * 32
TEAM, OTHER_TEAM = "widgetcorp.access.localhost", "gadget.access.localhost"
SSH_HOST, WEB_HOST, FOREIGN_HOST = "ssh.widgetcorp.localhost", "web.widgetcorp.localhost", "ssh.gadget.localhost"
TUNNEL_ID = "11111111-2222-4333-8444-555555555555"
SECRET = bytes(range(32))
INGRESS = {
    "ingress": [
        {"hostname": SSH_HOST, "service": "ssh://127.0.0.1:22"},
        {"hostname": WEB_HOST, "service": "http://127.0.0.1:80"},
        {"service": "http_status:404"},
    ]
}


@dataclass
class Key:
    kid: str
    private: rsa.RSAPrivateKey = field(
        default_factory=lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )

    def jwk(self) -> dict[str, Any]:
        document = jwt.algorithms.RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**document, "kid": self.kid, "alg": "RS256", "use": "sig"}


KEY, OTHER_KEY = Key("key-1"), Key("key-2")


def aud(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def make_token(key: Key = KEY, *, headers: dict[str, Any] | None = None, **changes: Any) -> str:
    now = int(time.time())
    claims = {
        "aud": [aud("ssh")],
        "iss": f"https://{TEAM}:8443",
        "email": "alice@widgetcorp.com",
        "sub": "alice",
        "type": "app",
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "identity_nonce": "nonce-alice",
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key.private, algorithm="RS256", headers={"kid": key.kid, **(headers or {})})


def application(name: str, hostname: str, org: str = ORG, path: str = "") -> dict[str, Any]:
    team = TEAM if org == ORG else OTHER_TEAM
    return {
        "id": f"app-{name}",
        "organization_id": org,
        "name": name,
        "hostname": hostname,
        "path": path,
        "aud": aud(name),
        "issuer": f"https://{team}:8443",
        "team_domain": team,
    }


def make_snapshot() -> dict[str, Any]:
    return {
        "version": 1,
        "team_domains": {TEAM: ORG, OTHER_TEAM: OTHER_ORG},
        "dashboard_hosts": ["localhost:8000"],
        "transfer_hosts": ["login.access.localhost"],
        "applications": [
            application("ssh", SSH_HOST),
            application("web", WEB_HOST),
            application("admin", WEB_HOST, path="admin"),
            application("foreign", FOREIGN_HOST, OTHER_ORG),
            application("unrouted", "unrouted.widgetcorp.localhost"),
            application("norule", "norule.widgetcorp.localhost"),
        ],
        "routes": [
            {"hostname": SSH_HOST, "tunnel_id": TUNNEL_ID, "organization_id": ORG},
            {"hostname": WEB_HOST, "tunnel_id": TUNNEL_ID, "organization_id": ORG},
            {"hostname": "norule.widgetcorp.localhost", "tunnel_id": TUNNEL_ID, "organization_id": ORG},
            # A route that slipped in for another tenant's application must not carry it.
            {"hostname": FOREIGN_HOST, "tunnel_id": TUNNEL_ID, "organization_id": ORG},
        ],
        "tunnels": [
            {
                "id": TUNNEL_ID,
                "organization_id": ORG,
                "name": "ssh-pool",
                "secret_sha256": [hashlib.sha256(SECRET).hexdigest()],
                "remote": True,
                "config_version": 3,
                "config": INGRESS,
                "min_registered_at": 0.0,
                "connectors": {},
            }
        ],
        "jwks": {ORG: {"keys": [KEY.jwk()]}, OTHER_ORG: {"keys": [OTHER_KEY.jwk()]}},
    }


class FakeControlPlane:
    """Answers the agent API from attributes a test may change, and echoes what is proxied to it."""

    def __init__(self) -> None:
        self.snapshot = make_snapshot()
        self.snapshots_asked = 0
        self.authorized: list[dict[str, Any]] = []
        self.rechecked: list[dict[str, Any]] = []
        self.reports: list[dict[str, Any]] = []
        self.transfers: dict[str, dict[str, str]] = {}
        self.refusals: dict[str, dict[str, str]] = {}
        self.cut: dict[str, str] | None = None
        self.ends_in_seconds: float | None = None
        self.cache_seconds = 0
        self.decide: Callable[[dict[str, Any]], dict[str, Any]] = self.allow
        self.url = ""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._server.wait_closed()

    def change(self, **changes: Any) -> int:
        """New snapshot version with these top-level values."""
        self.snapshot = {**self.snapshot, **changes, "version": self.snapshot["version"] + 1}
        return int(self.snapshot["version"])

    def change_tunnel(self, **changes: Any) -> int:
        return self.change(tunnels=[{**self.snapshot["tunnels"][0], **changes}])

    def allow(self, question: dict[str, Any]) -> dict[str, Any]:
        names = {SSH_HOST: "ssh", WEB_HOST: "web", FOREIGN_HOST: "foreign"}
        name = names.get(question["hostname"], question["hostname"].partition(".")[0])
        if question["hostname"] == WEB_HOST and question["path"].startswith("/admin"):
            name = "admin"
        if not question["token"] and not question["service_token_id"]:
            location = f"https://{TEAM}:8443/cdn-cgi/access/login/{question['hostname']}?kid=x"
            return {"outcome": "login", "location": location, "set_cookie": ["CF_AppSession=s1; Path=/; Secure"]}
        return {
            "outcome": "allow",
            "application_id": f"app-{name}",
            "organization_id": ORG,
            "session_nonce": "nonce-alice",
            "identity": "alice@widgetcorp.com",
            "assertion": "assertion.for.origin",
            "destination": "10.0.0.5:22" if question["destination"] else None,
            "cache_seconds": self.cache_seconds,
            **({} if self.ends_in_seconds is None else {"ends_in_seconds": self.ends_in_seconds}),
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.strip().split("\r\n")
                method, target, _ = first.split(" ")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                status, extra, answer = self._answer(method, target, headers, body)
                text = f"HTTP/1.1 {status} X\r\ncontent-length: {len(answer)}\r\n" + extra + "\r\n"
                writer.write(text.encode("latin-1") + (b"" if method == "HEAD" else answer))
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        if not target.startswith("/agent/"):
            echo = {"method": method, "target": target, "headers": headers, "body": body.decode("latin-1")}
            return 200, "cf-access-metadata: signed\r\nset-cookie: CF_Authorization=t; Path=/\r\n", _json(echo)
        if headers.get("authorization") != f"Bearer {EDGE_TOKEN}":
            return 401, "", b"{}"
        if target == "/agent/v1/snapshot":
            self.snapshots_asked += 1
            if headers.get("if-none-match") == f'"{self.snapshot["version"]}"':
                return 304, "", b""
            return 200, "", _json(self.snapshot)
        if target.startswith("/agent/v1/transfers/"):
            key = target.split("/")[-1].partition("?")[0].replace("%3D", "=")
            if key in self.refusals:
                return 410, "", _json(self.refusals[key])
            found = self.transfers.pop(key, None)
            if found is not None and "reason" in found:
                return 410, "", _json(found)
            return (200, "", _json(found)) if found else (404, "", b"{}")
        document = json.loads(body)
        if target == "/agent/v1/authorize":
            self.authorized.append(document)
            return 200, "", _json(self.decide(document))
        if target == "/agent/v1/recheck":
            self.rechecked.extend(document["streams"])
            cut = [{"stream_id": s["stream_id"], **self.cut} for s in document["streams"]] if self.cut else []
            ends = {s["stream_id"]: self.ends_in_seconds for s in document["streams"] if not cut}
            known = {"ends_in_seconds": ends} if self.ends_in_seconds is not None else {}
            return 200, "", _json({"cut": cut, **known})
        assert target == "/agent/v1/report"
        self.reports.append(document)
        return 200, "", _json({"ok": True, "snapshot_version": self.snapshot["version"]})


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


class FakeConnector:
    """HTTP/2 server on a dialled socket. tcp-like hosts echo WebSocket messages; others answer what they
    received.

    Paths choose special behaviour: /stall reads nothing, /refuse fails to dial, /big answers 3 MB, /silent
    never answers, /huge-header and /bad-headers misbehave."""

    def __init__(self, *, secret: bytes = SECRET, index: int = 0, client_id: uuid.UUID | None = None) -> None:
        self.credentials = TunnelCredentials(ORG, secret, uuid.UUID(TUNNEL_ID))
        self.index = index
        self.client_id = client_id or uuid.uuid4()
        self.result: Registered | RegistrationRefused | None = None
        self.configs: list[dict[str, Any]] = []
        self.config_answer: dict[str, Any] | None = None
        self.requests: list[tuple[dict[str, str], bytearray]] = []
        self.closed = asyncio.Event()
        self.decided = asyncio.Event()
        self.configured = asyncio.Event()
        self.stalled_bytes = 0
        # Cleared: the connector hangs, its socket stays open.
        self.thawed = asyncio.Event()
        self.thawed.set()
        # Sent instead of the registration when set.
        self.bootstrap = b""
        self.flood = b""
        self.half_frame_id = 0
        self.resets = 0
        self._h2 = H2Connection("server", stream_window=1 << 20, connection_window=1 << 20)
        self._rpc = RpcClientSession()
        self._control = 0
        self._streams: dict[int, tuple[dict[str, str], bytearray]] = {}
        self._parsers: dict[int, FrameParser] = {}
        self._pending: dict[int, bytearray] = {}
        self._ended: set[int] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self, address: tuple[str, int], context: ssl.SSLContext, name: str = SNI_TUNNEL) -> None:
        reader, self._writer = await asyncio.open_connection(*address, ssl=context, server_hostname=name)
        self._h2.initiate()
        self._flush()
        self._task = asyncio.get_running_loop().create_task(self._run(reader))

    async def registered(self) -> Registered | RegistrationRefused:
        await asyncio.wait_for(self.decided.wait(), 30)
        assert self.result is not None
        return self.result

    async def stop(self) -> None:
        self.thawed.set()
        self._writer.close()
        if self._task is not None:
            await asyncio.wait_for(self._task, 5)

    def complete_half_frame(self) -> None:
        self._send(self.half_frame_id, b"x" * 990)
        self._flush()

    @property
    def unsent_bytes(self) -> int:
        return sum(len(pending) for pending in self._pending.values())

    def unregister(self) -> None:
        self._h2.send_data(self._control, self._rpc.unregister())
        self._flush()

    def report_local(self, config: dict[str, Any]) -> None:
        self._h2.send_data(self._control, self._rpc.update_local_configuration(json.dumps(config).encode()))
        self._flush()

    def end_control_stream(self) -> None:
        self._h2.send_data(self._control, b"", end_stream=True)
        self._flush()

    async def _run(self, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(1 << 18):
                await self.thawed.wait()
                for event in self._h2.receive_data(data):
                    self._take(event)
                self._flush()
        except (OSError, ssl.SSLError):
            pass
        finally:
            self._writer.close()
            self.closed.set()
            self.decided.set()

    def _take(self, event: object) -> None:
        if isinstance(event, HeadersReceived):
            self._take_headers(event)
        elif isinstance(event, DataReceived):
            self._take_data(event)
        elif isinstance(event, WindowUpdated):
            for stream_id in list(self._pending):
                self._send(stream_id, b"")
        elif isinstance(event, StreamReset):
            self.resets += 1
            self._pending.pop(event.stream_id, None)
        elif isinstance(event, StreamEnded) and event.stream_id in self._streams:
            self._request_ended(event.stream_id)

    def _take_headers(self, event: HeadersReceived) -> None:
        fields = dict(event.headers)
        kind = fields.get(H_UPGRADE)
        if kind == UPGRADE_CONTROL:
            self._control = event.stream_id
            self._h2.send_headers(event.stream_id, [(":status", "200")])
            options = ConnectionOptions(self.client_id, ("serialized_headers",), "test", "linux")
            message = self.bootstrap or self._rpc.bootstrap_and_register(self.credentials, self.index, options)
            self._h2.send_data(event.stream_id, message)
            return
        self._streams[event.stream_id] = (fields, bytearray())
        if kind != UPGRADE_CONFIGURATION:
            self.requests.append(self._streams[event.stream_id])
        if kind == UPGRADE_WEBSOCKET:
            self._open_websocket(event.stream_id, fields)

    def _open_websocket(self, stream_id: int, fields: dict[str, str]) -> None:
        if fields[":path"].startswith("/refuse"):
            meta = str(connector_failure("origin_refused", "connection refused by 127.0.0.1:22"))
            self._h2.send_headers(stream_id, [(":status", "502"), (H_RESPONSE_META, meta)], end_stream=True)
            return
        headers = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Accept", accept_key(fields["sec-websocket-key"])),
        ]
        if fields[":path"].startswith("/no-upgrade"):
            headers = []
        self._answer(stream_id, 200, headers)
        self._parsers[stream_id] = FrameParser(expects_mask=True)
        if fields[":path"].startswith("/half-frame"):
            # A frame header that promises 1000 bytes, and only ten of them.
            self._send(stream_id, b"\x82\x7e\x03\xe8" + b"x" * 10)
            self.half_frame_id = stream_id
        if fields[":path"].startswith("/flood"):
            self._send(stream_id, encode_frame(BINARY, self.flood, mask=None))

    def _answer(self, stream_id: int, status: int, headers: list[tuple[str, str]]) -> None:
        fields = [
            (":status", str(status)),
            (H_RESPONSE_HEADERS, serialize_headers(headers)),
            (H_RESPONSE_META, str(META_ORIGIN)),
        ]
        self._h2.send_headers(stream_id, fields)

    def _take_data(self, event: DataReceived) -> None:
        data = bytes(event.data)
        if event.stream_id == self._control:
            self._h2.acknowledge(event.stream_id, event.flow_length)
            for answer in self._rpc.receive_data(data):
                if isinstance(answer, Registered | RegistrationRefused):
                    self.result = answer
                    self.decided.set()
            self._send_control()
            return
        fields, body = self._streams[event.stream_id]
        if fields[":path"].startswith("/stall"):
            self.stalled_bytes += len(data)
            return
        self._h2.acknowledge(event.stream_id, event.flow_length)
        parser = self._parsers.get(event.stream_id)
        if parser is None:
            body += data
            return
        for found in parser.receive_data(data):
            if isinstance(found, PayloadReceived) and found.data:
                self._send(event.stream_id, encode_frame(BINARY, bytes(found.data), mask=None))

    def _send_control(self) -> None:
        pending = self._rpc.data_to_send()
        if pending:
            self._h2.send_data(self._control, pending)

    def _request_ended(self, stream_id: int) -> None:
        fields, body = self._streams[stream_id]
        path = fields[":path"]
        if fields.get(H_UPGRADE) == UPGRADE_CONFIGURATION:
            self._take_config(stream_id, body)
        elif path.startswith("/refuse"):
            meta = str(connector_failure("origin_refused", "connection refused"))
            self._h2.send_headers(stream_id, [(":status", "502"), (H_RESPONSE_META, meta)], end_stream=True)
        elif path.startswith("/bad-headers"):
            values = [(":status", "200"), (H_RESPONSE_HEADERS, "%%%"), (H_RESPONSE_META, str(META_ORIGIN))]
            self._h2.send_headers(stream_id, values, end_stream=True)
        elif path.startswith("/short"):
            self._answer(stream_id, 200, [("Content-Length", "100")])
            self._h2.send_data(stream_id, b"only this", end_stream=True)
        elif path.startswith("/norule"):
            self._answer(stream_id, 404, [])
            self._h2.send_data(stream_id, b"", end_stream=True)
        elif path.startswith("/big"):
            self._answer(stream_id, 200, [("Content-Type", "application/octet-stream")])
            self._ended.add(stream_id)
            self._send(stream_id, bytes(3_000_000))
        elif not path.startswith("/silent"):
            self._answer_http(stream_id, fields, body)

    def _answer_http(self, stream_id: int, fields: dict[str, str], body: bytearray) -> None:
        answer = _json({"headers": fields, "length": len(body), "sha256": hashlib.sha256(body).hexdigest()})
        headers = [
            ("Content-Type", "application/json"),
            ("Set-Cookie", "session=1; Path=/"),
            ("Set-Cookie", "=CF_Authorization=nameless; Path=/"),
            ("Set-Cookie", " CF_AppSession =spaced; Path=/"),
            ("Set-Cookie", "CF_Authorization=stolen; Path=/"),
            ("Connection", "close"),
            ("Content-Length", str(len(answer))),
        ]
        self._answer(stream_id, 200, headers)
        if fields[":method"] == "HEAD":
            answer = b""
        self._h2.send_data(stream_id, answer, end_stream=True)

    def _take_config(self, stream_id: int, body: bytearray) -> None:
        config = json.loads(body)
        self.configs.append(config)
        answer = self.config_answer or {"lastAppliedVersion": config["version"], "err": None}
        self._h2.send_headers(stream_id, [(":status", "200")])
        self._h2.send_data(stream_id, _json(answer), end_stream=True)
        self.configured.set()

    def _send(self, stream_id: int, data: bytes) -> None:
        pending = self._pending.setdefault(stream_id, bytearray())
        pending += data
        ready = bytes(pending[: self._h2.send_capacity(stream_id)])
        is_last = stream_id in self._ended and len(ready) == len(pending)
        sent = self._h2.send_data(stream_id, ready, end_stream=is_last)
        del pending[:sent]
        if not pending:
            del self._pending[stream_id]

    def _flush(self) -> None:
        for piece in self._h2.data_to_send():
            if not self._writer.is_closing():
                self._writer.write(bytes(piece))
