"""The dashboard's map: sections, their pages, and which page of it a route belongs to.

A new page of an organization belongs to one entry: its route's name starts with one of the entry's `names` (the
longest that fits wins). tests/test_every_url.py asks this of every route.
"""

from __future__ import annotations

from dataclasses import dataclass

from accounts.permissions import Permission


@dataclass(frozen=True, slots=True)
class Entry:
    """`url_name` is the page it leads to; `names` are what the names of the pages below it start with."""

    label: str
    url_name: str
    names: tuple[str, ...]
    permission: Permission


@dataclass(frozen=True, slots=True)
class Section:
    """Without a title the entries stand by themselves (Home, DNS)."""

    title: str
    entries: tuple[Entry, ...]


NAVIGATION: tuple[Section, ...] = (
    Section(
        "",
        (Entry("Home", "organization_home", ("organization_home", "home_", "search"), Permission.ORGANIZATION_READ),),
    ),
    Section(
        "Access",
        (
            Entry("Applications", "applications", ("application",), Permission.ACCESS_READ),
            Entry("Groups", "groups", ("group",), Permission.ACCESS_READ),
            Entry("Policies", "policies", ("polic",), Permission.ACCESS_READ),
            Entry("Approvals", "approvals", ("approval",), Permission.ACCESS_READ),
            Entry("Simulator", "simulator", ("simulat",), Permission.ACCESS_READ),
            Entry(
                "Service Auth", "service_tokens", ("service_token", "ssh_", "client_authorit"), Permission.ACCESS_READ
            ),
            Entry("Tunnels", "tunnels", ("tunnel", "connector"), Permission.TUNNELS_READ),
            Entry("Tags", "tags", ("tag",), Permission.ACCESS_READ),
        ),
    ),
    Section("", (Entry("DNS", "zones", ("zone", "record", "dns"), Permission.DNS_READ),)),
    Section(
        "My Team",
        (
            Entry("Users", "users", ("user", "session"), Permission.IDENTITY_READ),
            Entry("Members", "members", ("member", "invitation"), Permission.MEMBERS_READ),
            Entry("Lists", "lists", ("list",), Permission.ACCESS_READ),
        ),
    ),
    Section(
        "Logs",
        (
            Entry("Access", "access_log", ("access_log",), Permission.LOGS_READ),
            Entry("Certificates", "certificates", ("certificate",), Permission.LOGS_READ),
            Entry("Audit", "audit_log", ("audit_log", "log_view"), Permission.LOGS_READ),
        ),
    ),
    Section(
        "Settings",
        (
            Entry("Authentication", "login_methods", ("login_method",), Permission.IDENTITY_READ),
            Entry("Login page", "login_page", ("login_page",), Permission.ORGANIZATION_READ),
            Entry("Custom pages", "custom_pages", ("custom_page",), Permission.ACCESS_READ),
            Entry("Keys", "token_keys", ("token_key",), Permission.ACCESS_READ),
            Entry("Organization", "organization_settings", ("organization_settings",), Permission.ORGANIZATION_READ),
            Entry("API tokens", "api_tokens", ("api_token",), Permission.TOKENS_READ),
            Entry("Recently deleted", "deleted", ("deleted",), Permission.ACCESS_READ),
        ),
    ),
)


def place_of(url_name: str) -> tuple[Section, Entry] | None:
    """Where a route's page stands on the map."""
    fitting = [
        (len(start), section, entry)
        for section in NAVIGATION
        for entry in section.entries
        for start in entry.names
        if url_name.startswith(start)
    ]
    if not fitting:
        return None
    _, section, entry = max(fitting, key=lambda found: found[0])
    return section, entry
