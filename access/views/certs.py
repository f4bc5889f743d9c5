"""The public keys of an organization's tokens (JWKS), for edges, origins and clients."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse

from access import tokens
from accounts.http import declares
from accounts.models import Organization
from accounts.permissions import Permission

CACHE_SECONDS = 300


@declares(Permission.PUBLIC)
def certs(request: HttpRequest) -> HttpResponse:
    if request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET", "HEAD"])
    organization: Organization = request.organization  # type: ignore[attr-defined]
    response = JsonResponse(tokens.jwks(organization))
    response["Cache-Control"] = f"public, max-age={CACHE_SECONDS}"
    response["Access-Control-Allow-Origin"] = "*"
    return response
