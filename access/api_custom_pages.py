"""/client/v4/accounts/{id}/access/custom_pages: what refused people are shown, of the types that exist here."""

from __future__ import annotations

from typing import Any

from ninja import Field, Query, Schema

from access.actions.custom_pages import create_custom_page, delete_custom_page, update_custom_page
from access.models import CustomPage
from access.safe_html import sanitized
from accounts.api_base import ApiRequest, ApiRouter, Deleted, Page, Paging, find, page_of, rfc3339
from accounts.permissions import Permission

router = ApiRouter(tags=["Custom pages"])
_MISSING = "No such custom page."


class CustomPageBody(Schema):
    name: str = Field(min_length=1, max_length=350)
    type: str = Field(max_length=32)
    custom_html: str
    contract_version: int | None = Field(None, ge=0, le=1000)


class PageWarning(Schema):
    message: str
    tier: str = "html"


class CustomPageResult(Schema):
    uid: str
    name: str
    type: str
    contract_version: int | None
    created_at: str | None
    updated_at: str | None
    # What is not shown, because it could harm: scripts, styles, foreign images.
    warnings: list[PageWarning]


class FullCustomPageResult(CustomPageResult):
    custom_html: str


@router.route("GET", "/custom_pages", Permission.ACCESS_READ, CustomPageResult, paged=True)
def list_custom_pages(request: ApiRequest, paging: Query[Paging]) -> Page:
    rows = CustomPage.objects.for_organization(request.organization).order_by("name", "id")
    return page_of(rows, paging, lambda row: CustomPageResult(**_values(row)))


@router.route("POST", "/custom_pages", Permission.ACCESS_EDIT, CustomPageResult)
def create_access_custom_page(request: ApiRequest, body: CustomPageBody) -> CustomPageResult:
    row = create_custom_page(request.organization, actor=request.actor, **body.model_dump())
    return CustomPageResult(**_values(row))


@router.route("GET", "/custom_pages/{page_id}", Permission.ACCESS_READ, FullCustomPageResult)
def get_custom_page(request: ApiRequest, page_id: str) -> FullCustomPageResult:
    row = _own(request, page_id)
    return FullCustomPageResult(**_values(row), custom_html=row.custom_html)


@router.route("PUT", "/custom_pages/{page_id}", Permission.ACCESS_EDIT, CustomPageResult)
def update_access_custom_page(request: ApiRequest, page_id: str, body: CustomPageBody) -> CustomPageResult:
    row = update_custom_page(_own(request, page_id), actor=request.actor, **body.model_dump())
    return CustomPageResult(**_values(row))


@router.route("DELETE", "/custom_pages/{page_id}", Permission.ACCESS_EDIT, Deleted)
def delete_access_custom_page(request: ApiRequest, page_id: str) -> Deleted:
    """Refused while an application or the organization shows it."""
    row = _own(request, page_id)
    identifier = str(row.pk)
    delete_custom_page(row, actor=request.actor)
    return Deleted(id=identifier)


def _own(request: ApiRequest, page_id: str) -> CustomPage:
    rows = CustomPage.objects.for_organization(request.organization).select_related("organization")
    return find(rows, page_id, _MISSING)


def _values(row: CustomPage) -> dict[str, Any]:
    _, left_out = sanitized(row.custom_html)
    return {
        "uid": str(row.pk),
        "name": row.name,
        "type": row.type,
        "contract_version": row.contract_version,
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
        "warnings": [PageWarning(message=f"{what} is left out.") for what in left_out],
    }
