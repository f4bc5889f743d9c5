"""A whole policy or group in one sentence, for the person writing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from access.country_names import country_name
from access.rule_reading import read_rule
from access.rule_text import GONE, RuleNames
from access.selectors import EXTERNAL, GITHUB, GROUP, LIST_TYPES, Rule, RuleError

# Values of one kind that are named; the others are counted.
MAX_NAMED = 5
_UNREADABLE = Rule("unreadable", problem="unreadable")
_PHRASES = {
    "email": "has the e-mail {}",
    "email_domain": "has an e-mail ending in {}",
    "email_list": "is in the e-mail list {}",
    "everyone": "is anybody at all",
    "ip": "comes from {}",
    "ip_list": "comes from an address in the list {}",
    "geo": "comes from {}",
    GROUP: "belongs to the group {}",
    "okta": "is in the group {} of {provider}",
    "azureAD": "is in the group {} of {provider}",
    "gsuite": "is in the group {} of {provider}",
    GITHUB: "is in the organization {} at {provider}",
    "saml": "has the attribute {claim} = {} from {provider}",
    "oidc": "has the claim {claim} = {} from {provider}",
    "login_method": "logs in with {}",
    "auth_method": "logged in using {}",
    "service_token": "shows the service token {}",
    "any_valid_service_token": "shows any valid service token",
    "certificate": "shows a valid client certificate",
    "common_name": "shows a client certificate for {}",
    "linked_app_token": "shows a token of the application {}",
    EXTERNAL: "is confirmed by {}",
    "unreadable": "meets a rule that cannot be read (which refuses everybody)",
}
# Decision ("" for a group) -> the sentence about some, and about everyone.
_LEADS = {
    "allow": ("Lets in whoever {}", "Lets in everybody who can log in"),
    "deny": ("Refuses whoever {}", "Refuses everybody who logs in"),
    "bypass": ("Lets in without login or any check every request that {}", "Lets in everything, without any check"),
    "non_identity": ("Lets in every machine that {}", "Lets in every machine with a valid service token"),
    "": ("Holds for whoever {}", "Holds for everybody"),
}


def sentence(
    names: RuleNames,
    rules: Mapping[str, Sequence[Any]],
    *,
    decision: str = "",
    needs_purpose: bool = False,
    needs_approval: bool = False,
    needs_factor: bool = False,
) -> str:
    """What the rules say, with names instead of ids."""
    include, require, exclude = (_read(rules.get(name, ())) for name in ("include", "require", "exclude"))
    if not include:
        return "Matches nobody yet: there is no Include rule."
    some, everybody = _LEADS.get(decision, _LEADS[""])
    is_open = all(rule.selector == "everyone" for rule in include)
    text = everybody if is_open else some.format(_phrases(names, include, "or"))
    if require:
        text += f", if at the same time the {'machine' if decision == 'non_identity' else 'person'} "
        text += _phrases(names, require, "and")
    if exclude:
        text += f"; but nobody who {_phrases(names, exclude, 'or')}"
    wishes = ["gives a second factor"] if needs_factor else []
    wishes += ["says what access is for"] if needs_purpose else []
    wishes += ["has it approved for a limited time"] if needs_approval else []
    if wishes and decision == "allow":
        text += f". Everyone first {_listed(wishes, 'and')}"
    return f"{text}."


def _read(items: Sequence[Any]) -> list[Rule]:
    found = []
    for item in items:
        try:
            found.append(read_rule(item))
        except RuleError:
            found.append(_UNREADABLE)
    return found


def _phrases(names: RuleNames, rules: Sequence[Rule], word: str) -> str:
    kinds = sorted(rules, key=lambda rule: rules.index(_first_like(rules, rule)))
    grouped = [list(group) for _, group in groupby(kinds, key=_kind)]
    return f", {word} ".join(_phrase(names, group, word) for group in grouped)


def _first_like(rules: Sequence[Rule], rule: Rule) -> Rule:
    return next(other for other in rules if _kind(other) == _kind(rule))


def _kind(rule: Rule) -> tuple[str, str, str]:
    return rule.selector, rule.provider_id, rule.claim


def _phrase(names: RuleNames, rules: Sequence[Rule], word: str) -> str:
    values = list(dict.fromkeys(_value(names, rule) for rule in rules))
    if len(values) > MAX_NAMED:
        values = [*values[: MAX_NAMED - 1], f"{len(values) - MAX_NAMED + 1} more"]
    listed = _listed(values, word)
    provider = names.providers.get(rules[0].provider_id)
    shown = provider.name if provider is not None else GONE
    return _PHRASES[rules[0].selector].format(listed, provider=shown, claim=rules[0].claim)


def _listed(texts: Sequence[str], word: str) -> str:
    """a, b or c."""
    return f" {word} ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def _value(names: RuleNames, rule: Rule) -> str:
    value = rule.value
    if rule.selector == "geo":
        return country_name(value)
    if rule.selector == "email_domain":
        return f"@{value}"
    if rule.selector == GITHUB and rule.detail:
        return f"{value} (team {rule.detail})"
    if rule.selector in LIST_TYPES:
        return names.lists[rule.selector].get(value, GONE)
    if rule.selector == "login_method":
        provider = names.providers.get(value)
        return provider.name if provider is not None else GONE
    known = {GROUP: "groups", "service_token": "tokens", "linked_app_token": "applications"}.get(rule.selector)
    return value if known is None else getattr(names, known).get(value, GONE)
