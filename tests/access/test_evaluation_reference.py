"""The fast evaluation gives, for every input, what the word-by-word one gives: answer, reason, sentence and trace."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from access.evaluation import MAX_GROUP_DEPTH, MAX_TRACE_ENTRIES, Group, Policy, evaluate, parse_group
from access.selectors import Context
from tests.access import policy_strategies as some
from tests.access import test_evaluation, test_evaluation_selectors
from tests.access.reference_evaluation import Judged, evaluate_naively
from tests.access.test_evaluation import E_ALICE, E_BOB, EVERY, WHO, A, P, group, policies_of

pytestmark = pytest.mark.once


def assert_same(policies: list[Policy], groups: dict[str, Group], context: Context) -> None:
    fast, slow = evaluate(policies, groups, context), evaluate_naively(policies, groups, context)
    for item in fields(Judged):
        if item.name != "trace":
            assert getattr(fast, item.name) == getattr(slow, item.name), item.name
    if len(slow.trace) <= MAX_TRACE_ENTRIES:
        assert fast.trace == slow.trace
    else:
        assert fast.trace[-1]["verdict"] == "left_out" or fast.trace[-2]["verdict"] == "left_out"


def test_the_strategies_know_every_selector() -> None:
    assert not some.missing_selectors()


@settings(max_examples=300, deadline=None)
@given(some.policy_lists(), some.groups(), some.REQUESTS)
def test_any_rules_any_request(policies: list[Policy], groups: dict[str, Group], context: Context) -> None:
    assert_same(policies, groups, context)


@settings(max_examples=100, deadline=None)
@given(
    some.policy_lists(rules=some.RULES_BY_SELECTOR["group"]),
    some.groups(rules=st.one_of(some.RULES_BY_SELECTOR["group"], some.RULES_BY_SELECTOR["everyone"])),
    some.REQUESTS,
)
def test_webs_of_groups(policies: list[Policy], groups: dict[str, Group], context: Context) -> None:
    assert_same(policies, groups, context)


@pytest.mark.parametrize("length", [1, MAX_GROUP_DEPTH - 1, MAX_GROUP_DEPTH, MAX_GROUP_DEPTH + 1, 50, 5000])
@pytest.mark.parametrize("end", ["leaf", "loop", "gap"])
def test_chains_of_groups(length: int, end: str) -> None:
    """AC-85: a chain is asked to its limit and no further, however long it is."""
    last: dict[str, Any] = {"leaf": E_ALICE, "loop": group("g0"), "gap": group("none")}[end]
    inner = [*(group(f"g{number + 1}") for number in range(length - 1)), last]
    chain = {
        f"g{n}": parse_group(id=f"g{n}", name=f"g{n}", include=[r], require=[], exclude=[]) for n, r in enumerate(inner)
    }
    policies = policies_of([P(A, [group("g0"), E_BOB], [EVERY], [group(f"g{length // 2}")])])
    assert_same(policies, chain, WHO["alice"])
    policies = policies_of([P(A, [group(f"g{length // 2}"), group("g0")])])
    assert_same(policies, chain, WHO["alice"])
    allowed = evaluate(policies, chain, WHO["alice"]).allowed
    assert allowed == (end == "leaf" and length <= MAX_GROUP_DEPTH)


@pytest.mark.parametrize(("who", "specs"), [(who, specs) for who, specs, _, _ in test_evaluation.TABLE])
def test_golden_table(who: str, specs: list[Any]) -> None:
    assert_same(policies_of(specs), test_evaluation.GROUPS, WHO[who])


def test_second_golden_table() -> None:
    for case in test_evaluation_selectors.CASES:
        inner, specs, *_ = case.values
        groups = {
            **test_evaluation.GROUPS,
            "inner": parse_group(id="inner", name="inner", include=[inner], require=[], exclude=[]),
        }
        assert_same(policies_of(specs), groups, test_evaluation_selectors.FULL)


class TestTraceOfManyRules:
    """Whatever is left out, the rules that decided stay."""

    many = [{"email": {"email": f"user{number}@x.test"}} for number in range(1000)]

    def entries(self, specs: list[Any], groups: dict[str, Group] | None = None) -> list[dict[str, Any]]:
        trace = evaluate(policies_of(specs), groups or {}, WHO["alice"]).trace
        assert len(trace) <= MAX_TRACE_ENTRIES + 2
        assert any(entry["verdict"] == "left_out" for entry in trace)
        return trace

    def test_the_include_that_matched(self) -> None:
        trace = self.entries([P(A, [*self.many, E_ALICE])])
        decided = next(entry for entry in trace if entry["verdict"] == "match" and "selector" in entry)
        assert decided == {
            "policy": "policy 1",
            "policy_id": "p1",
            "decision": "allow",
            "list": "include",
            "rule": 1001,
            "selector": "email",
            "wanted": "alice@widgetcorp.test",
            "actual": "alice@widgetcorp.test",
            "verdict": "match",
        }

    def test_the_require_that_was_missed_and_the_exclude_that_was_met(self) -> None:
        trace = self.entries([P(A, [EVERY, *self.many], [EVERY, E_BOB])])
        assert (trace[-2]["list"], trace[-2]["rule"], trace[-2]["verdict"]) == ("require", 2, "no_match")
        trace = self.entries([P(A, [EVERY, *self.many], [], [E_BOB, E_ALICE])])
        assert (trace[-2]["list"], trace[-2]["rule"], trace[-2]["verdict"]) == ("exclude", 2, "match")

    def test_the_rule_that_could_not_be_answered(self) -> None:
        trace = self.entries([P(A, self.many), P(A, [EVERY, *self.many, test_evaluation.BAD])])
        broken = [entry for entry in trace if entry.get("rule") == 1002]
        assert broken[0]["policy"] == "policy 2"
        assert "planet" in broken[0]["problem"]

    def test_inside_groups(self) -> None:
        groups = {
            "outer": parse_group(
                id="outer", name="Outer", include=[*self.many, group("inner")], require=[], exclude=[]
            ),
            "inner": parse_group(id="inner", name="Inner", include=[*self.many, E_ALICE], require=[], exclude=[]),
        }
        trace = self.entries([P(A, self.many), P(A, [*self.many, group("outer")])], groups)
        path = [
            (entry["selector"], entry["wanted"], entry.get("via", []))
            for entry in trace
            if entry["verdict"] == "match" and "selector" in entry
        ]
        assert path == [
            ("group", "Outer", []),
            ("group", "Inner", ["Outer"]),
            ("email", "alice@widgetcorp.test", ["Outer", "Inner"]),
        ]

    def test_no_trace_is_made_before_it_is_read(self) -> None:
        decision = evaluate(policies_of([P(A, [*self.many, E_ALICE])]), {}, WHO["alice"])
        assert "trace" not in vars(decision)
        assert decision.trace is decision.trace
