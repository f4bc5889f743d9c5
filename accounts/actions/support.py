"""Support sessions: the only way by which staff of the installation see an organization's data (AC-57).

Everything about them is in the organization's own audit log: that one was asked for and why, its start, each page that
was looked at, its extension and its end.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit, events
from accounts.actor import Actor, system
from accounts.errors import Conflict, InvalidInput, PermissionDenied
from accounts.models import Organization, SupportSession, User

LONGEST = timedelta(hours=4)
SHORTEST = timedelta(minutes=5)
SHORTEST_REASON, LONGEST_REASON = 10, 500


@transaction.atomic
def request_support_session(
    organization: Organization, *, staff: User, reason: str, duration: timedelta, actor: Actor
) -> SupportSession:
    """Starts at once, or waits where the organization wants to be asked first."""
    _assert_staff(staff)
    clean = _clean_reason(reason)
    if not SHORTEST <= duration <= LONGEST:
        raise InvalidInput(
            "A support session lasts 5 minutes to 4 hours.", fields={"duration": "5 minutes to 4 hours."}
        )
    now = timezone.now()
    _end_expired(SupportSession.objects.for_organization(organization).filter(staff=staff), now)
    try:
        with transaction.atomic():
            session = SupportSession.objects.create(
                organization=organization,
                staff=staff,
                staff_label=staff.email,
                reason=clean,
                duration_seconds=int(duration.total_seconds()),
            )
    except IntegrityError as error:
        raise Conflict(
            "You have a support session in this organization already.", code="support_session_open"
        ) from error
    if organization.support_needs_consent:
        _record(events.SUPPORT_REQUESTED, session, actor, minutes=session.duration_seconds // 60)
        return session
    _start(session, actor, now)
    return session


@transaction.atomic
def allow_support_session(session: SupportSession, *, actor: Actor) -> SupportSession:
    """The organization's consent: the session starts now."""
    locked = _locked(session)
    if not locked.is_waiting():
        raise Conflict("This support session does not wait for consent any more.", code="support_session_not_waiting")
    _start(locked, actor, timezone.now())
    return locked


@transaction.atomic
def extend_support_session(
    session: SupportSession, *, reason: str, duration: timedelta, actor: Actor
) -> SupportSession:
    """A later end, with a reason of its own in the organization's log, and never beyond four hours from the start."""
    now, locked = timezone.now(), _locked(session)
    if not locked.is_active(now) or locked.started_at is None or locked.expires_at is None:
        raise Conflict("This support session is over. Start a new one.", code="support_session_over")
    end = locked.expires_at + duration
    if duration < SHORTEST or end > locked.started_at + LONGEST:
        raise InvalidInput("A support session ends at the latest 4 hours after its start. Start a new one then.")
    clean, old = _clean_reason(reason), locked.expires_at
    locked.expires_at = end
    locked.save(update_fields=["expires_at"])
    _record(events.SUPPORT_EXTENDED, locked, actor, because=clean, until=end.isoformat(), before=old.isoformat())
    return locked


@transaction.atomic
def end_support_session(session: SupportSession, *, actor: Actor) -> bool:
    """By the staff member, or by the organization. False when it had ended."""
    rows = SupportSession.objects.for_organization(session.organization).filter(pk=session.pk, ended_at=None)
    if not rows.update(ended_at=timezone.now(), ended_by=actor.label[:300]):
        return False
    _record(events.SUPPORT_ENDED, session, actor, by=actor.label)
    return True


@transaction.atomic
def record_support_page(session: SupportSession, *, page: str, is_part: bool, actor: Actor) -> None:
    """Called before the page is made: what cannot be recorded is not shown.

    `is_part`: the browser asks for a part of a page. It counts as a page of its own unless that page was the last one.
    """
    address = page[:300]
    if is_part and session.last_page == address:
        return
    SupportSession.objects.for_organization(session.organization).filter(pk=session.pk).update(last_page=address)
    _record(events.SUPPORT_PAGE_VIEWED, session, actor, page=address)


def active_support_session(staff: User, team_name: str, now: datetime) -> SupportSession | None:
    """The staff member's session in an organization, while it lasts."""
    if not (staff.is_staff and staff.is_active):
        return None
    return (
        SupportSession.objects.all_organizations(reason="staff ask by the organization's name")
        .filter(staff=staff, organization__team_name=team_name, ended_at=None, expires_at__gt=now)
        .select_related("organization")
        .first()
    )


def open_support_sessions(organization: Organization, now: datetime) -> list[SupportSession]:
    """Active ones and those that wait for consent, newest first."""
    rows = SupportSession.objects.for_organization(organization).filter(ended_at=None)
    return [row for row in rows if row.is_active(now) or row.is_waiting()]


@transaction.atomic
def sweep_support_sessions(*, now: datetime) -> int:
    """Write down the end of sessions whose time is over."""
    return _end_expired(SupportSession.objects.all_organizations(reason="a sweeper"), now)


def _end_expired(rows: object, now: datetime) -> int:
    ended = 0
    for session in rows.filter(ended_at=None, expires_at__lte=now).select_related("organization"):  # type: ignore[attr-defined]
        mine = SupportSession.objects.for_organization(session.organization).filter(pk=session.pk, ended_at=None)
        if mine.update(ended_at=session.expires_at, ended_by="time limit"):
            _record(events.SUPPORT_ENDED, session, system("support_session_time_limit"), by="time limit")
            ended += 1
    return ended


def _start(session: SupportSession, actor: Actor, now: datetime) -> None:
    session.started_at = now
    session.expires_at = now + timedelta(seconds=session.duration_seconds)
    session.save(update_fields=["started_at", "expires_at"])
    _record(events.SUPPORT_STARTED, session, actor, until=session.expires_at.isoformat())


def _locked(session: SupportSession) -> SupportSession:
    rows = SupportSession.objects.for_organization(session.organization).select_related("organization")
    return rows.select_for_update(of=("self",), no_key=True).get(pk=session.pk)


def _assert_staff(user: User) -> None:
    if not (user.is_staff and user.is_active):
        raise PermissionDenied("Only support staff of this installation have support sessions.")


def _clean_reason(reason: str) -> str:
    clean = " ".join(reason.split())
    if not SHORTEST_REASON <= len(clean) <= LONGEST_REASON or not clean.isprintable():
        message = "Say why, in 10 to 500 characters: the organization reads it in its audit log."
        raise InvalidInput(message, fields={"reason": message})
    return clean


def _record(name: str, session: SupportSession, actor: Actor, **facts: object) -> None:
    new = {"staff": session.staff_label, "reason": session.reason, **facts}
    audit.record(
        name,
        organization=session.organization,
        actor=actor,
        target=session,
        target_label=f"Support session of {session.staff_label}",
        new=new,
    )
