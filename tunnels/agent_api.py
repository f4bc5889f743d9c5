"""The API edges call: what to serve, whether to let somebody in, what is connected (CONTRACT: agent API).

Paths are below /agent/v1/; docs/wire-protocol.md describes the documents.
"""

from __future__ import annotations

from dataclasses import asdict

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone

from access.actions.transfers import refusal_of, take_transfer
from access.authorize import as_json, authorize_request
from access.recheck import recheck_document
from accounts.audit import edge_version
from tunnels.actions.edges import record_report
from tunnels.agent_http import edge_only, read_json
from tunnels.agent_payloads import parse_question, parse_streams
from tunnels.reports import parse_report
from tunnels.serving import unserved_applications
from tunnels.snapshots import cached_snapshot

MAX_QUESTION_BYTES = 256 * 1024
MAX_RECHECK_BYTES = 4 * 1024 * 1024
MAX_REPORT_BYTES = 32 * 1024 * 1024
_NOT_SERVED = "The organization no longer proves that it owns this hostname, so it is not served."


@edge_only("GET")
def snapshot(request: HttpRequest) -> HttpResponse:
    """304 by one indexed query when the edge has the newest version: it asks every second."""
    version = edge_version()
    etag = f'"{version}"'
    if request.headers.get("If-None-Match", "") in (etag, str(version)):
        return HttpResponse(status=304, headers={"ETag": etag})
    return HttpResponse(cached_snapshot(version), content_type="application/json", headers={"ETag": etag})


@edge_only("POST")
def authorize(request: HttpRequest) -> HttpResponse:
    """May this request pass? Always 200 with an outcome; the status for the client is inside."""
    question = parse_question(read_json(request, max_bytes=MAX_QUESTION_BYTES))
    return JsonResponse(as_json(authorize_request(question)))


@edge_only("POST")
def recheck(request: HttpRequest) -> HttpResponse:
    """Which of these live streams must end, and why."""
    streams = parse_streams(read_json(request, max_bytes=MAX_RECHECK_BYTES))
    unserved = unserved_applications({stream["application_id"] or "" for stream in streams})
    cuts = [
        {"stream_id": stream["stream_id"], "reason": "zone_not_active", "message": _NOT_SERVED}
        for stream in streams
        if stream["application_id"] in unserved
    ]
    others = [stream for stream in streams if stream["application_id"] not in unserved]
    answer = recheck_document(others)
    return JsonResponse({**answer, "cut": [*cuts, *answer["cut"]]})


@edge_only("POST")
def report(request: HttpRequest) -> HttpResponse:
    """The full list of an edge's connections; repeating it changes nothing."""
    parsed = parse_report(read_json(request, max_bytes=MAX_REPORT_BYTES))
    record_report(parsed, now=timezone.now())
    return JsonResponse({"ok": True, "snapshot_version": edge_version()})


@edge_only("GET")
def transfer(request: HttpRequest, public_key: str) -> HttpResponse:
    """Sealed tokens for a command-line client, once; the edge holds its client's request and asks again on 404.

    410: the login ended without a token; the answer says why.
    """
    client_ip = request.GET.get("client_ip") or None
    taken = take_transfer(public_key, client_ip=client_ip, now=timezone.now())
    refusal = refusal_of(public_key) if taken is None else None
    if refusal is not None:
        return JsonResponse({"status": 410, **asdict(refusal)}, status=410)
    if taken is None:
        return JsonResponse({"status": 404, "reason": "not_found", "message": "Nothing to fetch yet."}, status=404)
    service_public_key, body = taken
    return JsonResponse({"service_public_key": service_public_key, "body": body})
