"""Policies and groups ready to be judged: rules about the same fact become one set of wanted keys. Pure.

Making one costs about a microsecond per rule, so callers keep them for as long as the stored rules are the same
(access/decisions.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from access.rule_reading import read_rules
from access.selectors import EXTERNAL, GROUP, LIST_TYPES, SELECTORS, NamedList, Rule, RuleError
from access.terms import NO_TERMS, Terms

Scope = tuple[str, ...]
# The answers of one rule, as bits because a list has several; and how far the bits of each list are shifted.
MATCH, MISS, ERROR = 1, 2, 4
INCLUDE, REQUIRE, EXCLUDE = 0, 3, 6
_OUTSIDE = frozenset({EXTERNAL, *LIST_TYPES})


class Bucket(NamedTuple):
    """Rules about one fact; `sample` stands for all of them when the fact is looked up."""

    scope: Scope
    sample: Rule
    wanted: frozenset[Hashable]


@dataclass(frozen=True, slots=True)
class RuleList:
    """`groups`: ids of the groups that rules name, each once. `is_broken`: holds a rule that can never be answered."""

    rules: tuple[Rule, ...]
    buckets: tuple[Bucket, ...] = ()
    groups: tuple[str, ...] = ()
    is_broken: bool = False


@dataclass(frozen=True, slots=True)
class RuleLists:
    include: RuleList
    require: RuleList
    exclude: RuleList
    # Of all three lists: what to look up, and which groups to judge, each with the place of its list's answers.
    buckets: tuple[tuple[int, Bucket], ...]
    inner: tuple[tuple[int, str], ...]
    groups: tuple[str, ...]
    # Rules that need more than the request and the person: named lists and external evaluators.
    outside: tuple[Rule, ...]
    is_broken: bool
    size: int

    def named(self) -> tuple[tuple[str, RuleList], ...]:
        return ("include", self.include), ("require", self.require), ("exclude", self.exclude)


@dataclass(frozen=True, slots=True)
class Group:
    id: str
    name: str
    include: tuple[Rule, ...]
    require: tuple[Rule, ...] = ()
    exclude: tuple[Rule, ...] = ()
    version: str = ""
    lists: RuleLists = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lists", _lists(self.include, self.require, self.exclude))

    def rules(self) -> tuple[Rule, ...]:
        return self.include + self.require + self.exclude


@dataclass(frozen=True, slots=True)
class Policy:
    """`decision` is allow, deny, bypass or non_identity. `version` says which edit of the policy decided (AC-86)."""

    id: str
    name: str
    decision: str
    precedence: int
    include: tuple[Rule, ...]
    require: tuple[Rule, ...] = ()
    exclude: tuple[Rule, ...] = ()
    session_duration_seconds: int | None = None
    version: str = ""
    terms: Terms = NO_TERMS
    lists: RuleLists = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lists", _lists(self.include, self.require, self.exclude))

    def rules(self) -> tuple[Rule, ...]:
        return self.include + self.require + self.exclude


def fact_of(rule: Rule) -> tuple[Scope, Hashable]:
    """The fact that a rule asks about, and the value it wants. Raises RuleError when it can never be answered."""
    selector = SELECTORS.get(rule.selector)
    if rule.problem or selector is None:
        raise RuleError(rule.problem or f"Unknown selector {rule.selector!r}.")
    return (rule.selector, *(getattr(rule, name) for name in selector.scope)), selector.key(rule)


def parse_policy(
    *,
    id: str,  # noqa: A002 - the field's name
    name: str,
    decision: str,
    precedence: int,
    include: Any,
    require: Any,
    exclude: Any,
    session_duration_seconds: int | None = None,
    version: str = "",
    terms: Terms = NO_TERMS,
) -> Policy:
    """A Policy from stored JSON lists."""
    return Policy(
        id,
        name,
        decision,
        precedence,
        read_rules(include),
        read_rules(require),
        read_rules(exclude),
        session_duration_seconds,
        version,
        terms,
    )


def parse_group(
    *,
    id: str,  # noqa: A002 - the field's name
    name: str,
    include: Any,
    require: Any,
    exclude: Any,
    version: str = "",
) -> Group:
    return Group(id, name, read_rules(include), read_rules(require), read_rules(exclude), version)


_by_id = attrgetter("id")


def rules_version(
    policies: Iterable[Policy], groups: Mapping[str, Group], lists: Mapping[str, NamedList] | None = None
) -> str:
    """Names a set of rules: equal when policies, their places, groups and the lists they name are the same edits
    (AC-86)."""
    parts = [f"{policy.id} {policy.precedence} {policy.version}" for policy in sorted(policies, key=_by_id)]
    parts += [f"{group.id} {group.version}" for group in sorted(groups.values(), key=_by_id)]
    parts += [f"{key} {listed.version}" for key, listed in sorted((lists or {}).items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _lists(include: Sequence[Rule], require: Sequence[Rule], exclude: Sequence[Rule]) -> RuleLists:
    lists = _prepared(include), _prepared(require), _prepared(exclude)
    placed = tuple(zip((INCLUDE, REQUIRE, EXCLUDE), lists, strict=True))
    return RuleLists(
        *lists,
        buckets=tuple((place, bucket) for place, listed in placed for bucket in listed.buckets),
        inner=tuple((place, key) for place, listed in placed for key in listed.groups),
        groups=tuple(dict.fromkeys(key for listed in lists for key in listed.groups)),
        outside=tuple(rule for rule in (*include, *require, *exclude) if rule.selector in _OUTSIDE),
        is_broken=any(listed.is_broken for listed in lists),
        size=len(include) + len(require) + len(exclude),
    )


def _prepared(rules: Sequence[Rule]) -> RuleList:
    samples: dict[Scope, Rule] = {}
    keys: dict[Scope, set[Hashable]] = {}
    groups: dict[str, None] = {}
    is_broken = False
    for rule in rules:
        if rule.selector == GROUP and not rule.problem:
            groups[rule.value] = None
            continue
        try:
            scope, key = fact_of(rule)
        except RuleError:
            is_broken = True
            continue
        samples.setdefault(scope, rule)
        keys.setdefault(scope, set()).add(key)
    buckets = tuple(Bucket(scope, sample, frozenset(keys[scope])) for scope, sample in samples.items())
    return RuleList(tuple(rules), buckets, tuple(groups), is_broken)
