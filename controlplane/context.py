"""What base.html needs on every dashboard page: organization, role, navigation with the current place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from accounts.models import Membership
from accounts.permissions import role_allows
from controlplane.navigation import NAVIGATION, Entry, Section, place_of


@dataclass(frozen=True)
class NavigationItem:
    label: str
    url: str
    is_current: bool


@dataclass(frozen=True)
class OrganizationChoice:
    """One line of the switcher: the same section of another organization, where the role there may see it."""

    membership: Membership
    url: str
    is_current: bool


def navigation(request: HttpRequest) -> dict[str, Any]:
    organization = getattr(request, "organization", None)
    membership = getattr(request, "membership", None)
    if organization is None or membership is None:
        return {}
    match = request.resolver_match
    place = place_of((match.url_name if match else "") or "")
    current = place[1] if place else None
    marked = None if match and match.url_name == "search" else current
    return {
        "organization": organization,
        "membership": membership,
        "place": place[0].title if place else "",
        # The search belongs to Home, and is not Home.
        "sections": [section for section in _sections(membership, marked) if section["links"]],
        "support_session": getattr(request, "support_session", None),
        "choices": _choices(request, membership, current),
    }


def _sections(membership: Membership, current: Entry | None) -> list[dict[str, Any]]:
    return [{"title": section.title, "links": _links(section, membership, current)} for section in NAVIGATION]


def _links(section: Section, membership: Membership, current: Entry | None) -> list[NavigationItem]:
    team = membership.organization.team_name
    return [
        NavigationItem(entry.label, _address(entry.url_name, team), entry is current)
        for entry in section.entries
        if role_allows(membership.role, entry.permission)
    ]


def _choices(request: HttpRequest, membership: Membership, current: Entry | None) -> list[OrganizationChoice]:
    if membership.pk is None:  # support staff: the organization of the support session, and no other
        return [OrganizationChoice(membership, _same_page(membership, current), True)]
    return [
        OrganizationChoice(other, _same_page(other, current), other.organization_id == membership.organization_id)
        for other in getattr(request, "memberships", ())
    ]


def _same_page(other: Membership, current: Entry | None) -> str:
    shared = current if current is not None and role_allows(other.role, current.permission) else None
    return _address(shared.url_name if shared else "organization_home", other.organization.team_name)


@lru_cache(maxsize=4096)
def _address(url_name: str, team: str) -> str:
    """Twenty of them are on every page."""
    return reverse(url_name, args=[team], urlconf=settings.ROOT_URLCONF)
