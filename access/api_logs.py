"""/client/v4 accounts/…/access: the access log and a person's refused logins (product.md 1.13)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from ninja import Field, Query, Schema

from access.models import AccessRequest
from accounts.api_base import ApiRequest, ApiRouter, Page, Paging, page_of, rfc3339
from accounts.api_users import own_identity
from accounts.errors import InvalidInput
from accounts.permissions import Permission
from accounts.tenancy import TenantQuerySet

router = ApiRouter(tags=["Logs"])
_LONGEST_LIST = 1000


class LogFilters(Schema):
    since: datetime | None = None
    until: datetime | None = None
    direction: Literal["asc", "desc"] = "desc"
    limit: int | None = Field(None, ge=1, le=_LONGEST_LIST)
    email: str | None = None
    email_exact: bool = True
    app_uid: UUID | None = None
    country_code: str | None = None
    ray_id: str | None = None
    allowed: bool | None = None
    fields: str | None = None


class AccessRequestResult(Schema):
    action: str
    allowed: bool
    app_domain: str
    app_name: str
    app_uid: str | None
    connection: str
    country: str
    created_at: str | None
    ip_address: str | None
    ray_id: str
    user_email: str
    user_id: str | None
    # Ours: why, as the decision's reason code.
    reason: str
    purpose_justification_response: str
    temporary_access_approvers: list[str]


class FailedLoginResult(Schema):
    expiration: int
    metadata: dict[str, Any]


@router.route("GET", "/logs/access_requests", Permission.LOGS_READ, AccessRequestResult, paged=True)
def list_access_requests(request: ApiRequest, paging: Query[Paging], filters: Query[LogFilters]) -> Page:
    """Decisions, newest first. `limit` is the public API's older name for per_page; `fields` is a comma list."""
    if filters.limit is not None:
        paging = Paging(page=paging.page, per_page=filters.limit)
    chosen = _chosen_fields(filters.fields)
    return page_of(_matching(request, filters), paging, lambda row: _only(_shape(row), chosen))


@router.route("GET", "/users/{user_id}/failed_logins", Permission.LOGS_READ, FailedLoginResult, paged=True)
def list_failed_logins(request: ApiRequest, user_id: str, paging: Query[Paging]) -> Page:
    identity = own_identity(request, user_id)
    rows = _log(request).filter(identity=identity, action="login", allowed=False).order_by("-created_at", "-id")
    return page_of(rows, paging, _shape_failed)


def _log(request: ApiRequest) -> TenantQuerySet[AccessRequest]:
    return AccessRequest.objects.for_organization(request.organization).select_related("application")


def _matching(request: ApiRequest, filters: LogFilters) -> TenantQuerySet[AccessRequest]:
    rows = _log(request)
    if filters.since is not None:
        rows = rows.filter(created_at__gte=_aware(filters.since, "since"))
    if filters.until is not None:
        rows = rows.filter(created_at__lte=_aware(filters.until, "until"))
    if filters.email is not None:
        rows = rows.filter(**{"email__iexact" if filters.email_exact else "email__icontains": filters.email})
    if filters.app_uid is not None:
        rows = rows.filter(application=filters.app_uid)
    if filters.country_code is not None:
        rows = rows.filter(country=filters.country_code.upper())
    if filters.ray_id is not None:
        rows = rows.filter(ray_id=filters.ray_id)
    if filters.allowed is not None:
        rows = rows.filter(allowed=filters.allowed)
    sign = "-" if filters.direction == "desc" else ""
    return rows.order_by(f"{sign}created_at", f"{sign}id")


def _aware(moment: datetime, field: str) -> datetime:
    if moment.tzinfo is None:
        raise InvalidInput(f"{field} needs a time zone, for example 2026-01-31T00:00:00Z.", fields={field: "No zone."})
    return moment


def _shape(row: AccessRequest) -> AccessRequestResult:
    return AccessRequestResult(
        action=row.action,
        allowed=row.allowed,
        app_domain=row.application.domain if row.application else "",
        app_name=row.application_label,
        app_uid=str(row.application_id) if row.application_id else None,
        connection=row.connection,
        country=row.country,
        created_at=rfc3339(row.created_at),
        ip_address=row.ip_address,
        ray_id=row.ray_id,
        user_email=row.email,
        user_id=str(row.identity_id) if row.identity_id else None,
        reason=row.reason,
        purpose_justification_response=row.purpose,
        temporary_access_approvers=row.approvers,
    )


def _shape_failed(row: AccessRequest) -> FailedLoginResult:
    metadata = _shape(row).model_dump()
    return FailedLoginResult(expiration=int(row.created_at.timestamp()), metadata=metadata)


def _chosen_fields(text: str | None) -> set[str] | None:
    if text is None:
        return None
    chosen = {name.strip() for name in text.split(",") if name.strip()}
    unknown = sorted(chosen - set(AccessRequestResult.model_fields))
    if unknown:
        raise InvalidInput(f"Unknown names in fields: {', '.join(unknown)[:200]}.", fields={"fields": "Unknown name."})
    return chosen


def _only(result: AccessRequestResult, chosen: set[str] | None) -> Any:
    return result if chosen is None else result.model_dump(include=chosen)
