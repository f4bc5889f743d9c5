"""Links that carry a login from an application host to the team domain and back.

    application host                         team domain                               application host
    302 + CF_AppSession cookie  ──────────>  login/<host>?kid&redirect_url&meta  ────>  authorized?nonce
                                             (login, policy)                            (cookie must match)

`meta` is our signed note of which browser session started the login: only its hash, so the team domain can bind the
one-time code to the application-host cookie without ever seeing that cookie (security.md AC-39, AC-40).
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from django.core import signing

from access.models import Application
from accounts.models import public_url
from dataplane.wire.names import COOKIE_APP_SESSION

# A login page left open longer starts again at the application.
LINK_LIFETIME_SECONDS = 3600
MAX_REDIRECT_CHARACTERS = 2048
_SALT = "access.login_links"
_APP_SESSION_COOKIE_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class LoginContext:
    """Where a login is going. `application_id` empty: a page of the team domain itself (`redirect_path`).

    `test_id`: nowhere; it is an admin's test of a login method (accounts.actions.provider_tests).
    """

    application_id: str = ""
    hostname: str = ""
    redirect_path: str = "/"
    app_session_sha256: str = ""
    test_id: str = ""

    def as_dict(self) -> dict[str, str]:
        return {
            "application_id": self.application_id,
            "hostname": self.hostname,
            "redirect_path": self.redirect_path,
            "app_session_sha256": self.app_session_sha256,
            "test_id": self.test_id,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(**{key: str(value) for key, value in values.items() if key in cls.__slots__})

    def sign(self) -> str:
        return signing.dumps(self.as_dict(), salt=_SALT)


def read_signed(text: str) -> LoginContext | None:
    """None when the text is not ours or older than LINK_LIFETIME_SECONDS."""
    try:
        return LoginContext.from_dict(signing.loads(text, salt=_SALT, max_age=LINK_LIFETIME_SECONDS))
    except signing.BadSignature:
        return None


def new_app_session() -> str:
    return secrets.token_urlsafe(24)


def hash_of(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def app_session_cookie(value: str) -> str:
    """The Set-Cookie value for the application host that starts a login (access-client.md 6.1 step 1)."""
    return (
        f"{COOKIE_APP_SESSION}={value}; Path=/; Max-Age={_APP_SESSION_COOKIE_SECONDS}; Secure; HttpOnly; SameSite=Lax"
    )


def login_url(application: Application, *, hostname: str, redirect_path: str, app_session: str) -> str:
    """The team domain's login page for a visitor of `hostname`, who holds CF_AppSession=`app_session` there."""
    context = LoginContext(
        application_id=str(application.id), hostname=hostname, app_session_sha256=hash_of(app_session)
    )
    query = urlencode(
        {"kid": application.aud, "redirect_url": safe_path(redirect_path, hostname), "meta": context.sign()}
    )
    return f"{application.organization.team_url}/cdn-cgi/access/login/{hostname}?{query}"


def safe_path(target: str, hostname: str, default: str = "/") -> str:
    """`target` as a path (with query) on `hostname`, or `default` when it leads, or may lead, anywhere else (AC-38).

    Full URLs are accepted only for exactly https://<hostname>[:our public port]. Backslashes, control characters,
    user info and a second leading slash are what browsers and parsers disagree about: refused, not repaired.
    """
    if not target or len(target) > MAX_REDIRECT_CHARACTERS:
        return default
    if any(ord(character) <= 0x20 or character == "\\" or ord(character) >= 0x7F for character in target):
        return default
    if target.startswith("/"):
        return default if target.startswith("//") else target
    try:
        parts = urlsplit(target)
    except ValueError:
        return default
    own = urlsplit(public_url(hostname))
    if parts.scheme != "https" or parts.netloc.lower() not in {own.netloc, hostname}:
        return default
    path = parts.path or "/"
    if not path.startswith("/") or path.startswith("//"):
        return default
    return f"{path}?{parts.query}" if parts.query else path
