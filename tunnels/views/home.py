"""Home: where each application stands on the way to its first SSH login."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from access.models import Application, Certificate
from accounts.http import OrganizationRequest, requires
from accounts.models import AccessSession
from accounts.pages import Listing, at, list_page, show
from accounts.permissions import Permission
from accounts.zones import viewer_zone
from tunnels.rail import Rail, Step, judge_rail
from tunnels.rail_facts import RailFacts
from tunnels.status import TunnelStatus
from tunnels.views.home_charts import activity_charts

_UP = frozenset({TunnelStatus.HEALTHY, TunnelStatus.DEGRADED})
_PLAIN_PAGES = frozenset({"access_log", "ssh_authorities", "tunnel_create"})
_APPLICATION_PAGES = frozenset({"application_policies", "ssh_authority_detail"})


@dataclass(frozen=True)
class Way:
    """An application with its rail."""

    application: Application
    rail: Rail


@requires(Permission.ORGANIZATION_READ)
@require_GET
def organization_home(request: OrganizationRequest) -> HttpResponse:
    if request.session.get("team") != request.organization.team_name:
        request.session["team"] = request.organization.team_name
    rows = Application.objects.for_organization(request.organization).order_by("-created_at", "id")
    listing = list_page(request, rows, search=("name", "hostname"))
    known = RailFacts(request.organization, listing.rows, timezone.now())
    ways = [Way(application, judge_rail(known.facts(application))) for application in listing]
    shown = _shown(ways, request.GET.get("application", ""))
    return show(
        request,
        "tunnels/home.html",
        title="Home",
        crumbs=(),
        listing=listing,
        ways=ways,
        shown=shown,
        steps=[(step, _link(request, step, shown.application, known)) for step in shown.rail.steps] if shown else [],
        numbers=_numbers(request, listing, known),
        **activity_charts(request),
        live=True,
    )


def _link(request: OrganizationRequest, step: Step, application: Application, known: RailFacts) -> str:
    if step.page in _PLAIN_PAGES:
        return at(request, step.page)
    if step.page in _APPLICATION_PAGES:
        return at(request, step.page, application.pk)
    tunnel, zone = known.tunnel(application), known.zone(application)
    if step.page in {"tunnel", "tunnel_hostnames"} and tunnel is not None:
        return at(request, "tunnel_detail" if step.page == "tunnel" else step.page, tunnel.pk)
    if step.page == "zone":
        return at(request, "zone_detail", zone.pk) if zone else at(request, "zones")
    return ""


def _shown(ways: list[Way], wanted: str) -> Way | None:
    """The rail that is open: the one asked for, else the first that is not finished, else the first."""
    asked = _uuid(wanted)
    chosen = next((way for way in ways if way.application.pk == asked), None)
    return chosen or next((way for way in ways if not way.rail.is_complete), ways[0] if ways else None)


def _numbers(
    request: OrganizationRequest, listing: Listing[Application], known: RailFacts
) -> list[tuple[str, int, str]]:
    """Label, number and page of the small figures."""
    organization, now = request.organization, timezone.now()
    live = AccessSession.objects.for_organization(organization).filter(revoked_at=None, expires_at__gt=now)
    day = now.astimezone(viewer_zone(request)).replace(hour=0, minute=0, second=0, microsecond=0)
    issued = Certificate.objects.for_organization(organization).filter(created_at__gte=day)
    applications = listing.total
    if applications is None or listing.is_narrowed:
        applications = Application.objects.for_organization(organization).count()
    up = sum(status in _UP for status in known.statuses.values())
    return [
        _number(applications, "application", "applications", at(request, "applications")),
        (f"of {_count(len(known.tunnels), 'tunnel', 'tunnels')} up", up, at(request, "tunnels")),
        _number(live.count(), "live session", "live sessions", at(request, "users")),
        _number(issued.count(), "certificate today", "certificates today", at(request, "certificates")),
    ]


def _number(count: int, one: str, many: str, url: str) -> tuple[str, int, str]:
    return (one if count == 1 else many), count, url


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
