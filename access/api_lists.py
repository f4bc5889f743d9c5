"""/client/v4/accounts/{id}/gateway/lists: the public place of lists, here of the types EMAIL and IP."""

from __future__ import annotations

from typing import Any

from ninja import Field, Query, Schema

from access.actions.lists import create_list, delete_list, update_list
from access.api_shapes import override_reason
from access.models import AccessList
from accounts.api_base import ApiRequest, ApiRouter, Deleted, Page, Paging, find, page_of, rfc3339
from accounts.permissions import Permission

router = ApiRouter(tags=["Lists"])
_MISSING = "No such list."


class Item(Schema):
    value: str = Field(max_length=254)
    description: str | None = Field(None, max_length=500)


class ItemResult(Schema):
    value: str
    description: str | None
    created_at: str | None


class ListBody(Schema):
    name: str = Field(min_length=1, max_length=350)
    type: str = Field(max_length=16)
    description: str | None = Field(None, max_length=500)
    items: list[Item] = []


class ListReplacement(Schema):
    name: str = Field(min_length=1, max_length=350)
    description: str | None = Field(None, max_length=500)
    items: list[Item] | None = None


class ListChanges(Schema):
    append: list[Item] = []
    remove: list[str] = []


class ListResult(Schema):
    id: str
    name: str
    type: str
    description: str | None
    count: int
    created_at: str | None
    updated_at: str | None


class FullListResult(ListResult):
    items: list[ItemResult]


class TypeFilter(Schema):
    type: str | None = None


@router.route("GET", "/lists", Permission.ACCESS_READ, ListResult, paged=True)
def list_lists(request: ApiRequest, paging: Query[Paging], filters: Query[TypeFilter]) -> Page:
    rows = AccessList.objects.for_organization(request.organization).order_by("name", "id")
    if filters.type is not None:
        rows = rows.filter(type=filters.type)
    return page_of(rows, paging, _shape)


@router.route("POST", "/lists", Permission.ACCESS_EDIT, FullListResult)
def create_access_list(request: ApiRequest, body: ListBody) -> FullListResult:
    row = create_list(
        request.organization,
        actor=request.actor,
        name=body.name,
        type=body.type,
        description=body.description or "",
        items=_items(body.items),
    )
    return shape_full_list(row)


@router.route("GET", "/lists/{list_id}", Permission.ACCESS_READ, FullListResult)
def get_list(request: ApiRequest, list_id: str) -> FullListResult:
    return shape_full_list(_own(request, list_id))


@router.route("PUT", "/lists/{list_id}", Permission.ACCESS_EDIT, FullListResult)
def replace_list(request: ApiRequest, list_id: str, body: ListReplacement) -> FullListResult:
    """Without `items` the entries stay."""
    items = None if body.items is None else _items(body.items)
    row = update_list(
        _own(request, list_id),
        actor=request.actor,
        name=body.name,
        description=body.description or "",
        items=items,
        override_reason=override_reason(request),
    )
    return shape_full_list(row)


@router.route("PATCH", "/lists/{list_id}", Permission.ACCESS_EDIT, FullListResult)
def change_list(request: ApiRequest, list_id: str, body: ListChanges) -> FullListResult:
    row = update_list(
        _own(request, list_id),
        actor=request.actor,
        append=_items(body.append),
        remove=body.remove,
        override_reason=override_reason(request),
    )
    return shape_full_list(row)


@router.route("DELETE", "/lists/{list_id}", Permission.ACCESS_EDIT, Deleted)
def delete_access_list(request: ApiRequest, list_id: str) -> Deleted:
    """Refused while a policy or group uses it."""
    row = _own(request, list_id)
    identifier = str(row.pk)
    delete_list(row, actor=request.actor)
    return Deleted(id=identifier)


@router.route("GET", "/lists/{list_id}/items", Permission.ACCESS_READ, ItemResult, paged=True)
def list_items(request: ApiRequest, list_id: str, paging: Query[Paging]) -> Page:
    row = _own(request, list_id)
    pairs: list[Any] = [(row, item) for item in row.items]
    return page_of(pairs, paging, _shape_item)


def _own(request: ApiRequest, list_id: str) -> AccessList:
    return find(AccessList.objects.for_organization(request.organization), list_id, _MISSING)


def _items(items: list[Item]) -> list[dict[str, Any]]:
    return [item.model_dump(exclude_none=True) for item in items]


def _shape(row: AccessList) -> ListResult:
    return ListResult(**_values(row))


def shape_full_list(row: AccessList) -> FullListResult:
    return FullListResult(**_values(row), items=[_shape_item((row, item)) for item in row.items])


def _values(row: AccessList) -> dict[str, Any]:
    return {
        "id": str(row.pk),
        "name": row.name,
        "type": row.type,
        "description": row.description or None,
        "count": len(row.items),
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
    }


def _shape_item(pair: tuple[AccessList, dict[str, str]]) -> ItemResult:
    row, item = pair
    return ItemResult(value=item["value"], description=item.get("description"), created_at=rfc3339(row.created_at))
