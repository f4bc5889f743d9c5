"""What edges tell us: their reports, and their answers to pushes. Facts, not decisions: the edge version stays.

A report is the full list of an edge's connections. Writing it twice changes nothing; what is missing in it is closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models import Max, QuerySet

from accounts import audit
from accounts.actor import Actor, ActorKind
from tunnels import events
from tunnels.actions.edge_uses import keep_ways
from tunnels.models import Connection, Connector, Dial, Edge, Tunnel, TunnelConfiguration
from tunnels.reports import ConnectionReport, DialReport, EdgeReport

_REASON = "an edge serves the tunnels of every tenant"
# Versions a locally managed tunnel keeps: each start of a connector with another file adds one.
MAX_LOCAL_VERSIONS = 50
_BATCH = 500
_DESCRIBED = ("version", "arch", "features", "origin_ip", "local_config", "last_seen_at")
_UPDATED = [
    *("connector", "edge", "index", "origin_ip", "opened_at", "last_seen_at", "closed_at"),
    *("applied_version", "config_error", "rtt_ms"),
]
_DIALLED = ["edge", "connection_id", "destination", "reason", "message", "latency_ms", "at"]


class _Stored(NamedTuple):
    """What of a connection's row a report may change."""

    connector_id: int
    edge_id: str
    closed_at: datetime | None
    applied_version: int | None
    config_error: str
    origin_ip: str | None
    rtt_ms: float | None


@transaction.atomic
def record_report(report: EdgeReport, *, now: datetime) -> Edge:
    """Connections of unknown or deleted tunnels are left out: the edge learns of the deletion from its snapshot."""
    edge = _upsert_edge(report, now)
    tunnels = {
        tunnel.pk: tunnel
        for tunnel in Tunnel.objects.all_organizations(reason=_REASON)
        .select_related("organization")
        .filter(pk__in={item.tunnel_id for item in report.connections}, deleted_at=None)
    }
    known = [item for item in report.connections if item.tunnel_id in tunnels]
    new: list[tuple[ConnectionReport, Tunnel]] = []
    connectors = _upsert_connectors(known, tunnels, new, now)
    _upsert_connections(known, connectors, edge, now)
    _keep_dials(report.dials, edge, now)
    if report.ways is not None:
        keep_ways(report.ways, edge, now)
    for item, tunnel in new:
        _record_appearance(item, tunnel, edge)
    return edge


@transaction.atomic
def record_push_reply(edge_id: str, tunnel_id: UUID, replies: Iterable[Mapping[str, Any]]) -> int:
    """The versions connectors say they applied. Only connections which this edge holds of this tunnel are touched."""
    updated = 0
    for reply in replies:
        updated += (
            Connection.objects.all_organizations(reason=_REASON)
            .filter(pk=reply["id"], edge_id=edge_id, connector__tunnel_id=tunnel_id)
            .update(applied_version=reply["applied_version"], config_error=reply["error"])
        )
    return updated


def _upsert_edge(report: EdgeReport, now: datetime) -> Edge:
    """The edge's row, locked: its reports are applied one after another."""
    Edge.objects.get_or_create(id=report.id, defaults={"name": report.name, "last_seen_at": now})
    edge = Edge.objects.select_for_update(no_key=True).get(id=report.id)
    edge.name, edge.location, edge.version = report.name, report.location, report.version
    edge.control_url, edge.streams = report.control_url, report.streams
    edge.snapshot_version, edge.last_seen_at = report.snapshot_version, now
    edge.save()
    return edge


def _upsert_connectors(
    items: list[ConnectionReport],
    tunnels: Mapping[UUID, Tunnel],
    appeared: list[tuple[ConnectionReport, Tunnel]],
    now: datetime,
) -> dict[tuple[UUID, UUID], Connector]:
    """Those that were not known before are added to `appeared`: their events come last (accounts.audit.delete)."""
    telling = _telling(items)
    # Locked, and in an order: two edges may report the same connectors at the same time.
    rows = (
        Connector.objects.all_organizations(reason=_REASON)
        .select_for_update(no_key=True)
        .filter(client_id__in={client_id for _, client_id in telling})
        .order_by("pk")
    )
    found = {(connector.tunnel_id, connector.client_id): connector for connector in rows}
    for key in sorted(telling):
        item, tunnel = telling[key], tunnels[key[0]]
        connector = found.get(key)
        if connector is None:
            found[key], is_new = _add_connector(item, tunnel, now)
            appeared += [(item, tunnel)] if is_new else []
        elif _differs(connector, item):
            _describe(connector, item, tunnel, now)
            connector.save(update_fields=_DESCRIBED)
    ids = [found[key].pk for key in telling]
    Connector.objects.all_organizations(reason=_REASON).filter(pk__in=ids).update(last_seen_at=now)
    return found


def _telling(items: Iterable[ConnectionReport]) -> dict[tuple[UUID, UUID], ConnectionReport]:
    """Of each connector's connections the one that says most: only index 0 is told the local configuration."""
    by_detail = sorted(items, key=lambda item: (item.local_config is not None, -item.index))
    return {(item.tunnel_id, item.client_id): item for item in by_detail}


def _add_connector(item: ConnectionReport, tunnel: Tunnel, now: datetime) -> tuple[Connector, bool]:
    """And whether it is new: another edge may have told of it at the same time."""
    described = Connector(organization=tunnel.organization, tunnel=tunnel, client_id=item.client_id)
    _describe(described, item, tunnel, now)
    return Connector.objects.get_or_create(
        tunnel=tunnel,
        client_id=item.client_id,
        defaults={
            "organization": tunnel.organization,
            **{name: getattr(described, name) for name in _DESCRIBED},
        },
    )


def _record_appearance(item: ConnectionReport, tunnel: Tunnel, edge: Edge) -> None:
    """A new replica is worth an audit event: stolen credentials show as one (AC-68)."""
    audit.record(
        events.CONNECTOR_APPEARED,
        organization=tunnel.organization,
        actor=Actor(ActorKind.EDGE, edge.pk, edge.name, item.origin_ip),
        target=tunnel,
        new={"connector": str(item.client_id), "origin_ip": item.origin_ip, "version": item.version},
    )


def _differs(connector: Connector, item: ConnectionReport) -> bool:
    described = (connector.version, connector.arch, tuple(connector.features), connector.origin_ip)
    is_new_config = item.local_config is not None and item.local_config != connector.local_config
    return described != (item.version, item.arch, item.features, item.origin_ip) or is_new_config


def _describe(connector: Connector, item: ConnectionReport, tunnel: Tunnel, now: datetime) -> None:
    connector.version, connector.arch = item.version, item.arch
    connector.features, connector.origin_ip = list(item.features), item.origin_ip
    connector.last_seen_at = now
    if item.local_config is not None and item.local_config != connector.local_config:
        connector.local_config = item.local_config
        _keep_local_version(tunnel, connector)


def _keep_local_version(tunnel: Tunnel, connector: Connector) -> None:
    """A locally managed tunnel's configuration is known by what its connectors say; keep it as a version of its own."""
    if tunnel.config_source != Tunnel.ConfigSource.LOCAL:
        return
    # Locked and read again: publish_configuration counts versions, and makes the tunnel a remote one, under this lock.
    current = Tunnel.objects.for_organization(tunnel.organization).select_for_update(no_key=True).get(pk=tunnel.pk)
    if current.config_source != Tunnel.ConfigSource.LOCAL:
        return
    versions = TunnelConfiguration.objects.for_organization(tunnel.organization).filter(tunnel=tunnel)
    latest = versions.order_by("-version").first()
    if latest is not None and latest.config == connector.local_config:
        return
    highest: int = versions.aggregate(highest=Max("version"))["highest"] or 0
    TunnelConfiguration.objects.create(
        organization=tunnel.organization,
        tunnel=tunnel,
        version=highest + 1,
        config=connector.local_config,
        source=Tunnel.ConfigSource.LOCAL,
        created_by=f"connector {connector.client_id}",
    )
    versions.filter(source=Tunnel.ConfigSource.LOCAL, version__lte=highest + 1 - MAX_LOCAL_VERSIONS).delete()


def _upsert_connections(
    items: list[ConnectionReport], connectors: Mapping[tuple[UUID, UUID], Connector], edge: Edge, now: datetime
) -> None:
    every = Connection.objects.all_organizations(reason=_REASON)
    held = every.filter(edge=edge, closed_at=None)
    found = dict(_stored(held))
    reported = {item.id for item in items}
    stale = [pk for pk in found if pk not in reported]
    # Reported, but not held before: new ones, and ones that were closed or held by another edge.
    found.update(_stored(every.filter(pk__in=reported - found.keys())))
    new: list[Connection] = []
    changed: list[Connection] = []
    for item in items:
        connector = connectors[item.tunnel_id, item.client_id]
        stored = found.get(item.id)
        rtt_ms = _steady(stored.rtt_ms if stored else None, item.rtt_ms)
        seen = (item.applied_version, item.config_error, item.origin_ip, rtt_ms)
        wanted = _Stored(connector.pk, edge.pk, None, *seen)
        if stored is None:
            new.append(_connection_row(item, connector, edge, now))
        elif stored.connector_id == connector.pk and stored != wanted:
            changed.append(_connection_row(item, connector, edge, now))
    Connection.objects.bulk_create(new, batch_size=_BATCH, ignore_conflicts=True)
    Connection.objects.bulk_update(changed, _UPDATED, batch_size=_BATCH)
    every.filter(pk__in=stale).update(closed_at=now)
    held.update(last_seen_at=now)


def _steady(known_ms: float | None, measured_ms: float | None) -> float | None:
    """Every PING measures a little differently: a row is written again only for a change that says something."""
    if known_ms is None or measured_ms is None:
        return measured_ms
    return known_ms if abs(measured_ms - known_ms) <= max(1.0, known_ms / 4) else measured_ms


def _stored(rows: QuerySet[Connection]) -> Iterator[tuple[UUID, _Stored]]:
    for pk, *values in rows.values_list("pk", *_Stored._fields):
        yield pk, _Stored(*values)


def _connection_row(item: ConnectionReport, connector: Connector, edge: Edge, now: datetime) -> Connection:
    return Connection(
        id=item.id,
        organization_id=connector.organization_id,
        connector=connector,
        edge=edge,
        index=item.index,
        origin_ip=item.origin_ip,
        opened_at=item.opened_at,
        last_seen_at=now,
        applied_version=item.applied_version,
        config_error=item.config_error,
        rtt_ms=item.rtt_ms,
    )


def _keep_dials(dials: Sequence[DialReport], edge: Edge, now: datetime) -> None:
    """The newest of each hostname, whichever edge saw it. What edges say about the future counts as now."""
    if not dials:
        return
    rows = Dial.objects.all_organizations(reason=_REASON)
    wanted = {item.tunnel_id for item in dials}
    owners = dict(
        Tunnel.objects.all_organizations(reason=_REASON)
        .filter(pk__in=wanted, deleted_at=None)
        .values_list("pk", "organization_id")
    )
    newest = {
        (item.tunnel_id, item.hostname): item
        for item in sorted(dials, key=lambda item: item.at)
        if item.tunnel_id in owners
    }
    names = {hostname for _, hostname in newest}
    kept = {
        (tunnel_id, hostname): at
        for tunnel_id, hostname, at in rows.filter(tunnel_id__in=wanted, hostname__in=names).values_list(
            "tunnel_id", "hostname", "at"
        )
    }
    Dial.objects.bulk_create(
        [
            _dial_row(item, owners[item.tunnel_id], edge, now)
            for key, item in sorted(newest.items())
            if key not in kept or kept[key] < item.at
        ],
        batch_size=_BATCH,
        update_conflicts=True,
        unique_fields=["tunnel", "hostname"],
        update_fields=_DIALLED,
    )


def _dial_row(item: DialReport, organization_id: str, edge: Edge, now: datetime) -> Dial:
    return Dial(
        organization_id=organization_id,
        tunnel_id=item.tunnel_id,
        hostname=item.hostname,
        edge=edge,
        connection_id=item.connection_id,
        destination=item.destination,
        reason=item.reason,
        message=item.message,
        latency_ms=item.latency_ms,
        at=min(item.at, now),
    )
