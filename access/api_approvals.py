"""/client/v4/accounts/{id}/access/approvals (ours): who asked for temporary access; denying, and ending it.

Approving is not offered: a policy names the people who may, and a token is none of them."""

from __future__ import annotations

from django.utils import timezone
from ninja import Query, Schema

from access.actions.consent import end_approval, refuse_request
from access.models import ApprovalRequest
from accounts.api_base import ApiRequest, ApiRouter, Page, Paging, find, page_of, rfc3339
from accounts.permissions import Permission
from accounts.tenancy import TenantQuerySet

router = ApiRouter(tags=["Approvals"])
_MISSING = "No such request."


class ApprovalFilters(Schema):
    status: str | None = None


class ApprovalResult(Schema):
    id: str
    status: str
    app_id: str
    policy_id: str
    user_id: str
    user_email: str
    reason: str
    duration_seconds: int
    created_at: str | None
    decided_at: str | None
    ends_at: str | None


@router.route("GET", "/approvals", Permission.ACCESS_READ, ApprovalResult, paged=True)
def list_approvals(request: ApiRequest, paging: Query[Paging], filters: Query[ApprovalFilters]) -> Page:
    rows = _rows(request).order_by("-created_at", "-pk")
    if filters.status is not None:
        rows = rows.filter(status=filters.status)
    return page_of(rows, paging, _shape)


@router.route("GET", "/approvals/{approval_id}", Permission.ACCESS_READ, ApprovalResult)
def get_approval(request: ApiRequest, approval_id: str) -> ApprovalResult:
    return _shape(_own(request, approval_id))


@router.route("POST", "/approvals/{approval_id}/deny", Permission.ACCESS_EDIT, ApprovalResult)
def deny_approval(request: ApiRequest, approval_id: str) -> ApprovalResult:
    return _shape(refuse_request(_own(request, approval_id), now=timezone.now(), actor=request.actor))


@router.route("POST", "/approvals/{approval_id}/end", Permission.ACCESS_EDIT, ApprovalResult)
def end_temporary_access(request: ApiRequest, approval_id: str) -> ApprovalResult:
    """Sessions that run under it are cut within seconds."""
    return _shape(end_approval(_own(request, approval_id), now=timezone.now(), actor=request.actor))


def _rows(request: ApiRequest) -> TenantQuerySet[ApprovalRequest]:
    rows = ApprovalRequest.objects.for_organization(request.organization)
    return rows.select_related("organization", "application", "policy", "identity__provider")


def _own(request: ApiRequest, approval_id: str) -> ApprovalRequest:
    return find(_rows(request), approval_id, _MISSING)


def _shape(row: ApprovalRequest) -> ApprovalResult:
    return ApprovalResult(
        id=str(row.pk),
        status=row.status,
        app_id=str(row.application_id),
        policy_id=str(row.policy_id),
        user_id=str(row.identity_id),
        user_email=row.identity.email,
        reason=row.reason,
        duration_seconds=row.duration_seconds,
        created_at=rfc3339(row.created_at),
        decided_at=rfc3339(row.decided_at),
        ends_at=rfc3339(row.ends_at),
    )
