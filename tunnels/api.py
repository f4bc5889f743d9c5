"""/client/v4 accounts/…/cfd_tunnel: tunnels, their configuration, connections and tokens."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone
from ninja import Field, Query, Schema

from accounts.api_base import ApiRequest, ApiRouter, Page, Paging, as_uuid, page_of_all, rfc3339
from accounts.errors import InvalidInput, NotFound
from accounts.permissions import Permission
from accounts.tenancy import TenantQuerySet
from tunnels.actions.configurations import current_configuration, publish_configuration
from tunnels.actions.connectors import disconnect_connectors
from tunnels.actions.tunnels import (
    create_tunnel,
    credentials,
    delete_tunnel,
    rename_tunnel,
    replace_tunnel_secret,
    rotate_tunnel_token,
    tunnel_token,
)
from tunnels.api_tunnel_shapes import (
    ConnectorResult,
    NewTunnelResult,
    TunnelResult,
    own_live_tunnel,
    own_tunnel,
    shape_connectors,
    shape_tunnel,
    shape_tunnels,
)
from tunnels.models import Connection, Connector, Tunnel, TunnelConfiguration
from tunnels.status import open_connections, statuses

router = ApiRouter(tags=["Tunnels"])
_MAX_SECRET_TEXT = 1024


class TunnelBody(Schema):
    name: str = Field(max_length=300)
    config_src: str = Field("local", max_length=16)
    # Base64 of at least 32 bytes, made by the client; without it the tunnel is run with its token.
    tunnel_secret: str | None = Field(None, max_length=_MAX_SECRET_TEXT)


class TunnelChanges(Schema):
    name: str | None = Field(None, max_length=300)
    tunnel_secret: str | None = Field(None, max_length=_MAX_SECRET_TEXT)


class RotationBody(Schema):
    cut: bool = False


class TunnelFilters(Schema):
    name: str | None = None
    name_prefix: str | None = None
    include_prefix: str | None = None
    exclude_prefix: str | None = None
    uuid: str | None = None
    status: str | None = None
    # Deleted tunnels are listed only with is_deleted=true.
    is_deleted: bool = False
    existed_at: datetime | None = None


class ConfigurationBody(Schema):
    config: dict[str, Any]


class ConfigurationResult(Schema):
    account_id: str
    tunnel_id: str
    version: int
    source: str
    created_at: str | None
    config: dict[str, Any] | None


# --- Tunnels --------------------------------------------------------------------------------------------------
@router.route("GET", "/accounts/{account_id}/cfd_tunnel", Permission.TUNNELS_READ, TunnelResult, paged=True)
def list_tunnels(request: ApiRequest, account_id: str, paging: Query[Paging], filters: Query[TunnelFilters]) -> Page:
    organization = request.organization
    rows = _matching(Tunnel.objects.for_organization(organization), filters).order_by("name", "created_at", "id")
    if filters.status is not None:
        found = statuses(rows, timezone.now())
        rows = rows.filter(pk__in=[pk for pk, status in found.items() if status == filters.status])
    return page_of_all(rows, paging, lambda tunnels: shape_tunnels(organization, tunnels))


@router.route("POST", "/accounts/{account_id}/cfd_tunnel", Permission.TUNNELS_EDIT, NewTunnelResult)
def create_cfd_tunnel(request: ApiRequest, account_id: str, body: TunnelBody) -> NewTunnelResult:
    """409 when a live tunnel has the name. `token` and `credentials_file` hold secrets."""
    secret = _decoded_secret(body.tunnel_secret)
    tunnel = create_tunnel(
        request.organization, name=body.name, secret=secret, config_source=body.config_src, actor=request.actor
    )
    return _with_credentials(tunnel, secret)


@router.route("GET", "/accounts/{account_id}/cfd_tunnel/{tunnel_id}", Permission.TUNNELS_READ, TunnelResult)
def get_tunnel(request: ApiRequest, account_id: str, tunnel_id: str) -> TunnelResult:
    return shape_tunnel(own_tunnel(request, tunnel_id))


@router.route("PATCH", "/accounts/{account_id}/cfd_tunnel/{tunnel_id}", Permission.TUNNELS_EDIT, NewTunnelResult)
def edit_tunnel(request: ApiRequest, account_id: str, tunnel_id: str, body: TunnelChanges) -> NewTunnelResult:
    """A new name, a new secret made by the client, or both."""
    tunnel = own_live_tunnel(request, tunnel_id)
    secret = _decoded_secret(body.tunnel_secret)
    with transaction.atomic():
        if body.name is not None and body.name != tunnel.name:
            tunnel = rename_tunnel(tunnel, name=body.name, actor=request.actor)
        if secret is not None:
            tunnel = replace_tunnel_secret(tunnel, secret=secret, actor=request.actor)
    return _with_credentials(tunnel, secret)


@router.route("DELETE", "/accounts/{account_id}/cfd_tunnel/{tunnel_id}", Permission.TUNNELS_EDIT, TunnelResult)
def remove_tunnel(request: ApiRequest, account_id: str, tunnel_id: str, cascade: bool = False) -> TunnelResult:
    """Refused while connectors are connected, unless `cascade=true`."""
    tunnel = delete_tunnel(own_live_tunnel(request, tunnel_id), cascade=cascade, actor=request.actor)
    return shape_tunnel(tunnel)


@router.route("GET", "/accounts/{account_id}/cfd_tunnel/{tunnel_id}/token", Permission.TUNNELS_EDIT, str)
def get_tunnel_token(request: ApiRequest, account_id: str, tunnel_id: str) -> str:
    """For `tunnel run --token`. It holds a secret, so reading it needs tunnels.edit."""
    return tunnel_token(own_live_tunnel(request, tunnel_id))


@router.route("POST", "/accounts/{account_id}/cfd_tunnel/{tunnel_id}/token", Permission.TUNNELS_EDIT, str)
def rotate_token(request: ApiRequest, account_id: str, tunnel_id: str, body: RotationBody | None = None) -> str:
    """Ours: a new token, in this answer. The old one opens no new connections; `cut` closes the live ones too."""
    tunnel = own_live_tunnel(request, tunnel_id)
    return tunnel_token(rotate_tunnel_token(tunnel, cut=body is not None and body.cut, actor=request.actor))


# --- Configuration --------------------------------------------------------------------------------------------
@router.route(
    "GET",
    "/accounts/{account_id}/cfd_tunnel/{tunnel_id}/configurations",
    Permission.TUNNELS_READ,
    ConfigurationResult,
)
def get_tunnel_configuration(request: ApiRequest, account_id: str, tunnel_id: str) -> ConfigurationResult:
    """The newest version; version 0 with a null `config` before the first."""
    tunnel = own_live_tunnel(request, tunnel_id)
    return _shape_configuration(tunnel, current_configuration(tunnel))


@router.route(
    "PUT",
    "/accounts/{account_id}/cfd_tunnel/{tunnel_id}/configurations",
    Permission.TUNNELS_EDIT,
    ConfigurationResult,
)
def put_tunnel_configuration(
    request: ApiRequest, account_id: str, tunnel_id: str, body: ConfigurationBody
) -> ConfigurationResult:
    """Publishes a new version and pushes it to the connectors. The last ingress rule must match everything."""
    tunnel = own_live_tunnel(request, tunnel_id)
    configuration = publish_configuration(tunnel, config=body.config, actor=request.actor)
    return _shape_configuration(tunnel, configuration)


# --- Connections and connectors -------------------------------------------------------------------------------
@router.route(
    "GET",
    "/accounts/{account_id}/cfd_tunnel/{tunnel_id}/connections",
    Permission.TUNNELS_READ,
    ConnectorResult,
    paged=True,
)
def list_tunnel_connections(request: ApiRequest, account_id: str, tunnel_id: str, paging: Query[Paging]) -> Page:
    """Connectors that are connected now, each with its connections."""
    tunnel = own_tunnel(request, tunnel_id)
    return page_of_all(_connected(tunnel), paging, lambda connectors: shape_connectors(tunnel, connectors))


@router.route(
    "DELETE",
    "/accounts/{account_id}/cfd_tunnel/{tunnel_id}/connections",
    Permission.TUNNELS_EDIT,
    dict[str, str],
)
def remove_tunnel_connections(
    request: ApiRequest, account_id: str, tunnel_id: str, client_id: str | None = None
) -> dict[str, str]:
    """Closes the connections of one connector (`client_id`) or of all."""
    disconnect_connectors(own_live_tunnel(request, tunnel_id), client_id=client_id, actor=request.actor)
    return {}


@router.route(
    "GET",
    "/accounts/{account_id}/cfd_tunnel/{tunnel_id}/connectors/{connector_id}",
    Permission.TUNNELS_READ,
    ConnectorResult,
)
def get_tunnel_connector(request: ApiRequest, account_id: str, tunnel_id: str, connector_id: str) -> ConnectorResult:
    """By the id the connector chose at its start, connected or not."""
    tunnel = own_tunnel(request, tunnel_id)
    wanted = as_uuid(connector_id)
    connector = None if wanted is None else _connectors(tunnel).filter(client_id=wanted).first()
    if connector is None:
        raise NotFound("No such connector.")
    return shape_connectors(tunnel, [connector])[0]


def _matching(rows: TenantQuerySet[Tunnel], filters: TunnelFilters) -> TenantQuerySet[Tunnel]:
    rows = rows.filter(deleted_at__isnull=not filters.is_deleted)
    if filters.uuid is not None:
        wanted = as_uuid(filters.uuid)
        rows = rows.none() if wanted is None else rows.filter(pk=wanted)
    if filters.name is not None:
        rows = rows.filter(name=filters.name)
    for prefix in (filters.name_prefix, filters.include_prefix):
        if prefix is not None:
            rows = rows.filter(name__startswith=prefix)
    if filters.exclude_prefix is not None:
        rows = rows.exclude(name__startswith=filters.exclude_prefix)
    if filters.existed_at is not None:
        if filters.existed_at.tzinfo is None:
            raise InvalidInput("existed_at needs a time zone, for example 2026-01-31T00:00:00Z.")
        rows = rows.filter(created_at__lte=filters.existed_at)
    return rows


def _connectors(tunnel: Tunnel) -> TenantQuerySet[Connector]:
    return Connector.objects.for_organization(tunnel.organization).filter(tunnel=tunnel)


def _connected(tunnel: Tunnel) -> TenantQuerySet[Connector]:
    open_now = open_connections(Connection.objects.for_organization(tunnel.organization), timezone.now())
    return _connectors(tunnel).filter(pk__in=open_now.values("connector")).order_by("first_seen_at", "pk")


def _with_credentials(tunnel: Tunnel, secret: bytes | None) -> NewTunnelResult:
    shaped = shape_tunnel(tunnel)
    return NewTunnelResult(**dict(shaped), token=tunnel_token(tunnel), credentials_file=credentials(tunnel, secret))


def _shape_configuration(tunnel: Tunnel, configuration: TunnelConfiguration | None) -> ConfigurationResult:
    return ConfigurationResult(
        account_id=tunnel.organization_id,
        tunnel_id=str(tunnel.pk),
        version=configuration.version if configuration else 0,
        source=configuration.source if configuration else tunnel.config_source,
        created_at=rfc3339(configuration.created_at if configuration else tunnel.created_at),
        config=configuration.config if configuration else None,
    )


def _decoded_secret(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        message = "tunnel_secret must be base64 of at least 32 bytes."
        raise InvalidInput(message, fields={"tunnel_secret": message}) from error
