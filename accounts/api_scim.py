"""/client/v4 …/access/identity_providers/{id}: SCIM's secret, users and groups; and the log of its updates."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ninja import Query, Schema

from accounts.actions.scim_settings import refresh_scim_secret, scim_base_url, set_scim
from accounts.actor import Actor
from accounts.api_base import ApiRequest, ApiRouter, Page, Paging, find, page_of, rfc3339
from accounts.errors import InvalidInput
from accounts.models import IdentityProvider, ScimGroup, ScimUpdate, ScimUser
from accounts.permissions import Permission

router = ApiRouter(tags=["SCIM"])
_MISSING = "No such identity provider."
_REDACTED = "REDACTED"


class ScimConfigBody(Schema):
    """`secret` and `scim_base_url` come back in configurations that clients send whole; they are not for sending."""

    enabled: bool = False
    user_deprovision: bool | None = None
    seat_deprovision: bool | None = None
    identity_update_behavior: str | None = None
    secret: str | None = None
    scim_base_url: str | None = None


class SecretResult(Schema):
    secret: str


class ScimFilters(Schema):
    cf_resource_id: str | None = None
    idp_resource_id: str | None = None
    username: str | None = None
    email: str | None = None
    name: str | None = None


class UpdateFilters(Schema):
    idp_id: str | None = None
    resource_type: str | None = None
    resource_user_email: str | None = None
    resource_group_name: str | None = None
    request_method: str | None = None
    status: str | None = None
    cf_resource_id: str | None = None
    idp_resource_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class UpdateResult(Schema):
    cf_resource_id: str
    error_description: str | None
    idp_id: str
    idp_resource_id: str
    logged_at: str | None
    request_body: str
    request_method: str
    resource_group_name: str
    resource_type: str
    resource_user_email: str
    status: str


@router.route("POST", "/identity_providers/{provider_id}/refresh_scim_secret", Permission.IDENTITY_EDIT, SecretResult)
def refresh_secret(request: ApiRequest, provider_id: str) -> SecretResult:
    """A new secret, shown in this answer only; the old one stops at once."""
    return SecretResult(secret=refresh_scim_secret(_own(request, provider_id), actor=request.actor))


@router.route(
    "GET", "/identity_providers/{provider_id}/scim/users", Permission.IDENTITY_READ, dict[str, Any], paged=True
)
def list_scim_users(request: ApiRequest, provider_id: str, paging: Query[Paging], filters: Query[ScimFilters]) -> Page:
    rows = ScimUser.objects.for_organization(request.organization).filter(provider=_own(request, provider_id))
    wanted = {
        "pk": _uuid(filters.cf_resource_id),
        "external_id": filters.idp_resource_id,
        "user_name__iexact": filters.username,
        "email__iexact": filters.email,
        "display_name": filters.name,
    }
    return page_of(rows.filter(**_given(wanted)).prefetch_related("groups"), paging, _shape_user)


@router.route(
    "GET", "/identity_providers/{provider_id}/scim/groups", Permission.IDENTITY_READ, dict[str, Any], paged=True
)
def list_scim_groups(request: ApiRequest, provider_id: str, paging: Query[Paging], filters: Query[ScimFilters]) -> Page:
    rows = ScimGroup.objects.for_organization(request.organization).filter(provider=_own(request, provider_id))
    wanted = {
        "pk": _uuid(filters.cf_resource_id),
        "external_id": filters.idp_resource_id,
        "display_name": filters.name,
    }
    return page_of(rows.filter(**_given(wanted)), paging, _shape_group)


@router.route("GET", "/logs/scim/updates", Permission.LOGS_READ, UpdateResult, paged=True)
def list_scim_updates(request: ApiRequest, paging: Query[Paging], filters: Query[UpdateFilters]) -> Page:
    """Changes asked for by SCIM clients, newest first, also the refused ones."""
    for name in ("since", "until"):
        moment = getattr(filters, name)
        if moment is not None and moment.tzinfo is None:
            raise InvalidInput(f"{name} needs a time zone.", fields={name: "No zone."})
    wanted = {
        "provider_id": _uuid(filters.idp_id),
        "resource_type": filters.resource_type.upper() if filters.resource_type else None,
        "user_email__iexact": filters.resource_user_email,
        "group_name": filters.resource_group_name,
        "method": filters.request_method.upper() if filters.request_method else None,
        "resource_id": filters.cf_resource_id,
        "external_id": filters.idp_resource_id,
        "created_at__gte": filters.since,
        "created_at__lte": filters.until,
    }
    rows = ScimUpdate.objects.for_organization(request.organization).filter(**_given(wanted))
    if filters.status is not None:
        rows = rows.filter(status__lt=400) if filters.status.upper() == "SUCCESS" else rows.filter(status__gte=400)
    return page_of(rows.order_by("-created_at", "-id"), paging, _shape_update)


def configure_scim(provider: IdentityProvider, body: ScimConfigBody | None, *, actor: Actor) -> str | None:
    """As identity_providers' `scim_config` says; None leaves it. Returns a secret made by enabling it first."""
    if body is None:
        return None
    return set_scim(
        provider,
        actor=actor,
        enabled=body.enabled,
        user_deprovision=body.user_deprovision,
        seat_deprovision=body.seat_deprovision,
        identity_update_behavior=body.identity_update_behavior,
    )


def shape_scim_config(provider: IdentityProvider, secret: str | None = None) -> dict[str, Any]:
    if not provider.scim_enabled and not provider.scim_secret_sha256:
        return {}
    return {
        "enabled": provider.scim_enabled,
        "identity_update_behavior": provider.scim_identity_update_behavior,
        "scim_base_url": scim_base_url(provider),
        "seat_deprovision": provider.scim_seat_deprovision,
        "secret": secret or _REDACTED,
        "user_deprovision": provider.scim_user_deprovision,
    }


def _own(request: ApiRequest, provider_id: str) -> IdentityProvider:
    rows = IdentityProvider.objects.for_organization(request.organization).select_related("organization")
    return find(rows, provider_id, _MISSING)


def _uuid(text: str | None) -> str | None:
    if text is None:
        return None
    is_id = len(text) in {32, 36} and all(character in "0123456789abcdef-" for character in text.lower())
    return text if is_id else "00000000-0000-0000-0000-000000000000"


def _given(wanted: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in wanted.items() if value is not None}


def _shape_user(user: ScimUser) -> dict[str, Any]:
    return {
        "id": str(user.pk),
        "externalId": user.external_id,
        "userName": user.user_name,
        "displayName": user.display_name,
        "active": user.active,
        "emails": user.resource.get("emails", []),
        "groups": [{"value": str(group.pk), "display": group.display_name} for group in user.groups.all()],
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "meta": {"created": rfc3339(user.created_at), "lastModified": rfc3339(user.updated_at)},
        # Ours: the person of …/access/users, once they are known to be the same.
        "user_id": str(user.identity_id) if user.identity_id else None,
    }


def _shape_group(group: ScimGroup) -> dict[str, Any]:
    return {
        "id": str(group.pk),
        "externalId": group.external_id,
        "displayName": group.display_name,
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"],
        "meta": {"created": rfc3339(group.created_at), "lastModified": rfc3339(group.updated_at)},
    }


def _shape_update(row: ScimUpdate) -> UpdateResult:
    return UpdateResult(
        cf_resource_id=row.resource_id,
        error_description=row.error or None,
        idp_id=str(row.provider_id),
        idp_resource_id=row.external_id,
        logged_at=rfc3339(row.created_at),
        request_body=row.request_body,
        request_method=row.method,
        resource_group_name=row.group_name,
        resource_type=row.resource_type,
        resource_user_email=row.user_email,
        status="SUCCESS" if row.status < 400 else "FAILURE",
    )
