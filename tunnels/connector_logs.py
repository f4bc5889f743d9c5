"""What a connector logs right now, by way of the edge that holds its connections.

    browser  --polls-->  control plane  --POST /logs-->  edge  --WebSocket through the tunnel-->  connector

Nothing is stored here. Who may watch is a watch in the cache, made by a button that writes an audit event; it ends by
itself. Lines are redacted here once more: connectors of other makers, and older ones of ours, do not do it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.cache import cache

from dataplane.wire.management import LEVELS
from dataplane.wire.redaction import redact
from tunnels.models import Connection, Connector
from tunnels.pushes import EDGE_CALL_ERRORS, call_edge

WATCH_SECONDS = 900
MAX_SHOWN_LINES = 200
MAX_REPLY_BYTES = 4 * 1024 * 1024
log = logging.getLogger(__name__)
_REASONS = {
    "not_connected": "The connector is not connected to this edge any more.",
    "not_offered": "This connector does not offer its log over the tunnel: it is too old, or was started with "
    "--no-remote-logs. Read the log on its machine.",
    "busy": "Too many logs are being watched right now. Try again in a minute.",
    "no_edge": "No edge that can be asked holds a connection of this connector.",
    "unreachable": "The edge did not answer. The log stays on the connector's machine meanwhile.",
}


@dataclass(frozen=True)
class ShownLine:
    time: str
    level: str
    message: str
    fields: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class LogView:
    """`state`: streaming, starting or unavailable; `reason` says why, for people."""

    state: str
    reason: str = ""
    lines: list[ShownLine] = field(default_factory=list)
    left_out: int = 0


def start_watch(user_id: object, connector: Connector, level: str) -> None:
    cache.set(_key(user_id, connector), level, WATCH_SECONDS)


def stop_watch(user_id: object, connector: Connector) -> None:
    cache.delete(_key(user_id, connector))


def watched_level(user_id: object, connector: Connector) -> str | None:
    """The level this member watches at; None when the watch ended or never began."""
    level = cache.get(_key(user_id, connector))
    return level if level in LEVELS else None


def read_lines(connector: Connector, connections: list[Connection], level: str) -> LogView:
    """Asks the network: never inside a transaction."""
    edge = next((item.edge for item in connections if item.edge.control_url), None)
    if edge is None:
        return LogView("unavailable", _REASONS["no_edge"])
    question = {"tunnel_id": str(connector.tunnel_id), "client_id": str(connector.client_id), "level": level}
    try:
        document = call_edge(edge.control_url, "/logs", json.dumps(question).encode(), max_reply_bytes=MAX_REPLY_BYTES)
        return _view(document)
    except EDGE_CALL_ERRORS as error:
        log.warning("log lines not fetched", extra={"edge": edge.pk, "error": type(error).__name__})
        return LogView("unavailable", _REASONS["unreachable"])


def _view(document: Mapping[str, Any]) -> LogView:
    state = document["state"]
    if state not in ("streaming", "starting"):
        return LogView("unavailable", _REASONS.get(document.get("reason", ""), _REASONS["unreachable"]))
    # The newest first: what is new is where the eye is, without scrolling.
    lines = [_line(row) for row in reversed(document["lines"][-MAX_SHOWN_LINES:])]
    return LogView(state, "", lines, int(document.get("left_out") or 0))


def _line(row: Mapping[str, Any]) -> ShownLine:
    level = str(row.get("level") or "")
    fields = [
        (str(key), redact(f"{key}={value}").partition("=")[2]) for key, value in (row.get("fields") or {}).items()
    ]
    return ShownLine(
        time=str(row.get("time") or "")[:40],
        level=level if level in LEVELS else "info",
        message=redact(str(row.get("message") or "")),
        fields=fields,
    )


def _key(user_id: object, connector: Connector) -> str:
    return f"connector-logs:{user_id}:{connector.pk}"
