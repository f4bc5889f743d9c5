"""Before a policy's yes: the purpose a person states, and temporary access that others approve (product.md 1.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction

from access import events
from access.consent_mail import approvers_of, mail_approvers, mail_requester
from access.models import AccessList, Application, ApprovalRequest, ApprovalVote, Justification, Policy
from access.policy_models import MAX_APPROVED_SECONDS
from accounts import audit
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput, NotFound, PermissionDenied
from accounts.models import AccessSession, Identity, Organization
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
    policy = Policy.objects.for_organization(application.organization).select_for_update().filter(pk=policy_id).first()
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
        groups=resolved_groups(application.organization, policy.approval_groups),
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


@transaction.atomic
def vote(
    request: ApprovalRequest, *, approver: AccessSession, approves: bool, now: datetime, actor: Actor
) -> ApprovalRequest:
    """One approver's answer. A denial decides at once; approval when every group has as many as it wants.

    Raises PermissionDenied for somebody who is no approver (or asks for themselves), Conflict for a decided request.
    """
    request = (
        ApprovalRequest.objects.for_organization(request.organization)
        .select_for_update(of=("self",))
        .select_related("organization", "application", "policy", "identity")
        .get(pk=request.pk)
    )
    identity = approver.identity
    check_approver(request, identity)
    if request.status != ApprovalRequest.Status.PENDING or is_over(request, now):
        raise Conflict("This request was answered already, or is too old.", code="approval_decided")
    email = ascii_lower(identity.email)
    if ApprovalVote.objects.filter(request=request, email=email).exists():
        raise Conflict("You have answered this request already.", code="approval_answered")
    ApprovalVote.objects.create(
        organization_id=request.organization_id, request=request, approver=identity, email=email, approves=approves
    )
    event = events.APPROVAL_DENIED
    if not approves:
        request.status, request.decided_at = ApprovalRequest.Status.DENIED, now
    elif _is_agreed(request):
        event = events.APPROVAL_GRANTED
        request.status, request.decided_at = ApprovalRequest.Status.APPROVED, now
        request.ends_at = now + timedelta(seconds=request.duration_seconds)
    else:
        event = events.APPROVAL_GIVEN
    request.save()
    audit.record(
        event,
        organization=request.organization,
        actor=actor,
        target=request.application,
        new={
            "request": str(request.pk),
            "policy": request.policy.name,
            "for": str(request.identity),
            "ends_at": request.ends_at.isoformat() if request.ends_at else None,
        },
    )
    if request.status != ApprovalRequest.Status.PENDING:
        transaction.on_commit(lambda: mail_requester.delay(str(request.pk)))
    return request


def check_approver(request: ApprovalRequest, identity: Identity) -> None:
    """By verified e-mail only (AC-11), and never for oneself: not as another identity with the same address either."""
    email = ascii_lower(identity.email)
    named = any(email in group["emails"] for group in request.groups)
    own = identity.pk == request.identity_id or email == ascii_lower(request.identity.email)
    if not email or identity.email_verified is not True or not named or own:
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


def resolved_groups(organization: Organization, groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lists become their addresses of this moment: who was asked stays on record."""
    resolved = []
    for group in groups:
        emails = list(group.get("email_addresses") or [])
        if group.get("email_list_uuid"):
            row = AccessList.objects.for_organization(organization).filter(pk=group["email_list_uuid"]).first()
            emails = [item["value"] for item in row.items] if row is not None else []
        addresses = sorted({ascii_lower(email) for email in emails})
        resolved.append({"approvals_needed": group["approvals_needed"], "emails": addresses})
    return resolved


def checked_reason(text: str) -> str:
    clean = " ".join(text.split())
    if not clean or len(clean) > MAX_REASON or not clean.isprintable():
        message = f"Say in 1 to {MAX_REASON} characters what you need access for."
        raise InvalidInput(message, code="reason_invalid", fields={"reason": message})
    return clean


def _is_agreed(request: ApprovalRequest) -> bool:
    agreed = set(request.votes.filter(approves=True).values_list("email", flat=True))
    return bool(request.groups) and all(
        len(agreed & set(group["emails"])) >= group["approvals_needed"] for group in request.groups
    )
