"""What base.html needs on every dashboard page: organization, role, navigation with the current place."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest


def navigation(request: HttpRequest) -> dict[str, Any]:
    organization = getattr(request, "organization", None)
    membership = getattr(request, "membership", None)
    if organization is None or membership is None:
        return {}
    match = request.resolver_match
    return {
        "organization": organization,
        "membership": membership,
        "current": match.url_name if match else "",
        "memberships": request.user.memberships.select_related("organization").order_by("organization__name"),  # type: ignore[union-attr]
    }
