"""Rules as people read them: names instead of ids, one line per list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from access.country_names import country_name
from access.models import AccessList, Application, Group, ServiceToken
from access.rule_reading import read_rule
from access.selectors import EXTERNAL, GITHUB, GROUP, LIST_TYPES, SELECTORS, Rule, RuleError
from accounts.models import IdentityProvider, Organization

_LEADS = (("include", "Include"), ("require", "Require"), ("exclude", "Exclude"))
_PLAIN = {
    "everyone": "everyone",
    "any_valid_service_token": "any valid service token",
    "certificate": "any valid client certificate",
}
_PROVIDER_WORDS = {"oidc": "claim", "saml": "attribute", GITHUB: "organization"}
GONE = "(deleted)"


@dataclass(frozen=True)
class RuleLine:
    """One list of a policy or group, for people."""

    lead: str
    rules: list[str]


class RuleNames:
    """The names that rules of one organization may refer to; each kind is loaded once, when first needed."""

    def __init__(self, organization: Organization) -> None:
        self.organization = organization

    @cached_property
    def groups(self) -> dict[str, str]:
        rows = Group.objects.for_organization(self.organization).order_by("name").values_list("id", "name")
        return {str(pk): name for pk, name in rows}

    @cached_property
    def providers(self) -> dict[str, IdentityProvider]:
        rows = IdentityProvider.objects.for_organization(self.organization)
        return {str(provider.pk): provider for provider in rows}

    @cached_property
    def tokens(self) -> dict[str, str]:
        rows = ServiceToken.objects.for_organization(self.organization).order_by("name").values_list("id", "name")
        return {str(pk): name for pk, name in rows}

    @cached_property
    def applications(self) -> dict[str, str]:
        rows = Application.objects.for_organization(self.organization).order_by("name").values_list("id", "name")
        return {str(pk): name for pk, name in rows}

    @cached_property
    def lists(self) -> dict[str, dict[str, str]]:
        """By selector: the lists it may name."""
        rows = list(AccessList.objects.for_organization(self.organization).values_list("type", "id", "name"))
        return {
            selector: {str(pk): name for kind, pk, name in rows if kind == wanted}
            for selector, wanted in LIST_TYPES.items()
        }

    def lines(self, include: Sequence[Any], require: Sequence[Any], exclude: Sequence[Any]) -> list[RuleLine]:
        lists = (include, require, exclude)
        return [
            RuleLine(label, [self.text(item) for item in items])
            for (_, label), items in zip(_LEADS, lists, strict=True)
            if items
        ]

    def text(self, item: Any) -> str:
        try:
            rule = read_rule(item)
        except RuleError as error:
            return f"unreadable rule: {error}"
        return self._text(rule)

    def _text(self, rule: Rule) -> str:
        if rule.selector in _PLAIN:
            return _PLAIN[rule.selector]
        if rule.selector == "geo":
            return f"country {country_name(rule.value)}"
        if rule.selector == "email_domain":
            return f"e-mail ending in @{rule.value}"
        if rule.selector == GROUP:
            return f"group {self.groups.get(rule.value, GONE)}"
        if rule.selector == "login_method":
            return f"login method {self._provider(rule.value)}"
        if rule.selector == "service_token":
            return f"service token {self.tokens.get(rule.value, GONE)}"
        if rule.selector in LIST_TYPES:
            kind = "e-mail" if rule.selector == "email_list" else "address"
            return f"{kind} in list {self.lists[rule.selector].get(rule.value, GONE)}"
        if rule.selector == "linked_app_token":
            return f"token of application {self.applications.get(rule.value, GONE)}"
        if rule.provider_id:
            return f"{self._provider(rule.provider_id)} {_PROVIDER_WORDS.get(rule.selector, 'group')} {rule.wanted()}"
        return {
            "email": f"e-mail {rule.value}",
            "ip": f"address in {rule.value}",
            "auth_method": f"authentication method {rule.value}",
            "common_name": f"client certificate of {rule.value}",
            EXTERNAL: f"external evaluation by {rule.value}",
        }.get(rule.selector, f"{SELECTORS[rule.selector].label}: {rule.wanted()}")

    def _provider(self, provider_id: str) -> str:
        provider = self.providers.get(provider_id)
        return provider.name if provider else GONE
