"""Before a policy's yes: the purpose a person states, and temporary access that others approve (product.md 1.3)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from allauth.account.models import EmailAddress
from django.db import IntegrityError, transaction

from access import events
from access.approvers import is_agreed, resolved_groups
from access.consent_mail import approvers_of, mail_approvers, mail_requester
from access.models import Application, ApprovalRequest, ApprovalVote, Justification, Policy
from access.policy_models import MAX_APPROVED_SECONDS
from accounts import audit
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput, NotFound, PermissionDenied
from accounts.models import AccessSession, Identity, User
from accounts.text import ascii_lower

MAX_REASON = 500
MIN_APPROVED_SECONDS = 300
# A request nobody answered is over after this time.
REQUEST_DAYS = 7


@transaction.atomic
def state_purpose(application: Application, *, session: AccessSession, text: str, actor: Actor) -> Justification:
    """Once per session and application; a second answer (a second window) changes nothing."""
    clean = checked_reason(text)
    known = Justification.objects.filter(application=application, session=session).first()
    if known is not None:
        return known
    try:
        with transaction.atomic():
            stated = Justification.objects.create(
                organization_id=application.organization_id, application=application, session=session, text=clean
            )
    except IntegrityError:
        return Justification.objects.get(application=application, session=session)
    audit.record(
        events.PURPOSE_STATED,
        organization=application.organization,
        actor=actor,
        target=application,
        new={"session": str(session.pk), "purpose": clean},
    )
    return stated


@transaction.atomic
def request_approval(
    application: Application,
    *,
    policy_id: str,
    session: AccessSession,
    reason: str,
    duration_seconds: int,
    ip: str,
    actor: Actor,
) -> ApprovalRequest:
    """Ask for temporary access under a policy; approvers get a mail. A request that waits already is that one."""
    if not MIN_APPROVED_SECONDS <= duration_seconds <= MAX_APPROVED_SECONDS:
        raise InvalidInput("Temporary access lasts from 5 minutes to 24 hours.", fields={"duration_seconds": "Range."})
    clean = checked_reason(reason)
    policy = (
        Policy.objects.for_organization(application.organization)
        .select_for_update(no_key=True)
        .filter(pk=policy_id)
        .first()
    )
    if policy is None or not policy.approval_required:
        raise NotFound("This policy asks for no approval (any more).")
    waiting = ApprovalRequest.objects.filter(
        application=application,
        policy=policy,
        identity_id=session.identity_id,
        status=ApprovalRequest.Status.PENDING,
    ).first()
    if waiting is not None:
        return waiting
    request = ApprovalRequest.objects.create(
        organization_id=application.organization_id,
        application=application,
        policy=policy,
        identity_id=session.identity_id,
        reason=clean,
        duration_seconds=duration_seconds,
        groups=resolved_groups(application.organization_id, policy.approval_groups),
        ip_address=ip or None,
    )
    audit.record(
        events.APPROVAL_REQUESTED,
        organization=application.organization,
        actor=actor,
        target=application,
        new={
            "request": str(request.pk),
            "policy": policy.name,
            "reason": clean,
            "duration_seconds": duration_seconds,
            "approvers": approvers_of(request),
        },
    )
    transaction.on_commit(lambda: mail_approvers.delay(str(request.pk)))
    return request


@dataclass(frozen=True, slots=True)
class Approver:
    """Who answers: a person at the team domain (`identity`), or a member at the dashboard."""

    email: str
    is_confirmed: bool
    identity: Identity | None = None

    @classmethod
    def person(cls, identity: Identity) -> Approver:
        return cls(ascii_lower(identity.email), identity.email_verified is True, identity)

    @classmethod
    def member(cls, user: User) -> Approver:
        confirmed = EmailAddress.objects.filter(user=user, email__iexact=user.email, verified=True)
        return cls(ascii_lower(user.email), confirmed.exists())


@transaction.atomic
def vote(
    request: ApprovalRequest, *, approver: Approver, approves: bool, now: datetime, actor: Actor
) -> ApprovalRequest:
    """One approver's answer. A denial decides at once; approval when every group has as many as it wants.

    Raises PermissionDenied for somebody who is no approver (or asks for themselves), Conflict for a decided request.
    """
    request = with_present_approvers(_locked(request))
    check_approver(request, approver)
    _check_open(request, now)
    if ApprovalVote.objects.filter(request=request, email=approver.email).exists():
        raise Conflict("You have answered this request already.", code="approval_answered")
    ApprovalVote.objects.create(
        organization_id=request.organization_id,
        request=request,
        approver=approver.identity,
        email=approver.email,
        approves=approves,
    )
    event = events.APPROVAL_GIVEN
    if not approves:
        event = _decide(request, ApprovalRequest.Status.DENIED, now)
    elif is_agreed(request.groups, request.votes.filter(approves=True).values_list("email", flat=True)):
        request.ends_at = now + timedelta(seconds=request.duration_seconds)
        event = _decide(request, ApprovalRequest.Status.APPROVED, now)
    _record(event, request, actor)
    return request


@transaction.atomic
def refuse_request(request: ApprovalRequest, *, now: datetime, actor: Actor) -> ApprovalRequest:
    """By somebody who may change the policies without being an approver. They cannot grant: that takes approvers."""
    request = _locked(request)
    _check_open(request, now)
    _record(_decide(request, ApprovalRequest.Status.DENIED, now), request, actor)
    return request


@transaction.atomic
def end_approval(request: ApprovalRequest, *, now: datetime, actor: Actor) -> ApprovalRequest:
    """Temporary access ends now: no new connection, and live streams that rest on it are cut."""
    request = _locked(request)
    if not request.is_active(now):
        raise Conflict("This access has ended already.", code="approval_over")
    was = request.ends_at
    request.ends_at = now
    _record(_decide(request, ApprovalRequest.Status.ENDED, now), request, actor, until=was)
    return request


_EVENTS = {
    ApprovalRequest.Status.APPROVED: events.APPROVAL_GRANTED,
    ApprovalRequest.Status.DENIED: events.APPROVAL_DENIED,
    ApprovalRequest.Status.ENDED: events.APPROVAL_ENDED,
}


def _decide(request: ApprovalRequest, status: ApprovalRequest.Status, now: datetime) -> str:
    """Saves the new state, tells the person; the event that says so."""
    request.status, request.decided_at = status, now
    request.save(update_fields=["status", "decided_at", "ends_at", "groups"])
    transaction.on_commit(lambda: mail_requester.delay(str(request.pk)))
    return _EVENTS[status]


def _locked(request: ApprovalRequest) -> ApprovalRequest:
    rows = ApprovalRequest.objects.for_organization(request.organization).select_for_update(of=("self",), no_key=True)
    return rows.select_related("organization", "application", "policy", "identity").get(pk=request.pk)


def with_present_approvers(request: ApprovalRequest) -> ApprovalRequest:
    """A request that waits is answered by the policy's approvers of now: who was taken off the policy or its list
    grants nothing any more, and what they said before does not count."""
    if request.status == ApprovalRequest.Status.PENDING:
        request.groups = resolved_groups(request.organization_id, request.policy.approval_groups)
    return request


def _check_open(request: ApprovalRequest, now: datetime) -> None:
    if request.status != ApprovalRequest.Status.PENDING or is_over(request, now):
        raise Conflict("This request was answered already, or is too old.", code="approval_decided")


def _record(event: str, request: ApprovalRequest, actor: Actor, *, until: datetime | None = None) -> None:
    audit.record(
        event,
        organization=request.organization,
        actor=actor,
        target=request.application,
        old={"ends_at": until.isoformat()} if until else None,
        new={
            "request": str(request.pk),
            "policy": request.policy.name,
            "for": str(request.identity),
            "ends_at": request.ends_at.isoformat() if request.ends_at else None,
        },
    )


def check_approver(request: ApprovalRequest, approver: Approver) -> None:
    """By confirmed e-mail only (AC-11), and never for oneself: not as another identity with the same address either."""
    is_same = approver.identity is not None and approver.identity.pk == request.identity_id
    own = is_same or approver.email == ascii_lower(request.identity.email)
    named = any(approver.email in group["emails"] for group in request.groups)
    if not approver.email or not approver.is_confirmed or not named or own:
        raise PermissionDenied("You are not one who approves this request.", code="not_an_approver")


def latest_request(application: Application, policy_id: str | None, identity: Identity) -> ApprovalRequest | None:
    """The newest request of a person under a policy, whatever became of it."""
    if policy_id is None:
        return None
    rows = ApprovalRequest.objects.filter(application=application, policy_id=policy_id, identity=identity)
    return rows.order_by("-created_at").first()


def is_over(request: ApprovalRequest, now: datetime) -> bool:
    return now >= request.created_at + timedelta(days=REQUEST_DAYS)


def sweep_requests(*, now: datetime) -> int:
    """Withdraw requests nobody answered in time. May run twice."""
    old = ApprovalRequest.objects.all_organizations(reason="a sweeper").filter(
        status=ApprovalRequest.Status.PENDING, created_at__lt=now - timedelta(days=REQUEST_DAYS)
    )
    return old.update(status=ApprovalRequest.Status.WITHDRAWN, decided_at=now)


def checked_reason(text: str) -> str:
    clean = " ".join(text.split())
    if not clean or len(clean) > MAX_REASON or not clean.isprintable():
        message = f"Say in 1 to {MAX_REASON} characters what you need access for."
        raise InvalidInput(message, code="reason_invalid", fields={"reason": message})
    return clean
