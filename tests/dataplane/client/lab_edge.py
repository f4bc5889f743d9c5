"""A small edge and control plane on one TLS port, speaking exactly what access-client.md describes."""

import base64
import datetime as dt
import json
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from nacl.public import Box, PrivateKey, PublicKey

from dataplane.wire import websocket as ws

AUD = "a" * 64
SERVICE_TOKEN = ("0123456789abcdef" * 2 + ".access", "s" * 64)
EMAIL = "alice@widgetcorp.example"
APP_HOST = "ssh-bastion.widgetcorp.localhost"
TEAM_HOST = "widgetcorp.access.localhost"
FOREIGN_HOST = "foreign.example.localhost"
KID = "key-1"
IO_TIMEOUT_SECONDS = 20.0


@dataclass
class Request:
    method: str
    host: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def bare_path(self) -> str:
        return urlsplit(self.path).path

    @property
    def host_name(self) -> str:
        return self.host.split(":")[0]


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


Handler = Callable[[Request], Answer]


class LabKeys:
    """Keys that are slow to make: once per test run."""

    def __init__(self) -> None:
        self.token_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.other_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.authority = ed25519.Ed25519PrivateKey.generate()


class LabEdge:
    def __init__(self, keys: LabKeys, directory: Path) -> None:
        self.keys = keys
        self.requests: list[Request] = []
        self.metadata_claims: dict[str, Any] = {}
        self.metadata_kid: str = KID
        self.metadata_key = keys.token_key
        self.valid_org_tokens: set[str] = set()
        self.valid_app_tokens: set[str] = set()
        self.accepts_unknown_tokens = False
        self.polls_before_approval = 0
        self.overrides: dict[tuple[str, str], Handler] = {}
        self.upgrade_refusal: Answer | None = None
        self.websocket_mode = "echo"
        self.close_first: tuple[int, str] | None = None
        self.origin: tuple[str, int] | None = None
        self.certificate_seconds = 240
        self.principals = [b"alice"]
        self.certificates = 0
        self.errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self.ca_path = directory / "ca.pem"
        self._context = _server_context(directory, self.ca_path)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self._is_stopping = threading.Event()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    # What tests ask.

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def app(self) -> str:
        return f"{APP_HOST}:{self.port}"

    @property
    def team(self) -> str:
        return f"{TEAM_HOST}:{self.port}"

    def seen(self, method: str, host: str, path_prefix: str) -> list[Request]:
        return [
            request
            for request in list(self.requests)
            if request.method == method and request.host_name == host and request.path.startswith(path_prefix)
        ]

    def stop(self) -> None:
        self._is_stopping.set()
        self._accepting.join(IO_TIMEOUT_SECONDS)
        self._listener.close()
        for thread in self._threads:
            thread.join(IO_TIMEOUT_SECONDS)
        assert not self.errors, self.errors

    # Tokens.

    def make_token(self, kind: str = "app", *, seconds: int = 3600, key: Any = None, **changes: Any) -> str:
        now = int(time.time())
        claims = {
            "aud": [AUD if kind == "app" else "org-aud"],
            "email": EMAIL,
            "exp": now + seconds,
            "iat": now,
            "nbf": now,
            "iss": f"https://{self.team}",
            "type": kind,
            "sub": "9f8b",
            "identity_nonce": os.urandom(4).hex(),
            **changes,
        }
        return jwt.encode(claims, key or self.keys.token_key, algorithm="RS256", headers={"kid": KID})

    def issue(self, kind: str, **changes: Any) -> str:
        token = self.make_token(kind, **changes)
        (self.valid_app_tokens if kind == "app" else self.valid_org_tokens).add(token)
        return token

    # Serving.

    def _accept(self) -> None:
        while not self._is_stopping.is_set():
            try:
                raw, _ = self._listener.accept()
            except TimeoutError:
                continue
            thread = threading.Thread(target=self._serve, args=(raw,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw: socket.socket) -> None:
        raw.settimeout(IO_TIMEOUT_SECONDS)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            tls = self._context.wrap_socket(raw, server_side=True)
        except OSError:
            raw.close()
            return
        try:
            with tls:
                self._serve_one(tls)
        except OSError:
            return
        except Exception as error:  # noqa: BLE001 - reported by stop(), in the test's thread
            self.errors.append(error)

    def _serve_one(self, tls: ssl.SSLSocket) -> None:
        request = _read_request(tls)
        if request is None:
            return
        self.requests.append(request)
        if request.headers.get("upgrade", "").lower() == "websocket":
            self._upgrade(tls, request)
            return
        override = self.overrides.get((request.host_name, request.bare_path))
        answer = override(request) if override else self._route(request)
        _send(tls, request, answer)

    def _route(self, request: Request) -> Answer:
        if request.host_name == TEAM_HOST:
            return self._team(request)
        if request.headers.get("cf-access-metadata-request") == "true":
            return Answer(200, [("Cf-Access-Metadata", self._metadata(request))])
        if request.bare_path == "/cdn-cgi/access/authorized":
            good = "nonce=n1" in request.path and "CF_AppSession=sess1" in request.headers.get("cookie", "")
            return Answer(302, [_token_cookie(self.issue("app")), ("Location", "/")]) if good else Answer(403)
        if request.headers.get("cf-access-token") in self.valid_app_tokens:
            return Answer(200, body=b"hello")
        return self._login_redirect(request)

    def _metadata(self, request: Request) -> str:
        claims = {
            "type": "match",
            "hostname": request.host_name,
            "auth_domain": self.team,
            "aud": AUD,
            "app_hostname": request.host_name,
            "iat": int(time.time()),
            **self.metadata_claims,
        }
        return jwt.encode(claims, self.metadata_key, algorithm="RS256", headers={"kid": self.metadata_kid})

    def _login_redirect(self, request: Request) -> Answer:
        url = f"https://{self.team}/cdn-cgi/access/login/{request.host_name}?kid={AUD}&redirect_url=%2F"
        return Answer(302, [("Location", url), ("Set-Cookie", "CF_AppSession=sess1; Path=/; Secure; HttpOnly")])

    def _team(self, request: Request) -> Answer:
        path = request.bare_path
        if path == "/cdn-cgi/access/certs":
            key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.keys.token_key.public_key()))
            return _json(200, {"keys": [{**key, "kid": KID, "alg": "RS256", "use": "sig"}]})
        if path.startswith("/cdn-cgi/access/login/"):
            cookie = request.headers.get("cookie", "").removeprefix("CF_Authorization=")
            if cookie in self.valid_org_tokens:
                return Answer(302, [("Location", f"https://{self.app}/cdn-cgi/access/authorized?nonce=n1&state=s1")])
            return Answer(200, body=b"<html>log in</html>")
        if path.startswith("/cdn-cgi/access/transfer/"):
            return self._transfer(path.rpartition("/")[2])
        if path == "/cdn-cgi/access/cert_sign" and request.method == "POST":
            return self._sign(json.loads(request.body), request.headers)
        return Answer(404)

    def _transfer(self, public_text: str) -> Answer:
        if self.polls_before_approval > 0:
            self.polls_before_approval -= 1
            return Answer(404)
        secret = PrivateKey.generate()
        tokens = {"app_token": self.issue("app"), "org_token": self.issue("org")}
        sealed = Box(secret, PublicKey(base64.urlsafe_b64decode(public_text))).encrypt(json.dumps(tokens).encode())
        public = base64.urlsafe_b64encode(bytes(secret.public_key)).decode()
        return Answer(200, [("service-public-key", public)], base64.b64encode(sealed))

    def _sign(self, document: dict[str, str], headers: dict[str, str]) -> Answer:
        shown = headers.get("cf-access-client-id"), headers.get("cf-access-client-secret")
        if shown != (None, None):
            return self._sign_for_machine(document, shown)
        if document["jwt"] not in self.valid_app_tokens:
            return _json(401, {"status": 401, "reason": "session_revoked", "message": "this session was revoked"})
        assert document["issuer"] == f"https://{self.team}"
        return self._issue(document, b"widgetcorp/ssh/alice")

    def _sign_for_machine(self, document: dict[str, str], shown: tuple[str | None, str | None]) -> Answer:
        if shown != SERVICE_TOKEN:
            return _json(401, {"status": 401, "reason": "service_token_invalid", "message": "wrong secret"})
        if document["aud"] != AUD:
            return _json(404, {"status": 404, "reason": "unknown_application", "message": "no such application"})
        return self._issue(document, b"widgetcorp/ssh/ci+" + SERVICE_TOKEN[0].encode())

    def _issue(self, document: dict[str, str], key_id: bytes) -> Answer:
        now = int(time.time())
        public_key = serialization.load_ssh_public_key(document["public_key"].encode())
        self.certificates += 1
        certificate = (
            serialization.SSHCertificateBuilder()
            .public_key(public_key)
            .serial(self.certificates)
            .type(serialization.SSHCertificateType.USER)
            .key_id(key_id)
            .valid_principals(self.principals)
            .valid_after(now - 60)
            .valid_before(now + self.certificate_seconds)
            .add_extension(b"permit-port-forwarding", b"")
            .add_extension(b"permit-pty", b"")
            .sign(self.keys.authority)
        )
        expires = dt.datetime.fromtimestamp(now + self.certificate_seconds, dt.UTC).isoformat()
        return _json(200, {"id": "c1", "certificate": certificate.public_bytes().decode(), "expires_at": expires})

    # WebSocket.

    def _upgrade(self, tls: ssl.SSLSocket, request: Request) -> None:
        if self.upgrade_refusal is not None:
            _send(tls, request, self.upgrade_refusal)
            return
        machine = (
            request.headers.get("cf-access-client-id") == "id1"
            and request.headers.get("cf-access-client-secret") == "s1"
        )
        if not machine and request.headers.get("cf-access-token") not in self.valid_app_tokens:
            _send(tls, request, self._login_redirect(request))
            return
        accept = ws.accept_key(request.headers["sec-websocket-key"])
        head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        first = b""
        if self.websocket_mode == "banner":
            first = ws.encode_frame(ws.BINARY, b"SSH-2.0-lab\r\n", mask=None)
        tls.sendall(f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode() + first)
        if self.origin is not None:
            _bridge(tls, self.origin)
        else:
            self._converse(tls)

    def _converse(self, tls: ssl.SSLSocket) -> None:
        if self.close_first is not None:
            code, reason = self.close_first
            tls.sendall(ws.encode_close(code, reason, mask=None))
        if self.websocket_mode == "vanish":
            return
        parser, held = ws.FrameParser(expects_mask=True), []
        while data := tls.recv(65536):
            for event in parser.receive_data(data):
                if isinstance(event, ws.PayloadReceived) and event.data:
                    assert len(event.data) <= 16384
                    if self.websocket_mode == "after-close":
                        held.append(bytes(event.data))
                    else:
                        tls.sendall(ws.encode_frame(ws.BINARY, event.data, mask=None))
                elif isinstance(event, ws.PingReceived):
                    tls.sendall(ws.encode_frame(ws.PONG, event.payload, mask=None))
                elif isinstance(event, ws.CloseReceived):
                    for piece in held:
                        tls.sendall(ws.encode_frame(ws.BINARY, piece, mask=None))
                    tls.sendall(ws.encode_close(1000, mask=None))
                    return


def _bridge(tls: ssl.SSLSocket, origin: tuple[str, int]) -> None:
    """What a connector does: frames on one side, bytes on the other, half-close kept."""
    parser = ws.FrameParser(expects_mask=True)
    with socket.create_connection(origin, timeout=IO_TIMEOUT_SECONDS) as server:
        while True:
            ready = [tls] if tls.pending() else select.select([tls, server], [], [], IO_TIMEOUT_SECONDS)[0]
            if server in ready:
                data = server.recv(16384)
                tls.sendall(ws.encode_frame(ws.BINARY, data, mask=None) if data else ws.encode_close(1000, mask=None))
                if not data:
                    return
            if tls in ready:
                received = tls.recv(65536)
                if not received:
                    return
                for event in parser.receive_data(received):
                    if isinstance(event, ws.PayloadReceived):
                        server.sendall(event.data)
                    elif isinstance(event, ws.CloseReceived):
                        server.shutdown(socket.SHUT_WR)


def _json(status: int, document: object) -> Answer:
    return Answer(status, [("Content-Type", "application/json")], json.dumps(document).encode())


json_answer = _json


def _token_cookie(token: str) -> tuple[str, str]:
    expires = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    text = expires.strftime("%a, %d %b %Y %H:%M:%S GMT")
    return "Set-Cookie", f"CF_Authorization={token}; Expires={text}; Path=/; Secure; HttpOnly"


def _read_request(tls: ssl.SSLSocket) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = tls.recv(65536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert len(headers) == len(lines), "a header came twice"
    while len(body) < int(headers.get("content-length", "0")):
        body += tls.recv(65536)
    return Request(method, headers["host"], path, headers, body)


def _send(tls: ssl.SSLSocket, request: Request, answer: Answer) -> None:
    lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {value}" for name, value in answer.headers)]
    lines += [f"Content-Length: {len(answer.body)}", "Connection: close"]
    body = b"" if request.method == "HEAD" else answer.body
    tls.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)


def _server_context(directory: Path, ca_path: Path) -> ssl.SSLContext:
    now = dt.datetime.now(dt.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab CA")])

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )

    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = [
        x509.DNSName(name) for name in (APP_HOST, TEAM_HOST, FOREIGN_HOST, "ssh.example.test", "team.example.test")
    ]
    leaf = (
        builder(x509.Name([]), key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    ca_path.write_bytes(ca.public_bytes(pem))
    pair = directory / "edge.pem"
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pair.write_bytes(private + leaf.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    return context
