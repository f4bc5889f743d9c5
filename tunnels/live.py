"""Connectors as they are right now, from what edges report: for tables that follow reality."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Prefetch

from tunnels.models import Connection, Connector, Tunnel, TunnelConfiguration
from tunnels.status import HEALTHY_CONNECTIONS, open_connections

MAX_CONNECTORS = 100
RECENT = timedelta(minutes=1)


@dataclass(frozen=True)
class LiveConnector:
    """`applied`: the configuration version that all of its connections have, None while none has told."""

    connector: Connector
    connections: list[Connection]
    applied: int | None
    error: str
    connected_since: datetime
    has_old_token: bool

    @property
    def edges(self) -> list[tuple[str, int]]:
        """Where its connections go: place (or name) of each edge, and how many of them."""
        return list(Counter(item.edge.location or item.edge.name for item in self.connections).items())


def live_connectors(tunnel: Tunnel, now: datetime) -> list[LiveConnector]:
    """Connectors with live connections, the newest first; two queries."""
    live = open_connections(Connection.objects.select_related("edge").order_by("index"), now)
    rows = Connector.objects.for_organization(tunnel.organization).filter(tunnel=tunnel)
    connected = rows.filter(connections__in=open_connections(Connection.objects.all(), now)).distinct()
    shown = connected.prefetch_related(Prefetch("connections", queryset=live, to_attr="live"))
    newest = shown.order_by("-last_seen_at")[:MAX_CONNECTORS]
    return [_entry(tunnel, connector, connector.live) for connector in newest if connector.live]


def _entry(tunnel: Tunnel, connector: Connector, connections: list[Connection]) -> LiveConnector:
    versions = [item.applied_version for item in connections if item.applied_version is not None]
    rotated = tunnel.token_rotated_at
    return LiveConnector(
        connector=connector,
        connections=connections,
        applied=min(versions, default=None),
        error=next((item.config_error for item in connections if item.config_error), ""),
        connected_since=min(item.opened_at for item in connections),
        has_old_token=rotated is not None and any(item.opened_at < rotated for item in connections),
    )


@dataclass(frozen=True)
class Finding:
    """One thing checked about a connector. `state`: good, warn or bad."""

    state: str
    text: str
    advice: str = ""


def diagnose(
    tunnel: Tunnel,
    connector: Connector,
    connections: list[Connection],
    configuration: TunnelConfiguration | None,
    now: datetime,
) -> list[Finding]:
    """What an experienced colleague would look at first."""
    if not connections:
        text = f"Not connected. Last heard of {connector.last_seen_at:%Y-%m-%d %H:%M:%S} UTC."
        advice = "Is its process running, and can it reach an edge? Its own log says what it tries."
        return [Finding("bad", text, advice)]
    return [
        *_connection_findings(connections, now),
        *_configuration_findings(tunnel, connections, configuration),
        *_token_findings(tunnel, connections),
    ]


def _connection_findings(connections: list[Connection], now: datetime) -> list[Finding]:
    found = []
    count = len(connections)
    if count < HEALTHY_CONNECTIONS:
        text = f"{count} of {HEALTHY_CONNECTIONS} connections are open."
        found.append(
            Finding("warn", text, "Does a firewall let only some of them out? A restart in progress is normal.")
        )
    else:
        found.append(Finding("good", f"{count} connections are open."))
    edges = {connection.edge_id for connection in connections}
    if len(edges) == 1:
        text = f"All connections go to one edge, {connections[0].edge.name}."
        found.append(Finding("warn", text, "With a second --edge address the tunnel survives the loss of one edge."))
    else:
        found.append(Finding("good", f"Connected to {len(edges)} edges: the loss of one does not end the tunnel."))
    youngest = max(connection.opened_at for connection in connections)
    if now - youngest < RECENT and any(now - connection.opened_at > 10 * RECENT for connection in connections):
        found.append(
            Finding("warn", "A connection was opened anew within the last minute.", "Is the network unsteady?")
        )
    return found


def _configuration_findings(
    tunnel: Tunnel, connections: list[Connection], configuration: TunnelConfiguration | None
) -> list[Finding]:
    if tunnel.config_source == Tunnel.ConfigSource.LOCAL:
        return [Finding("good", "Serves by the configuration file on its machine.")]
    refused = next((connection.config_error for connection in connections if connection.config_error), "")
    if refused:
        advice = "It goes on with the version it had. Correct the published hostnames, or roll back."
        return [Finding("bad", f"Refused the newest configuration: {refused}", advice)]
    if configuration is None:
        return [Finding("warn", "Nothing is published through this tunnel yet.", "Publish a hostname.")]
    behind = [item for item in connections if (item.applied_version or -1) < configuration.version]
    if behind:
        text = f"Version {configuration.version} is on its way to {len(behind)} of its connections."
        return [Finding("warn", text, "This takes seconds. If it stays, look at the log of the edge.")]
    return [Finding("good", f"Serves configuration version {configuration.version}.")]


def _token_findings(tunnel: Tunnel, connections: list[Connection]) -> list[Finding]:
    rotated = tunnel.token_rotated_at
    if rotated is None or all(connection.opened_at >= rotated for connection in connections):
        return []
    text = "Connected before the token was rotated: it will be refused when it reconnects, if it has the old token."
    return [Finding("warn", text, "Restart it with the new token.")]
