"""A person's application token, checked completely and now: signature, audience, revocation, session, identity."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime
from typing import Any

from django.db.models import CharField

from access import tokens
from access.models import Application
from accounts.errors import AuthenticationFailed, PermissionDenied
from accounts.models import AccessSession, Organization
from accounts.prepared import Parameter, PreparedRows

_SESSION = PreparedRows(
    lambda: AccessSession.objects.filter(
        organization=Parameter("organization", Organization._meta.pk), nonce=Parameter("nonce", CharField())
    ).select_related("identity__provider")
)
# A login gives a good token in place of these; any other invalid token is refused outright.
RENEWABLE = frozenset(
    {
        "token_expired",
        "token_key_unknown",
        "token_revoked",
        "session_unknown",
        "session_revoked",
        "session_expired",
    }
)


class SessionEnded(AuthenticationFailed):
    """The token is genuine, but what stood behind it has ended. `code` says what."""


class TokenRefused(PermissionDenied):
    """A token that no login would repair here: forged, foreign or malformed."""


def session_behind(application: Application, token: str, *, now: datetime) -> AccessSession:
    """The live session behind a person's token for this application, with identity and provider loaded.

    Raises SessionEnded (code in RENEWABLE), TokenRefused, or PermissionDenied "identity_disabled".
    """
    try:
        claims = tokens.verify(application.organization, token, now=now, audience=application.aud)
    except tokens.TokenInvalid as error:
        kind = SessionEnded if _login_helps(application.organization, token, error.code) else TokenRefused
        raise kind(error.message, code=error.code) from error
    if not claims.session_nonce:
        raise TokenRefused("This token names no person.", code="token_not_personal")
    revoked_at = application.tokens_revoked_at
    if revoked_at is not None and claims.issued_at <= int(revoked_at.timestamp()):
        raise SessionEnded("The application's tokens were revoked. Log in again.", code="token_revoked")
    return _live_session(application.organization, claims.session_nonce, now)


def unverified_audience(token: str) -> str:
    """The first audience a token claims, to know whose key and application to verify it against; "" if unreadable."""
    audience = _unverified_claims(token).get("aud")
    first = audience[0] if isinstance(audience, list) and audience else audience
    return first if isinstance(first, str) and "\0" not in first else ""


def issued_at(token: str) -> int | None:
    """When a token was issued, of one that session_behind has verified."""
    value = _unverified_claims(token).get("iat")
    return value if isinstance(value, int) else None


def bound_to(token: str) -> str:
    """Thumbprint of the device key of a token that session_behind has verified; "" for a bearer token."""
    return tokens.device_in(_unverified_claims(token))


def _login_helps(organization: Organization, token: str, code: str) -> bool:
    """An unknown key is either an old one of ours, or another tenant's: the claimed issuer tells which to say. A
    forger who claims to be us is sent to the login like anybody without a token."""
    if code == "token_key_unknown":
        return _unverified_claims(token).get("iss") == organization.team_url
    return code in RENEWABLE


def _unverified_claims(token: str) -> dict[str, Any]:
    parts = token.split(".")
    if len(token) > tokens.MAX_TOKEN_CHARACTERS or len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _live_session(organization: Organization, nonce: str, now: datetime) -> AccessSession:
    session = _SESSION.first(organization=organization.pk, nonce=nonce)
    if session is None:
        raise SessionEnded("The session of this token is gone. Log in again.", code="session_unknown")
    session.organization = organization
    if session.identity.disabled_at is not None:
        message = "Your account was disabled by an administrator of this organization."
        raise PermissionDenied(message, code="identity_disabled")
    if session.identity.provider.deleted_at is not None:
        raise SessionEnded("Your login method was removed. Log in with another one.", code="session_revoked")
    if session.revoked_at is not None:
        raise SessionEnded("Your session was revoked. Log in again.", code="session_revoked")
    if not session.is_active(now):
        raise SessionEnded("Your session has expired. Log in again.", code="session_expired")
    return session
