"""The HTTP interfaces of Microsoft, Google, GitHub and Okta on loopback, as far as a login touches them."""

from __future__ import annotations

import base64
import itertools
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from django.test import override_settings

from tests.token_keys import shared_key

Route = Callable[["Asked"], Any]


class Asked:
    def __init__(self, path: str, query: dict[str, str], form: dict[str, str], headers: Any) -> None:
        self.path, self.query, self.form, self.headers = path, query, form, headers


# Clouds made one after the other never have the same key.
_numbers = itertools.cycle(range(104, 108))


class Cloud:
    """`routes`: path -> function of the request, giving a JSON document, or (status, document, headers)."""

    def __init__(self) -> None:
        self.key = shared_key(next(_numbers))
        self.routes: dict[str, Route] = {"/keys": lambda asked: self.jwks()}
        self.asked: list[Asked] = []
        self.claims: dict[str, Any] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def jwks(self) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()
        return {"keys": [{"kty": "RSA", "kid": "k", "n": _number(numbers.n), "e": _number(numbers.e)}]}

    def tokens(self, *, issuer: str, nonce: str, audience: str = "client-1") -> dict[str, Any]:
        now = int(time.time())
        claims = {"iss": issuer, "aud": audience, "iat": now, "exp": now + 300, "nonce": nonce, **self.claims}
        token = jwt.encode({k: v for k, v in claims.items() if v is not None}, self.key, "RS256", headers={"kid": "k"})
        return {"access_token": "access-" + secrets.token_hex(8), "id_token": token, "token_type": "Bearer"}

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]


@contextmanager
def running_cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    try:
        with override_settings(FETCH_ALLOWED_PRIVATE_HOSTS=[cloud.host]):
            yield cloud
    finally:
        cloud.stop()


def _handler(cloud: Cloud) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            self._answer({key: values[0] for key, values in parse_qs(body).items()})

        def _answer(self, form: dict[str, str]) -> None:
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            asked = Asked(parts.path, query, form, self.headers)
            cloud.asked.append(asked)
            route = cloud.routes.get(parts.path)
            found = route(asked) if route is not None else (404, {"error": "not_found"}, {})
            status, document, headers = found if isinstance(found, tuple) else (200, found, {})
            body = json.dumps(document).encode()
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Silent."""

    return Handler


def _number(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
