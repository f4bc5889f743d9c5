"""The rule builder: rows of a form, each a list (include, require, exclude), a selector and its values.

It works without JavaScript: "Add row", "Remove" and a changed selector are form submits (`step`) that show the form
again. A row may hold several values; each becomes one rule of the public JSON shape (product.md 1.5). Whether a rule
is acceptable is decided by access.rules when the action runs; here values are only brought into shape.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from access.country_names import COUNTRIES, country_code
from access.lint import Finding
from access.rule_reading import read_rule
from access.rule_text import RuleNames
from access.selectors import EXTERNAL, GITHUB, GROUP, LIST_TYPES, Rule, RuleError
from accounts.models import IdentityProvider, Organization

MAX_ROWS = 200
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
_NO_VALUE = frozenset({"everyone", "any_valid_service_token", "certificate"})
_ONE_CHOICE = frozenset({GROUP, "login_method", "service_token", "linked_app_token", *LIST_TYPES})
_WITH_PROVIDER = frozenset({"okta", "azureAD", GITHUB, "gsuite", "saml", "oidc"})
# The field beside the value, and its label.
_SECOND_FIELD = {"oidc": "Claim", "saml": "Attribute", GITHUB: "Team (optional)", EXTERNAL: "Keys URL"}
_SECOND_IS_CLAIM = frozenset({"oidc", "saml"})
# Bodies of selectors with one plain value: the key it goes under.
_PLAIN_KEYS = {"email": "email", "ip": "ip", "auth_method": "auth_method", "common_name": "common_name"}
_PROVIDER_KEYS = {"okta": "name", "azureAD": "id", GITHUB: "name", "gsuite": "email"}
_CHOICE_KEYS = {"service_token": "token_id", "linked_app_token": "app_uid"}
_HELP = {
    "email": "Several: one per line or with commas.",
    "email_domain": "Without @, for example widgetcorp.tech",
    "ip": "For example 192.0.2.0/24 or 2001:db8::/32",
    "geo": "Names or codes, several with commas. Any one of them counts under Include.",
    "okta": "Names exactly as the login method sends them, one per line.",
    "azureAD": "Object ids of the groups, one per line.",
    GITHUB: "Names of organizations, one per line. With a team: only its members.",
    "gsuite": "E-mail addresses of the groups, one per line.",
    "saml": "The attribute must hold this value; several: one per line.",
    "oidc": "The claim must hold this value; several: one per line.",
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
        return self.selector not in _NO_VALUE and self.selector != KEPT

    @property
    def needs_provider(self) -> bool:
        return self.selector in _WITH_PROVIDER

    @property
    def is_choice(self) -> bool:
        return self.selector in _ONE_CHOICE

    @property
    def second_label(self) -> str:
        return _SECOND_FIELD.get(self.selector, "")

    @property
    def help(self) -> str:
        return _HELP.get(self.selector, "")


class RuleBuilder:
    """The rows, and what their drop-downs offer."""

    lists = LISTS
    selectors = SELECTOR_CHOICES
    countries = sorted(COUNTRIES.items(), key=lambda item: item[1])

    def __init__(self, organization: Organization, rows: list[Row]) -> None:
        self.names = RuleNames(organization)
        self.rows = rows
        self.error = ""
        # What access.lint says about the rows, for the page.
        self.findings: list[Finding] = []

    @classmethod
    def blank(cls, organization: Organization) -> RuleBuilder:
        return cls(organization, [Row()])

    @classmethod
    def stored(cls, organization: Organization, holder: Mapping[str, Sequence[Any]]) -> RuleBuilder:
        """From rule lists as they are stored; neighbours with the same selector share a row."""
        rows: list[Row] = []
        for name, _ in LISTS:
            for item in holder.get(name) or ():
                _append(rows, _row(name, item))
        return cls(organization, rows or [Row()])

    @classmethod
    def sent(cls, organization: Organization, data: Mapping[str, str]) -> RuleBuilder:
        """From a submitted form. Unknown lists and selectors become the first choice; nothing else is judged here."""
        numbers = sorted(
            int(part) for key in data if (part := key.removeprefix("rule-").removesuffix("-list")).isdigit()
        )
        rows = [_sent_row(data, f"rule-{number}-") for number in numbers[:MAX_ROWS]]
        return cls(organization, rows or [Row()])

    def take_step(self, step: str) -> bool:
        """Do what an "Add row", "Remove" or "Update" button asks. False: the form wants to be saved."""
        if step == "add-row":
            if len(self.rows) < MAX_ROWS:
                self.rows.append(Row(list=self.rows[-1].list if self.rows else "include"))
            return True
        number = step.removeprefix("remove-row-")
        if number != step and number.isdigit() and int(number) < len(self.rows):
            del self.rows[int(number)]
            self.rows = self.rows or [Row()]
            return True
        return step == "refresh"

    def read(self) -> dict[str, list[Any]] | None:
        """The three rule lists, or None when a row cannot be read; its `error` then says why."""
        found: dict[str, list[Any]] = {name: [] for name, _ in LISTS}
        for row in self.rows:
            try:
                found[row.list] += self._rules(row)
            except RowError as error:
                row.error = str(error)
        return None if any(row.error for row in self.rows) else found

    def readable(self) -> dict[str, list[Any]]:
        """The rules of the rows that can be read so far; rows are not marked."""
        found: dict[str, list[Any]] = {name: [] for name, _ in LISTS}
        for row in self.rows:
            with suppress(RowError):
                found[row.list] += self._rules(row)
        return found

    # --- what drop-downs offer -------------------------------------------------------------------------------
    def group_choices(self) -> list[tuple[str, str]]:
        return list(self.names.groups.items())

    def token_choices(self) -> list[tuple[str, str]]:
        return list(self.names.tokens.items())

    def provider_choices(self) -> list[tuple[str, str]]:
        return [(key, provider.name) for key, provider in self.names.providers.items()]

    def claim_provider_choices(self) -> list[tuple[str, str]]:
        pin = IdentityProvider.Type.ONE_TIME_PIN
        return [(key, provider.name) for key, provider in self.names.providers.items() if provider.type != pin]

    def numbered(self) -> list[tuple[int, Row, list[tuple[str, str]]]]:
        """Rows with their number and the choices of their value."""
        return [(number, row, self._offered(row.selector)) for number, row in enumerate(self.rows)]

    def _offered(self, selector: str) -> list[tuple[str, str]]:
        if selector in LIST_TYPES:
            return list(self.names.lists[selector].items())
        if selector == "linked_app_token":
            return list(self.names.applications.items())
        offered = {
            GROUP: self.group_choices,
            "login_method": self.provider_choices,
            "service_token": self.token_choices,
        }
        return offered[selector]() if selector in offered else []

    # --- rows to rules ---------------------------------------------------------------------------------------
    def _rules(self, row: Row) -> list[dict[str, Any]]:
        if row.selector == KEPT:
            return [_kept_rule(row)]
        if row.selector in _NO_VALUE:
            return [{row.selector: {}}]
        values = _values(row)
        if not values:
            raise RowError("Choose one." if row.is_choice else "Fill in a value, or remove the row.")
        if row.selector == EXTERNAL:
            return [_external_rule(row, value) for value in values]
        if row.needs_provider:
            return [self._provider_rule(row, value) for value in values]
        return [self._rule(row.selector, value) for value in values]

    def _rule(self, selector: str, value: str) -> dict[str, Any]:
        if selector in _PLAIN_KEYS:
            return {selector: {_PLAIN_KEYS[selector]: value}}
        if selector == "email_domain":
            return {"email_domain": {"domain": value.removeprefix("*").removeprefix("@")}}
        if selector == "geo":
            code = country_code(value)
            if code is None:
                raise RowError(f"{value[:60]} is no country: write its English name or two-letter code.")
            return {"geo": {"country_code": code}}
        known, what = self._known(selector)
        return {selector: {_CHOICE_KEYS.get(selector, "id"): _by_id_or_name(value, known, what)}}

    def _known(self, selector: str) -> tuple[Mapping[str, str], str]:
        """What a drop-down may name, and how that is called."""
        if selector in LIST_TYPES:
            return self.names.lists[selector], "list of this kind"
        if selector == GROUP:
            return self.names.groups, "group"
        if selector == "service_token":
            return self.names.tokens, "service token"
        if selector == "linked_app_token":
            return self.names.applications, "application"
        return {key: provider.name for key, provider in self.names.providers.items()}, "login method"

    def _provider_rule(self, row: Row, value: str) -> dict[str, Any]:
        choices = self.claim_provider_choices()
        provider = row.provider or (choices[0][0] if len(choices) == 1 else "")
        if not choices:
            raise RowError("There is no login method with groups yet. Add one under Settings, Login methods.")
        if provider not in dict(choices):
            raise RowError("Choose the login method that the group or claim comes from.")
        row.provider = provider
        body = {"identity_provider_id": provider}
        if row.selector in _SECOND_IS_CLAIM:
            claim, wanted = (row.claim.strip(), value) if row.claim.strip() else _split_claim(value)
            keys = ("claim_name", "claim_value") if row.selector == "oidc" else ("attribute_name", "attribute_value")
            return {row.selector: {keys[0]: claim, keys[1]: wanted, **body}}
        if row.selector == GITHUB and row.claim.strip():
            body = {"team": row.claim.strip(), **body}
        return {row.selector: {_PROVIDER_KEYS[row.selector]: value, **body}}


class RowError(Exception):
    """A row that cannot be read; the message is for the person filling it in."""


def _append(rows: list[Row], row: Row) -> None:
    last = rows[-1] if rows else None
    shared = last is not None and (last.list, last.selector, last.provider, last.claim) == (
        row.list,
        row.selector,
        row.provider,
        row.claim,
    )
    if last is None or not shared or row.is_choice or not row.needs_value:
        rows.append(row)
    else:
        last.value = f"{last.value}\n{row.value}"


def _row(name: str, item: Any) -> Row:
    try:
        rule: Rule = read_rule(item)
    except RuleError:
        return Row(list=name, selector=KEPT, value=json.dumps(item, ensure_ascii=False))
    second = rule.claim or rule.detail
    return Row(list=name, selector=rule.selector, value=rule.value, provider=rule.provider_id, claim=second)


def _sent_row(data: Mapping[str, str], prefix: str) -> Row:
    chosen_list = data.get(f"{prefix}list", "")
    selector = data.get(f"{prefix}selector", "")
    return Row(
        list=chosen_list if chosen_list in dict(LISTS) else "include",
        selector=selector if selector in dict(SELECTOR_CHOICES) or selector == KEPT else "email",
        value=data.get(f"{prefix}value", "").replace("\r\n", "\n")[:60_000],
        provider=data.get(f"{prefix}provider", ""),
        claim=data.get(f"{prefix}claim", "")[:500],
    )


def _values(row: Row) -> list[str]:
    """Values of a row. Group and claim values may hold commas, so those are one per line."""
    by_line = row.needs_provider or row.is_choice or row.selector in {EXTERNAL, "common_name"}
    parts = row.value.splitlines() if by_line else row.value.replace(",", "\n").replace(";", "\n").splitlines()
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _external_rule(row: Row, value: str) -> dict[str, Any]:
    keys_url = row.claim.strip()
    if not keys_url:
        raise RowError("Give the URL of the keys that your service signs its answers with.")
    return {EXTERNAL: {"evaluate_url": value, "keys_url": keys_url}}


def _kept_rule(row: Row) -> dict[str, Any]:
    try:
        item = json.loads(row.value)
    except ValueError as error:
        raise RowError("This rule cannot be read any more. Remove it.") from error
    if not isinstance(item, dict):
        raise RowError("This rule cannot be read any more. Remove it.")
    return item


def _by_id_or_name(value: str, known: Mapping[str, str], what: str) -> str:
    """The id itself, or the id of the one thing of that name (typed while the drop-down was not there yet)."""
    if value in known:
        return value
    named = [key for key, name in known.items() if name == value]
    if len(named) != 1:
        raise RowError(f"Choose a {what} from the list." if known else f"There is no {what} yet.")
    return named[0]


def _split_claim(value: str) -> tuple[str, str]:
    claim, equals, wanted = value.partition("=")
    if not equals or not claim.strip() or not wanted.strip():
        raise RowError("Name the claim, and the value it must have.")
    return claim.strip(), wanted.strip()
