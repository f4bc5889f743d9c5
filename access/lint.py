"""What is allowed in a policy or group but rarely meant. Pure: rule lists in, findings out; nothing is refused here.

Read what people wrote, not what evaluation makes of it: a rule that cannot be read is somebody else's business.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

from access.rule_reading import read_rule
from access.selectors import GROUP, SELECTORS, Rule, RuleError
from accounts.text import ascii_lower

# A person has one of each, so two different ones can never hold at once.
_ONE_EACH = ("geo", "email", "email_domain", "login_method", "common_name")
# What opens a Service Auth policy besides a service token, when it stands under Include.
_MACHINES = frozenset({"certificate", "common_name", "linked_app_token"})
_PEOPLE_PHASE = frozenset({"allow", "deny"})


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` is stable; `message` is for the person writing the rules."""

    code: str
    message: str


@dataclass(frozen=True)
class Lists:
    """The three lists of a policy or group. `decision` is "" for a group."""

    include: Sequence[Any]
    require: Sequence[Any] = ()
    exclude: Sequence[Any] = ()
    name: str = ""
    decision: str = ""
    id: str = ""

    def read(self) -> tuple[list[Rule], list[Rule], list[Rule]]:
        return _readable(self.include), _readable(self.require), _readable(self.exclude)


@dataclass(frozen=True)
class Surroundings:
    """What rules refer to: the organization's groups, and its login methods that admit anybody with an e-mail."""

    groups: Mapping[str, Lists] = field(default_factory=dict)
    pin_providers: frozenset[str] = frozenset()


def check_policy(policy: Lists, around: Surroundings, before: Sequence[Lists] = ()) -> list[Finding]:
    """`before`: the application's policies that are tried earlier, in any order of phases."""
    findings = [*_check_lists(policy, around), *_check_decision(policy, around)]
    blocker = next((other for other in before if _hides(other, policy)), None)
    if blocker is not None:
        findings.append(
            Finding("unreachable", f'Never asked: whoever matches is already decided by "{blocker.name}" before it.')
        )
    return findings


def check_group(group: Lists, around: Surroundings) -> list[Finding]:
    return list(_check_lists(group, around))


def check_application(policies: Sequence[Lists], around: Surroundings) -> list[list[Finding]]:
    """Findings for each of the policies, given in their order of precedence."""
    ordered = [*[policy for policy in policies if policy.decision not in _PEOPLE_PHASE]]
    ordered += [policy for policy in policies if policy.decision in _PEOPLE_PHASE]
    places = {id(policy): place for place, policy in enumerate(ordered)}
    return [check_policy(policy, around, ordered[: places[id(policy)]]) for policy in policies]


# --- the lists of a policy or group ---------------------------------------------------------------------------
def _check_lists(subject: Lists, around: Surroundings) -> Iterator[Finding]:
    include, require, exclude = subject.read()
    if not subject.include:
        yield Finding("empty_include", "Include is empty, so nobody matches.")
    for selector in _ONE_EACH:
        wanted = {ascii_lower(rule.value) for rule in require if rule.selector == selector}
        if len(wanted) > 1:
            yield Finding("require_conflict", _conflict(selector))
    if _disjoint([rule.value for rule in require if rule.selector == "ip"]):
        yield Finding("require_conflict", _conflict("ip"))
    if any(rule.selector == "everyone" for rule in exclude):
        yield Finding("excludes_everyone", "Exclude holds Everyone, so nobody matches.")
    if {_key(rule) for rule in require} & {_key(rule) for rule in exclude}:
        yield Finding("require_excluded", "The same rule stands under Require and Exclude, so nobody matches.")
    yield from _check_groups(subject, [*include, *require, *exclude], around)


def _conflict(selector: str) -> str:
    label = SELECTORS[selector].label
    return (
        f"Several rules on {label} under Require must all hold at once, which nobody can. Put them under Include, or "
        "into a group and require the group."
    )


def _disjoint(ranges: Sequence[str]) -> bool:
    """Whether two of the networks have no address in common."""
    networks = []
    for text in ranges:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError:
            continue
    return any(not one.overlaps(other) for one in networks for other in networks if one is not other)


def _check_groups(subject: Lists, rules: Sequence[Rule], around: Surroundings) -> Iterator[Finding]:
    named = list(dict.fromkeys(rule.value for rule in rules if rule.selector == GROUP))
    for group_id in named:
        group = around.groups.get(group_id)
        if group is None:
            yield Finding("missing_group", "A rule names an access group that is gone: every request is refused.")
            continue
        if not group.include:
            yield Finding("empty_include", f'The group "{group.name}" has no Include rule, so it never matches.')
    if _has_cycle(named, around.groups, (subject.id,) if subject.id and not subject.decision else ()):
        yield Finding("group_cycle", "Access groups contain each other in a loop: every request is refused.")


def _has_cycle(start: Sequence[str], groups: Mapping[str, Lists], path: tuple[str, ...]) -> bool:
    """Depth first; `done` keeps a dense web of groups cheap."""
    done: set[str] = set()

    def visit(group_id: str, above: tuple[str, ...]) -> bool:
        if group_id in above:
            return True
        group = groups.get(group_id)
        if group is None or group_id in done:
            return False
        inner = [rule.value for listed in group.read() for rule in listed if rule.selector == GROUP]
        if any(visit(child, (*above, group_id)) for child in inner):
            return True
        done.add(group_id)
        return False

    return any(visit(group_id, path) for group_id in start)


# --- the decision ---------------------------------------------------------------------------------------------
def _check_decision(policy: Lists, around: Surroundings) -> Iterator[Finding]:
    if policy.decision == "bypass":
        yield Finding("bypass", "Bypass switches Access off for everyone who matches: no login, no check, no identity.")
    if policy.decision == "non_identity" and _only_required(policy):
        yield Finding(
            "certificate_required_only",
            "Under Require a certificate or linked token is wanted besides a service token. To let it in alone, put "
            "it under Include.",
        )
    if policy.decision == "non_identity" and _admits(policy, around, frozenset({"everyone"}), frozenset()):
        yield Finding("any_service_token", "Every valid service token of the organization is let in.")
    if policy.decision != "allow":
        return
    if _admits(policy, around, frozenset({"everyone"}), frozenset()):
        yield Finding("allow_everyone", "Everyone who can log in by any login method is let in.")
    elif _admits(policy, around, frozenset({"everyone", "login_method"}), around.pin_providers):
        yield Finding(
            "allow_pin",
            "The one-time PIN is the only condition, and anybody with an e-mail address can get one: this lets in "
            "everybody on earth. Add a rule on e-mail addresses or their domain.",
        )


def _only_required(policy: Lists) -> bool:
    include, require, _ = ({rule.selector for rule in listed} for listed in policy.read())
    return bool(_MACHINES & require) and not (_MACHINES | {GROUP, "service_token", "any_valid_service_token"}) & include


def _admits(policy: Lists, around: Surroundings, open_selectors: frozenset[str], pins: frozenset[str]) -> bool:
    """Whether some Include rule holds for anybody and no Require rule narrows that down."""
    include, require, _ = policy.read()
    openness = _Openness(around.groups, open_selectors, pins)
    return (
        any(openness.of(rule) for rule in include)
        and len(require) == len(policy.require)
        and all(openness.of(rule) for rule in require)
    )


class _Openness:
    """Whether rules hold for anybody; each group is asked once."""

    def __init__(self, groups: Mapping[str, Lists], selectors: frozenset[str], pins: frozenset[str]) -> None:
        self.groups, self.selectors, self.pins = groups, selectors, pins
        self._known: dict[str, bool] = {}

    def of(self, rule: Rule) -> bool:
        if rule.selector == GROUP:
            return self._of_group(rule.value)
        if rule.selector == "login_method":
            return "login_method" in self.selectors and rule.value in self.pins
        return rule.selector in self.selectors

    def _of_group(self, group_id: str) -> bool:
        if group_id not in self._known:
            self._known[group_id] = False  # what a loop of groups gets to see
            group = self.groups.get(group_id)
            if group is not None:
                include, require, _ = group.read()
                self._known[group_id] = (
                    not group.exclude
                    and len(require) == len(group.require)
                    and any(self.of(rule) for rule in include)
                    and all(self.of(rule) for rule in require)
                )
        return self._known[group_id]


# --- order ----------------------------------------------------------------------------------------------------
def _hides(first: Lists, second: Lists) -> bool:
    """Whether every request that `second` matches is decided by `first` before it is asked."""
    if not _comes_first(first.decision, second.decision):
        return False
    if any(len(read) != len(raw) for read, raw in zip(first.read(), _raw(first), strict=True)):
        return False
    include, require, exclude = ({_key(rule) for rule in listed} for listed in first.read())
    later, later_require, later_exclude = ({_key(rule) for rule in listed} for listed in second.read())
    everyone = _key(Rule("everyone"))
    wide_enough = everyone in include or (bool(later) and later <= include) or bool(include & later_require)
    return wide_enough and require - {everyone} <= later_require and exclude <= later_exclude


def _comes_first(first: str, second: str) -> bool:
    """Service Auth asks for a token that others do not, so it hides only its like."""
    if first == "non_identity":
        return second == "non_identity"
    return first == "bypass" or (first in _PEOPLE_PHASE and second in _PEOPLE_PHASE)


def _raw(lists: Lists) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
    return lists.include, lists.require, lists.exclude


def _key(rule: Rule) -> str:
    return json.dumps(astuple(rule))


def _readable(items: Sequence[Any]) -> list[Rule]:
    found = []
    for item in items or ():
        try:
            found.append(read_rule(item))
        except RuleError:
            continue
    return found
