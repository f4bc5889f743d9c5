"""The App Launcher: what the person may reach right now, when they were there last, and how to get there by ssh."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, cast
from urllib.parse import urlsplit

from django.db.models import Exists, Max, OuterRef, Q, Subquery
from django.http import HttpResponse
from django.utils import timezone

from access.actions.consent import REQUEST_DAYS
from access.login_links import LoginContext
from access.models import AccessRequest, Application, ApprovalRequest, PrincipalClaim, SshAuthority, Tag
from access.reachable import Candidate, candidates, reachable
from access.views.arrival import login_page
from access.views.public import PublicRequest, public_page, show, team_session
from accounts.models import AccessSession

TILES_PER_PAGE = 60
MAX_PAGE = 100
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
    tags: list[str]

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
    query, number = request.GET.get("q", "").replace("\0", "").strip()[:100], _page_number(request)
    start = (number - 1) * TILES_PER_PAGE
    wanted = _matching(session, query)
    found = list(islice(reachable(wanted, session=session, ip=request.client_ip, now=now), start + TILES_PER_PAGE + 1))
    tiles = _tiles(session, found[start : start + TILES_PER_PAGE])
    page = {"identity": session.identity, "tiles": tiles, "query": query, "is_long": len(found) > 6}
    page |= {"previous": number - 1, "next": number + 1 if len(found) > start + TILES_PER_PAGE else 0}
    page["requests"] = _own_requests(session, now)
    response = show(request, "launcher.html", page)
    # Only the hosts that logos are on, and only on this page.
    cast(Any, response).csp_img_src = {_origin(tile.logo_url) for tile in tiles if tile.logo_url}
    return response


def _page_number(request: PublicRequest) -> int:
    text = request.GET.get("page", "")
    return min(int(text), MAX_PAGE) if text.isascii() and text.isdigit() and 0 < len(text) < 6 and int(text) else 1


def _matching(session: AccessSession, query: str) -> list[Candidate]:
    """Of name, address or a tag."""
    everything = candidates(session)
    if not query:
        return everything
    wanted = query.casefold()
    names = Tag.objects.for_organization(session.organization).values_list("pk", "name")
    tags = [key for key, name in names if wanted in name.casefold()]
    tagged = Application.tags.through.objects.filter(tag__in=tags).values_list("application_id", flat=True)
    of_tags = set(tagged) if tags else set()
    return [
        item
        for item in everything
        if wanted in item.name.casefold() or wanted in item.domain.casefold() or item.id in of_tags
    ]


def _tiles(session: AccessSession, keys: list[uuid.UUID]) -> list[Tile]:
    """Three queries, however many there are."""
    signing = SshAuthority.objects.filter(application=OuterRef("pk"), state=SshAuthority.State.ACTIVE)
    claims = PrincipalClaim.objects.filter(application=OuterRef("pk"), identity=session.identity).order_by("created_at")
    applications = (
        Application.objects.for_organization(session.organization)
        .only("name", "hostname", "path", "settings")
        .filter(pk__in=keys)
        .annotate(has_ssh=Exists(signing), principal=Subquery(claims.values("principal")[:1]))
        .order_by("name", "id")
    )
    used = dict(
        AccessRequest.objects.for_organization(session.organization)
        .filter(allowed=True, identity=session.identity, application__in=keys)
        .order_by()
        .values_list("application")
        .annotate(Max("created_at"))
    )
    words: dict[uuid.UUID, list[str]] = {}
    tags = Application.tags.through.objects.filter(application__in=keys).order_by("tag__name")
    for key, name in tags.values_list("application_id", "tag__name"):
        words.setdefault(key, []).append(name)
    return [
        Tile(item, used.get(item.pk), item.has_ssh, item.principal or "", _logo_of(item), words.get(item.pk, []))
        for item in applications
    ]


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
