"""Ending sessions. Every token carries its session's nonce, so ending the session ends them all (AC-87)."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from accounts import audit, events
from accounts.actor import Actor
from accounts.models import AccessSession, Identity, LoginAttempt

KEEP_ENDED_SESSIONS = timedelta(days=90)


@transaction.atomic
def revoke_session(session: AccessSession, *, actor: Actor) -> bool:
    """False when it was revoked before: nothing changes then, and no event is written."""
    now = timezone.now()
    if not AccessSession.objects.filter(pk=session.pk, revoked_at__isnull=True).update(revoked_at=now):
        return False
    session.revoked_at = now
    audit.record(
        events.SESSION_REVOKED,
        organization=session.organization,
        actor=actor,
        target=session,
        new={"identity": str(session.identity), "identity_id": str(session.identity_id)},
    )
    return True


@transaction.atomic
def revoke_identity_sessions(identity: Identity, *, actor: Actor) -> int:
    """Sign the person out everywhere; returns how many sessions ended."""
    ended = end_sessions(identity)
    audit.record(
        events.SESSIONS_REVOKED,
        organization=identity.organization,
        actor=actor,
        target=identity,
        new={"sessions": ended},
    )
    return ended


def end_sessions(*identities: Identity) -> int:
    """Part of other actions (disabling an identity, deleting a login method), which record their own event."""
    now = timezone.now()
    return AccessSession.objects.filter(identity__in=identities, revoked_at__isnull=True, expires_at__gt=now).update(
        revoked_at=now
    )


def sweep_sessions(*, now: datetime) -> int:
    """Sessions that ended long ago. Certificates and logs keep their own copies of what they name."""
    deleted, _ = AccessSession.objects.filter(expires_at__lt=now - KEEP_ENDED_SESSIONS).delete()
    return deleted


def sweep_attempts(*, now: datetime) -> int:
    """Attempts that ended more than an hour ago; the audit log keeps what happened."""
    deleted, _ = LoginAttempt.objects.filter(expires_at__lt=now - timedelta(hours=1)).delete()
    return deleted
