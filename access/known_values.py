"""Values that rules may want, as far as the organization has seen them: for autocomplete in the rule builder.

A person may type anything; these are offers. Each answer is bounded, and so is what is read for it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db.models import F, QuerySet, Value
from django.db.models.functions import StrIndex, Substr

from access.selectors import GITHUB
from accounts.models import Identity, Organization, ScimGroup

MAX_OFFERED = 50
# Groups and claims are looked for among the people who logged in last.
_PEOPLE_READ = 500
_LONGEST = 200
# RFC 8176, those that login methods report.
_AUTH_METHODS = ("mfa", "otp", "hwk", "swk", "pwd", "fpt", "face", "pin", "sms", "tel", "pop", "sc", "wia")
EMAIL, DOMAIN, PROVIDER_GROUP, CLAIM, CLAIM_VALUE, METHOD = "email", "domain", "group", "claim", "value", "amr"
KIND_OF = {
    "email": EMAIL,
    "email_domain": DOMAIN,
    "okta": PROVIDER_GROUP,
    "azureAD": PROVIDER_GROUP,
    "gsuite": PROVIDER_GROUP,
    GITHUB: PROVIDER_GROUP,
    "oidc": CLAIM_VALUE,
    "saml": CLAIM_VALUE,
    "auth_method": METHOD,
}


@dataclass(frozen=True)
class Wanted:
    """What is asked for; groups and claims belong to a login method."""

    kind: str
    provider: str = ""
    claim: str = ""


@dataclass(frozen=True)
class Known:
    """`has_more`: there are others; typing finds them."""

    values: list[str] = field(default_factory=list)
    has_more: bool = False


def known_values(organization: Organization, wanted: Wanted, search: str = "") -> Known:
    """Those that contain `search`, without case. Unknown kinds and login methods of others have no values."""
    find = _FINDERS.get(wanted.kind)
    if find is None:
        return Known()
    found = find(organization, wanted, search.strip()[:_LONGEST])
    return Known(found[:MAX_OFFERED], len(found) > MAX_OFFERED)


def _emails(organization: Organization, wanted: Wanted, search: str) -> list[str]:
    rows = _people(organization).filter(email__icontains=search) if search else _people(organization)
    return list(rows.order_by("email").values_list("email", flat=True).distinct()[: MAX_OFFERED + 1])


def _domains(organization: Organization, wanted: Wanted, search: str) -> list[str]:
    rows = _people(organization).annotate(domain=Substr("email", StrIndex(F("email"), Value("@")) + 1))
    rows = rows.filter(domain__icontains=search) if search else rows
    return list(rows.order_by("domain").values_list("domain", flat=True).distinct()[: MAX_OFFERED + 1])


def _people(organization: Organization) -> QuerySet[Identity]:
    return Identity.objects.for_organization(organization).exclude(email="")


def _groups(organization: Organization, wanted: Wanted, search: str) -> list[str]:
    provider = _uuid(wanted.provider)
    if provider is None:
        return []
    rows = ScimGroup.objects.for_organization(organization).filter(provider=provider, display_name__icontains=search)
    told = rows.order_by("display_name").values_list("display_name", flat=True)[: MAX_OFFERED + 1]
    held = (group for groups in _of_people(organization, wanted, "groups") for group in _texts(groups))
    return _matching([*told, *held], search)


def _claims(organization: Organization, wanted: Wanted, search: str) -> list[str]:
    rows = _of_people(organization, wanted, "claims")
    names = (name for claims in rows if isinstance(claims, dict) for name in claims)
    return _matching(names, search)


def _claim_values(organization: Organization, wanted: Wanted, search: str) -> list[str]:
    if wanted.claim == "groups":
        return _groups(organization, wanted, search)
    rows = _of_people(organization, wanted, "claims")
    values = (claims.get(wanted.claim) for claims in rows if isinstance(claims, dict))
    return _matching((text for value in values for text in _texts(value)), search)


def _methods(organization: Organization, wanted: Wanted, search: str) -> list[str]:
    return [method for method in _AUTH_METHODS if search.lower() in method]


_FINDERS: dict[str, Callable[[Organization, Wanted, str], list[str]]] = {
    EMAIL: _emails,
    DOMAIN: _domains,
    PROVIDER_GROUP: _groups,
    CLAIM: _claims,
    CLAIM_VALUE: _claim_values,
    METHOD: _methods,
}


def _of_people(organization: Organization, wanted: Wanted, column: str) -> Iterator[Any]:
    provider = _uuid(wanted.provider)
    if provider is None:
        return
    rows = Identity.objects.for_organization(organization).filter(provider=provider)
    yield from rows.order_by(F("last_login_at").desc(nulls_last=True)).values_list(column, flat=True)[:_PEOPLE_READ]


def _texts(value: Any) -> Iterator[str]:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, bool):
            yield str(one).lower()
        elif isinstance(one, str | int):
            yield str(one)


def _matching(texts: Iterable[str], search: str) -> list[str]:
    wanted = search.lower()
    return sorted({text for text in texts if text and len(text) <= _LONGEST and wanted in text.lower()})


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
