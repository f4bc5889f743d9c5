"""/client/v4/accounts/{id}/access/tags: tags of applications, addressed by their names."""

from __future__ import annotations

from django.db.models import Count
from ninja import Field, Query, Schema

from access.actions.tags import create_tag, delete_tag, update_tag
from access.models import Tag
from accounts.api_base import ApiRequest, ApiRouter, Page, Paging, page_of, rfc3339
from accounts.errors import NotFound
from accounts.permissions import Permission
from accounts.tenancy import TenantQuerySet

router = ApiRouter(tags=["Tags"])


class TagBody(Schema):
    name: str = Field(min_length=1, max_length=200)


class TagResult(Schema):
    name: str
    app_count: int
    created_at: str | None
    updated_at: str | None


class DeletedTag(Schema):
    name: str


@router.route("GET", "/tags", Permission.ACCESS_READ, TagResult, paged=True)
def list_tags(request: ApiRequest, paging: Query[Paging]) -> Page:
    return page_of(_tags(request).order_by("name", "id"), paging, _shape)


@router.route("POST", "/tags", Permission.ACCESS_EDIT, TagResult)
def create_access_tag(request: ApiRequest, body: TagBody) -> TagResult:
    tag = create_tag(request.organization, actor=request.actor, name=body.name)
    return _shape(_own(request, tag.name))


@router.route("GET", "/tags/{tag_name}", Permission.ACCESS_READ, TagResult)
def get_tag(request: ApiRequest, tag_name: str) -> TagResult:
    return _shape(_own(request, tag_name))


@router.route("PUT", "/tags/{tag_name}", Permission.ACCESS_EDIT, TagResult)
def update_access_tag(request: ApiRequest, tag_name: str, body: TagBody) -> TagResult:
    """Renames the tag on all its applications."""
    tag = update_tag(_own(request, tag_name), actor=request.actor, name=body.name)
    return _shape(_own(request, tag.name))


@router.route("DELETE", "/tags/{tag_name}", Permission.ACCESS_EDIT, DeletedTag)
def delete_access_tag(request: ApiRequest, tag_name: str) -> DeletedTag:
    """Takes the tag off all its applications."""
    tag = _own(request, tag_name)
    delete_tag(tag, actor=request.actor)
    return DeletedTag(name=tag.name)


def _tags(request: ApiRequest) -> TenantQuerySet[Tag]:
    rows = Tag.objects.for_organization(request.organization).annotate(app_count=Count("applications"))
    return rows  # type: ignore[return-value]


def _own(request: ApiRequest, name: str) -> Tag:
    tag = _tags(request).filter(name__iexact=name).first()
    if tag is None:
        raise NotFound("No such tag.")
    return tag


def _shape(tag: Tag) -> TagResult:
    return TagResult(
        name=tag.name,
        app_count=tag.app_count,  # type: ignore[attr-defined]
        created_at=rfc3339(tag.created_at),
        updated_at=rfc3339(tag.updated_at),
    )
