"""/client/v4 zones/…/dns_records, and zones/…/tunnels/…/routes of `tunnel route dns` (product.md 3.4, 3.5)."""

from __future__ import annotations

from typing import Any, Literal

from django.db.models import Q
from ninja import Field, Query, Schema

from accounts.api_base import ApiRequest, ApiRouter, Deleted, Page, Paging, find, page_of, rfc3339
from accounts.errors import InvalidInput
from accounts.permissions import Permission
from accounts.tenancy import TenantQuerySet
from tunnels.actions.records import create_record, delete_record, route_hostname, update_record, verify_record
from tunnels.api_tunnel_shapes import own_live_tunnel
from tunnels.api_zones import own_zone
from tunnels.models import DnsRecord, Zone

router = ApiRouter(tags=["DNS records"])
_MISSING = "No such DNS record."
_TEXT_FILTERS = {"exact": "iexact", "contains": "icontains", "startswith": "istartswith", "endswith": "iendswith"}


class RecordChanges(Schema):
    """Body of PATCH: what is not sent stays. `tags` and `settings` exist at their defaults only."""

    type: str | None = Field(None, max_length=10)
    name: str | None = Field(None, max_length=300)
    content: str | None = Field(None, max_length=4096)
    ttl: int | None = Field(None, ge=1, le=86400)
    proxied: bool | None = None
    comment: str | None = Field(None, max_length=500)
    tags: list[str] = []
    settings: dict[str, Any] | None = None


class RecordBody(RecordChanges):
    """Body of POST and PUT: what is not sent gets its default."""

    type: str | None = Field(max_length=10)
    name: str | None = Field(max_length=300)
    content: str | None = Field(max_length=4096)


class RecordFilters(Schema):
    """`name`, `content` and `comment` also take .exact, .contains, .startswith and .endswith."""

    type: str | None = None
    name: str | None = None
    name_exact: str | None = Field(None, alias="name.exact")
    name_contains: str | None = Field(None, alias="name.contains")
    name_startswith: str | None = Field(None, alias="name.startswith")
    name_endswith: str | None = Field(None, alias="name.endswith")
    content: str | None = None
    content_exact: str | None = Field(None, alias="content.exact")
    content_contains: str | None = Field(None, alias="content.contains")
    content_startswith: str | None = Field(None, alias="content.startswith")
    content_endswith: str | None = Field(None, alias="content.endswith")
    comment_exact: str | None = Field(None, alias="comment.exact")
    comment_contains: str | None = Field(None, alias="comment.contains")
    comment_startswith: str | None = Field(None, alias="comment.startswith")
    comment_endswith: str | None = Field(None, alias="comment.endswith")
    proxied: bool | None = None
    search: str | None = None
    match: Literal["all", "any"] = "all"
    order: Literal["type", "name", "content", "ttl", "proxied"] = "name"
    direction: Literal["asc", "desc"] = "asc"


class RecordResult(Schema):
    id: str
    zone_id: str
    zone_name: str
    name: str
    type: str
    content: str
    ttl: int
    proxied: bool
    proxiable: bool
    comment: str | None
    tags: list[str] = []
    settings: dict[str, Any] = {}
    meta: dict[str, Any] = {}
    created_on: str | None
    modified_on: str | None
    # Ours: whether DNS answers what is stored: pending, ok, mismatch or error.
    verification: str
    last_answer: str


class RouteBody(Schema):
    type: str
    user_hostname: str = Field("", max_length=300)
    overwrite_existing: bool = False


class RouteResult(Schema):
    cname: str
    name: str


@router.route("GET", "/zones/{zone_id}/dns_records", Permission.DNS_READ, RecordResult, paged=True)
def list_dns_records(request: ApiRequest, zone_id: str, paging: Query[Paging], filters: Query[RecordFilters]) -> Page:
    rows = _records(own_zone(request, zone_id)).filter(_conditions(filters))
    sign = "-" if filters.direction == "desc" else ""
    return page_of(rows.order_by(f"{sign}{filters.order}", "id"), paging, shape_record)


@router.route("POST", "/zones/{zone_id}/dns_records", Permission.DNS_EDIT, RecordResult)
def create_dns_record(request: ApiRequest, zone_id: str, body: RecordBody) -> RecordResult:
    zone = own_zone(request, zone_id)
    return shape_record(create_record(zone, **_all_values(body), actor=request.actor))


@router.route("GET", "/zones/{zone_id}/dns_records/{record_id}", Permission.DNS_READ, RecordResult)
def get_dns_record(request: ApiRequest, zone_id: str, record_id: str) -> RecordResult:
    return shape_record(_own(request, zone_id, record_id))


@router.route("PUT", "/zones/{zone_id}/dns_records/{record_id}", Permission.DNS_EDIT, RecordResult)
def replace_dns_record(request: ApiRequest, zone_id: str, record_id: str, body: RecordBody) -> RecordResult:
    record = _own(request, zone_id, record_id)
    return shape_record(update_record(record, **_all_values(body), actor=request.actor))


@router.route("PATCH", "/zones/{zone_id}/dns_records/{record_id}", Permission.DNS_EDIT, RecordResult)
def edit_dns_record(request: ApiRequest, zone_id: str, record_id: str, body: RecordChanges) -> RecordResult:
    record = _own(request, zone_id, record_id)
    _refuse_extras(body)
    values = body.model_dump(include={"type", "name", "content", "ttl", "proxied", "comment"}, exclude_none=True)
    return shape_record(update_record(record, **values, actor=request.actor))


@router.route("DELETE", "/zones/{zone_id}/dns_records/{record_id}", Permission.DNS_EDIT, Deleted)
def remove_dns_record(request: ApiRequest, zone_id: str, record_id: str) -> Deleted:
    delete_record(_own(request, zone_id, record_id), actor=request.actor)
    return Deleted(id=record_id)


@router.route("PUT", "/zones/{zone_id}/tunnels/{tunnel_id}/routes", Permission.DNS_EDIT, RouteResult)
def put_tunnel_route(request: ApiRequest, zone_id: str, tunnel_id: str, body: RouteBody) -> RouteResult:
    """Points a hostname at a tunnel with a CNAME record. `cname` says: new, updated or unchanged."""
    zone = own_zone(request, zone_id)
    tunnel = own_live_tunnel(request, tunnel_id)
    if body.type != "dns":
        raise InvalidInput("Routes are of type dns: there are no load balancers here.", fields={"type": "Only dns."})
    outcome = route_hostname(
        zone, tunnel, hostname=body.user_hostname, overwrite=body.overwrite_existing, actor=request.actor
    )
    return RouteResult(cname=outcome, name=body.user_hostname)


@router.route("POST", "/zones/{zone_id}/dns_records/{record_id}/check", Permission.DNS_EDIT, RecordResult)
def check_record(request: ApiRequest, zone_id: str, record_id: str) -> RecordResult:
    """Ours: asks the resolvers now; `verification` and `last_answer` show the result a moment later."""
    return shape_record(verify_record(_own(request, zone_id, record_id), actor=request.actor))


def shape_record(record: DnsRecord) -> RecordResult:
    return RecordResult(
        id=record.id,
        zone_id=record.zone_id,
        zone_name=record.zone.name,
        name=record.name,
        type=record.type,
        content=record.content,
        ttl=record.ttl,
        proxied=record.proxied,
        proxiable=record.type != DnsRecord.Type.TXT,
        comment=record.comment or None,
        created_on=rfc3339(record.created_at),
        modified_on=rfc3339(record.updated_at),
        verification=record.verification,
        last_answer=record.last_answer,
    )


def _records(zone: Zone) -> TenantQuerySet[DnsRecord]:
    return DnsRecord.objects.for_organization(zone.organization).filter(zone=zone).select_related("zone__organization")


def _own(request: ApiRequest, zone_id: str, record_id: str) -> DnsRecord:
    return find(_records(own_zone(request, zone_id)), record_id, _MISSING)


def _all_values(body: RecordBody) -> dict[str, Any]:
    _refuse_extras(body)
    missing = [name for name in ("type", "name", "content") if getattr(body, name) is None]
    if missing:
        raise InvalidInput(f"{', '.join(missing)} must not be null.", fields=dict.fromkeys(missing, "Required."))
    return {
        "type": body.type,
        "name": body.name,
        "content": body.content,
        "ttl": 1 if body.ttl is None else body.ttl,
        "proxied": bool(body.proxied),
        "comment": body.comment or "",
    }


def _refuse_extras(body: RecordChanges) -> None:
    if body.tags or any((body.settings or {}).values()):
        raise InvalidInput("Record tags and settings are not available: leave them out.")


def _conditions(filters: RecordFilters) -> Q:
    found: list[Q] = []
    if filters.type is not None:
        found.append(Q(type=filters.type.upper()))
    if filters.proxied is not None:
        found.append(Q(proxied=filters.proxied))
    for column in ("name", "content", "comment"):
        for suffix, lookup in {"": "iexact", **{f"_{key}": value for key, value in _TEXT_FILTERS.items()}}.items():
            wanted = getattr(filters, f"{column}{suffix}", None)
            if wanted is not None:
                found.append(Q(**{f"{column}__{lookup}": wanted}))
    combined = Q()
    for condition in found:
        combined = combined | condition if filters.match == "any" else combined & condition
    if filters.search:
        words = Q(name__icontains=filters.search) | Q(content__icontains=filters.search)
        combined &= words | Q(comment__icontains=filters.search)
    return combined
