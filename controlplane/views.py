"""Pages of the installation itself: start page, health, refused forms."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render

from access.views.public import form_refused
from accounts.http import declares, signed_in
from accounts.models import Membership, User
from accounts.permissions import Permission


@signed_in
def home(request: HttpRequest) -> HttpResponse:
    """To the organization used last, or the only one; otherwise, and with ?choose, the choice."""
    memberships = (
        Membership.objects.select_related("organization")
        .filter(user=cast(User, request.user))
        .order_by("organization__name")
    )
    teams = [membership.organization.team_name for membership in memberships]
    last = request.session.get("team")
    if (last in teams or len(teams) == 1) and "choose" not in request.GET:
        return redirect("organization_home", team=last if last in teams else teams[0])
    if not teams and cast(User, request.user).is_staff:
        return redirect("staff_home")
    return render(request, "accounts/choose_organization.html", {"memberships": memberships})


@declares(Permission.PUBLIC)
def healthz(request: HttpRequest) -> HttpResponse:
    """200 when the database answers and `make run` has started everything. Says nothing else: it is public."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    if settings.STARTING_FILE and Path(settings.STARTING_FILE).exists():
        return JsonResponse({"status": "starting"}, status=503)
    return JsonResponse({"status": "ok"})


@declares(Permission.PUBLIC)
def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    if str(getattr(request, "urlconf", None) or "").startswith("access."):
        return form_refused(request)
    return render(request, "csrf.html", {"reason": reason}, status=403)
