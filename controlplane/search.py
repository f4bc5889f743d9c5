"""Search over all objects of an organization: what a person may see there, a few of each kind, and where they are.

Names of configured objects are looked for anywhere in the text (an organization has a few thousand at most); the logs,
which may be endless, only by the start of a serial or reference id, which is indexed.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Case, IntegerField, Q, QuerySet, Value, When
from django.urls import reverse

from access.models import (
    AccessList,
    AccessRequest,
    Application,
    Certificate,
    ClientAuthority,
    Group,
    Policy,
    ServiceToken,
    Tag,
)
from accounts.models import ApiToken, Identity, IdentityProvider, Membership, Organization
from accounts.permissions import Permission
from controlplane.navigation import NAVIGATION
from tunnels.models import Connector, DnsRecord, Tunnel, Zone

PER_KIND = 6
SHORTEST_SERIAL = 4
SHORTEST_REFERENCE = 6
LONGEST = 200


@dataclass(frozen=True, slots=True)
class Hit:
    label: str
    detail: str
    url: str


@dataclass(frozen=True, slots=True)
class Found:
    """Hits of one kind; `more` is the list page where the rest are."""

    title: str
    hits: list[Hit]
    more: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """`columns` are looked for anywhere, `starts` only at their start; `page` is the list page for the rest."""

    title: str
    permission: Permission
    rows: Callable[[Organization], QuerySet[Any]]
    detail: Callable[[Any], str]
    place: Callable[[Any], tuple[str, tuple[Any, ...]]]
    page: str
    columns: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    fits: Callable[[str], bool] = field(default=lambda query: True)
    label: Callable[[Any], str] = str


def _own(model: Any, *related: str) -> Callable[[Organization], QuerySet[Any]]:
    return lambda organization: model.objects.for_organization(organization).select_related(*related)


def _is_serial(query: str) -> bool:
    return len(query) >= SHORTEST_SERIAL and query.isascii() and query.isdigit()


def _is_reference(query: str) -> bool:
    return len(query) >= SHORTEST_REFERENCE and set(query) <= set(string.hexdigits)


def _policy_place(policy: Policy) -> tuple[str, tuple[Any, ...]]:
    """A reusable policy has a page of its own; another one is on its application's."""
    link = None if policy.reusable else next(iter(policy.application_links.all()), None)
    return ("application_policies", (link.application_id,)) if link else ("policies", ())


KINDS: tuple[Kind, ...] = (
    Kind(
        "Applications",
        Permission.ACCESS_READ,
        _own(Application),
        lambda row: row.domain,
        lambda row: ("application_detail", (row.pk,)),
        "applications",
        ("name", "hostname"),
        ("aud",),
    ),
    Kind(
        "Groups",
        Permission.ACCESS_READ,
        _own(Group),
        lambda row: "1 include rule" if len(row.include) == 1 else f"{len(row.include)} include rules",
        lambda row: ("groups", ()),
        "groups",
        ("name",),
    ),
    Kind(
        "Policies",
        Permission.ACCESS_READ,
        lambda organization: Policy.objects.for_organization(organization).prefetch_related("application_links"),
        lambda row: f"{row.get_decision_display()}{', reusable' if row.reusable else ''}",
        _policy_place,
        "policies",
        ("name",),
    ),
    Kind(
        "Lists",
        Permission.ACCESS_READ,
        _own(AccessList),
        lambda row: row.get_type_display(),
        lambda row: ("lists", ()),
        "lists",
        ("name",),
    ),
    Kind("Tags", Permission.ACCESS_READ, _own(Tag), lambda row: "", lambda row: ("tags", ()), "tags", ("name",)),
    Kind(
        "Tunnels",
        Permission.TUNNELS_READ,
        lambda organization: Tunnel.objects.for_organization(organization).filter(deleted_at=None),
        lambda row: str(row.pk),
        lambda row: ("tunnel_detail", (row.pk,)),
        "tunnels",
        ("name",),
    ),
    Kind(
        "Connectors",
        Permission.TUNNELS_READ,
        lambda organization: Connector.objects.for_organization(organization).filter(tunnel__deleted_at=None),
        lambda row: f"version {row.version}",
        lambda row: ("tunnel_detail", (row.tunnel_id,)),
        "tunnels",
        starts=("client_id", "origin_ip"),
        fits=lambda query: _as_uuid(query) is not None or query.count(".") == 3,
    ),
    Kind(
        "Zones",
        Permission.DNS_READ,
        _own(Zone),
        lambda row: row.get_status_display(),
        lambda row: ("zone_detail", (row.pk,)),
        "zones",
        ("name",),
    ),
    Kind(
        "DNS records",
        Permission.DNS_READ,
        _own(DnsRecord),
        lambda row: f"{row.type} {row.content}",
        lambda row: ("zone_detail", (row.zone_id,)),
        "zones",
        ("name", "content"),
        label=lambda row: row.name,
    ),
    Kind(
        "Users",
        Permission.IDENTITY_READ,
        _own(Identity, "provider"),
        lambda row: f"{row.name} · {row.provider.name}" if row.name else row.provider.name,
        lambda row: ("user_detail", (row.pk,)),
        "users",
        ("email", "name"),
        ("subject",),
    ),
    Kind(
        "Members",
        Permission.MEMBERS_READ,
        _own(Membership, "user"),
        lambda row: row.get_role_display(),
        lambda row: ("members", ()),
        "members",
        ("user__email", "user__name"),
        label=lambda row: row.user.email,
    ),
    Kind(
        "Login methods",
        Permission.IDENTITY_READ,
        _own(IdentityProvider),
        lambda row: row.get_type_display(),
        lambda row: ("login_methods", ()),
        "login_methods",
        ("name",),
    ),
    Kind(
        "Service tokens",
        Permission.SERVICE_TOKENS_READ,
        _own(ServiceToken),
        lambda row: row.client_id,
        lambda row: ("service_tokens", ()),
        "service_tokens",
        ("name",),
        ("client_id",),
    ),
    Kind(
        "Client certificates' roots",
        Permission.ACCESS_READ,
        _own(ClientAuthority),
        lambda row: row.subject,
        lambda row: ("client_authorities", ()),
        "client_authorities",
        ("name", "subject"),
    ),
    Kind(
        "API tokens",
        Permission.TOKENS_READ,
        _own(ApiToken),
        lambda row: f"starts with {row.prefix}",
        lambda row: ("api_tokens", ()),
        "api_tokens",
        ("name",),
        ("prefix",),
    ),
    Kind(
        "Certificates",
        Permission.LOGS_READ,
        _own(Certificate, "application"),
        lambda row: f"{row.application} · {row.created_at:%Y-%m-%d %H:%M} UTC",
        lambda row: ("certificate_detail", (row.pk,)),
        "certificates",
        starts=("serial",),
        fits=_is_serial,
        label=lambda row: row.serial,
    ),
    Kind(
        "Decisions",
        Permission.LOGS_READ,
        _own(AccessRequest),
        lambda row: f"reference {row.ray_id} · {row.created_at:%Y-%m-%d %H:%M} UTC",
        lambda row: ("access_log_entry", (row.pk,)),
        "access_log",
        starts=("ray_id",),
        fits=_is_reference,
    ),
)


def search(organization: Organization, text: str, can: Callable[[Permission], bool]) -> list[Found]:
    """At most PER_KIND hits of every kind the person may read."""
    query = text.replace("\0", "").strip()[:LONGEST]
    pages = _pages(organization, query, can)
    if not query:
        return [Found("Go to", pages)]
    found = [Found("Go to", pages)] if pages else []
    for kind in KINDS:
        if can(kind.permission):
            found += _of_kind(organization, kind, query)
    return found


def _pages(organization: Organization, query: str, can: Callable[[Permission], bool]) -> list[Hit]:
    """Pages of the menu of which a word begins with the query."""
    return [
        Hit(entry.label, section.title, reverse(entry.url_name, args=[organization.team_name]))
        for section in NAVIGATION
        for entry in section.entries
        if can(entry.permission) and (not query or f" {query}".lower() in f" {section.title} {entry.label}".lower())
    ]


def _of_kind(organization: Organization, kind: Kind, query: str) -> Iterable[Found]:
    condition = _condition(kind, query)
    if condition is None:
        return []
    rows = kind.rows(organization).filter(condition)
    if kind.columns:
        first = When(**{f"{kind.columns[0]}__istartswith": query}, then=0)
        nearness = Case(first, default=Value(1), output_field=IntegerField())
        rows = rows.order_by(nearness, kind.columns[0], "pk")
    found = list(rows[: PER_KIND + 1])
    if not found:
        return []
    more = f"{reverse(kind.page, args=[organization.team_name])}?{urlencode({'q': query})}"
    hits = [_hit(organization, kind, row, query) for row in found[:PER_KIND]]
    return [Found(kind.title, hits, more if len(found) > PER_KIND else "")]


def _condition(kind: Kind, query: str) -> Q | None:
    """None where this kind cannot be meant."""
    condition, key = Q(), _as_uuid(query)
    if kind.fits(query):
        for column in kind.columns:
            condition |= Q(**{f"{column}__icontains": query})
        for column in kind.starts:
            condition |= Q(**{column: key}) if key and column == "client_id" else Q(**{f"{column}__startswith": query})
    if key is not None and kind.title not in {"Members", "Connectors"}:
        condition |= Q(pk=key.hex if kind.title in {"Zones", "DNS records", "API tokens"} else key)
    return condition or None


def _hit(organization: Organization, kind: Kind, row: Any, query: str) -> Hit:
    name, arguments = kind.place(row)
    address = reverse(name, args=[organization.team_name, *arguments])
    label = kind.label(row)
    # Without a page of its own an object is shown by its list, narrowed to it.
    return Hit(label, kind.detail(row), address if arguments else f"{address}?{urlencode({'q': label})}")


def _as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
