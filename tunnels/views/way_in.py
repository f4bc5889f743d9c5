"""Access, Applications, Way in: the live picture of one application's way, and what is still to do for it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from access.models import Application
from access.views.applications import own_application, tab
from accounts.http import OrganizationRequest, requires
from accounts.pages import at
from accounts.permissions import Permission
from tunnels.models import Tunnel, Zone
from tunnels.rail import Step, judge_rail
from tunnels.rail_facts import RailFacts
from tunnels.way_facts import way_facts
from tunnels.way_in import Hop, picture, shown_ms, summary

# Seconds between two looks: quick while something happens, then ever more slowly.
_PAUSES = (4, 6, 10, 20, 40, 60)
_OF_APPLICATION = frozenset({"application_policies", "ssh_authority_detail"})
_OF_TUNNEL = {"tunnel": "tunnel_detail", "tunnel_detail": "tunnel_detail", "tunnel_hostnames": "tunnel_hostnames"}


@dataclass(frozen=True)
class ShownHop:
    hop: Hop
    link: str
    latency: str


@requires(Permission.ACCESS_READ)
@require_GET
def application_way_in(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application, now = own_application(request, application_id), timezone.now()
    facts, tunnel = way_facts(application, now)
    hops = picture(facts, now)
    state, text = summary(hops)
    known = RailFacts(request.organization, [application], now)
    rail = judge_rail(known.facts(application))
    zone = known.zone(application)
    mark, pause = _pace(request, hops)
    return tab(
        request,
        application,
        "way_in",
        hops=[ShownHop(hop, _page(request, hop.page, application, tunnel, zone), _latency(hop)) for hop in hops],
        state=state,
        text=text,
        rail=rail,
        steps=[(step, _link(request, step, application, known)) for step in rail.steps],
        as_of=now,
        mark=mark,
        pause=_PAUSES[pause],
        next_pause=pause,
        live=True,
    )


def _pace(request: OrganizationRequest, hops: list[Hop]) -> tuple[str, int]:
    """A mark of what is shown, and the place in _PAUSES: it moves on while the mark stays the same."""
    seen = repr([(hop.state, hop.text) for hop in hops])
    mark = hashlib.sha256(seen.encode()).hexdigest()[:12]
    asked = request.GET.get("pause", "")
    step = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 3 else 0
    return mark, min(step + 1, len(_PAUSES) - 1) if request.GET.get("mark") == mark else 0


def _latency(hop: Hop) -> str:
    return "" if hop.link_ms is None else shown_ms(hop.link_ms)


def _link(request: OrganizationRequest, step: Step, application: Application, known: RailFacts) -> str:
    return _page(request, step.page, application, known.tunnel(application), known.zone(application))


def _page(
    request: OrganizationRequest, page: str, application: Application, tunnel: Tunnel | None, zone: Zone | None
) -> str:
    if page in _OF_APPLICATION:
        return at(request, page, application.pk)
    if page in _OF_TUNNEL:
        return at(request, _OF_TUNNEL[page], tunnel.pk) if tunnel else at(request, "tunnels")
    if page == "zone":
        return at(request, "zone_detail", zone.pk) if zone else at(request, "zones")
    return at(request, page) if page else ""
