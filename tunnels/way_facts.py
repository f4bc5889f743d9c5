"""Facts for the picture of the way in to one application, and which applications a connected tunnel leads to."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from uuid import UUID

from access.models import Application
from accounts.models import Organization
from dataplane.wire.ingress import IngressError, parse_ingress
from tunnels.models import Connection, Connector, Dial, DnsRecord, Edge, EdgeUse, Tunnel, TunnelConfiguration
from tunnels.records import tunnel_of
from tunnels.status import open_connections
from tunnels.way_in import ConnectorFacts, DialFacts, EdgeFacts, WayFacts

_MAX_CONNECTORS = 25
_MAX_EDGES = 10
_MAX_RECORDS = 5000


def way_facts(application: Application, now: datetime) -> tuple[WayFacts, Tunnel | None]:
    organization = application.organization
    record = _record(application)
    tunnel = _tunnel(organization, record)
    live: list[Connection] = []
    if tunnel is not None:
        rows = Connection.objects.for_organization(organization).filter(connector__tunnel=tunnel)
        live = list(open_connections(rows, now).select_related("connector", "edge").order_by("connector_id", "index"))
    configuration = _configuration(tunnel)
    serves, service = _service(configuration, application)
    facts = WayFacts(
        hostname=application.hostname,
        is_served=application.is_served,
        record_state=record.verification if record else "",
        record_answer=record.last_answer if record else "",
        edges=_edges(application, live),
        tunnel_name=tunnel.name if tunnel else "",
        was_connected=tunnel is not None and Connector.objects.filter(tunnel=tunnel).exists(),
        connectors=_connectors(live),
        config_version=_wanted_version(tunnel, configuration),
        serves_hostname=serves,
        service=service,
        dial=_dial(tunnel, application),
    )
    return facts, tunnel


def connected_applications(organization: Organization, now: datetime) -> frozenset[UUID]:
    """Those whose hostname a record leads to a tunnel with an open connection. Three queries, whatever there is."""
    rows = open_connections(Connection.objects.for_organization(organization), now)
    up = set(rows.filter(connector__tunnel__deleted_at=None).values_list("connector__tunnel_id", flat=True).distinct())
    if not up:
        return frozenset()
    records = DnsRecord.objects.for_organization(organization).filter(type=DnsRecord.Type.CNAME)
    targets = [Tunnel(pk=tunnel_id).target for tunnel_id in up]
    led = set(records.filter(content__in=targets).order_by().values_list("name", flat=True)[:_MAX_RECORDS])
    applications = Application.objects.for_organization(organization).filter(is_served=True).order_by()
    return frozenset(
        pk
        for pk, hostname in applications.values_list("pk", "hostname")
        if hostname in led or f"*.{hostname.partition('.')[2]}" in led
    )


def _record(application: Application) -> DnsRecord | None:
    """The name's own record wins over the wildcard's."""
    names = [application.hostname, f"*.{application.hostname.partition('.')[2]}"]
    rows = DnsRecord.objects.for_organization(application.organization).filter(
        name__in=names, type=DnsRecord.Type.CNAME
    )
    return min(rows, key=lambda record: names.index(record.name), default=None)


def _tunnel(organization: Organization, record: DnsRecord | None) -> Tunnel | None:
    tunnel_id = tunnel_of(record.content) if record else None
    rows = Tunnel.objects.for_organization(organization)
    return rows.filter(pk=tunnel_id, deleted_at=None).first() if tunnel_id else None


def _edges(application: Application, live: list[Connection]) -> list[EdgeFacts]:
    """Edges belong to the installation; an organization learns of those that carry its connections, or else which are
    there to connect to. Of streams it learns its own: how much others run over them is nobody's business."""
    edges = {connection.edge_id: connection.edge for connection in live}
    rows = edges.values() if edges else Edge.objects.order_by("-last_seen_at")[:_MAX_EDGES]
    uses = {
        use.edge_id: use
        for use in EdgeUse.objects.for_organization(application.organization).filter(application=application)
    }
    return [_edge(edge, uses.get(edge.pk)) for edge in rows]


def _edge(edge: Edge, use: EdgeUse | None) -> EdgeFacts:
    if use is None:
        return EdgeFacts(edge.name, edge.location, edge.last_seen_at, streams=0)
    return EdgeFacts(edge.name, edge.location, edge.last_seen_at, use.streams, use.rtt_ms, use.measured_at)


def _connectors(live: list[Connection]) -> list[ConnectorFacts]:
    held: dict[int, list[Connection]] = defaultdict(list)
    for connection in live:
        held[connection.connector_id].append(connection)
    return [_connector(rows) for rows in list(held.values())[:_MAX_CONNECTORS]]


def _connector(rows: list[Connection]) -> ConnectorFacts:
    connector = rows[0].connector
    return ConnectorFacts(
        client_id=str(connector.client_id),
        version=connector.version,
        address=connector.origin_ip or "",
        connections=len(rows),
        rtts_ms=[row.rtt_ms for row in rows if row.rtt_ms is not None],
        applied=[row.applied_version for row in rows if row.applied_version is not None],
        config_error=next((row.config_error for row in rows if row.config_error), ""),
    )


def _configuration(tunnel: Tunnel | None) -> TunnelConfiguration | None:
    if tunnel is None:
        return None
    rows = TunnelConfiguration.objects.for_organization(tunnel.organization)
    return rows.filter(tunnel=tunnel).order_by("-version").first()


def _wanted_version(tunnel: Tunnel | None, configuration: TunnelConfiguration | None) -> int | None:
    is_remote = tunnel is not None and tunnel.config_source == Tunnel.ConfigSource.REMOTE
    return configuration.version if is_remote and configuration is not None else None


def _service(configuration: TunnelConfiguration | None, application: Application) -> tuple[bool | None, str]:
    """Whether a rule serves the hostname (None: not known), and what it names."""
    if configuration is None:
        return None, ""
    try:
        ingress = parse_ingress(configuration.config)
    except IngressError:
        return False, ""
    index = ingress.match(application.hostname.replace("*", "any", 1), application.path or "/")
    service = "" if index is None else str(ingress.rules[index].document.get("service", ""))
    return (False, "") if not service or service.startswith("http_status:") else (True, service)


def _dial(tunnel: Tunnel | None, application: Application) -> DialFacts | None:
    if tunnel is None:
        return None
    rows = Dial.objects.for_organization(tunnel.organization).filter(tunnel=tunnel)
    row = rows.filter(hostname=application.hostname).first()
    if row is None:
        return None
    return DialFacts(row.at, row.latency_ms, row.reason, row.message, row.destination)
