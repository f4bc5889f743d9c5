"""Access, Applications: the list, with search, filters, order and paging. A fixed number of queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Exists, OuterRef, Prefetch, Q
from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from access.models import Application, ApplicationDraft, ApplicationPolicy, SshAuthority, Tag
from access.reachability import reachable
from accounts.http import OrganizationRequest, requires
from accounts.pages import Filter, list_page, show
from accounts.permissions import Permission

LIVE_STATES = (SshAuthority.State.PENDING, SshAuthority.State.ACTIVE)
_MAX_TAGS = 200
# ?sort= value -> columns; a leading "-" turns the first one round.
_ORDERS: dict[str, tuple[str, ...]] = {
    "name": ("name", "id"),
    "domain": ("hostname", "path", "id"),
    "policies": ("policy_count", "name", "id"),
    "session": ("session_duration_seconds", "name", "id"),
}


@dataclass(frozen=True)
class Column:
    """A heading that orders by itself. `state`: ascending, descending or none, as ARIA says it."""

    key: str
    label: str
    state: str

    @property
    def next(self) -> str:
        """What a click asks for."""
        return f"-{self.key}" if self.state == "ascending" else self.key


@requires(Permission.ACCESS_READ)
@require_GET
def applications(request: OrganizationRequest) -> HttpResponse:
    organization = request.organization
    up = reachable(organization, timezone.now())
    rows = Application.objects.for_organization(organization).annotate(
        policy_count=Count("policy_links", distinct=True),
        has_authority=Exists(SshAuthority.objects.filter(application=OuterRef("pk"), state__in=LIVE_STATES)),
    )
    tags = list(Tag.objects.for_organization(organization).values_list("name", flat=True)[:_MAX_TAGS])
    sort = _sort(request.GET.get("sort", ""))
    listing = list_page(
        request,
        rows.prefetch_related(Prefetch("tags", to_attr="words")).order_by(*_columns_of(sort)),
        search=("name", "hostname", "path"),
        filters=_filters(tags, up),
    )
    mine = ApplicationDraft.objects.for_organization(organization).filter(
        user=request.user, expires_at__gt=timezone.now()
    )
    return show(
        request,
        "access/applications.html",
        title="Applications",
        listing=listing,
        columns=_columns(sort),
        sort=sort,
        up=up,
        draft_count=mine.count() if request.can(Permission.ACCESS_EDIT) else 0,
    )


def _sort(asked: str) -> str:
    return asked if asked.removeprefix("-") in _ORDERS else "name"


def _columns_of(sort: str) -> list[str]:
    first, *rest = _ORDERS[sort.removeprefix("-")]
    return [f"-{first}" if sort.startswith("-") else first, *rest]


def _columns(sort: str) -> dict[str, Column]:
    labels = {
        "name": "Application",
        "domain": "Domain",
        "policies": "Policies",
        "session": "Session",
    }
    current, down = sort.removeprefix("-"), sort.startswith("-")
    states = {key: "none" if key != current else "descending" if down else "ascending" for key in labels}
    return {key: Column(key, label, states[key]) for key, label in labels.items()}


def _filters(tags: list[str], up: frozenset[Any]) -> list[Filter]:
    linked = Exists(ApplicationPolicy.objects.filter(application=OuterRef("pk")))
    ssh = Exists(SshAuthority.objects.filter(application=OuterRef("pk"), state__in=LIVE_STATES))
    yes_no = {
        "policy": ("Policies", [("yes", "with a policy"), ("no", "none: nobody gets in")], Q(linked)),
        "ssh": ("SSH authority", [("yes", "generated"), ("no", "none")], Q(ssh)),
        "tunnel": ("Tunnel", [("yes", "connected"), ("no", "not connected")], Q(pk__in=up)),
    }
    found = [
        Filter("type", "Type", Application.Type.choices, {value: Q(type=value) for value in Application.Type.values}),
        Filter("tag", "Tag", [(name, name) for name in tags], {name: Q(tags__name=name) for name in tags}),
    ]
    for name, (label, choices, condition) in yes_no.items():
        found.append(Filter(name, label, choices, {"yes": condition, "no": ~condition}))
    return found
