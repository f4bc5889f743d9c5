"""What must hold for every policy of every selector, every request and every term (AC-81, AC-82, AC-85)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from access.evaluation import Decision, Group, Outcome, Policy, evaluate, parse_group, parse_policy
from access.rule_reading import read_rule, read_rules
from access.selectors import Context, Rule
from access.terms import SshRights, Terms
from accounts.second_factor import KINDS, RECOVERY, Factor, FactorFacts, MfaRule, Moment
from tests.access import policy_strategies as some

Groups = dict[str, Group]
GETS_IN = {Outcome.ALLOW, Outcome.BYPASS, Outcome.SERVICE_AUTH}
often = settings(max_examples=50, deadline=None)
pytestmark = pytest.mark.once
one_rule = some.RULES.map(lambda item: read_rules([item])[0])


def assert_never_wider(before: list[Policy], after: list[Policy], groups: Groups, request: Context) -> None:
    new = evaluate(after, groups, request)
    if new.allowed:
        assert evaluate(before, groups, request).allowed, new.trace


def changed(policies: list[Policy], place: int, change: Callable[[Policy], Policy]) -> list[Policy]:
    """With another policy at a place; the same when there is none or it is a Block policy, whose rules work the other
    way round."""
    if place >= len(policies) or policies[place].decision == "deny":
        return policies
    return [*policies[:place], change(policies[place]), *policies[place + 1 :]]


places = st.integers(0, 3)


@often
@given(some.policy_lists(), some.policy_lists(decision="deny"), st.integers(-1, 40), some.groups(), some.REQUESTS)
def test_adding_a_block_never_widens(
    before: list[Policy], blocks: list[Policy], precedence: int, groups: Groups, request: Context
) -> None:
    new = [replace(block, id=f"block-{block.id}", precedence=precedence) for block in blocks]
    assert_never_wider(before, [*before, *new], groups, request)
    assert_never_wider(before, [*new, *before], groups, request)


@often
@given(some.policy_lists(), places, one_rule, some.groups(), some.REQUESTS)
def test_adding_a_require_never_widens(
    before: list[Policy], place: int, rule: Rule, groups: Groups, request: Context
) -> None:
    after = changed(before, place, lambda policy: replace(policy, require=(*policy.require, rule)))
    assert_never_wider(before, after, groups, request)


@often
@given(some.policy_lists(), places, one_rule, some.groups(), some.REQUESTS)
def test_adding_an_exclude_never_widens(
    before: list[Policy], place: int, rule: Rule, groups: Groups, request: Context
) -> None:
    after = changed(before, place, lambda policy: replace(policy, exclude=(*policy.exclude, rule)))
    assert_never_wider(before, after, groups, request)


@pytest.mark.parametrize("selector", sorted(some.RULES_BY_SELECTOR))
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_require_and_exclude_of_each_selector_narrow(selector: str, data: st.DataObject) -> None:
    """The two properties above, sure to meet each selector: the policy lets everybody in but for this rule."""
    rule = read_rule(data.draw(some.RULES_BY_SELECTOR[selector]))
    groups, request = data.draw(some.groups()), data.draw(some.REQUESTS)
    decision = data.draw(st.sampled_from(["allow", "bypass", "non_identity"]))
    everyone = parse_policy(
        id="p", name="p", decision=decision, precedence=1, include=[{"everyone": {}}], require=[], exclude=[]
    )
    assert_never_wider([everyone], [replace(everyone, require=(rule,))], groups, request)
    assert_never_wider([everyone], [replace(everyone, exclude=(rule,))], groups, request)
    both = evaluate([replace(everyone, require=(rule,), exclude=(rule,))], groups, request)
    assert not both.allowed


@often
@given(
    some.policy_lists(),
    places,
    st.sampled_from(["include", "require", "exclude"]),
    some.groups(),
    some.REQUESTS,
    st.data(),
)
def test_a_rule_that_cannot_be_answered_never_widens_and_refuses_where_it_is_asked(
    before: list[Policy], place: int, where: str, groups: Groups, request: Context, data: st.DataObject
) -> None:
    broken = read_rules([data.draw(st.sampled_from(some.BROKEN))])
    if place >= len(before):
        return
    after = [*before]
    after[place] = replace(before[place], **{where: (*getattr(before[place], where), *broken)})
    assert_never_wider(before, after, groups, request)
    was = evaluate(before, groups, request)
    if was.policy_id == before[place].id:
        now = evaluate(after, groups, request)
        assert (now.outcome, now.reason, now.policy_id) == (Outcome.ERROR, "policy_error", was.policy_id)


@often
@given(some.policy_lists(), some.groups(), some.REQUESTS)
def test_only_three_outcomes_let_in_and_each_says_why(policies: list[Policy], groups: Groups, request: Context) -> None:
    decision = evaluate(policies, groups, request)
    assert decision.allowed == (decision.outcome in GETS_IN)
    assert decision.reason and decision.message
    if decision.allowed:
        policy = next(policy for policy in policies if policy.id == decision.policy_id)
        assert policy.include
        assert request.person is not None or decision.outcome is not Outcome.ALLOW
        assert request.is_machine or decision.outcome is not Outcome.SERVICE_AUTH
        heads = [entry for entry in decision.trace if "selector" not in entry and "decision" in entry]
        assert (heads[-1]["policy_id"], heads[-1]["verdict"]) == (policy.id, "match")


@often
@given(some.policy_lists(), some.groups(), some.REQUESTS, st.randoms(use_true_random=False))
def test_order_of_equal_lists_does_not_matter(
    policies: list[Policy], groups: Groups, request: Context, rng: random.Random
) -> None:
    """Of rules in policies and groups, of policies with their precedence, and of groups."""

    def mixed(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        return tuple(rng.sample(rules, len(rules)))

    def shuffled(row: Any) -> Any:
        return replace(row, include=mixed(row.include), require=mixed(row.require), exclude=mixed(row.exclude))

    other = [shuffled(policy) for policy in rng.sample(policies, len(policies))]
    others = {key: shuffled(groups[key]) for key in rng.sample(sorted(groups), len(groups))}
    assert essence(evaluate(policies, groups, request)) == essence(evaluate(other, others, request))


@often
@given(some.policy_lists(), some.groups(), some.REQUESTS)
def test_naming_a_rule_twice_changes_nothing(policies: list[Policy], groups: Groups, request: Context) -> None:
    twice = [replace(policy, include=policy.include * 2, require=policy.require * 2) for policy in policies]
    assert essence(evaluate(policies, groups, request)) == essence(evaluate(twice, groups, request))


def essence(decision: Decision) -> tuple[Any, ...]:
    return decision.outcome, decision.policy_id, decision.terms, decision.session_duration_seconds


class TestTerms:
    @often
    @given(some.policy_lists(), places, some.groups(), some.REQUESTS, st.booleans())
    def test_asking_for_a_purpose_or_an_approval_never_widens(
        self, before: list[Policy], place: int, groups: Groups, request: Context, purpose: bool
    ) -> None:
        more = {"needs_purpose": True} if purpose else {"needs_approval": True}
        after = changed(before, place, lambda policy: replace(policy, terms=replace(policy.terms, **more)))
        assert_never_wider(before, after, groups, request)

    @often
    @given(some.policy_lists(), some.groups(), some.REQUESTS)
    def test_nobody_gets_in_without_what_the_policy_asks_for(
        self, policies: list[Policy], groups: Groups, request: Context
    ) -> None:
        decision = evaluate(policies, groups, request)
        if decision.outcome is not Outcome.ALLOW:
            assert decision.approved_seconds is None
            return
        policy = next(policy for policy in policies if policy.id == decision.policy_id)
        assert decision.terms == policy.terms
        assert decision.session_duration_seconds == policy.session_duration_seconds
        assert request.is_justified or not policy.terms.needs_purpose
        wanted = request.approvals[policy.id] if policy.terms.needs_approval else None
        assert decision.approved_seconds == wanted

    @often
    @given(some.policy_lists(), some.groups(), some.REQUESTS)
    def test_ssh_rights_and_durations_never_change_who_gets_in(
        self, policies: list[Policy], groups: Groups, request: Context
    ) -> None:
        rights = SshRights(usernames=("root-like",), bastion_destinations=())
        other = [
            replace(policy, session_duration_seconds=60, terms=replace(policy.terms, ssh=rights)) for policy in policies
        ]
        was, now = evaluate(policies, groups, request), evaluate(other, groups, request)
        assert (was.outcome, was.reason, was.policy_id) == (now.outcome, now.reason, now.policy_id)
        if now.allowed:
            assert now.terms.ssh == rights

    @often
    @given(some.policy_lists(decision="allow"), some.groups(), some.REQUESTS)
    def test_a_required_second_factor_is_there(self, policies: list[Policy], groups: Groups, request: Context) -> None:
        mfa = read_rule({"auth_method": {"auth_method": "mfa"}})
        strict = [replace(policy, require=(*policy.require, mfa)) for policy in policies]
        if evaluate(strict, groups, request).allowed:
            assert request.person is not None
            assert "mfa" in request.person.authentication_methods

    @often
    @given(some.policy_lists(decision="allow"), some.groups(), some.REQUESTS)
    def test_an_approval_counts_for_its_own_policy_only(
        self, policies: list[Policy], groups: Groups, request: Context
    ) -> None:
        asking = [replace(policy, terms=Terms(needs_approval=True)) for policy in policies]
        decision = evaluate(asking, groups, replace(request, approvals={"another": 600}))
        assert not decision.allowed


class TestGroups:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 60), st.randoms(use_true_random=False), some.REQUESTS)
    def test_ac_85_any_web_of_groups_is_answered(self, size: int, rng: random.Random, request: Context) -> None:
        """Loops, gaps and chains of 50: an answer comes, and it is no when the web cannot be followed."""
        names = [f"g{number}" for number in range(size)]
        groups = {}
        for name in names:
            rules: list[Any] = [{"group": {"id": rng.choice([*names, "gone"])}} for _ in range(rng.randrange(3))]
            rules.append({"everyone": {}})
            groups[name] = parse_group(id=name, name=name, include=rules, require=[], exclude=[])
        policy = parse_policy(
            id="p",
            name="p",
            decision="allow",
            precedence=1,
            include=[{"group": {"id": name}} for name in names],
            require=[],
            exclude=[],
        )
        decision = evaluate([policy], groups, request)
        if request.person is not None:
            assert decision.allowed == all(height(groups, name, ()) is not None for name in names)
        assert len(decision.trace) <= 200

    def test_ac_85_fifty_layers_of_fifty_groups_are_refused_at_once(self) -> None:
        """50^50 paths; the limit of ten levels ends the first of them."""
        groups = {
            f"{layer}-{n}": parse_group(
                id=f"{layer}-{n}",
                name="g",
                include=[{"group": {"id": f"{layer + 1}-{m}"}} for m in range(50)]
                if layer < 49
                else [{"everyone": {}}],
                require=[],
                exclude=[],
            )
            for layer in range(50)
            for n in range(50)
        }
        policy = parse_policy(
            id="p",
            name="p",
            decision="bypass",
            precedence=1,
            include=[{"group": {"id": "0-0"}}],
            require=[],
            exclude=[],
        )
        assert evaluate([policy], groups, Context("192.0.2.7")).outcome is Outcome.ERROR


def height(groups: Groups, name: str, path: tuple[str, ...]) -> int | None:
    """Of the longest chain of groups; None for a loop, a gap or more than ten levels."""
    if name in path or name not in groups or len(path) >= 10:
        return None
    inner = [height(groups, rule.value, (*path, name)) for rule in groups[name].rules() if rule.selector == "group"]
    return None if None in inner else 1 + max((one for one in inner if one is not None), default=0)


FACTORS = st.builds(
    FactorFacts,
    held=st.lists(
        st.builds(Factor, kind=st.sampled_from([*KINDS, RECOVERY]), age_seconds=st.sampled_from([0, 700, 10**7])),
        max_size=2,
    ).map(tuple),
    moment=st.sampled_from(list(Moment)),
    is_assumed=st.booleans(),
)
WISHES = st.builds(
    lambda kinds, seconds: {
        "allowed_authenticators": kinds,
        "mfa_disabled": False,
        "session_duration_seconds": seconds,
    },
    st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
    st.sampled_from([None, 0, 600]),
)


class TestSecondFactor:
    @often
    @given(some.policy_lists(), places, some.groups(), some.REQUESTS, FACTORS, WISHES)
    def test_asking_for_one_never_widens_and_nobody_gets_in_without(
        self,
        before: list[Policy],
        place: int,
        groups: Groups,
        request: Context,
        factors: FactorFacts,
        wish: dict[str, Any],
    ) -> None:
        request = replace(request, mfa=factors)
        after = changed(before, place, lambda policy: replace(policy, terms=replace(policy.terms, mfa_config=wish)))
        assert_never_wider(before, after, groups, request)
        decision = evaluate(after, groups, request)
        asked = next((policy for policy in after if policy.id == decision.policy_id), None)
        if (
            decision.outcome is Outcome.ALLOW
            and asked is not None
            and asked.terms.mfa_config
            and not factors.is_assumed
        ):
            rule = MfaRule(frozenset(wish["allowed_authenticators"]))
            assert any(factor.kind in rule.kinds or factor.kind == RECOVERY for factor in factors.held)

    @often
    @given(some.policy_lists(), places, one_rule, some.groups(), some.REQUESTS, FACTORS, WISHES)
    def test_rules_narrow_as_before(
        self,
        before: list[Policy],
        place: int,
        rule: Rule,
        groups: Groups,
        request: Context,
        factors: FactorFacts,
        wish: dict[str, Any],
    ) -> None:
        request = replace(request, mfa=factors)
        before = [replace(policy, terms=replace(policy.terms, mfa_config=wish)) for policy in before]
        required = changed(before, place, lambda policy: replace(policy, require=(*policy.require, rule)))
        excluded = changed(before, place, lambda policy: replace(policy, exclude=(*policy.exclude, rule)))
        block = parse_policy(
            id="block", name="block", decision="deny", precedence=15, include=[], require=[], exclude=[]
        )
        assert_never_wider(before, required, groups, request)
        assert_never_wider(before, excluded, groups, request)
        assert_never_wider(before, [*before, replace(block, include=(rule,))], groups, request)
