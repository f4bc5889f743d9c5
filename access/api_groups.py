"""/client/v4 {accounts|zones}/…/access/groups."""

from __future__ import annotations

from ninja import Query, Schema

from access.actions.groups import create_group, delete_group, update_group
from access.api_shapes import GroupBody, GroupResult, group_values, override_reason, shape_group
from access.models import Group
from accounts.api_base import ApiRequest, ApiRouter, Deleted, Page, Paging, find, page_of
from accounts.permissions import Permission

router = ApiRouter(tags=["Groups"])
_MISSING = "No such group."


class NameFilters(Schema):
    name: str | None = None
    search: str | None = None


@router.route("GET", "/groups", Permission.ACCESS_READ, GroupResult, paged=True)
def list_groups(request: ApiRequest, paging: Query[Paging], filters: Query[NameFilters]) -> Page:
    rows = Group.objects.for_organization(request.organization).order_by("name", "id")
    if filters.name is not None:
        rows = rows.filter(name=filters.name)
    if filters.search:
        rows = rows.filter(name__icontains=filters.search)
    return page_of(rows, paging, shape_group)


@router.route("POST", "/groups", Permission.ACCESS_EDIT, GroupResult)
def create_access_group(request: ApiRequest, body: GroupBody) -> GroupResult:
    return shape_group(create_group(request.organization, actor=request.actor, **group_values(body)))


@router.route("GET", "/groups/{group_id}", Permission.ACCESS_READ, GroupResult)
def get_group(request: ApiRequest, group_id: str) -> GroupResult:
    return shape_group(_own(request, group_id))


@router.route("PUT", "/groups/{group_id}", Permission.ACCESS_EDIT, GroupResult)
def update_access_group(request: ApiRequest, group_id: str, body: GroupBody) -> GroupResult:
    group = update_group(
        _own(request, group_id), actor=request.actor, override_reason=override_reason(request), **group_values(body)
    )
    return shape_group(group)


@router.route("DELETE", "/groups/{group_id}", Permission.ACCESS_EDIT, Deleted)
def delete_access_group(request: ApiRequest, group_id: str) -> Deleted:
    """Refused while a policy or another group uses it."""
    group = _own(request, group_id)
    identifier = str(group.pk)
    delete_group(group, actor=request.actor)
    return Deleted(id=identifier)


def _own(request: ApiRequest, group_id: str) -> Group:
    return find(Group.objects.for_organization(request.organization), group_id, _MISSING)
