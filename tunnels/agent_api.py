"""The API edges call: what to serve, whether to let somebody in, what is connected (CONTRACT: agent API).

Paths are below /agent/v1/; docs/wire-protocol.md describes the documents.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone

from access.actions.transfers import take_transfer
from accounts.audit import edge_version
from tunnels.actions.edges import record_report
from tunnels.agent_http import edge_only, read_json
from tunnels.reports import parse_report
from tunnels.snapshots import cached_snapshot

MAX_REPORT_BYTES = 32 * 1024 * 1024


@edge_only("GET")
def snapshot(request: HttpRequest) -> HttpResponse:
    """304 by one indexed query when the edge has the newest version: it asks every second."""
    version = edge_version()
    etag = f'"{version}"'
    if request.headers.get("If-None-Match", "") in (etag, str(version)):
        return HttpResponse(status=304, headers={"ETag": etag})
    return HttpResponse(cached_snapshot(version), content_type="application/json", headers={"ETag": etag})


@edge_only("POST")
def report(request: HttpRequest) -> HttpResponse:
    """The full list of an edge's connections; repeating it changes nothing."""
    parsed = parse_report(read_json(request, max_bytes=MAX_REPORT_BYTES))
    record_report(parsed, now=timezone.now())
    return JsonResponse({"ok": True, "snapshot_version": edge_version()})


@edge_only("GET")
def transfer(request: HttpRequest, public_key: str) -> HttpResponse:
    """Sealed tokens for a command-line client, once; the edge holds its client's request and asks again on 404."""
    client_ip = request.GET.get("client_ip") or None
    taken = take_transfer(public_key, client_ip=client_ip, now=timezone.now())
    if taken is None:
        return JsonResponse({"status": 404, "reason": "not_found", "message": "Nothing to fetch yet."}, status=404)
    service_public_key, body = taken
    return JsonResponse({"service_public_key": service_public_key, "body": body})
