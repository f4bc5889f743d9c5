"""Rules as people send them: checked when they are saved, so that evaluation meets only rules it can answer.

Lists are stored exactly as they came (Terraform compares them with what it sent). References must be this
organization's own: another tenant's group, login method or service token looks like a missing one.
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from access.evaluation import MAX_GROUP_DEPTH
from access.models import AccessList, Application, Group, Policy, ServiceToken
from access.rule_reading import read_rule
from access.selectors import EXTERNAL, GROUP, LIST_TYPES, SELECTORS, Rule, RuleError
from accounts import fetch
from accounts.errors import InvalidInput
from accounts.models import IdentityProvider, Organization

MAX_RULES_PER_LIST = 1000
MAX_NAME = 350
_LONGEST_VALUE = 500
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)
_AUTH_METHOD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}")
_COUNTRY = re.compile(r"[A-Za-z]{2}")

RuleLists = tuple[list[Any], list[Any], list[Any]]
_LISTS = ("include", "require", "exclude")


def check_rules(
    organization: Organization,
    include: Any,
    require: Any,
    exclude: Any,
    *,
    decision: str | None = None,
    group: Group | None = None,
) -> RuleLists:
    """The three lists, checked. `decision`: of the policy they are for, None for a group; `group`: the one changed.

    Raises InvalidInput whose message names list, position and fault, with the list's name in `fields`.
    """
    parsed = [_parse_list(name, items) for name, items in zip(_LISTS, (include, require, exclude), strict=True)]
    if not parsed[0]:
        raise _invalid("include", "At least one Include rule is required: an empty list would match nobody.")
    rules = [rule for listed in parsed for rule in listed]
    _check_references(organization, rules)
    groups = _groups_of(organization)
    _check_nesting(groups, rules, group, is_group=decision is None)
    if decision in {Policy.Decision.BYPASS, Policy.Decision.NON_IDENTITY}:
        _refuse_identity_rules(rules, groups, decision)
    if group is not None:
        _check_users_of(organization, group, rules, groups)
    return list(include), list(require or []), list(exclude or [])


def group_ids(*lists: Sequence[Any]) -> set[str]:
    """Ids of the groups that stored rule lists name directly."""
    return named_ids(lists, GROUP)


def named_ids(lists: Sequence[Sequence[Any]], *selectors: str, key: str = "id") -> set[str]:
    """Ids that stored rules with one of these selectors name directly."""
    items = [item for listed in lists for item in listed if isinstance(item, dict)]
    bodies = (item.get(selector) for item in items for selector in selectors)
    return {str(body.get(key)) for body in bodies if isinstance(body, dict)}


# --- one list -------------------------------------------------------------------------------------------------
def _parse_list(name: str, items: Any) -> list[Rule]:
    if items is None and name != "include":
        return []
    if not isinstance(items, list | tuple):
        raise _invalid(name, f"{name} must be a list of rules.")
    if len(items) > MAX_RULES_PER_LIST:
        raise _invalid(name, f"{name} holds {len(items)} rules; the limit is {MAX_RULES_PER_LIST}. Use groups.")
    return [_parse_rule(name, position, item) for position, item in enumerate(items, start=1)]


def _parse_rule(name: str, position: int, item: Any) -> Rule:
    try:
        rule = read_rule(item)
        for text in (rule.value, rule.claim, rule.detail, rule.provider_id):
            if len(text) > _LONGEST_VALUE:
                raise RuleError(f'a value of "{rule.selector}" is longer than {_LONGEST_VALUE} characters')
            if text != text.strip() or any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
                raise RuleError(f'a value of "{rule.selector}" has surrounding spaces or control characters')
        check = _VALUE_CHECKS.get(rule.selector)
        if check is not None:
            check(rule)
    except RuleError as error:
        raise _invalid(name, f"{name} rule {position}: {error}.") from error
    return rule


def _check_email(rule: Rule) -> None:
    if not _EMAIL.fullmatch(rule.value):
        raise RuleError(f'{rule.value!r} is not one e-mail address; for a whole domain use "email_domain"')


def _check_domain(rule: Rule) -> None:
    if not _DOMAIN.fullmatch(rule.value):
        raise RuleError(f'{rule.value!r} is not a domain such as "example.com" (without "@")')


def _check_network(rule: Rule) -> None:
    try:
        ipaddress.ip_network(rule.value)
    except ValueError as error:
        raise RuleError(f"{rule.value!r} is not an IP range such as 192.0.2.0/24 ({error})") from error


def _check_country(rule: Rule) -> None:
    if not _COUNTRY.fullmatch(rule.value):
        raise RuleError(f'"geo" needs a two-letter country code such as "PT", not {rule.value!r}')


def _check_auth_method(rule: Rule) -> None:
    if not _AUTH_METHOD.fullmatch(rule.value):
        raise RuleError(f'"auth_method" needs a value of RFC 8176 such as "mfa", "otp" or "hwk", not {rule.value!r}')


def _check_external(rule: Rule) -> None:
    for url in (rule.value, rule.detail):
        try:
            fetch.check_url(url)
        except fetch.FetchError as error:
            raise RuleError(f'"{EXTERNAL}" cannot use {url[:80]!r}: {error}') from error


def _check_github(rule: Rule) -> None:
    _check_uuid(rule)
    if "/" in rule.value or "/" in rule.detail:
        raise RuleError(f'"{rule.selector}" takes an organization and a team by name, without "/"')


def _check_uuid(rule: Rule) -> None:
    for text in filter(None, (rule.provider_id, "" if rule.provider_id else rule.value)):
        try:
            canonical = str(uuid.UUID(text)) == text
        except ValueError:
            canonical = False
        if not canonical:
            raise RuleError(f'"{rule.selector}" needs an id such as 6f8a1b54-0c3e-4b8f-9d0e-1f2a3b4c5d6e, not {text!r}')


_VALUE_CHECKS: Mapping[str, Callable[[Rule], None]] = {
    "email": _check_email,
    "email_domain": _check_domain,
    "ip": _check_network,
    "geo": _check_country,
    GROUP: _check_uuid,
    "okta": _check_uuid,
    "oidc": _check_uuid,
    "login_method": _check_uuid,
    "service_token": _check_uuid,
    "email_list": _check_uuid,
    "ip_list": _check_uuid,
    "azureAD": _check_uuid,
    "github-organization": _check_github,
    "gsuite": _check_uuid,
    "saml": _check_uuid,
    "auth_method": _check_auth_method,
    "linked_app_token": _check_uuid,
    EXTERNAL: _check_external,
}


# --- references -----------------------------------------------------------------------------------------------
def _check_references(organization: Organization, rules: Sequence[Rule]) -> None:
    """Groups are checked by _check_nesting, which loads them anyway."""
    providers = {rule.provider_id for rule in rules if rule.provider_id}
    providers |= {rule.value for rule in rules if rule.selector == "login_method"}
    tokens = {rule.value for rule in rules if rule.selector == "service_token"}
    if providers:
        known = IdentityProvider.objects.for_organization(organization).filter(id__in=providers)
        _require_known(providers, (str(pk) for pk in known.values_list("id", flat=True)), "login method")
    if tokens:
        active = ServiceToken.objects.for_organization(organization).filter(id__in=tokens)
        _require_known(tokens, (str(pk) for pk in active.values_list("id", flat=True)), "service token")
    linked = {rule.value for rule in rules if rule.selector == "linked_app_token"}
    if linked:
        applications = Application.objects.for_organization(organization).filter(id__in=linked)
        _require_known(linked, (str(pk) for pk in applications.values_list("id", flat=True)), "application")
    for selector, kind in LIST_TYPES.items():
        lists = {rule.value for rule in rules if rule.selector == selector}
        if lists:
            own = AccessList.objects.for_organization(organization).filter(id__in=lists, type=kind)
            what = SELECTORS[selector].label[0].lower() + SELECTORS[selector].label[1:]
            _require_known(lists, (str(pk) for pk in own.values_list("id", flat=True)), what)


def _require_known(wanted: set[str], known: Iterator[str], what: str, *, code: str = "reference_not_found") -> None:
    missing = sorted(wanted - set(known))
    if missing:
        raise InvalidInput(f"There is no {what} {missing[0]} in this organization.", code=code)


def _groups_of(organization: Organization) -> dict[str, list[Rule]]:
    rows = Group.objects.for_organization(organization).values_list("id", "include", "require", "exclude")
    return {str(pk): list(_readable(*lists)) for pk, *lists in rows}


def _readable(*lists: Sequence[Any]) -> Iterator[Rule]:
    for item in (item for listed in lists for item in listed):
        try:
            yield read_rule(item)
        except RuleError:  # written by another version: refused when evaluated, no reason to refuse this change
            continue


def _check_nesting(
    groups: Mapping[str, list[Rule]], rules: Sequence[Rule], group: Group | None, *, is_group: bool
) -> None:
    """Rules of a new group count as one level; a changed group may lengthen chains anywhere, so all are walked."""
    after = dict(groups)
    if group is not None:
        after[str(group.pk)] = list(rules)
    named = {rule.value for rule in rules if rule.selector == GROUP}
    _require_known(named, iter(after), "access group", code="group_not_found")
    heights: dict[str, int] = {}
    above = ("the new group",) if is_group and group is None else ()
    for root in after if group is not None else named:
        _height(after, root, above, heights)


def _height(groups: Mapping[str, list[Rule]], group_id: str, path: tuple[str, ...], heights: dict[str, int]) -> int:
    """Length of the longest chain of groups from `group_id`; remembered, so that a dense web stays cheap."""
    if group_id in path:
        raise InvalidInput("Access groups would contain each other in a loop.", code="group_loop")
    if group_id not in heights and len(path) < MAX_GROUP_DEPTH:
        inner = {rule.value for rule in groups.get(group_id, []) if rule.selector == GROUP}
        heights[group_id] = 1 + max((_height(groups, child, (*path, group_id), heights) for child in inner), default=0)
    if len(path) + heights.get(group_id, 1) > MAX_GROUP_DEPTH:
        raise InvalidInput(f"Access groups may be nested {MAX_GROUP_DEPTH} deep at most.", code="group_too_deep")
    return heights[group_id]


def _refuse_identity_rules(rules: Sequence[Rule], groups: Mapping[str, list[Rule]], decision: str) -> None:
    found = _identity_selector(rules, groups)
    if found:
        label = Policy.Decision(decision).label
        raise InvalidInput(
            f'A {label} policy decides before anyone logs in, so it cannot use "{found}" (directly or in a group).',
            code="identity_rule_not_possible",
        )


def _identity_selector(rules: Sequence[Rule], groups: Mapping[str, list[Rule]]) -> str:
    """The first identity selector among the rules and the groups inside them, or ""."""
    seen: set[str] = set()
    open_rules = list(rules)
    while open_rules:
        rule = open_rules.pop()
        if rule.selector != GROUP and SELECTORS[rule.selector].needs_person:
            return rule.selector
        if rule.selector == GROUP and rule.value not in seen:
            seen.add(rule.value)
            open_rules += groups.get(rule.value, [])
    return ""


def _check_users_of(
    organization: Organization, group: Group, rules: Sequence[Rule], groups: Mapping[str, list[Rule]]
) -> None:
    """A group that bypass or service-auth policies use must stay free of identity selectors."""
    after = {**groups, str(group.pk): list(rules)}
    policies = Policy.objects.for_organization(organization).filter(
        decision__in=[Policy.Decision.BYPASS, Policy.Decision.NON_IDENTITY]
    )
    for policy in policies:
        used = list(_readable(policy.include, policy.require, policy.exclude))
        if _identity_selector(used, after):
            raise InvalidInput(
                f'The policy "{policy.name}" decides before anyone logs in and uses this group, so the group cannot '
                "ask about people.",
                code="identity_rule_not_possible",
            )


def _invalid(name: str, message: str) -> InvalidInput:
    return InvalidInput(message, code="invalid_rule", fields={name: message})
