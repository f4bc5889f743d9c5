"""Reading tokens without verifying them: enough to know whose they are and whether sending them makes sense.

The edge verifies signatures; the client only needs to keep a token away from everybody but its own application.
No crypto import here: this module runs at every `ssh`.
"""

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

MAX_TOKEN_BYTES = 16 * 1024


class TokenError(ValueError):
    """This text cannot be used as a token; the message never contains the token."""


@dataclass(frozen=True, slots=True)
class Token:
    text: str = field(repr=False)
    audience: tuple[str, ...]
    issuer: str
    expires_at: int  # epoch seconds; usable while now <= expires_at (access-client.md 4.1)
    email: str | None

    @property
    def issuer_host(self) -> str:
        return urlsplit(self.issuer).hostname or ""


def read_token(text: str) -> Token:
    """Parses a compact RS256 JWS by the rules of access-client.md 4.1. Raises TokenError."""
    text = text.strip()
    pieces = text.split(".")
    if len(pieces) != 3 or not all(pieces) or len(text) > MAX_TOKEN_BYTES or not text.isascii():
        raise TokenError("not a signed token")
    header, claims = _decode(pieces[0]), _decode(pieces[1])
    if header.get("alg") != "RS256":
        raise TokenError("not an RS256 token")
    expires_at = claims.get("exp")
    if not isinstance(expires_at, int) or isinstance(expires_at, bool):
        raise TokenError("no integer expiry")
    issuer, email = claims.get("iss"), claims.get("email")
    if not isinstance(issuer, str) or not issuer.startswith("https://"):
        raise TokenError("no https issuer")
    return Token(text, _audience(claims.get("aud")), issuer, expires_at, email if isinstance(email, str) else None)


def check_app_token(text: str, *, aud: str, auth_host: str, now: float) -> Token:
    """A token for exactly this application of exactly this team domain. Raises TokenError saying what differs."""
    token = read_token(text)
    if aud not in token.audience:
        raise TokenError("it is for another application")
    if token.issuer_host != auth_host:
        raise TokenError(f"it was issued by {token.issuer_host}, not by {auth_host}")
    if now > token.expires_at:
        raise TokenError("it has expired")
    return token


def _decode(piece: str) -> dict[str, Any]:
    try:
        value = json.loads(base64.urlsafe_b64decode(piece + "=" * (-len(piece) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raise TokenError("malformed token") from None
    if not isinstance(value, dict):
        raise TokenError("malformed token")
    return value


def _audience(value: object) -> tuple[str, ...]:
    if isinstance(value, str) and value:
        return (value,)
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise TokenError("no audience")
