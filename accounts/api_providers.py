"""/client/v4 {accounts|zones}/…/access/identity_providers (product.md 1.6). Secrets go in and never come out."""

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
from accounts.providers import LOGIN_METHODS, redirect_url
from accounts.providers.discovery import discovered

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
    config, secret, secrets = _config(body)
    config = discovered(body.type, config)
    with transaction.atomic():
        provider = create_provider(
            request.organization,
            type=body.type,
            name=body.name,
            config=config,
            client_secret=secret,
            secrets=secrets,
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
    config, secret, secrets = _config(body)
    config = discovered(body.type, config)
    with transaction.atomic():
        updated = update_provider(
            provider, name=body.name, config=config, client_secret=secret, secrets=secrets, actor=request.actor
        )
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
    config = {**provider.config, "redirect_url": redirect_url(provider)}
    if provider.type == IdentityProvider.Type.SAML:
        base = provider.organization.team_url
        config["sp_metadata_url"] = f"{base}/cdn-cgi/access/saml-metadata/{provider.pk}"
    return ProviderResult(
        id=str(provider.pk),
        name=provider.name,
        type=provider.type,
        config=config,
        scim_config=shape_scim_config(provider, scim_secret),
    )


def _own(request: ApiRequest, provider_id: str) -> IdentityProvider:
    return find(IdentityProvider.objects.for_organization(request.organization), provider_id, _MISSING)


def _config(body: ProviderBody) -> tuple[dict[str, Any], str | None, dict[str, str]]:
    """The config as actions take it, and the client secret and the type's other secrets apart from it."""
    method = LOGIN_METHODS.get(body.type)
    names = ("client_secret", *(method.secret_names if method is not None else ()))
    secrets = {name: body.config[name] for name in names if body.config.get(name) is not None}
    for name, value in secrets.items():
        if not isinstance(value, str):
            raise InvalidInput(f"config.{name} must be text.", fields={"config": f"{name} must be text."})
    read_only = ("redirect_url", "sp_metadata_url")
    config = {key: value for key, value in body.config.items() if key not in (*names, *read_only)}
    return config, secrets.pop("client_secret", None) or None, secrets
