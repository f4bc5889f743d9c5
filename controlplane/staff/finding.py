"""Finding an organization, and what staff see of it without a support session: names and counts, no data of its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, QuerySet

from access.models import Application
from accounts.models import AccessSession, AuditEvent, Identity, Membership, Organization
from accounts.text import ascii_lower
from tunnels.models import Tunnel, Zone

_REASON = "staff look for an organization by something it told them"
MOST = 25


def find_organizations(text: str) -> list[Organization]:
    """By name, team name or id; by a hostname or a member's address only when it is whole, so that nobody can browse
    other people's."""
    query = ascii_lower(text.replace("\0", "").strip())[:253]
    rows = Organization.objects.order_by("-created_at", "pk")
    if query:
        rows = rows.filter(
            Q(name__icontains=query)
            | Q(team_name__contains=query)
            | Q(pk=query)
            | Q(pk__in=_by_application(query))
            | Q(pk__in=_by_zone(query))
            | Q(pk__in=_by_member(query))
        )
    return list(rows[: MOST + 1])


def _by_application(query: str) -> QuerySet[Application, str]:
    rows = Application.objects.all_organizations(reason=_REASON).filter(hostname=query)
    return rows.order_by().values_list("organization_id", flat=True)


def _by_zone(query: str) -> QuerySet[Zone, str]:
    names = {query, *(query.split(".", count)[-1] for count in range(1, query.count(".")))}
    rows = Zone.objects.all_organizations(reason=_REASON).filter(name__in=names)
    return rows.order_by().values_list("organization_id", flat=True)


def _by_member(query: str) -> QuerySet[Membership, str]:
    rows = Membership.objects.all_organizations(reason=_REASON).filter(user__email=query)
    return rows.values_list("organization_id", flat=True)


@dataclass(frozen=True, slots=True)
class Metadata:
    members: int
    applications: int
    tunnels: int
    users: int
    live_sessions: int
    last_activity: datetime | None


def metadata_of(organization: Organization, now: datetime) -> Metadata:
    live = AccessSession.objects.for_organization(organization).filter(revoked_at=None, expires_at__gt=now)
    last = AuditEvent.objects.for_organization(organization).order_by("-id").values_list("created_at", flat=True)
    return Metadata(
        members=Membership.objects.for_organization(organization).count(),
        applications=Application.objects.for_organization(organization).count(),
        tunnels=Tunnel.objects.for_organization(organization).filter(deleted_at=None).count(),
        users=Identity.objects.for_organization(organization).count(),
        live_sessions=live.count(),
        last_activity=last.first(),
    )
