"""/client/v4 {accounts|zones}/…/access/identity_providers (product.md 1.6). Client secrets go in and never come out."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from ninja import Field, Query, Schema

from accounts.actions.identity_providers import create_provider, delete_provider, update_provider
from accounts.api_base import ApiRequest, ApiRouter, Deleted, Page, Paging, find, page_of
from accounts.api_scim import ScimConfigBody, configure_scim, shape_scim_config
from accounts.errors import InvalidInput
from accounts.models import IdentityProvider
from accounts.permissions import Permission

router = ApiRouter(tags=["Identity providers"])
_MISSING = "No such identity provider."


class ProviderBody(Schema):
    name: str = Field(min_length=1, max_length=350)
    type: str = Field(max_length=32)
    config: dict[str, Any] = {}
    scim_config: ScimConfigBody | None = None


class ProviderResult(Schema):
    id: str
    name: str
    type: str
    config: dict[str, Any]
    scim_config: dict[str, Any] = {}
    read_only: bool = False


@router.route("GET", "/identity_providers", Permission.IDENTITY_READ, ProviderResult, paged=True)
def list_identity_providers(request: ApiRequest, paging: Query[Paging]) -> Page:
    rows = IdentityProvider.objects.for_organization(request.organization).select_related("organization")
    return page_of(rows, paging, shape_provider)


@router.route("POST", "/identity_providers", Permission.IDENTITY_EDIT, ProviderResult)
def create_identity_provider(request: ApiRequest, body: ProviderBody) -> ProviderResult:
    config, secret = _config(body)
    with transaction.atomic():
        provider = create_provider(
            request.organization,
            type=body.type,
            name=body.name,
            config=config,
            client_secret=secret,
            actor=request.actor,
        )
        scim_secret = configure_scim(provider, body.scim_config, actor=request.actor)
    provider.refresh_from_db()
    return shape_provider(provider, scim_secret)


@router.route("GET", "/identity_providers/{provider_id}", Permission.IDENTITY_READ, ProviderResult)
def get_identity_provider(request: ApiRequest, provider_id: str) -> ProviderResult:
    return shape_provider(_own(request, provider_id))


@router.route("PUT", "/identity_providers/{provider_id}", Permission.IDENTITY_EDIT, ProviderResult)
def update_identity_provider(request: ApiRequest, provider_id: str, body: ProviderBody) -> ProviderResult:
    """Replaces name and config. Without `config.client_secret` the stored secret stays."""
    provider = _own(request, provider_id)
    if body.type != provider.type:
        raise InvalidInput("An identity provider's type cannot be changed.", fields={"type": "Cannot be changed."})
    config, secret = _config(body)
    with transaction.atomic():
        updated = update_provider(provider, name=body.name, config=config, client_secret=secret, actor=request.actor)
        scim_secret = configure_scim(updated, body.scim_config, actor=request.actor)
    updated.refresh_from_db()
    return shape_provider(updated, scim_secret)


@router.route("DELETE", "/identity_providers/{provider_id}", Permission.IDENTITY_EDIT, Deleted)
def delete_identity_provider(request: ApiRequest, provider_id: str) -> Deleted:
    provider = _own(request, provider_id)
    identifier = str(provider.pk)
    delete_provider(provider, actor=request.actor)
    return Deleted(id=identifier)


def shape_provider(provider: IdentityProvider, scim_secret: str | None = None) -> ProviderResult:
    """`scim_secret`: just made, shown in this one answer."""
    config = {key: value for key, value in provider.config.items() if key != "client_secret"}
    if provider.type == IdentityProvider.Type.ONE_TIME_PIN:
        config["redirect_url"] = f"{provider.organization.team_url}/cdn-cgi/access/callback"
    return ProviderResult(
        id=str(provider.pk),
        name=provider.name,
        type=provider.type,
        config=config,
        scim_config=shape_scim_config(provider, scim_secret),
    )


def _own(request: ApiRequest, provider_id: str) -> IdentityProvider:
    return find(IdentityProvider.objects.for_organization(request.organization), provider_id, _MISSING)


def _config(body: ProviderBody) -> tuple[dict[str, Any], str | None]:
    """The config as actions take it, and the client secret apart from it."""
    config = {key: value for key, value in body.config.items() if key not in ("client_secret", "redirect_url")}
    secret = body.config.get("client_secret")
    if secret is not None and not isinstance(secret, str):
        raise InvalidInput("config.client_secret must be text.", fields={"config": "client_secret must be text."})
    return config, secret or None
