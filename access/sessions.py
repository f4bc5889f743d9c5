"""The session behind a token: looked up now, so that a revoked session ends every token at once (AC-87)."""

from __future__ import annotations

from datetime import datetime, timedelta

from access import tokens
from accounts.models import AccessSession, Organization

# A hand-over from a session about to end would give tokens too short for a client's listener (access-client.md 11.3).
MIN_REMAINING = timedelta(minutes=11)


def session_of_nonce(organization: Organization, nonce: str, *, now: datetime) -> AccessSession | None:
    """The live session of an enabled identity of a login method that still exists."""
    if not nonce:
        return None
    session = (
        AccessSession.objects.for_organization(organization)
        .select_related("identity", "identity__provider", "organization")
        .filter(nonce=nonce, identity__disabled_at__isnull=True, identity__provider__deleted_at__isnull=True)
        .first()
    )
    return session if session is not None and session.is_active(now) else None


def organization_device(organization: Organization, token: str, *, now: datetime) -> str:
    """The device an organization token is bound to: what is exchanged for it is bound to the same one."""
    try:
        return tokens.verify(organization, token, now=now, audience=None).device if token else ""
    except tokens.TokenInvalid:
        return ""


def organization_session(organization: Organization, token: str, *, now: datetime) -> AccessSession | None:
    """None for anything but a valid organization token with a live session (application tokens: access.bearer)."""
    if not token:
        return None
    try:
        claims = tokens.verify(organization, token, now=now, audience=None)
    except tokens.TokenInvalid:
        return None
    return session_of_nonce(organization, claims.session_nonce, now=now)
