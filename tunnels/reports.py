"""What an edge reports: which connections it holds (agent API, POST report). Pure: parsing with limits."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from accounts.errors import InvalidInput

MAX_CONNECTIONS = 20_000
MAX_FEATURES = 50
MAX_DIALS = 1000
MAX_WAYS = 5000
MAX_MILLISECONDS = 1_000_000.0
MAX_LOCAL_CONFIG_BYTES = 64 * 1024
MAX_ERROR_CHARACTERS = 500
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """`local_config` is what a locally managed connector sent about itself: untrusted, for people to read."""

    id: UUID
    tunnel_id: UUID
    client_id: UUID
    index: int
    version: str
    arch: str
    features: tuple[str, ...]
    origin_ip: str | None
    opened_at: datetime
    applied_version: int | None
    config_error: str
    local_config: dict[str, Any] | None
    rtt_ms: float | None = None


@dataclass(frozen=True, slots=True)
class DialReport:
    """How the last request for a hostname went between edge and host. `reason` is empty when the host was reached."""

    tunnel_id: UUID
    hostname: str
    connection_id: UUID
    destination: str
    reason: str
    message: str
    latency_ms: float
    at: datetime


@dataclass(frozen=True, slots=True)
class WayReport:
    """How many streams of an application run over the edge, and how far away their people are (null: not known)."""

    application_id: UUID
    streams: int
    rtt_ms: float | None


@dataclass(frozen=True, slots=True)
class EdgeReport:
    id: str
    name: str
    location: str
    version: str
    control_url: str
    snapshot_version: int
    streams: int
    connections: tuple[ConnectionReport, ...]
    dials: tuple[DialReport, ...] = ()
    # None in reports of edges that do not tell.
    ways: tuple[WayReport, ...] | None = None


def parse_report(document: object) -> EdgeReport:
    """Raises InvalidInput: nothing of a report with a fault is used."""
    top = _object(document, "report")
    edge = _object(top.get("edge"), "edge")
    items = top.get("connections")
    if not isinstance(items, list) or len(items) > MAX_CONNECTIONS:
        raise InvalidInput(f"connections must be a list of at most {MAX_CONNECTIONS}.")
    connections = tuple(_connection(item) for item in items)
    if len({connection.id for connection in connections}) != len(connections):
        raise InvalidInput("connections has one id twice.")
    return EdgeReport(
        id=_text(edge, "id", 64, required=True),
        name=_text(edge, "name", 100) or _text(edge, "id", 64),
        location=_text(edge, "location", 50),
        version=_text(edge, "version", 50),
        control_url=_control_url(_text(edge, "control_url", 200)),
        # -1: the edge has no snapshot yet.
        snapshot_version=max(0, _number(top, "snapshot_version", -1, 2**62)),
        streams=_number(top, "streams", 0, 2**31 - 1),
        connections=connections,
        dials=_dials(top.get("dials")),
        ways=_ways(top.get("ways")),
    )


def _connection(item: object) -> ConnectionReport:
    row = _object(item, "connection")
    return ConnectionReport(
        id=_uuid(row, "id"),
        tunnel_id=_uuid(row, "tunnel_id"),
        client_id=_uuid(row, "client_id"),
        index=_number(row, "index", 0, 255),
        version=_text(row, "version", 50),
        arch=_text(row, "arch", 50),
        features=_features(row.get("features")),
        origin_ip=_address(row.get("origin_ip")),
        opened_at=_instant(row.get("opened_at")),
        applied_version=None if row.get("applied_version") is None else _number(row, "applied_version", -1, 2**31 - 1),
        config_error=_shortened(row.get("config_error"), MAX_ERROR_CHARACTERS),
        local_config=_local_config(row.get("local_config")),
        rtt_ms=_milliseconds(row.get("rtt_ms")),
    )


def _dials(value: object) -> tuple[DialReport, ...]:
    """Missing in reports of older edges."""
    items = value if isinstance(value, list) else []
    return tuple(_dial(_object(item, "dial")) for item in items[:MAX_DIALS])


def _dial(row: Mapping[str, Any]) -> DialReport:
    return DialReport(
        tunnel_id=_uuid(row, "tunnel_id"),
        hostname=_text(row, "hostname", 253, required=True),
        connection_id=_uuid(row, "connection_id"),
        destination=_text(row, "destination", 300),
        reason=_text(row, "reason", 60),
        message=_text(row, "message", MAX_ERROR_CHARACTERS),
        latency_ms=_milliseconds(row.get("ms")) or 0.0,
        at=_instant(row.get("at"), "dial.at"),
    )


def _ways(value: object) -> tuple[WayReport, ...] | None:
    if not isinstance(value, list):
        return None
    rows = [_object(item, "way") for item in value[:MAX_WAYS]]
    return tuple(
        WayReport(_uuid(row, "application_id"), _number(row, "streams", 0, 2**31 - 1), _milliseconds(row.get("rtt_ms")))
        for row in rows
    )


def _milliseconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_MILLISECONDS:
        return None
    return float(value)


def _control_url(url: str) -> str:
    """Where pushes go, with EDGE_TOKEN: an http(s) address without credentials, query or fragment."""
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        is_fit = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_fit = False
    if not is_fit or "@" in parts.netloc or parts.query or parts.fragment or any(c <= " " for c in url):
        raise InvalidInput("edge.control_url must be a plain http:// or https:// address.")
    return url.rstrip("/")


def _features(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else []
    return tuple(_shortened(item, 60) for item in items[:MAX_FEATURES] if isinstance(item, str))


def _address(value: object) -> str | None:
    try:
        address = ipaddress.ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return str(address) if address is not None else None


def _instant(value: object, what: str = "opened_at") -> datetime:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**33:
        raise InvalidInput(f"{what} must be seconds since 1970.")
    return datetime.fromtimestamp(value, UTC)


def _local_config(value: object) -> dict[str, Any] | None:
    """None for anything we do not want to keep; the connector serves by it all the same."""
    if not isinstance(value, dict) or len(json.dumps(value)) > MAX_LOCAL_CONFIG_BYTES:
        return None
    return value


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"{what} must be a JSON object.")
    return value


def _text(row: Mapping[str, Any], key: str, limit: int, *, required: bool = False) -> str:
    value = row.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value.strip()):
        raise InvalidInput(f"{key} must be text.")
    return _shortened(value, limit)


def _shortened(value: object, limit: int) -> str:
    """Untrusted text for one line of a page or a log: no control characters, bounded."""
    text = value[:limit] if isinstance(value, str) else ""
    if text.isprintable():
        return text.strip()
    return "".join(letter if letter.isprintable() else " " for letter in text).strip()


def _number(row: Mapping[str, Any], key: str, minimum: int, maximum: int) -> int:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise InvalidInput(f"{key} must be a whole number from {minimum} to {maximum}.")
    return value


def _uuid(row: Mapping[str, Any], key: str) -> UUID:
    value = row.get(key)
    try:
        return UUID(value if isinstance(value, str) else "")
    except ValueError as error:
        raise InvalidInput(f"{key} must be a UUID.") from error
