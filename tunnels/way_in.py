"""A picture of the way in to one application: user, edge, tunnel, connectors, host. Pure: facts to hops.

Every figure is a measurement: edges time PINGs to connectors and the answers of hosts, and report both. What nobody has
measured is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from tunnels.status import HEALTHY_CONNECTIONS, REPORT_TIMEOUT


class HopState(StrEnum):
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class EdgeFacts:
    """`streams` and `rtt_ms` are of this application alone: what others run over the edge is nobody's business."""

    name: str
    location: str
    last_seen_at: datetime
    streams: int | None = None
    rtt_ms: float | None = None
    measured_at: datetime | None = None


@dataclass(frozen=True)
class ConnectorFacts:
    """`connections` are the open ones; `applied` the versions they say they run."""

    client_id: str
    version: str
    address: str
    connections: int
    rtts_ms: Sequence[float] = ()
    applied: Sequence[int] = ()
    config_error: str = ""


@dataclass(frozen=True)
class DialFacts:
    at: datetime
    latency_ms: float
    reason: str = ""
    message: str = ""
    destination: str = ""


@dataclass(frozen=True)
class WayFacts:
    """`edges`: those that hold connections of the tunnel, or all of the installation when none does."""

    hostname: str
    is_served: bool
    record_state: str  # tunnels.models.DnsRecord.Verification, "" without a record
    record_answer: str
    edges: Sequence[EdgeFacts]
    tunnel_name: str = ""  # "": no tunnel is routed to the hostname
    was_connected: bool = False
    connectors: Sequence[ConnectorFacts] = ()
    config_version: int | None = None  # None: not known, or kept next to the connector
    serves_hostname: bool | None = None
    service: str = ""
    dial: DialFacts | None = None


@dataclass(frozen=True)
class Hop:
    """`fix` says what to do, `page` is a URL name that the view fills in. `link_ms`: the way from the hop before."""

    key: str
    title: str
    state: HopState
    text: str
    details: Sequence[str] = field(default_factory=tuple)
    link_ms: float | None = None
    link_text: str = ""
    fix: str = ""
    page: str = ""
    page_text: str = ""
    command: str = ""


def picture(facts: WayFacts, now: datetime) -> list[Hop]:
    """From the user to the host. A hop behind a broken one tells what is known of it all the same."""
    return [_edge(facts, now), _tunnel(facts), _connectors(facts), _host(facts, now)]


def summary(hops: Sequence[Hop]) -> tuple[HopState, str]:
    """The state of the whole way, and where to look first."""
    for state, text in ((HopState.BAD, "is broken at"), (HopState.WARN, "works, with a weakness at")):
        for hop in hops:
            if hop.state is state:
                return state, f"The way in {text}: {hop.title}."
    if any(hop.state is HopState.UNKNOWN for hop in hops):
        return HopState.UNKNOWN, "Nothing is known to be broken, but the way has not been used to its end yet."
    return HopState.GOOD, "The way in works to its end."


def _edge(facts: WayFacts, now: datetime) -> Hop:
    """With the way there from the people: of the edge that carries most of their streams, else of the last that did."""
    measured = [edge for edge in facts.edges if edge.rtt_ms is not None and edge.measured_at is not None]
    hop = _judged_edge(facts, now)
    if not measured:
        return hop
    best = max(measured, key=lambda edge: (edge.streams or 0, edge.measured_at))
    assert best.measured_at is not None
    is_live = bool(best.streams) and now - best.last_seen_at < REPORT_TIMEOUT
    live = f"median of {_streams(best.streams)}" if is_live else f"of the last stream, {ago(now - best.measured_at)}"
    return replace(hop, link_ms=best.rtt_ms, link_text=f"round trip from person to edge, {live}")


def _judged_edge(facts: WayFacts, now: datetime) -> Hop:
    title = "Edge"
    seen = [edge for edge in facts.edges if now - edge.last_seen_at < REPORT_TIMEOUT]
    details = [_edge_line(edge, now) for edge in facts.edges]
    if not facts.is_served:
        text = f"{facts.hostname} is not served: the proof that the domain is yours is missing."
        return Hop(
            "edge", title, HopState.BAD, text, details, fix="Publish the proof again.", page="zone", page_text="DNS"
        )
    if not seen:
        text = "No edge has reported within the last 15 seconds."
        fix = "Ask whoever runs this installation: the edge process is down, or cannot reach the control plane."
        return Hop("edge", title, HopState.BAD, text, details, fix=fix)
    if not facts.record_state:
        text = f"No DNS record leads {facts.hostname} to the edge."
        return Hop("edge", title, HopState.BAD, text, details, fix="Add a CNAME record.", page="zone", page_text="DNS")
    if facts.record_state in {"mismatch", "error"}:
        text = f"DNS does not lead {facts.hostname} here: {facts.record_answer or 'no answer'}"
        fix = "Publish the record where the domain's DNS lives, exactly as it is stored here."
        return Hop("edge", title, HopState.BAD, text, details, fix=fix, page="zone", page_text="DNS")
    if facts.record_state == "pending":
        return Hop("edge", title, HopState.UNKNOWN, "The edge is up; DNS is being asked.", details)
    return Hop("edge", title, HopState.GOOD, "Up, and DNS leads here.", details)


def _edge_line(edge: EdgeFacts, now: datetime) -> str:
    place = f" in {edge.location}" if edge.location not in {"", edge.name} else ""
    line = f"{edge.name}{place}, reported {ago(now - edge.last_seen_at)}"
    # Of an edge that is silent nobody knows what runs over it now.
    is_known = edge.streams is not None and now - edge.last_seen_at < REPORT_TIMEOUT
    return f"{line}, {_streams(edge.streams)} of this application" if is_known else line


def _streams(count: int | None) -> str:
    return f"{count or 'no'} live stream{'' if count == 1 else 's'}"


def _tunnel(facts: WayFacts) -> Hop:
    if not facts.tunnel_name:
        text = (
            "The record points at none of your tunnels." if facts.record_state else "No tunnel is routed to the name."
        )
        fix = "Create a tunnel, then point the record at it."
        return Hop("tunnel", "Tunnel", HopState.BAD, text, fix=fix, page="tunnels", page_text="Tunnels")
    title = f"Tunnel {facts.tunnel_name}"
    count = sum(connector.connections for connector in facts.connectors)
    rtts = [rtt for connector in facts.connectors for rtt in connector.rtts_ms]
    rtt, told = (min(rtts), "round trip from edge to connector") if rtts else (None, "")
    if not count:
        text = "Was connected and is not any more." if facts.was_connected else "No connector has ever connected."
        fix = "Start its connector; its page has the command. If it runs, look at its log: it must reach the edge."
        return Hop("tunnel", title, HopState.BAD, text, fix=fix, page="tunnel", page_text="Tunnel")
    details = [f"round trips of {span(rtts)}" if rtts else "round trip not measured yet"]
    text = f"{count} connection{'s' if count > 1 else ''} to the edge."
    if count < HEALTHY_CONNECTIONS:
        fix = "Wait a minute; if it stays so, the connector's network loses connections."
        text = f"{text} A healthy tunnel has {HEALTHY_CONNECTIONS}."
        return Hop("tunnel", title, HopState.WARN, text, details, rtt, told, fix, "tunnel", "Tunnel")
    return Hop("tunnel", title, HopState.GOOD, text, details, rtt, told, page="tunnel", page_text="Tunnel")


def _connectors(facts: WayFacts) -> Hop:
    title = "Connector" if len(facts.connectors) == 1 else "Connectors"
    if not facts.connectors:
        fix = "Run one next to your servers; the page of the tunnel has the command."
        return Hop("connectors", title, HopState.BAD, "None is connected.", fix=fix)
    details = [_connector_line(connector, facts.config_version) for connector in facts.connectors]
    failed = next((connector.config_error for connector in facts.connectors if connector.config_error), "")
    if failed:
        fix = "Correct the published hostnames; the connector goes on with its last good configuration."
        return Hop(
            *("connectors", title, HopState.BAD, f"The configuration was refused: {failed}"),
            details=details,
            fix=fix,
            page="tunnel_hostnames",
            page_text="Published hostnames",
        )
    behind = facts.config_version is not None and any(
        version != facts.config_version for connector in facts.connectors for version in connector.applied
    )
    if behind:
        text = f"Not every connection runs version {facts.config_version} of the configuration yet."
        fix = "It is pushed again within seconds. If it stays so, restart the connector."
        return Hop("connectors", title, HopState.WARN, text, details, fix=fix, page="tunnel", page_text="Tunnel")
    count = len(facts.connectors)
    return Hop("connectors", title, HopState.GOOD, f"{count} connected." if count > 1 else "Connected.", details)


def _connector_line(connector: ConnectorFacts, wanted: int | None) -> str:
    parts = [connector.client_id[:8], connector.version or "unknown version", connector.address or "unknown address"]
    parts.append(f"{connector.connections} connection{'s' if connector.connections != 1 else ''}")
    if connector.rtts_ms:
        parts.append(span(connector.rtts_ms))
    if wanted is not None and connector.applied:
        parts.append(f"configuration {', '.join(map(str, sorted(set(connector.applied))))} of {wanted}")
    return ", ".join(parts)


def _host(facts: WayFacts, now: datetime) -> Hop:
    title = "Host"
    service = [f"service {facts.service}"] if facts.service else []
    if facts.serves_hostname is False:
        fix = f"Add {facts.hostname} to the tunnel's published hostnames, with the service that answers it."
        text = f"The tunnel's configuration has no service for {facts.hostname}."
        return Hop("host", title, HopState.BAD, text, fix=fix, page="tunnel_hostnames", page_text="Published hostnames")
    dial = facts.dial
    if dial is None:
        text = "Nobody has come this far yet, so nothing is measured."
        command = f"ssh {facts.hostname}" if _is_ssh(facts.service) and "*" not in facts.hostname else ""
        fix = "Connect once: the result and its time appear here."
        return Hop("host", title, HopState.UNKNOWN, text, service, fix=fix, command=command)
    where = f" ({dial.destination})" if dial.destination else ""
    age = ago(now - dial.at)
    details = [*service, f"measured {age}, on a real request"]
    if dial.reason:
        text = f"The last request did not reach it{where}: {dial.message or dial.reason}"
        fix = _FIXES.get(dial.reason, "Look at the connector's log around that time.")
        return Hop("host", title, HopState.BAD, text, [*details, f"reason code {dial.reason}"], fix=fix)
    measured = "connector to host and back, edge included"
    return Hop("host", title, HopState.GOOD, f"Reached{where}.", details, link_ms=dial.latency_ms, link_text=measured)


_FIXES = {
    "origin_refused": "Is the service running there and listening on that port? Try from the connector's machine.",
    "origin_timeout": "A firewall between connector and host drops packets, or the address is wrong.",
    "origin_unreachable": "The connector's machine has no route to the host. Check its network and the address.",
    "origin_unresolvable": "The connector's machine cannot resolve the name: check the published hostnames.",
    "origin_missing": "The socket does not exist on the connector's machine: start the service, or correct the path.",
    "origin_tls": "The host's certificate is not accepted: set the CA or the server name in the published hostnames.",
    "origin_no_websocket": "The host answers, but takes no WebSocket there.",
    "destination_missing": "This is a bastion: people name a destination, as the generated SSH configuration does.",
    "destination_refused": "The connector may not go there: check bastion rules and the application's destinations.",
    "no_ingress_rule": "Add the hostname to the tunnel's published hostnames.",
    "connector_exhausted": "Raise the connector's limit of open files, or run another replica.",
    "connector_flow_limit": "The connector serves as many flows as it may: run another replica.",
}


def _is_ssh(service: str) -> bool:
    return service.startswith("ssh:") or service == "bastion"


def span(milliseconds: Sequence[float]) -> str:
    low, high = shown_ms(min(milliseconds)), shown_ms(max(milliseconds))
    return low if low == high else f"{low} to {high}"


def shown_ms(milliseconds: float) -> str:
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.1f} s"
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"


def ago(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return f"{seconds} s ago"
