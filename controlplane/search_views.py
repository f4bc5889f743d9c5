"""The page of a search, and the part of it that the palette shows."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.http import OrganizationRequest, requires
from accounts.pages import show
from accounts.permissions import Permission
from controlplane.search import LONGEST, search


@requires(Permission.ORGANIZATION_READ)
@require_GET
def search_everything(request: OrganizationRequest) -> HttpResponse:
    query = request.GET.get("q", "").strip()[:LONGEST]
    found = search(request.organization, query, request.can)
    context: dict[str, Any] = {"found": found, "query": query, "count": sum(len(kind.hits) for kind in found)}
    if request.headers.get("HX-Request") == "true":
        return render(request, "_search_results.html", context)
    return show(request, "search.html", title="Search", **context)
