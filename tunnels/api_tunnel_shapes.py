"""Tunnels, connectors and connections as cloudflared and SDKs read them (tunnel-edge.md 1.3, product.md 3.4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Max
from django.utils import timezone
from ninja import Schema

from accounts.api_base import ApiRequest, find, rfc3339
from accounts.models import Organization
from tunnels.models import Connection, Connector, Tunnel
from tunnels.status import open_connections, status_of

MISSING_TUNNEL = "No such tunnel."


class ConnectionResult(Schema):
    id: str
    uuid: str
    colo_name: str
    is_pending_reconnect: bool = False
    origin_ip: str | None
    opened_at: str | None
    client_id: str
    client_version: str


class TunnelResult(Schema):
    id: str
    account_tag: str
    name: str
    created_at: str | None
    deleted_at: str | None
    tun_type: str = "cfd_tunnel"
    status: str
    config_src: str
    remote_config: bool
    metadata: dict[str, Any] = {}
    conns_active_at: str | None
    conns_inactive_at: str | None
    connections: list[ConnectionResult]


class NewTunnelResult(TunnelResult):
    """Creating and changing a tunnel also answers what runs it: the token, and the credentials file's content."""

    token: str
    credentials_file: dict[str, str]


class ConnectorResult(Schema):
    id: str
    arch: str
    version: str
    features: list[str]
    config_version: int | None
    run_at: str | None
    conns: list[ConnectionResult]


def own_tunnel(request: ApiRequest, tunnel_id: str) -> Tunnel:
    """Deleted tunnels included: clients look at `deleted_at`."""
    rows = Tunnel.objects.for_organization(request.organization).select_related("organization")
    return find(rows, tunnel_id, MISSING_TUNNEL)


def own_live_tunnel(request: ApiRequest, tunnel_id: str) -> Tunnel:
    rows = Tunnel.objects.for_organization(request.organization).select_related("organization")
    return find(rows, tunnel_id, MISSING_TUNNEL, deleted_at=None)


def shape_tunnels(organization: Organization, tunnels: Iterable[Tunnel]) -> list[TunnelResult]:
    """Two queries for any number of tunnels."""
    chosen = list(tunnels)
    now = timezone.now()
    connections = _connections_by_tunnel(organization, [tunnel.pk for tunnel in chosen], now)
    last_seen = dict(
        Connector.objects.for_organization(organization)
        .filter(tunnel__in=chosen)
        .order_by()
        .values_list("tunnel_id")
        .annotate(Max("last_seen_at"))
    )
    return [_shape(tunnel, connections[tunnel.pk], last_seen.get(tunnel.pk)) for tunnel in chosen]


def shape_tunnel(tunnel: Tunnel) -> TunnelResult:
    return shape_tunnels(tunnel.organization, [tunnel])[0]


def shape_connectors(tunnel: Tunnel, connectors: Iterable[Connector]) -> list[ConnectorResult]:
    now = timezone.now()
    by_connector: dict[int, list[Connection]] = defaultdict(list)
    for connection in _connections_by_tunnel(tunnel.organization, [tunnel.pk], now)[tunnel.pk]:
        by_connector[connection.connector_id].append(connection)
    return [_shape_connector(connector, by_connector[connector.pk]) for connector in connectors]


def _connections_by_tunnel(
    organization: Organization, tunnel_ids: list[UUID], now: datetime
) -> dict[UUID, list[Connection]]:
    rows = open_connections(Connection.objects.for_organization(organization), now)
    grouped: dict[UUID, list[Connection]] = defaultdict(list)
    related = rows.filter(connector__tunnel__in=tunnel_ids).select_related("connector", "edge")
    for connection in related.order_by("opened_at", "index"):
        grouped[connection.connector.tunnel_id].append(connection)
    return grouped


def _shape(tunnel: Tunnel, connections: list[Connection], last_seen: datetime | None) -> TunnelResult:
    active_at = min((connection.opened_at for connection in connections), default=None)
    return TunnelResult(
        id=str(tunnel.pk),
        account_tag=tunnel.organization_id,
        name=tunnel.name,
        created_at=rfc3339(tunnel.created_at),
        deleted_at=rfc3339(tunnel.deleted_at),
        status=status_of(len(connections), was_connected=last_seen is not None).value,
        config_src=tunnel.config_source,
        remote_config=tunnel.config_source == Tunnel.ConfigSource.REMOTE,
        conns_active_at=rfc3339(active_at),
        conns_inactive_at=None if connections else rfc3339(last_seen),
        connections=[_shape_connection(connection) for connection in connections],
    )


def _shape_connector(connector: Connector, connections: list[Connection]) -> ConnectorResult:
    applied = [connection.applied_version for connection in connections if connection.applied_version is not None]
    return ConnectorResult(
        id=str(connector.client_id),
        arch=connector.arch,
        version=connector.version,
        features=connector.features,
        config_version=min(applied, default=None),
        run_at=rfc3339(connector.first_seen_at),
        conns=[_shape_connection(connection) for connection in connections],
    )


def _shape_connection(connection: Connection) -> ConnectionResult:
    return ConnectionResult(
        id=str(connection.pk),
        uuid=str(connection.pk),
        colo_name=connection.edge.location,
        origin_ip=connection.origin_ip,
        opened_at=rfc3339(connection.opened_at),
        client_id=str(connection.connector.client_id),
        client_version=connection.connector.version,
    )
