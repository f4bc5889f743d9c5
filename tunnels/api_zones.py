"""/client/v4 zones (product.md 3.5). A zone starts pending; its `verification` says which TXT record proves it."""

from __future__ import annotations

from typing import Any, Literal

from ninja import Field, Query, Schema

from accounts.api_base import ApiRequest, ApiRouter, Deleted, Page, Paging, find, page_of, rfc3339
from accounts.errors import InvalidInput, NotFound
from accounts.permissions import Permission
from tunnels import zones
from tunnels.actions.zones import create_zone, delete_zone, verify_zone
from tunnels.models import Zone

router = ApiRouter(tags=["Zones"])
MISSING_ZONE = "No such zone."


class AccountReference(Schema):
    id: str = Field(max_length=64)


class ZoneBody(Schema):
    name: str = Field(min_length=1, max_length=300)
    account: AccountReference | None = None
    type: Literal["full", "partial"] = "full"


class ZoneChanges(Schema):
    paused: bool | None = None
    type: str | None = None
    vanity_name_servers: list[str] | None = None


class ZoneFilters(Schema):
    name: str | None = None
    account_id: str | None = Field(None, alias="account.id")
    account_name: str | None = Field(None, alias="account.name")
    status: str | None = None
    order: Literal["name", "status", "account.id", "account.name"] = "name"
    direction: Literal["asc", "desc"] = "asc"


class Verification(Schema):
    """Ours: the record that proves the zone, and what the resolver said last."""

    type: str = "TXT"
    name: str
    value: str
    checked_at: str | None
    last_answer: str


class ZoneOwnerResult(Schema):
    id: str
    name: str
    type: str = "organization"


class ZoneResult(Schema):
    id: str
    name: str
    status: str
    type: str = "full"
    paused: bool = False
    development_mode: int = 0
    name_servers: list[str] = []
    original_name_servers: list[str] = []
    account: dict[str, str]
    owner: ZoneOwnerResult
    plan: dict[str, Any] = {}
    meta: dict[str, Any] = {}
    permissions: list[str] = []
    created_on: str | None
    modified_on: str | None
    activated_on: str | None
    verification: Verification


@router.route("GET", "/zones", Permission.DNS_READ, ZoneResult, paged=True)
def list_zones(request: ApiRequest, paging: Query[Paging], filters: Query[ZoneFilters]) -> Page:
    organization = request.organization
    rows = Zone.objects.for_organization(organization).select_related("organization")
    if filters.account_id not in (None, organization.id) or filters.account_name not in (None, organization.name):
        rows = rows.none()
    if filters.name is not None:
        rows = rows.filter(name=filters.name.lower().removesuffix("."))
    if filters.status is not None:
        rows = rows.filter(status=filters.status)
    column = "status" if filters.order == "status" else "name"
    sign = "-" if filters.direction == "desc" else ""
    return page_of(rows.order_by(f"{sign}{column}", "id"), paging, shape_zone)


@router.route("POST", "/zones", Permission.DNS_EDIT, ZoneResult)
def add_zone(request: ApiRequest, body: ZoneBody) -> ZoneResult:
    if body.account is not None and body.account.id != request.organization.id:
        raise NotFound("No such account.")
    return shape_zone(create_zone(request.organization, name=body.name, actor=request.actor))


@router.route("GET", "/zones/{zone_id}", Permission.DNS_READ, ZoneResult)
def get_zone(request: ApiRequest, zone_id: str) -> ZoneResult:
    return shape_zone(own_zone(request, zone_id))


@router.route("PATCH", "/zones/{zone_id}", Permission.DNS_EDIT, ZoneResult)
def edit_zone(request: ApiRequest, zone_id: str, body: ZoneChanges) -> ZoneResult:
    """For tools that send a zone's settings back: nothing about a zone can be changed, so other values are refused."""
    zone = own_zone(request, zone_id)
    if body.paused or body.type not in (None, "full") or body.vanity_name_servers:
        raise InvalidInput("A zone's settings cannot be changed: it is of type full and never paused.")
    return shape_zone(zone)


@router.route("DELETE", "/zones/{zone_id}", Permission.DNS_EDIT, Deleted)
def remove_zone(request: ApiRequest, zone_id: str) -> Deleted:
    """Refused while applications use names of the zone."""
    zone = own_zone(request, zone_id)
    delete_zone(zone, actor=request.actor)
    return Deleted(id=zone_id)


@router.route("PUT", "/zones/{zone_id}/activation_check", Permission.DNS_EDIT, Deleted)
def check_zone(request: ApiRequest, zone_id: str) -> Deleted:
    """Looks for the proof now; the zone's status and `verification` show the result."""
    verify_zone(own_zone(request, zone_id), actor=request.actor)
    return Deleted(id=zone_id)


def own_zone(request: ApiRequest, zone_id: str) -> Zone:
    rows = Zone.objects.for_organization(request.organization).select_related("organization")
    return find(rows, zone_id, MISSING_ZONE)


def organization_id_of_zone(zone_id: str) -> str | None:
    """For the tenancy check of every path below /zones/{zone_id}."""
    rows = Zone.objects.all_organizations(reason="the answer is compared with the token's organization")
    return rows.filter(pk=zone_id).values_list("organization_id", flat=True).first()


def shape_zone(zone: Zone) -> ZoneResult:
    organization = zone.organization
    return ZoneResult(
        id=zone.id,
        name=zone.name,
        status=zone.status,
        account={"id": organization.id, "name": organization.name},
        owner=ZoneOwnerResult(id=organization.id, name=organization.name),
        created_on=rfc3339(zone.created_at),
        modified_on=rfc3339(zone.updated_at),
        activated_on=rfc3339(zone.verified_at),
        verification=Verification(
            name=zones.challenge_name(zone),
            value=zones.challenge_value(zone),
            checked_at=rfc3339(zone.last_checked_at),
            last_answer=zone.last_answer,
        ),
    )
