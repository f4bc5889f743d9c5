"""Second factors in tests: a person who logs in by PIN, an authenticator app, and a passkey in software."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import struct
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from django.http import HttpResponse
from fido2 import cbor
from fido2.cose import ES256

from access.models import Application
from accounts import totp
from tests.access.edge_client import TEAM, EdgeBrowser, form_of
from tests.access.login_flows import log_in_with_pin, start_at_application

EMAIL = "alice@widgetcorp.test"
TEAM_URL = f"https://{TEAM}"
ACCOUNT = f"{TEAM_URL}/cdn-cgi/access/account"
OPTIONS = f"{TEAM_URL}/cdn-cgi/access/passkeys/options"
ALL = {"allowed_authenticators": ["totp", "biometrics", "security_key"], "session_duration_seconds": 3600}


def team(path: str) -> str:
    return urljoin(TEAM_URL, path)


def text_of(page: HttpResponse) -> str:
    return page.content.decode()


def app_code(secret: bytes, *, steps: int = 0) -> str:
    return totp.code_at(secret, int(time.time()) // totp.STEP_SECONDS + steps)


def log_in(browser: EdgeBrowser, application: Application, email: str = EMAIL) -> HttpResponse:
    """Login at the provider done; the answer is what comes after it."""
    return log_in_with_pin(browser, start_at_application(browser, application), email)


def follow(browser: EdgeBrowser, answer: HttpResponse) -> tuple[str, HttpResponse]:
    """Redirects on the team domain, to the page or the first URL elsewhere."""
    url = ""
    while answer.status_code in {302, 303}:
        url = team(answer["Location"])
        if not url.startswith(TEAM_URL):
            return url, answer
        answer = browser.get(url)
    return url, answer


def enroll_app(browser: EdgeBrowser, url: str, page: HttpResponse) -> tuple[bytes, HttpResponse]:
    """From a page that offers it: the secret, and the answer to the right code."""
    setup, shown = follow(browser, browser.submit(url, page, containing="/account/app"))
    found = re.search(r"secret=([A-Z2-7]+)", text_of(shown))
    assert found, text_of(shown)
    secret = base64.b32decode(found.group(1))
    return secret, browser.submit(setup, shown, containing='name="code"', code=app_code(secret, steps=-1))


def onward_of(page: HttpResponse) -> str:
    """The way on from the page with recovery codes."""
    found = re.search(r'class="button wide" href="([^"]+)"', text_of(page))
    assert found, text_of(page)
    return team(found.group(1).replace("&amp;", "&"))


def recovery_codes_of(page: HttpResponse) -> list[str]:
    return re.findall(r"<li><code>([a-z2-9-]{14})</code></li>", text_of(page))


@dataclass
class SoftPasskey:
    """An authenticator in software (WebAuthn level 2, section 6), with every knob an attacker might turn."""

    rp_id: str = TEAM
    origin: str = TEAM_URL
    count: int = 1
    verifies: bool = True
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def create(self, options: dict[str, Any]) -> str:
        public = cbor.encode(dict(ES256.from_cryptography_key(self.key.public_key())))
        attested = bytes(16) + struct.pack(">H", len(self.credential_id)) + self.credential_id + public
        data = self._data(0x40, attested)
        statement = cbor.encode({"fmt": "none", "attStmt": {}, "authData": data})
        client = self._client_data("webauthn.create", options)
        return self._answer({"clientDataJSON": _text(client), "attestationObject": _text(statement)})

    def get(self, options: dict[str, Any]) -> str:
        self.count += 1 if self.count else 0
        data, client = self._data(0, b""), self._client_data("webauthn.get", options)
        signature = self.key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        return self._answer(
            {"clientDataJSON": _text(client), "authenticatorData": _text(data), "signature": _text(signature)}
        )

    def _data(self, flags: int, attested: bytes) -> bytes:
        flags |= 0x01 | (0x04 if self.verifies else 0)
        return hashlib.sha256(self.rp_id.encode()).digest() + bytes([flags]) + struct.pack(">I", self.count) + attested

    def _client_data(self, kind: str, options: dict[str, Any]) -> bytes:
        challenge = options["publicKey"]["challenge"]
        return json.dumps({"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False}).encode()

    def _answer(self, response: dict[str, str]) -> str:
        identifier = _text(self.credential_id)
        return json.dumps({"id": identifier, "rawId": identifier, "type": "public-key", "response": response})


def ask_options(browser: EdgeBrowser, page: HttpResponse, purpose: str) -> Any:
    _, fields = form_of(page, f'data-passkey="{purpose}"')
    return browser.request("POST", OPTIONS, {**fields, "purpose": purpose})


def add_passkey(browser: EdgeBrowser, page: HttpResponse, key: SoftPasskey, kind: str = "security_key") -> HttpResponse:
    given = ask_options(browser, page, kind).json()
    action, fields = form_of(page, f'data-passkey="{kind}"')
    values = {**fields, "challenge": given["id"], "answer": key.create(given["options"])}
    return browser.request("POST", team(action), values)


def use_passkey(browser: EdgeBrowser, page: HttpResponse, key: SoftPasskey) -> HttpResponse:
    given = ask_options(browser, page, "check").json()
    action, fields = form_of(page, 'data-passkey="check"')
    values = {**fields, "challenge": given["id"], "answer": key.get(given["options"])}
    return browser.request("POST", team(action), values)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
