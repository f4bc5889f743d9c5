"""The rule builder: rows of a form, each a list (include, require, exclude), a selector and its values.

It works without JavaScript: "Add row", "Remove" and a changed selector are form submits (`step`) that show the form
again. A row may hold several values, each in a field of its own; each becomes one rule of the public JSON shape
(product.md 1.5). Whether a rule is acceptable is decided by access.rules when the action runs; here values are only
brought into shape.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from django.http import QueryDict

from access.country_names import COUNTRIES, country_code
from access.known_values import CLAIM, KIND_OF, Wanted, known_values
from access.lint import Finding
from access.rule_reading import read_rule
from access.rule_rows import (
    CHOICE_KEYS,
    KEPT,
    LISTS,
    MAX_VALUES,
    NO_VALUE,
    PLAIN_KEYS,
    PROVIDER_KEYS,
    SECOND_IS_CLAIM,
    SELECTOR_CHOICES,
    WITHOUT_SPACES,
    Offer,
    Row,
    RowView,
    fields_of,
)
from access.rule_text import RuleNames
from access.selectors import EXTERNAL, GITHUB, GROUP, LIST_TYPES, Rule, RuleError
from accounts.form_rows import MAX_ROWS, FormRows, row_prefixes
from accounts.models import IdentityProvider, Organization


class RuleBuilder(FormRows[Row]):
    """The rows, and what their drop-downs offer."""

    lists = LISTS
    selectors = SELECTOR_CHOICES
    countries = sorted(COUNTRIES.items(), key=lambda item: item[1])

    def __init__(self, organization: Organization, rows: list[Row]) -> None:
        super().__init__(rows)
        self.names = RuleNames(organization)
        self.organization = organization
        self.error = ""
        # The whole policy in words.
        self.sentence = ""
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
    def sent(cls, organization: Organization, data: QueryDict) -> RuleBuilder:
        """From a submitted form. Unknown lists and selectors become the first choice; nothing else is judged here."""
        rows = [_sent_row(data, prefix) for prefix in row_prefixes(data, "rule-", "-list")]
        for row in rows:
            if row.selector != KEPT:
                row.value = "\n".join(_values(row))
        return cls(organization, rows or [Row()])

    def new_row(self) -> Row:
        return Row(list=self.rows[-1].list if self.rows else "include")

    def take_step(self, step: str) -> bool:
        return super().take_step(step) or step == "refresh"

    def remove(self, number: int = MAX_ROWS, place: int | None = None) -> None:
        super().remove(number, place)
        self.rows = self.rows or [Row()]
        if place is not None and number < len(self.rows):
            row = self.rows[number]
            row.value = "\n".join(value for at, value in enumerate(row.values) if at != place)

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

    def shown(self) -> dict[str, Any]:
        """The rows as the page shows them, and the values offered to them. To be asked once per page."""
        offers: dict[Wanted, Offer] = {}
        views = [self._view(number, row, offers) for number, row in enumerate(self.rows)]
        return {
            "rows": views,
            "offers": list(offers.values()),
            "has_countries": any(row.selector == "geo" for row in self.rows),
        }

    def _view(self, number: int, row: Row, offers: dict[Wanted, Offer]) -> RowView:
        provider = (row.provider or self._only_provider()) if row.needs_provider else ""
        offer = claims = None
        if row.selector in KIND_OF and not row.is_long:
            claim = row.claim if row.selector in SECOND_IS_CLAIM else ""
            offer = self._offer(offers, Wanted(KIND_OF[row.selector], provider, claim))
        if row.selector in SECOND_IS_CLAIM:
            claims = self._offer(offers, Wanted(CLAIM, provider))
        choices = self._offered(row.selector)
        if row.is_choice:
            # Values of the selector that was chosen before are no choices of this one.
            ids = {**{text: key for key, text in choices}, **{key: key for key, _ in choices}}
            row.value = "\n".join(dict.fromkeys(ids[value] for value in row.values if value in ids))
        return RowView(number, row, choices, fields_of(number, row), offer, claims)

    def _only_provider(self) -> str:
        choices = self.claim_provider_choices()
        return choices[0][0] if len(choices) == 1 else ""

    def _offer(self, offers: dict[Wanted, Offer], wanted: Wanted) -> Offer:
        if wanted not in offers:
            offers[wanted] = Offer(f"known-{len(offers)}", wanted, known_values(self.organization, wanted))
        return offers[wanted]

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
        if row.selector in NO_VALUE:
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
        if selector in PLAIN_KEYS:
            return {selector: {PLAIN_KEYS[selector]: value}}
        if selector == "email_domain":
            return {"email_domain": {"domain": value.removeprefix("*").removeprefix("@")}}
        if selector == "geo":
            code = country_code(value)
            if code is None:
                raise RowError(f"{value[:60]} is no country: write its English name or two-letter code.")
            return {"geo": {"country_code": code}}
        known, what = self._known(selector)
        return {selector: {CHOICE_KEYS.get(selector, "id"): _by_id_or_name(value, known, what)}}

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
        if row.selector in SECOND_IS_CLAIM:
            claim, wanted = (row.claim.strip(), value) if row.claim.strip() else _split_claim(value)
            keys = ("claim_name", "claim_value") if row.selector == "oidc" else ("attribute_name", "attribute_value")
            return {row.selector: {keys[0]: claim, keys[1]: wanted, **body}}
        if row.selector == GITHUB and row.claim.strip():
            body = {"team": row.claim.strip(), **body}
        return {row.selector: {PROVIDER_KEYS[row.selector]: value, **body}}


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
    if last is None or not shared or not row.needs_value:
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


def _sent_row(data: QueryDict, prefix: str) -> Row:
    chosen_list = data.get(f"{prefix}list", "")
    selector = data.get(f"{prefix}selector", "")
    return Row(
        list=chosen_list if chosen_list in dict(LISTS) else "include",
        selector=selector if selector in dict(SELECTOR_CHOICES) or selector == KEPT else "email",
        value="\n".join(data.getlist(f"{prefix}value")).replace("\r\n", "\n")[:60_000],
        provider=str(data.get(f"{prefix}provider", "")),
        claim=str(data.get(f"{prefix}claim", ""))[:500],
    )


def _values(row: Row) -> list[str]:
    """Values of a row. Names of groups, claims and countries may hold commas or spaces; addresses never do."""
    by_line = row.needs_provider or row.is_choice or row.selector in {EXTERNAL, "common_name"}
    text = row.value if by_line else row.value.replace(",", "\n").replace(";", "\n")
    parts = text.split() if row.selector in WITHOUT_SPACES else text.splitlines()
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))[:MAX_VALUES]


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
