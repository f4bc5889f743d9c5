"""/client/v4/accounts/{id}/support_sessions (ours): who of the installation's support staff looks in, or asks to."""

from __future__ import annotations

from ninja import Query, Schema

from accounts.actions.support import allow_support_session, end_support_session
from accounts.api_base import ApiRequest, ApiRouter, Deleted, Page, Paging, find, page_of, rfc3339
from accounts.errors import Conflict
from accounts.models import SupportSession
from accounts.permissions import Permission

router = ApiRouter(tags=["Organization"])
_MISSING = "No such support session."


class SupportSessionResult(Schema):
    id: str
    staff: str
    reason: str
    duration_seconds: int
    started_at: str | None
    expires_at: str | None
    ended_at: str | None


@router.route("GET", "/support_sessions", Permission.ORGANIZATION_READ, SupportSessionResult, paged=True)
def list_support_sessions(request: ApiRequest, paging: Query[Paging]) -> Page:
    rows = SupportSession.objects.for_organization(request.organization).order_by("-created_at", "-pk")
    return page_of(rows, paging, _shape)


@router.route(
    "POST", "/support_sessions/{support_session_id}/allow", Permission.ORGANIZATION_EDIT, SupportSessionResult
)
def allow_session(request: ApiRequest, support_session_id: str) -> SupportSessionResult:
    """The organization's consent to a session that waits for it: it starts now."""
    return _shape(allow_support_session(_own(request, support_session_id), actor=request.actor))


@router.route("DELETE", "/support_sessions/{support_session_id}", Permission.ORGANIZATION_EDIT, Deleted)
def end_session(request: ApiRequest, support_session_id: str) -> Deleted:
    """Ends it now, or refuses one that waits."""
    if not end_support_session(_own(request, support_session_id), actor=request.actor):
        raise Conflict("That support session had ended before.", code="support_session_ended")
    return Deleted(id=support_session_id)


def _own(request: ApiRequest, key: str) -> SupportSession:
    rows = SupportSession.objects.for_organization(request.organization).select_related("organization")
    return find(rows, key, _MISSING)


def _shape(row: SupportSession) -> SupportSessionResult:
    return SupportSessionResult(
        id=str(row.pk),
        staff=row.staff_label,
        reason=row.reason,
        duration_seconds=row.duration_seconds,
        started_at=rfc3339(row.started_at),
        expires_at=rfc3339(row.expires_at),
        ended_at=rfc3339(row.ended_at),
    )
