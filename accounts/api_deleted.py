"""/client/v4/accounts/{id}/deleted_objects (ours): what was deleted lately, and bringing it back."""

from __future__ import annotations

from django.utils import timezone
from ninja import Query, Schema

from accounts.actions.deletions import restore_deleted
from accounts.api_base import ApiRequest, ApiRouter, Page, Paging, find, page_of, rfc3339
from accounts.errors import PermissionDenied
from accounts.models import DeletedObject
from accounts.permissions import Permission
from accounts.restoring import kinds
from accounts.tenancy import TenantQuerySet

router = ApiRouter(tags=["Recently deleted"])
_MISSING = "Nothing to undo under this id."


class DeletedFilters(Schema):
    kind: str | None = None


class DeletedResult(Schema):
    id: str
    kind: str
    object_id: str
    name: str
    deleted_by: str
    deleted_at: str | None
    expires_at: str | None


class RestoredResult(Schema):
    kind: str
    object_id: str


@router.route("GET", "/deleted_objects", Permission.ACCESS_READ, DeletedResult, paged=True)
def list_deleted_objects(request: ApiRequest, paging: Query[Paging], filters: Query[DeletedFilters]) -> Page:
    rows = _rows(request)
    return page_of(rows.filter(kind=filters.kind) if filters.kind is not None else rows, paging, _shape)


@router.route("POST", "/deleted_objects/{deleted_id}/restore", Permission.ACCESS_EDIT, RestoredResult)
def restore_deleted_object(request: ApiRequest, deleted_id: str) -> RestoredResult:
    """Makes it again under its old id. The token needs the scope for making one as well."""
    kept = find(_rows(request), deleted_id, _MISSING)
    needed = kinds()[kept.kind].permission
    if needed.value not in request.token.scopes:
        raise PermissionDenied(f"This API token lacks the scope {needed.value}.", code="missing_scope")
    restore_deleted(kept, actor=request.actor)
    return RestoredResult(kind=kept.kind, object_id=kept.object_id)


def _rows(request: ApiRequest) -> TenantQuerySet[DeletedObject]:
    rows = DeletedObject.objects.for_organization(request.organization).select_related("organization")
    return rows.filter(kind__in=list(kinds()), expires_at__gt=timezone.now())


def _shape(row: DeletedObject) -> DeletedResult:
    return DeletedResult(
        id=str(row.pk),
        kind=row.kind,
        object_id=row.object_id,
        name=row.name,
        deleted_by=row.deleted_by,
        deleted_at=rfc3339(row.created_at),
        expires_at=rfc3339(row.expires_at),
    )
