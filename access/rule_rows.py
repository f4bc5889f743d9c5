"""Rows of the rule builder: what each selector needs, and how a row is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from access.country_names import country_code, country_name
from access.known_values import Known, Wanted
from access.selectors import EXTERNAL, GITHUB, GROUP, LIST_TYPES

# Values of one row; beyond, a row shows one field with a value per line.
MAX_FIELDS = 40
MAX_VALUES = 1000
LISTS = (
    ("include", "Include (any of)"),
    ("require", "Require (all of)"),
    ("exclude", "Exclude (none of)"),
)
SELECTOR_CHOICES = (
    ("email", "E-mail addresses"),
    ("email_domain", "E-mails ending in"),
    ("email_list", "Email list"),
    ("everyone", "Everyone"),
    ("ip", "IP ranges"),
    ("ip_list", "IP list"),
    ("geo", "Country"),
    (GROUP, "Access group"),
    ("okta", "Okta or OIDC group"),
    ("azureAD", "Entra group"),
    (GITHUB, "GitHub organization or team"),
    ("gsuite", "Google Workspace group"),
    ("saml", "SAML attribute"),
    ("oidc", "OIDC claim"),
    ("login_method", "Login method"),
    ("auth_method", "Authentication method"),
    ("service_token", "Service token"),
    ("any_valid_service_token", "Any service token"),
    ("certificate", "Valid certificate"),
    ("common_name", "Common name"),
    ("linked_app_token", "Linked app token"),
    (EXTERNAL, "External evaluation"),
)
# A rule that this form has no fields for (made over the API): shown, kept, removable.
KEPT = "kept"
NO_VALUE = frozenset({"everyone", "any_valid_service_token", "certificate"})
ONE_CHOICE = frozenset({GROUP, "login_method", "service_token", "linked_app_token", *LIST_TYPES})
WITH_PROVIDER = frozenset({"okta", "azureAD", GITHUB, "gsuite", "saml", "oidc"})
# The field beside the value, and its label.
SECOND_FIELD = {"oidc": "Claim", "saml": "Attribute", GITHUB: "Team (optional)", EXTERNAL: "Keys URL"}
WITHOUT_SPACES = frozenset({"email", "email_domain", "ip", "auth_method"})
SECOND_IS_CLAIM = frozenset({"oidc", "saml"})
# Bodies of selectors with one plain value: the key it goes under.
PLAIN_KEYS = {"email": "email", "ip": "ip", "auth_method": "auth_method", "common_name": "common_name"}
PROVIDER_KEYS = {"okta": "name", "azureAD": "id", GITHUB: "name", "gsuite": "email"}
CHOICE_KEYS = {"service_token": "token_id", "linked_app_token": "app_uid"}
_HELP = {
    "email": "Several may be pasted at once, with commas or spaces between them.",
    "email_domain": "Without @, for example widgetcorp.tech",
    "ip": "For example 192.0.2.0/24 or 2001:db8::/32",
    "geo": "Type a part of the name, or the two-letter code. Any one of them counts under Include.",
    "okta": "Names exactly as the login method sends them.",
    "azureAD": "Object ids of the groups.",
    GITHUB: "Names of organizations. With a team: only its members.",
    "gsuite": "E-mail addresses of the groups.",
    "saml": "The attribute must hold this value.",
    "oidc": "The claim must hold this value.",
    "auth_method": "As the login method reports it: mfa, otp, hwk, swk, pwd, … (RFC 8176).",
    "common_name": "Of a client certificate signed by one of your certificate authorities (Service Auth, Mutual TLS).",
    "certificate": "Signed by one of your certificate authorities for this hostname (Service Auth, Mutual TLS).",
    "linked_app_token": "The request carries a valid token of that application as Authorization: Bearer.",
    EXTERNAL: "Your own service: it gets a signed question, and its signed answer decides. No answer refuses.",
}


@dataclass
class Row:
    list: str = "include"
    selector: str = "email"
    value: str = ""
    provider: str = ""
    claim: str = ""
    error: str = ""

    @property
    def needs_value(self) -> bool:
        return self.selector not in NO_VALUE and self.selector != KEPT

    @property
    def needs_provider(self) -> bool:
        return self.selector in WITH_PROVIDER

    @property
    def is_choice(self) -> bool:
        return self.selector in ONE_CHOICE

    @property
    def second_label(self) -> str:
        return SECOND_FIELD.get(self.selector, "")

    @property
    def help(self) -> str:
        return _HELP.get(self.selector, "")

    @property
    def values(self) -> Sequence[str]:
        return [line for line in self.value.splitlines() if line.strip()]

    @property
    def is_long(self) -> bool:
        return len(self.values) > MAX_FIELDS


@dataclass(frozen=True)
class Field:
    """One value of a row. `remove` is the step of the button that takes it away, "" for the only and the empty one."""

    id: str
    value: str
    label: str
    remove: str = ""
    shown: str = ""


@dataclass(frozen=True)
class Offer:
    """A <datalist>, shared by the rows that want the same."""

    id: str
    wanted: Wanted
    known: Known


@dataclass(frozen=True)
class RowView:
    """A row as the page shows it."""

    number: int
    row: Row
    choices: Sequence[tuple[str, str]]
    fields: Sequence[Field]
    offer: Offer | None = None
    claims: Offer | None = None


def fields_of(number: int, row: Row) -> list[Field]:
    """A field per value, and an empty one for the next."""
    prefix = f"rule-{number}-value"
    values = row.values
    fields = []
    for place, value in enumerate([*values, ""]):
        shown = country_name(value) if row.selector == "geo" and country_code(value) == value else value
        fields.append(
            Field(
                id=f"{prefix}-{place}" if place else prefix,
                value=value,
                shown=shown,
                label=f"Rule {number + 1}, entry {place + 1}",
                remove=f"remove-row-{number}-value-{place}" if value and len(values) > 1 else "",
            )
        )
    return fields
