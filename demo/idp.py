"""A small real OpenID Connect provider for the demo and the tests: code flow, PKCE, nonce, RS256, JWKS, userinfo.

`python -m demo.idp --port 9080` serves it on 127.0.0.1 with four people. Its login form asks only for a user name: it
plays somebody else's identity provider, and who may log in there is not what is being shown.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import json
import secrets
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CODE_SECONDS = 60
TOKEN_SECONDS = 300
REQUEST_TIMEOUT_SECONDS = 10
MAX_BODY_BYTES = 64 * 1024


@dataclass
class Person:
    username: str
    email: str
    name: str
    groups: list[str] = field(default_factory=list)
    email_verified: Any = True
    subject: str = ""

    def claims(self) -> dict[str, Any]:
        return {
            "sub": self.subject or f"user-{self.username}",
            "email": self.email,
            "email_verified": self.email_verified,
            "name": self.name,
            "preferred_username": self.username,
            "groups": self.groups,
            "amr": ["pwd", "mfa"],
        }


DEMO_PEOPLE: tuple[Person, ...] = (
    Person("alice", "alice@widgetcorp.test", "Alice Example", ["engineering", "staff"]),
    Person("bob", "bob@widgetcorp.test", "Bob Example", ["staff"]),
    Person("dana", "dana@widgetcorp.test", "Dana Example", ["engineering"]),
    Person("carol", "carol@elsewhere.test", "Carol Example", []),
)


@dataclass
class Grant:
    person: Person
    client_id: str
    redirect_uri: str
    nonce: str
    challenge: str
    expires_at: float


class IdentityProviderServer:
    """The server and its state. Tests reach in: `claims_overrides` bend ID tokens, `rotate_key` changes the key."""

    def __init__(
        self,
        *,
        port: int = 0,
        client_id: str = "sallyport",
        client_secret: str = "demo-secret",
        people: tuple[Person, ...] = DEMO_PEOPLE,
    ) -> None:
        self.client_id = client_id
        self.client_secret = client_secret
        self.people = {person.username: replace(person) for person in people}
        self.claims_overrides: dict[str, Any] = {}
        self.headers_overrides: dict[str, Any] = {}
        self.thin_id_tokens = False
        self.requests: list[str] = []
        self._grants: dict[str, Grant] = {}
        self._access: dict[str, Person] = {}
        self._lock = threading.Lock()
        self.rotate_key()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"provider": self}))
        self._server.daemon_threads = True
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def provider_config(self) -> dict[str, Any]:
        """The `config` of an OIDC login method that uses this provider."""
        return {
            "client_id": self.client_id,
            "auth_url": f"{self.issuer}/authorize",
            "token_url": f"{self.issuer}/token",
            "certs_url": f"{self.issuer}/jwks",
            "userinfo_url": f"{self.issuer}/userinfo",
            "issuer": self.issuer,
            "scopes": ["openid", "email", "profile", "groups"],
            "claims": ["groups", "preferred_username"],
        }

    def start(self) -> None:
        self._thread = threading.Thread(target=self.serve_forever, name="demo-idp", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join(10)
        self._server.server_close()

    def serve_forever(self) -> None:
        self._server.serve_forever(poll_interval=0.02)

    def rotate_key(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.kid = secrets.token_hex(8)

    # --- What the endpoints do ---

    def jwks(self) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid}
        return {"keys": [{**key, "n": _base64url_number(numbers.n), "e": _base64url_number(numbers.e)}]}

    def find_person(self, name: str) -> Person | None:
        wanted = name.strip().lower()
        return next((p for p in self.people.values() if wanted in {p.username, p.email.lower()}), None)

    def grant_code(self, person: Person, query: Mapping[str, str]) -> str:
        code = secrets.token_urlsafe(24)
        with self._lock:
            self._grants[code] = Grant(
                person=person,
                client_id=query["client_id"],
                redirect_uri=query["redirect_uri"],
                nonce=query.get("nonce", ""),
                challenge=query.get("code_challenge", ""),
                expires_at=time.time() + CODE_SECONDS,
            )
        return code

    def exchange(self, form: Mapping[str, str]) -> dict[str, Any] | None:
        """Tokens for a code, once; None when anything about it is wrong."""
        with self._lock:
            grant = self._grants.pop(form.get("code", ""), None)
        verifier = form.get("code_verifier", "")
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if grant is None or time.time() > grant.expires_at or form.get("redirect_uri") != grant.redirect_uri:
            return None
        if not secrets.compare_digest(challenge, grant.challenge):
            return None
        access_token = secrets.token_urlsafe(24)
        with self._lock:
            self._access[access_token] = grant.person
        return {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "id_token": self.id_token(grant),
        }

    def id_token(self, grant: Grant) -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": grant.client_id, "iat": now, "exp": now + TOKEN_SECONDS}
        about = grant.person.claims()
        claims |= {"sub": about["sub"]} if self.thin_id_tokens else about
        claims |= {"nonce": grant.nonce} | self.claims_overrides
        headers = {"kid": self.kid, **self.headers_overrides}
        return jwt.encode({k: v for k, v in claims.items() if v is not None}, self.key, "RS256", headers=headers)

    def userinfo(self, bearer: str) -> dict[str, Any] | None:
        with self._lock:
            person = self._access.get(bearer)
        return person.claims() if person is not None else None


class _Handler(BaseHTTPRequestHandler):
    provider: IdentityProviderServer
    protocol_version = "HTTP/1.1"
    server_version = "demo-idp"
    timeout = REQUEST_TIMEOUT_SECONDS

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.provider.requests.append(parts.path)
        if parts.path == "/.well-known/openid-configuration":
            self._json(_discovery(self.provider))
        elif parts.path == "/jwks":
            self._json(self.provider.jwks())
        elif parts.path == "/authorize":
            self._login_form(_flat(parts.query))
        elif parts.path == "/userinfo":
            self._userinfo()
        else:
            self._json({"error": "not_found"}, HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        self.provider.requests.append(parts.path)
        length = min(int(self.headers.get("Content-Length", 0)), MAX_BODY_BYTES)
        form = _flat(self.rfile.read(length).decode())
        if parts.path == "/token":
            self._token(form)
        elif parts.path == "/authorize":
            self._authorize(form)
        else:
            self._json({"error": "not_found"}, HTTPStatus.NOT_FOUND)

    def _login_form(self, query: Mapping[str, str]) -> None:
        if query.get("client_id") != self.provider.client_id or not query.get("redirect_uri"):
            self._json({"error": "invalid_client"}, HTTPStatus.BAD_REQUEST)
            return
        if query.get("code_challenge_method") != "S256" or query.get("response_type") != "code":
            self._json({"error": "invalid_request"}, HTTPStatus.BAD_REQUEST)
            return
        self._send(HTTPStatus.OK, "text/html; charset=utf-8", _form_page(self.provider, query).encode())

    def _authorize(self, form: Mapping[str, str]) -> None:
        target = form.get("redirect_uri", "")
        person = self.provider.find_person(form.get("username", ""))
        answer = {"state": form.get("state", ""), "iss": self.provider.issuer}
        if form.get("client_id") != self.provider.client_id or not target:
            self._json({"error": "invalid_client"}, HTTPStatus.BAD_REQUEST)
            return
        answer |= {"error": "access_denied"} if person is None else {"code": self.provider.grant_code(person, form)}
        self.send_response(HTTPStatus.FOUND)
        self.send_header("Location", f"{target}?{urlencode(answer)}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _token(self, form: Mapping[str, str]) -> None:
        if not self._is_client(form):
            self._json({"error": "invalid_client"}, HTTPStatus.UNAUTHORIZED)
            return
        tokens = self.provider.exchange(form)
        self._json(tokens or {"error": "invalid_grant"}, HTTPStatus.OK if tokens else HTTPStatus.BAD_REQUEST)

    def _is_client(self, form: Mapping[str, str]) -> bool:
        pair = f"{form.get('client_id', '')}:{form.get('client_secret', '')}"
        header = self.headers.get("Authorization", "")
        if header.startswith("Basic "):
            pair = base64.b64decode(header.removeprefix("Basic ")).decode()
        return secrets.compare_digest(pair, f"{self.provider.client_id}:{self.provider.client_secret}")

    def _userinfo(self) -> None:
        claims = self.provider.userinfo(self.headers.get("Authorization", "").removeprefix("Bearer "))
        self._json(claims or {"error": "invalid_token"}, HTTPStatus.OK if claims else HTTPStatus.UNAUTHORIZED)

    def _json(self, document: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(status, "application/json", json.dumps(document).encode())

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Silent: query strings hold states and codes."""


def _form_page(provider: IdentityProviderServer, query: Mapping[str, str]) -> str:
    hidden = "".join(
        f'<input type="hidden" name="{html.escape(key)}" value="{html.escape(value)}">' for key, value in query.items()
    )
    known = "".join(
        f'<button name="username" value="{html.escape(person.username)}">{html.escape(person.name)}</button> '
        for person in provider.people.values()
    )
    return (
        '<!doctype html><html lang="en"><title>Demo identity provider</title><link rel="icon" href="data:,">'
        "<h1>Demo identity provider</h1>"
        f'<form method="post" action="/authorize">{hidden}<label>User name <input name="username" autofocus></label> '
        f'<button>Log in</button></form><h2>Or as</h2><form method="post" action="/authorize">{hidden}{known}</form>'
    )


def _discovery(provider: IdentityProviderServer) -> dict[str, Any]:
    base = provider.issuer
    return {
        "issuer": base,
        "authorization_endpoint": f"{base}/authorize",
        "token_endpoint": f"{base}/token",
        "jwks_uri": f"{base}/jwks",
        "userinfo_endpoint": f"{base}/userinfo",
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": True,
    }


def _flat(query: str) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(query, keep_blank_values=True).items()}


def _base64url_number(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def main() -> int:
    parser = argparse.ArgumentParser(description="A small OpenID Connect provider on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--client-id", default="sallyport")
    parser.add_argument("--client-secret", default="demo-secret")
    parser.add_argument("--people", help="JSON file: [{username, email, name, groups, email_verified}]")
    options = parser.parse_args()
    people = DEMO_PEOPLE
    if options.people:
        with open(options.people, encoding="utf-8") as file:
            people = tuple(Person(**entry) for entry in json.load(file))
    provider = IdentityProviderServer(
        port=options.port, client_id=options.client_id, client_secret=options.client_secret, people=people
    )
    print(f"idp ready issuer={provider.issuer}", flush=True)
    try:
        provider.serve_forever()
    except KeyboardInterrupt:
        provider.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
