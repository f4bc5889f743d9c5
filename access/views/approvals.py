"""Access, Approvals: who asked for temporary access, who has it now, and what became of earlier requests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.contrib import messages
from django.db.models import Case, IntegerField, Q, QuerySet, Value, When
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from access.actions.consent import (
    Approver,
    check_approver,
    end_approval,
    is_over,
    refuse_request,
    vote,
    with_present_approvers,
)
from access.approvers import still_granted
from access.models import ApprovalRequest
from accounts.errors import PermissionDenied
from accounts.http import OrganizationRequest, requires
from accounts.pages import Filter, at, confirmed, find, list_page, show, telling
from accounts.permissions import Permission

_STATES = (("pending", "Waiting"), ("active", "Active now"), ("past", "Past"))
_SEARCH = ("identity__email", "identity__name", "application__name", "policy__name", "reason")
_TEAM_URLS = "access.team_urls"
Status = ApprovalRequest.Status


@dataclass(frozen=True)
class Entry:
    """A request as the page shows it to one member."""

    request: ApprovalRequest
    state: str
    answers: list[str]
    waits_for: list[str]
    can_approve: bool
    can_deny: bool
    can_end: bool


@requires(Permission.ACCESS_READ)
@require_GET
def approvals(request: OrganizationRequest) -> HttpResponse:
    now = timezone.now()
    waiting, active = Q(status=Status.PENDING), Q(status=Status.APPROVED, ends_at__gt=now)
    states = Filter("state", "State", _STATES, {"pending": waiting, "active": active, "past": ~(waiting | active)})
    order = Case(
        When(waiting, then=Value(0)), When(active, then=Value(1)), default=Value(2), output_field=IntegerField()
    )
    rows = _rows(request).prefetch_related("votes").order_by(order, "-created_at")
    listing = list_page(request, rows, search=_SEARCH, filters=[states])
    approver = Approver.member(request.user)
    entries = [_entry(request, with_present_approvers(row), approver, now) for row in listing]
    return show(
        request,
        "access/approvals.html",
        title="Approvals",
        listing=listing,
        entries=entries,
        is_unconfirmed=not approver.is_confirmed and any(_is_named(row, approver) for row in listing),
    )


@requires(Permission.ACCESS_READ)
@require_GET
def approval_detail(request: OrganizationRequest, approval_id: UUID) -> HttpResponse:
    asked = with_present_approvers(find(_rows(request).prefetch_related("votes"), pk=approval_id))
    return show(
        request,
        "access/approval_detail.html",
        title=f"Request of {asked.identity}",
        crumbs=[("Approvals", at(request, "approvals"))],
        entry=_entry(request, asked, Approver.member(request.user), timezone.now()),
        asked=asked,
        answer_url=request.organization.team_url + reverse("public_approval_answer", _TEAM_URLS, args=[asked.pk]),
    )


@requires(Permission.ACCESS_EDIT)
@require_POST
def approval_answer(request: OrganizationRequest, approval_id: UUID) -> HttpResponse:
    """Approvers approve or deny; whoever may change policies may deny as well. Approvers who may only look at the
    dashboard answer at the team domain."""
    asked = with_present_approvers(find(_rows(request), pk=approval_id))
    approver, now = Approver.member(request.user), timezone.now()
    with telling(request):
        if request.POST.get("decision") == "approve":
            answered = vote(asked, approver=approver, approves=True, now=now, actor=request.actor)
        elif _may_vote(asked, approver):
            answered = vote(asked, approver=approver, approves=False, now=now, actor=request.actor)
        else:
            answered = refuse_request(asked, now=now, actor=request.actor)
        messages.success(request, _told(answered))
    return redirect(at(request, "approvals"))


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def approval_end(request: OrganizationRequest, approval_id: UUID) -> HttpResponse:
    asked = find(_rows(request), pk=approval_id)
    return confirmed(
        request,
        lambda: end_approval(asked, now=timezone.now(), actor=request.actor),
        said=f"The temporary access of {asked.identity} is ended.",
        question=f"End the temporary access of {asked.identity} to {asked.application.name} now?",
        consequences=[
            "Sessions that run under it are cut within seconds, and new ones are refused.",
            "They get a mail, and can ask again.",
        ],
        button="End access now",
        title="End temporary access",
        crumbs=[("Approvals", at(request, "approvals"))],
    )


def _rows(request: OrganizationRequest) -> QuerySet[ApprovalRequest]:
    rows = ApprovalRequest.objects.for_organization(request.organization)
    return rows.select_related("organization", "application", "policy", "identity__provider")


def _entry(request: OrganizationRequest, row: ApprovalRequest, approver: Approver, now: datetime) -> Entry:
    votes = list(row.votes.all())
    answered = {item.email for item in votes}
    is_open = row.status == Status.PENDING and not is_over(row, now)
    can_edit = request.can(Permission.ACCESS_EDIT)
    may_vote = is_open and approver.email not in answered and _may_vote(row, approver)
    return Entry(
        request=row,
        state=_state(row, now),
        answers=[f"{item.email} {'approved' if item.approves else 'denied'}" for item in votes],
        waits_for=[_wanted(group, answered) for group in row.groups] if is_open else [],
        can_approve=may_vote and can_edit,
        can_deny=is_open and can_edit,
        can_end=row.is_active(now) and can_edit,
    )


def _state(row: ApprovalRequest, now: datetime) -> str:
    if row.status == Status.APPROVED and row.is_active(now):
        return "active" if still_granted([row], {str(row.policy_id): row.policy.approval_groups}) else "lapsed"
    if row.status == Status.APPROVED:
        return "over"
    return "pending" if row.status == Status.PENDING and not is_over(row, now) else "past"


def _wanted(group: dict[str, object], answered: set[str]) -> str:
    """Who can still answer: "1 of dora@…, eve@…"."""
    emails = [str(email) for email in group["emails"]] if isinstance(group["emails"], list) else []
    left = [email for email in emails if email not in answered]
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    return f"{group['approvals_needed']} of {', '.join(left[:3])}{more}" if left else "nobody who could still answer"


def _may_vote(row: ApprovalRequest, approver: Approver) -> bool:
    try:
        check_approver(row, approver)
    except PermissionDenied:
        return False
    return True


def _is_named(row: ApprovalRequest, approver: Approver) -> bool:
    return row.status == Status.PENDING and any(approver.email in group["emails"] for group in row.groups)


def _told(row: ApprovalRequest) -> str:
    if row.status == Status.APPROVED:
        return f"{row.identity} may enter {row.application.name} until {row.ends_at:%Y-%m-%d %H:%M} UTC."
    if row.status == Status.DENIED:
        return f"The request of {row.identity} is denied."
    return "Your approval is kept. More approvals are needed."
