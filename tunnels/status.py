"""Health of tunnels, from the connections edges report."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from tunnels.models import Connection, Connector, Tunnel

# An edge reports every 5 s; one that misses three reports takes its connections with it.
REPORT_TIMEOUT = timedelta(seconds=15)
HEALTHY_CONNECTIONS = 4


class TunnelStatus(StrEnum):
    INACTIVE = "inactive"  # no connector has ever connected
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"


def status_of(open_connections: int, *, was_connected: bool) -> TunnelStatus:
    if open_connections >= HEALTHY_CONNECTIONS:
        return TunnelStatus.HEALTHY
    if open_connections:
        return TunnelStatus.DEGRADED
    return TunnelStatus.DOWN if was_connected else TunnelStatus.INACTIVE


def open_connections(connections: QuerySet[Connection], now: datetime) -> QuerySet[Connection]:
    """Those that are open for all we know: not closed, and seen in a recent report."""
    return connections.filter(closed_at=None, last_seen_at__gt=now - REPORT_TIMEOUT)


def statuses(tunnels: Iterable[Tunnel], now: datetime) -> dict[UUID, TunnelStatus]:
    """The status of many tunnels with one query."""
    ids = [tunnel.pk for tunnel in tunnels]
    is_open = Q(connectors__connections__closed_at=None, connectors__connections__last_seen_at__gt=now - REPORT_TIMEOUT)
    rows = (
        Tunnel.objects.all_organizations(reason="the caller's tunnels, already narrowed to its organization")
        .filter(pk__in=ids)
        .annotate(
            open_count=Count("connectors__connections", filter=is_open),
            was_connected=Exists(Connector.objects.filter(tunnel=OuterRef("pk"))),
        )
        .order_by()
        .values_list("pk", "open_count", "was_connected")
    )
    return {pk: status_of(count, was_connected=was) for pk, count, was in rows}
