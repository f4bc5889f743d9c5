"""Telling an edge at once that a tunnel's configuration changed. A hint: edges poll, so a lost push only delays.

The edge answers what its connections applied. Its address is what it reported itself, with EDGE_TOKEN; it is called
without following redirects, because the call carries that token.
"""

from __future__ import annotations

import http.client
import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings

PUSH_TIMEOUT_SECONDS = 5.0
MAX_REPLY_BYTES = 1024 * 1024
_PARALLEL_PUSHES = 8
# No connection, no HTTP, or an answer of another shape.
EDGE_CALL_ERRORS = (
    OSError,
    http.client.HTTPException,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PushTarget:
    edge_id: str
    control_url: str


def push_to_edges(
    targets: Sequence[PushTarget], *, tunnel_id: UUID, snapshot_version: int
) -> dict[str, list[Mapping[str, Any]]]:
    """Edge id -> replies of its connections, each {"id": UUID, "applied_version": int | None, "error": str}. Edges that
    do not answer in time, or not sensibly, are missing."""
    return _to_all(targets, [tunnel_id], snapshot_version)


def poke_edges(targets: Sequence[PushTarget], *, snapshot_version: int) -> list[str]:
    """Ids of the edges that have fetched the snapshot now."""
    return list(_to_all(targets, [], snapshot_version))


def _to_all(
    targets: Sequence[PushTarget], tunnel_ids: Sequence[UUID], snapshot_version: int
) -> dict[str, list[Mapping[str, Any]]]:
    if not targets:
        return {}
    named = [str(tunnel_id) for tunnel_id in tunnel_ids]
    body = json.dumps({"snapshot_version": snapshot_version, "tunnels": named}).encode()
    with ThreadPoolExecutor(max_workers=min(_PARALLEL_PUSHES, len(targets))) as pool:
        answers = pool.map(lambda target: _push(target, body, named), targets)
        return {target.edge_id: answer for target, answer in zip(targets, answers, strict=True) if answer is not None}


def _push(target: PushTarget, body: bytes, tunnel_ids: Sequence[str]) -> list[Mapping[str, Any]] | None:
    try:
        document = call_edge(target.control_url, "/push", body)
        rows = document["connections"]
        return [_reply(row) for row in rows if row.get("tunnel_id") in tunnel_ids]
    except EDGE_CALL_ERRORS as error:
        log.warning("push failed, the edge will poll", extra={"edge": target.edge_id, "error": type(error).__name__})
        return None


def _reply(row: Mapping[str, Any]) -> Mapping[str, Any]:
    applied = row.get("applied_version")
    if applied is not None and (isinstance(applied, bool) or not isinstance(applied, int) or not -1 <= applied < 2**31):
        raise ValueError("applied_version is not a version")
    return {"id": UUID(row["id"]), "applied_version": applied, "error": str(row.get("error") or "")[:500]}


def call_edge(control_url: str, path: str, body: bytes, *, max_reply_bytes: int = MAX_REPLY_BYTES) -> Any:
    """POST to an edge's own listener; the JSON it answers. Raises one of EDGE_CALL_ERRORS."""
    parts = urlsplit(control_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("control_url is not an http(s) address")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=PUSH_TIMEOUT_SECONDS)
    try:
        headers = {"Authorization": f"Bearer {settings.EDGE_TOKEN}", "Content-Type": "application/json"}
        connection.request("POST", f"{parts.path.rstrip('/')}{path}", body=body, headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            raise ValueError(f"answered {response.status}")
        content = response.read(max_reply_bytes + 1)
        if len(content) > max_reply_bytes:
            raise ValueError("answered too much")
        return json.loads(content)
    finally:
        connection.close()
