"""What base.html needs on every dashboard page: organization, role, navigation with the current place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from accounts.models import Membership
from accounts.permissions import Permission, role_allows

# Section title, then (label, URL name, what the names of pages below it start with, permission).
_NAVIGATION: tuple[tuple[str, tuple[tuple[str, str, tuple[str, ...], Permission], ...]], ...] = (
    ("", (("Home", "organization_home", ("organization_home",), Permission.ORGANIZATION_READ),)),
    (
        "Access",
        (
            ("Applications", "applications", ("application",), Permission.ACCESS_READ),
            ("Groups", "groups", ("group",), Permission.ACCESS_READ),
            ("Policies", "policies", ("polic",), Permission.ACCESS_READ),
            ("Simulator", "simulator", ("simulat",), Permission.ACCESS_READ),
            ("Service Auth", "service_tokens", ("service_token", "ssh_", "client_authorit"), Permission.ACCESS_READ),
            ("Tunnels", "tunnels", ("tunnel",), Permission.TUNNELS_READ),
        ),
    ),
    ("DNS", (("Zones and records", "zones", ("zone", "record"), Permission.DNS_READ),)),
    (
        "My Team",
        (
            ("Users", "users", ("user", "session"), Permission.IDENTITY_READ),
            ("Lists", "lists", ("list",), Permission.ACCESS_READ),
            ("Members", "members", ("member",), Permission.MEMBERS_READ),
        ),
    ),
    (
        "Logs",
        (
            ("Access", "access_log", ("access_log",), Permission.LOGS_READ),
            ("Certificates", "certificates", ("certificate",), Permission.LOGS_READ),
            ("Audit", "audit_log", ("audit_log",), Permission.LOGS_READ),
        ),
    ),
    (
        "Settings",
        (
            ("Login methods", "login_methods", ("login_method",), Permission.IDENTITY_READ),
            ("Organization", "organization_settings", ("organization_settings",), Permission.ORGANIZATION_READ),
            ("Custom pages", "custom_pages", ("custom_page",), Permission.ACCESS_READ),
            ("Tags", "tags", ("tag",), Permission.ACCESS_READ),
            ("Keys", "token_keys", ("token_key",), Permission.ACCESS_READ),
            ("API tokens", "api_tokens", ("api_token",), Permission.TOKENS_READ),
        ),
    ),
)


@dataclass(frozen=True)
class NavigationItem:
    label: str
    url: str
    is_current: bool


def navigation(request: HttpRequest) -> dict[str, Any]:
    organization = getattr(request, "organization", None)
    membership = getattr(request, "membership", None)
    if organization is None or membership is None:
        return {}
    match = request.resolver_match
    current = (match.url_name if match else "") or ""
    sections = []
    for title, entries in _NAVIGATION:
        items = [
            NavigationItem(label, reverse(name, args=[organization.team_name]), current.startswith(prefixes))
            for label, name, prefixes, permission in entries
            if role_allows(membership.role, permission)
        ]
        sections.append({"title": title, "links": items})
    return {
        "organization": organization,
        "membership": membership,
        "sections": sections,
        "memberships": Membership.objects.filter(user=membership.user_id)
        .select_related("organization")
        .order_by("organization__name"),
    }
