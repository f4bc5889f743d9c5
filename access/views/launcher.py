"""The App Launcher: what the person may reach right now, when they were there last, and how to get there by ssh."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from django.db.models import Max, Q
from django.http import HttpResponse
from django.utils import timezone

from access.actions.consent import REQUEST_DAYS
from access.decisions import decide_many
from access.evaluation import QUESTIONS, Decision
from access.login_links import LoginContext
from access.models import AccessRequest, Application, ApprovalRequest, PrincipalClaim, SshAuthority
from access.views.arrival import login_page
from access.views.public import PublicRequest, public_page, show, team_session
from accounts.models import AccessSession

MAX_TILES = 200
MAX_REQUESTS = 20
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,250}[a-z0-9])?(?::[0-9]{1,5})?")
_HUES = 8


@dataclass(frozen=True)
class Tile:
    application: Application
    last_used: datetime | None
    # The account name certificates carry, when the application signs any; "" until the first one.
    has_ssh: bool
    principal: str
    logo_url: str

    @property
    def letters(self) -> str:
        words = self.application.name.split()
        return "".join(word[0] for word in words[:2]).upper()

    @property
    def hue(self) -> int:
        """The same colour for the same name, on every day and device."""
        return sum(self.application.name.encode()) % _HUES


@public_page("GET", "HEAD")
def launcher(request: PublicRequest) -> HttpResponse:
    now = timezone.now()
    session = team_session(request, now)
    if session is None:
        return login_page(request, LoginContext(redirect_path="/"))
    reachable = _reachable(request, session, now)
    query = request.GET.get("q", "").replace("\0", "").strip()[:100]
    tiles = _tiles(session, [item for item in reachable if _matches(item, query)])
    page = {"identity": session.identity, "tiles": tiles, "query": query, "total": len(reachable)}
    page["requests"] = _own_requests(session, now)
    response = show(request, "launcher.html", page)
    # Only the hosts that logos are on, and only on this page.
    cast(Any, response).csp_img_src = {_origin(tile.logo_url) for tile in tiles if tile.logo_url}
    return response


def _reachable(request: PublicRequest, session: AccessSession, now: datetime) -> list[Application]:
    """Visible, on a real hostname, and let in by login method and policies right now."""
    applications = list(
        Application.objects.for_organization(request.organization)
        .select_related("organization")
        .prefetch_related("allowed_providers", "tags")
        .filter(app_launcher_visible=True)
        .exclude(hostname__startswith="*")
        .order_by("name", "id")[:MAX_TILES]
    )
    decisions = decide_many(applications, session=session, ip=request.client_ip, now=now)
    return [
        application
        for application in applications
        if _admits_provider(application, session) and _may_enter(decisions[application.pk])
    ]


def _tiles(session: AccessSession, applications: list[Application]) -> list[Tile]:
    """Three queries, however many there are."""
    mine = {"identity": session.identity, "application__in": applications}
    used = dict(
        AccessRequest.objects.for_organization(session.organization)
        .filter(allowed=True, **mine)
        .order_by()
        .values_list("application")
        .annotate(Max("created_at"))
    )
    signing = SshAuthority.objects.filter(application__in=applications, state=SshAuthority.State.ACTIVE)
    has_ssh = set(signing.values_list("application_id", flat=True))
    claims = PrincipalClaim.objects.filter(**mine).order_by("-created_at")
    names = dict(claims.values_list("application_id", "principal"))
    return [
        Tile(item, used.get(item.pk), item.pk in has_ssh, names.get(item.pk, ""), _logo_of(item))
        for item in applications
    ]


def _matches(application: Application, query: str) -> bool:
    words = [application.name, application.domain, *(tag.name for tag in application.tags.all())]
    return not query or any(query.casefold() in word.casefold() for word in words)


def _logo_of(application: Application) -> str:
    """The public API's `logo_url`, if it is an https address whose origin is safe to name in a header."""
    url = str(application.settings.get("logo_url") or "")
    return url if _origin(url) else ""


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    host = parts.netloc.lower()
    return f"https://{host}" if parts.scheme == "https" and _HOST.fullmatch(host) else ""


def _own_requests(session: AccessSession, now: datetime) -> list[ApprovalRequest]:
    """Temporary access that the person has now, and what they still wait for."""
    rows = ApprovalRequest.objects.for_organization(session.organization).select_related("application__organization")
    active = Q(status=ApprovalRequest.Status.APPROVED, ends_at__gt=now)
    waiting = Q(status=ApprovalRequest.Status.PENDING, created_at__gt=now - timedelta(days=REQUEST_DAYS))
    return list(rows.filter(active | waiting, identity=session.identity).order_by("-created_at")[:MAX_REQUESTS])


def _may_enter(decision: Decision) -> bool:
    """Also where something is asked for first: the tile leads to that question."""
    return decision.allowed or decision.reason in QUESTIONS


def _admits_provider(application: Application, session: AccessSession) -> bool:
    chosen = {provider.pk for provider in application.allowed_providers.all()}
    return not chosen or session.identity.provider_id in chosen
