"""The trace of a decision: which policies were asked, which rules, with which answers. Pure.

A trace keeps MAX_TRACE_ENTRIES entries. When there were more rules, those that decided stay whatever their place, then
the first ones; the last entry says how many were left out. Only entries that are kept are made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NamedTuple

from access.judging import NAMES, Judge
from access.rulesets import ERROR, MATCH, MISS, Group, Policy, RuleList, RuleLists
from access.selectors import Rule

# A policy may hold a thousand e-mail addresses.
MAX_TRACE_ENTRIES = 100
# Of a policy that matched: how many of the rules that it required are kept in any case.
_MAX_DECIDING = 25


@dataclass(frozen=True, slots=True)
class Asked:
    """A policy that was asked. Without a judge none of its rules were: nothing was shown that it could be about."""

    policy: Policy
    verdict: int
    judge: Judge | None


class _Step(NamedTuple):
    """One rule at its place, and the group that it names; `via` names the groups around it."""

    kind: str
    place: int
    rule: Rule
    group: Group | None
    via: tuple[str, ...]


def trace_of(asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """The last policy asked is the one that decided."""
    total = _count(asked)
    room = max(0, MAX_TRACE_ENTRIES - len(asked))
    deciding = _deciding(asked[-1]) if asked and total > room else []
    room -= len(deciding)
    seen: dict[Judge, set[str]] = {}
    entries: list[dict[str, Any]] = []
    kept = 0
    for place, item in enumerate(asked, start=1):
        policy, judge = item.policy, item.judge
        base = {"policy": policy.name, "policy_id": policy.id, "decision": policy.decision}
        entries.append({**base, "version": policy.version, "verdict": NAMES[item.verdict]})
        if judge is None:
            continue
        steps = list(islice(_walk(judge, policy.lists, (), seen.setdefault(judge, set())), max(0, room)))
        room -= len(steps)
        if place == len(asked):
            steps += [step for step in deciding if step not in steps]
        entries += [_entry(base, judge, step) for step in steps]
        kept += len(steps)
    if total > kept:
        entries.append({"verdict": "left_out", "count": total - kept})
    return entries


def _entry(base: Mapping[str, Any], judge: Judge, step: _Step) -> dict[str, Any]:
    kind, place, rule, group, via = step
    answer = judge.answer(rule)
    entry = {
        **base,
        "list": kind,
        "rule": place,
        "selector": rule.selector,
        "wanted": rule.wanted() if group is None else group.name,
        "actual": judge.shown(rule) if group is None else group.name,
        "verdict": NAMES[answer],
    }
    if via:
        entry["via"] = list(via)
    if answer == ERROR:
        entry["problem"] = judge.problem(rule)
    return entry


def _walk(judge: Judge, lists: RuleLists, via: tuple[str, ...], seen: set[str]) -> Iterator[_Step]:
    """Each rule, and behind the first rule that names a group what is inside it."""
    for kind, listed in lists.named():
        for place, rule in enumerate(listed.rules, start=1):
            group = judge.group_of(rule)
            yield _Step(kind, place, rule, group, via)
            if group is not None and group.id not in seen:
                seen.add(group.id)
                yield from _walk(judge, group.lists, (*via, group.name), seen)


def _count(asked: Sequence[Asked]) -> int:
    """How many steps there are."""
    total = 0
    seen: dict[Judge, set[str]] = {}
    for item in asked:
        if item.judge is None:
            continue
        judge, known = item.judge, seen.setdefault(item.judge, set())
        open_lists = [item.policy.lists]
        while open_lists:
            lists = open_lists.pop()
            total += lists.size
            for group_id in lists.groups:
                if group_id not in known and judge.is_open(group_id):
                    known.add(group_id)
                    open_lists.append(judge.groups[group_id].lists)
    return total


def _deciding(asked: Asked) -> list[_Step]:
    """The rules that made a policy's verdict, with the groups around them, in the order of the trace."""
    judge = asked.judge
    return [] if judge is None else list(islice(_deciders(judge, asked.policy.lists, asked.verdict, ()), _MAX_DECIDING))


def _deciders(judge: Judge, lists: RuleLists, verdict: int, via: tuple[str, ...]) -> Iterator[_Step]:
    for kind, place, rule in _decided_by(judge, lists, verdict):
        group = judge.group_of(rule)
        yield _Step(kind, place, rule, group, via)
        if group is not None:
            yield from _deciders(judge, group.lists, judge.answer(rule), (*via, group.name))


def _decided_by(judge: Judge, lists: RuleLists, verdict: int) -> Iterator[tuple[str, int, Rule]]:
    def places(listed: RuleList, kind: str, answer: int) -> Iterator[tuple[str, int, Rule]]:
        rules = enumerate(listed.rules, start=1)
        return ((kind, place, rule) for place, rule in rules if judge.answer(rule) == answer)

    def first(answer: int, *kinds: str) -> Iterator[tuple[str, int, Rule]]:
        found = (hit for kind, listed in lists.named() if kind in kinds for hit in places(listed, kind, answer))
        return islice(found, 1)

    if verdict == ERROR:
        return first(ERROR, "include", "require", "exclude")
    if verdict == MATCH:
        return chain(first(MATCH, "include"), places(lists.require, "require", MATCH))
    if not judge.includes(lists):
        # Everything was missed: no single rule decided.
        return iter(())
    return islice(chain(first(MATCH, "exclude"), first(MISS, "require")), 1)
