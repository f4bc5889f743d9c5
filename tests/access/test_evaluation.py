"""Golden table of policy evaluation (product.md 1.3), and properties that must hold for every input."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from access.evaluation import (
    MAX_GROUP_DEPTH,
    MAX_TRACE_ENTRIES,
    Group,
    Outcome,
    Policy,
    evaluate,
    parse_group,
    parse_policy,
)
from access.selectors import Context, Person

IDP, OTHER_IDP = "idp-1", "idp-2"
TOKEN = "tok-1"
ALICE = Person(
    email="alice@widgetcorp.test",
    email_verified=True,
    provider_id=IDP,
    groups=("engineers", "ssh"),
    claims={"department": "it", "level": 3, "contractor": False, "roles": ["dev", "ops"], "nested": {"a": 1}},
)

# --- Rules, in the public JSON shape
EVERY: dict[str, Any] = {"everyone": {}}
E_ALICE = {"email": {"email": "alice@widgetcorp.test"}}
E_BOB = {"email": {"email": "bob@widgetcorp.test"}}
E_UPPER = {"email": {"email": "ALICE@WidgetCorp.test"}}
DOMAIN = {"email_domain": {"domain": "widgetcorp.test"}}
DOMAIN_UPPER = {"email_domain": {"domain": "WIDGETCORP.TEST"}}
DOMAIN_SUB = {"email_domain": {"domain": "corp.test"}}
DOMAIN_OTHER = {"email_domain": {"domain": "evil.test"}}
PT, FR = {"geo": {"country_code": "PT"}}, {"geo": {"country_code": "FR"}}
PT_LOWER = {"geo": {"country_code": "pt"}}
NET, NET6 = {"ip": {"ip": "203.0.113.0/24"}}, {"ip": {"ip": "2001:db8::/32"}}
NET_OTHER = {"ip": {"ip": "198.51.100.0/24"}}
OKTA = {"okta": {"name": "engineers", "identity_provider_id": IDP}}
OKTA_CASE = {"okta": {"name": "Engineers", "identity_provider_id": IDP}}
OKTA_OTHER_IDP = {"okta": {"name": "engineers", "identity_provider_id": OTHER_IDP}}
OKTA_MISSING = {"okta": {"name": "admins", "identity_provider_id": IDP}}


def claim(name: str, value: str, provider: str = IDP) -> dict[str, Any]:
    return {"oidc": {"claim_name": name, "claim_value": value, "identity_provider_id": provider}}


METHOD, METHOD_OTHER = {"login_method": {"id": IDP}}, {"login_method": {"id": OTHER_IDP}}
SVC, SVC_OTHER = {"service_token": {"token_id": TOKEN}}, {"service_token": {"token_id": "tok-2"}}
ANY_SVC: dict[str, Any] = {"any_valid_service_token": {}}
BAD, WEIRD = {"planet": {"name": "mars"}}, {"email": "alice@widgetcorp.test"}


def group(name: str) -> dict[str, Any]:
    return {"group": {"id": name}}


def _group(name: str, include: list[Any], require: list[Any] = [], exclude: list[Any] = []) -> Group:  # noqa: B006
    return parse_group(id=name, name=name, include=include, require=require, exclude=exclude)


GROUPS = {
    g.id: g
    for g in [
        _group("eng-pt", [OKTA], [PT]),
        _group("eng-fr", [OKTA], [FR]),
        _group("iberia", [PT, {"geo": {"country_code": "ES"}}]),
        _group("nobody", []),
        _group("not-alice", [EVERY], [], [E_ALICE]),
        _group("outer", [group("eng-pt")]),
        _group("loop-a", [group("loop-b")]),
        _group("loop-b", [group("loop-a")]),
        _group("self", [EVERY, group("self")]),
        _group("dangling", [group("missing")]),
        _group("broken", [EVERY, BAD]),
        _group("machines", [ANY_SVC]),
        *[_group(f"deep-{n}", [group(f"deep-{n + 1}")]) for n in range(1, MAX_GROUP_DEPTH)],
        _group(f"deep-{MAX_GROUP_DEPTH}", [E_ALICE]),
        _group("too-deep", [group("deep-1")]),
    ]
}


def P(decision: str, include: list[Any], require: list[Any] | None = None, exclude: list[Any] | None = None) -> Any:
    return (decision, include, require or [], exclude or [])


def policies_of(specs: list[Any]) -> list[Policy]:
    return [
        parse_policy(
            id=f"p{n}", name=f"policy {n}", decision=d, precedence=n, include=i, require=r, exclude=x, version="v1"
        )
        for n, (d, i, r, x) in enumerate(specs, start=1)
    ]


WHO: dict[str, Context] = {
    "alice": Context("203.0.113.7", "PT", ALICE),
    "alice@fr": Context("203.0.113.7", "FR", ALICE),
    "alice@nowhere": Context("203.0.113.7", "", ALICE),
    "alice@nodb": Context("203.0.113.7", None, ALICE),
    "alice@v6": Context("2001:db8::7", "PT", ALICE),
    "alice@mapped": Context("::ffff:203.0.113.7", "PT", ALICE),
    "alice@badip": Context("not an address", "PT", ALICE),
    "unverified": Context("203.0.113.7", "PT", replace(ALICE, email_verified=False)),
    "noemail": Context("203.0.113.7", "PT", replace(ALICE, email="")),
    "kelvin": Context("203.0.113.7", "PT", replace(ALICE, email="\u212aate@widgetcorp.test")),
    "anonymous": Context("203.0.113.7", "PT"),
    "machine": Context("203.0.113.7", "PT", None, TOKEN),
    "alice+machine": Context("203.0.113.7", "PT", ALICE, TOKEN),
}

A, D, B, S = "allow", "deny", "bypass", "non_identity"
# (who, policies, outcome, reason)
TABLE: list[tuple[str, list[Any], str, str]] = [
    # nothing, empty
    ("alice", [], "no_match", "no_policy_matches"),
    ("anonymous", [], "no_match", "no_policy_matches"),
    ("machine", [], "no_match", "service_token_not_allowed"),
    ("alice", [P(A, [])], "no_match", "no_policy_matches"),
    ("alice", [P(A, [], [EVERY])], "no_match", "no_policy_matches"),
    ("alice", [P(D, [])], "no_match", "no_policy_matches"),
    ("anonymous", [P(B, [])], "no_match", "no_policy_matches"),
    # selectors, one by one
    ("alice", [P(A, [EVERY])], "allow", "allowed"),
    ("unverified", [P(A, [EVERY])], "allow", "allowed"),
    ("alice", [P(A, [E_ALICE])], "allow", "allowed"),
    ("alice", [P(A, [E_UPPER])], "allow", "allowed"),
    ("alice", [P(A, [E_BOB])], "no_match", "email_not_allowed"),
    ("unverified", [P(A, [E_ALICE])], "no_match", "email_not_verified"),
    ("noemail", [P(A, [E_ALICE])], "no_match", "email_not_allowed"),
    ("kelvin", [P(A, [{"email": {"email": "kate@widgetcorp.test"}}])], "no_match", "email_not_allowed"),
    ("alice", [P(A, [DOMAIN])], "allow", "allowed"),
    ("alice", [P(A, [DOMAIN_UPPER])], "allow", "allowed"),
    ("alice", [P(A, [DOMAIN_SUB])], "no_match", "email_not_allowed"),
    ("alice", [P(A, [DOMAIN_OTHER])], "no_match", "email_not_allowed"),
    ("unverified", [P(A, [DOMAIN])], "no_match", "email_not_verified"),
    ("noemail", [P(A, [DOMAIN])], "no_match", "email_not_allowed"),
    ("alice", [P(A, [PT])], "allow", "allowed"),
    ("alice", [P(A, [PT_LOWER])], "allow", "allowed"),
    ("alice@fr", [P(A, [PT])], "no_match", "country_not_allowed"),
    ("alice@nowhere", [P(A, [PT])], "no_match", "country_not_allowed"),
    ("alice@nodb", [P(A, [PT])], "error", "policy_error"),
    ("alice", [P(A, [NET])], "allow", "allowed"),
    ("alice@mapped", [P(A, [NET])], "allow", "allowed"),
    ("alice@v6", [P(A, [NET])], "no_match", "ip_not_allowed"),
    ("alice@v6", [P(A, [NET6])], "allow", "allowed"),
    ("alice", [P(A, [NET_OTHER])], "no_match", "ip_not_allowed"),
    ("alice@badip", [P(A, [NET])], "error", "policy_error"),
    ("alice", [P(A, [{"ip": {"ip": "300.1.1.1/8"}}])], "error", "policy_error"),
    ("alice", [P(A, [OKTA])], "allow", "allowed"),
    ("alice", [P(A, [OKTA_CASE])], "no_match", "group_not_allowed"),
    ("alice", [P(A, [OKTA_OTHER_IDP])], "no_match", "group_not_allowed"),
    ("alice", [P(A, [OKTA_MISSING])], "no_match", "group_not_allowed"),
    ("alice", [P(A, [claim("department", "it")])], "allow", "allowed"),
    ("alice", [P(A, [claim("department", "IT")])], "no_match", "group_not_allowed"),
    ("alice", [P(A, [claim("department", "it", OTHER_IDP)])], "no_match", "group_not_allowed"),
    ("alice", [P(A, [claim("level", "3")])], "allow", "allowed"),
    ("alice", [P(A, [claim("contractor", "false")])], "allow", "allowed"),
    ("alice", [P(A, [claim("contractor", "0")])], "no_match", "group_not_allowed"),
    ("alice", [P(A, [claim("roles", "ops")])], "allow", "allowed"),
    ("alice", [P(A, [claim("groups", "ssh")])], "allow", "allowed"),
    ("alice", [P(A, [claim("absent", "x")])], "no_match", "group_not_allowed"),
    ("alice", [P(A, [claim("nested", "x")])], "error", "policy_error"),
    ("alice", [P(A, [METHOD])], "allow", "allowed"),
    ("alice", [P(A, [METHOD_OTHER])], "no_match", "login_method_not_allowed"),
    ("alice", [P(A, [SVC])], "no_match", "service_token_not_allowed"),
    ("alice+machine", [P(A, [SVC])], "allow", "allowed"),
    ("alice", [P(A, [ANY_SVC])], "no_match", "service_token_not_allowed"),
    ("alice+machine", [P(A, [ANY_SVC])], "allow", "allowed"),
    # include OR, require AND, exclude NOT
    ("alice", [P(A, [E_BOB, E_ALICE])], "allow", "allowed"),
    ("alice", [P(A, [E_BOB, FR])], "no_match", "no_policy_matches"),
    ("alice", [P(A, [EVERY], [PT])], "allow", "allowed"),
    ("alice@fr", [P(A, [EVERY], [PT])], "no_match", "country_not_allowed"),
    ("alice", [P(A, [EVERY], [PT, FR])], "no_match", "country_not_allowed"),
    ("alice", [P(A, [EVERY], [PT, OKTA, NET])], "allow", "allowed"),
    ("alice", [P(A, [EVERY], [PT, OKTA_MISSING, NET])], "no_match", "group_not_allowed"),
    ("alice", [P(A, [E_BOB], [PT])], "no_match", "email_not_allowed"),
    ("alice", [P(A, [EVERY], [], [E_BOB])], "allow", "allowed"),
    ("alice", [P(A, [EVERY], [], [E_ALICE])], "no_match", "email_not_allowed"),
    ("alice", [P(A, [EVERY], [], [E_BOB, PT])], "no_match", "country_not_allowed"),
    ("alice", [P(A, [E_ALICE], [E_ALICE], [E_ALICE])], "no_match", "email_not_allowed"),
    ("alice", [P(A, [EVERY], [], [METHOD])], "no_match", "login_method_not_allowed"),
    ("unverified", [P(A, [EVERY], [], [E_ALICE])], "allow", "allowed"),
    # several policies, precedence
    ("alice", [P(A, [E_ALICE]), P(D, [EVERY])], "allow", "allowed"),
    ("alice", [P(D, [EVERY]), P(A, [E_ALICE])], "deny", "blocked_by_policy"),
    ("alice", [P(D, [E_BOB]), P(A, [EVERY])], "allow", "allowed"),
    ("alice", [P(D, [PT]), P(A, [EVERY])], "deny", "blocked_by_policy"),
    ("alice", [P(D, [EVERY], [FR]), P(A, [EVERY])], "allow", "allowed"),
    ("alice", [P(D, [EVERY], [], [E_ALICE]), P(A, [EVERY])], "allow", "allowed"),
    ("alice", [P(A, [E_BOB]), P(A, [E_ALICE])], "allow", "allowed"),
    ("alice", [P(A, [E_BOB]), P(A, [EVERY], [FR])], "no_match", "country_not_allowed"),
    ("alice", [P(D, [EVERY])], "deny", "blocked_by_policy"),
    # bypass and service auth come first, whatever their precedence
    ("anonymous", [P(B, [EVERY])], "bypass", "bypass"),
    ("alice", [P(D, [EVERY]), P(B, [EVERY])], "bypass", "bypass"),
    ("alice", [P(A, [EVERY]), P(B, [EVERY])], "bypass", "bypass"),
    ("anonymous", [P(B, [NET])], "bypass", "bypass"),
    ("anonymous", [P(B, [NET_OTHER]), P(A, [EVERY])], "no_match", "login_required"),
    ("anonymous", [P(B, [EVERY], [FR])], "no_match", "no_policy_matches"),
    ("anonymous", [P(B, [EVERY], [], [PT])], "no_match", "no_policy_matches"),
    ("machine", [P(S, [ANY_SVC])], "service_auth", "service_token"),
    ("machine", [P(S, [SVC])], "service_auth", "service_token"),
    ("machine", [P(S, [SVC_OTHER])], "no_match", "service_token_not_allowed"),
    ("machine", [P(D, [EVERY]), P(S, [SVC])], "service_auth", "service_token"),
    ("machine", [P(S, [SVC], [PT])], "service_auth", "service_token"),
    ("machine", [P(S, [SVC], [FR])], "no_match", "service_token_not_allowed"),
    ("machine", [P(S, [ANY_SVC], [], [SVC])], "no_match", "service_token_not_allowed"),
    ("machine", [P(S, [EVERY])], "service_auth", "service_token"),
    ("anonymous", [P(S, [EVERY])], "no_match", "service_token_required"),
    ("anonymous", [P(S, [NET])], "no_match", "service_token_required"),
    ("anonymous", [P(S, [SVC])], "no_match", "service_token_required"),
    ("anonymous", [P(S, [SVC]), P(A, [EVERY])], "no_match", "login_required"),
    ("alice", [P(S, [EVERY]), P(A, [E_ALICE])], "allow", "allowed"),
    ("alice+machine", [P(S, [SVC]), P(A, [E_ALICE])], "service_auth", "service_token"),
    ("alice+machine", [P(S, [SVC_OTHER]), P(A, [E_ALICE])], "allow", "allowed"),
    ("machine", [P(S, [SVC_OTHER]), P(B, [EVERY])], "bypass", "bypass"),
    ("machine", [P(B, [EVERY]), P(S, [SVC])], "bypass", "bypass"),
    ("machine", [P(A, [EVERY])], "no_match", "service_token_not_allowed"),
    # allow and deny need a person
    ("anonymous", [P(A, [EVERY])], "no_match", "login_required"),
    ("anonymous", [P(D, [EVERY])], "no_match", "no_policy_matches"),
    ("anonymous", [P(A, [NET])], "no_match", "login_required"),
    # identity selectors where nobody is asked to log in: an error, not "no"
    ("anonymous", [P(B, [E_ALICE])], "error", "policy_error"),
    ("alice", [P(B, [E_ALICE])], "error", "policy_error"),
    ("anonymous", [P(B, [EVERY], [], [E_ALICE])], "error", "policy_error"),
    ("machine", [P(S, [SVC], [OKTA])], "error", "policy_error"),
    ("anonymous", [P(S, [SVC], [OKTA]), P(A, [EVERY])], "no_match", "login_required"),
    ("anonymous", [P(B, [group("not-alice")])], "error", "policy_error"),
    # groups
    ("alice", [P(A, [group("eng-pt")])], "allow", "allowed"),
    ("alice@fr", [P(A, [group("eng-pt")])], "no_match", "country_not_allowed"),
    ("alice", [P(A, [group("eng-fr")])], "no_match", "country_not_allowed"),
    ("alice", [P(A, [group("eng-fr"), group("eng-pt")])], "allow", "allowed"),
    ("alice", [P(A, [EVERY], [group("iberia")])], "allow", "allowed"),
    ("alice@fr", [P(A, [EVERY], [group("iberia")])], "no_match", "country_not_allowed"),
    ("alice", [P(A, [EVERY], [], [group("iberia")])], "no_match", "no_policy_matches"),
    ("alice", [P(A, [group("nobody")])], "no_match", "no_policy_matches"),
    ("alice", [P(A, [group("not-alice")])], "no_match", "email_not_allowed"),
    ("alice", [P(A, [EVERY], [], [group("not-alice")])], "allow", "allowed"),
    ("alice", [P(A, [group("outer")])], "allow", "allowed"),
    ("alice@fr", [P(A, [group("outer")])], "no_match", "country_not_allowed"),
    ("alice", [P(D, [group("outer")]), P(A, [EVERY])], "deny", "blocked_by_policy"),
    ("alice", [P(A, [group("deep-1")])], "allow", "allowed"),
    ("machine", [P(S, [group("machines")])], "service_auth", "service_token"),
    # AC-85 groups that cannot be answered
    ("alice", [P(A, [group("too-deep")])], "error", "policy_error"),
    ("alice", [P(A, [group("loop-a")])], "error", "policy_error"),
    ("alice", [P(A, [EVERY, group("loop-b")])], "error", "policy_error"),
    ("alice", [P(A, [group("self")])], "error", "policy_error"),
    ("alice", [P(A, [group("missing")])], "error", "policy_error"),
    ("alice", [P(A, [EVERY], [], [group("missing")])], "error", "policy_error"),
    ("alice", [P(A, [group("dangling")])], "error", "policy_error"),
    ("alice", [P(A, [group("broken")])], "error", "policy_error"),
    # AC-81 unknown and malformed rules
    ("alice", [P(A, [BAD])], "error", "policy_error"),
    ("alice", [P(A, [EVERY, BAD])], "error", "policy_error"),
    ("alice", [P(A, [EVERY], [BAD])], "error", "policy_error"),
    ("alice", [P(A, [EVERY], [], [BAD])], "error", "policy_error"),
    ("alice", [P(A, [E_BOB], [BAD])], "error", "policy_error"),
    ("alice", [P(D, [BAD]), P(A, [EVERY])], "error", "policy_error"),
    ("alice", [P(A, [EVERY]), P(D, [BAD])], "allow", "allowed"),
    ("anonymous", [P(B, [BAD]), P(A, [EVERY])], "error", "policy_error"),
    ("alice", [P(A, [WEIRD])], "error", "policy_error"),
    ("alice", [P(A, ["everyone"])], "error", "policy_error"),
    ("alice", [P(A, [{}])], "error", "policy_error"),
    ("alice", [P(A, [{"everyone": {}, "geo": {"country_code": "PT"}}])], "error", "policy_error"),
    ("alice", [P(A, [{"email": {}}])], "error", "policy_error"),
    ("alice", [P(A, [{"email": {"email": 5}}])], "error", "policy_error"),
    ("alice", [P(A, [{"everyone": {"but": "alice"}}])], "error", "policy_error"),
    ("alice", [P(A, None)], "error", "policy_error"),  # type: ignore[arg-type]
    ("alice", [P(A, {"everyone": {}})], "error", "policy_error"),  # type: ignore[arg-type]
    ("alice", [P("permit", [EVERY])], "error", "policy_error"),
    ("alice", [P(A, [EVERY]), P("permit", [EVERY])], "error", "policy_error"),
    ("alice@nodb", [P(D, [FR]), P(A, [EVERY])], "error", "policy_error"),
    ("alice@nodb", [P(A, [E_ALICE])], "allow", "allowed"),
    ("alice@nodb", [P(A, [E_ALICE, PT])], "error", "policy_error"),
]
_ALLOWED = {Outcome.ALLOW, Outcome.BYPASS, Outcome.SERVICE_AUTH}


def test_ac_82_the_table_is_large_enough() -> None:
    assert len(TABLE) >= 130


@pytest.mark.parametrize(("who", "specs", "outcome", "reason"), TABLE)
def test_golden_table(who: str, specs: list[Any], outcome: str, reason: str) -> None:
    decision = evaluate(policies_of(specs), GROUPS, WHO[who])
    assert (decision.outcome.value, decision.reason) == (outcome, reason), decision.trace
    assert decision.allowed == (decision.outcome in _ALLOWED)
    assert decision.message


def test_message_names_the_persons_own_country_and_nothing_of_the_policy() -> None:
    decision = evaluate(policies_of([P(A, [OKTA], [PT])]), GROUPS, WHO["alice@fr"])
    assert decision.message == "Your country (FR) is not one of those this application requires."


def test_trace_names_policy_rule_selector_actual_value_and_verdict() -> None:
    decision = evaluate(policies_of([P(D, [FR]), P(A, [E_BOB, group("eng-pt")])]), GROUPS, WHO["alice"])
    assert decision.trace[0] == {
        "policy": "policy 1",
        "policy_id": "p1",
        "decision": "deny",
        "version": "v1",
        "verdict": "no_match",
    }
    assert decision.trace[1] == {
        "policy": "policy 1",
        "policy_id": "p1",
        "decision": "deny",
        "list": "include",
        "rule": 1,
        "selector": "geo",
        "wanted": "FR",
        "actual": "PT",
        "verdict": "no_match",
    }
    inside = [entry for entry in decision.trace if entry.get("via") == ["eng-pt"]]
    assert [(entry["selector"], entry["verdict"]) for entry in inside] == [("okta", "match"), ("geo", "match")]
    assert (decision.policy_id, decision.policy_name) == ("p2", "policy 2")


def test_error_names_policy_and_problem_in_the_trace_only() -> None:
    decision = evaluate(policies_of([P(A, [BAD])]), GROUPS, WHO["alice"])
    assert "planet" in decision.trace[-1]["problem"]
    assert "planet" not in decision.message


def test_trace_is_bounded() -> None:
    many = [{"email": {"email": f"user{n}@x.test"}} for n in range(1000)]
    decision = evaluate(policies_of([P(A, many)]), GROUPS, WHO["alice"])
    assert len(decision.trace) == MAX_TRACE_ENTRIES + 1
    assert decision.trace[-1] == {"verdict": "left_out", "count": 1000 - MAX_TRACE_ENTRIES + 1}


def test_ac_85_dense_groups_are_answered_quickly() -> None:
    """Ten layers of thirty groups, each naming the whole next layer: 30^10 paths, 300 groups."""
    layers = {
        f"{layer}-{n}": _group(
            f"{layer}-{n}", [group(f"{layer + 1}-{m}") for m in range(30)] if layer < 9 else [E_ALICE]
        )
        for layer in range(10)
        for n in range(30)
    }
    assert evaluate(policies_of([P(A, [group("0-0")])]), layers, WHO["alice"]).allowed


def test_session_duration_comes_from_the_allow_policy() -> None:
    policy = replace(policies_of([P(A, [EVERY])])[0], session_duration_seconds=900)
    assert evaluate([policy], {}, WHO["alice"]).session_duration_seconds == 900


# --- Properties (AC-82) ---------------------------------------------------------------------------------------
GOOD = [EVERY, E_ALICE, E_BOB, DOMAIN, DOMAIN_OTHER, PT, FR, NET, NET6, OKTA, OKTA_MISSING, METHOD, METHOD_OTHER, SVC]
ALL = [*GOOD, ANY_SVC, BAD, group("eng-pt"), group("not-alice"), group("loop-a"), group("iberia"), group("broken")]
rules = st.lists(st.sampled_from(ALL), max_size=4)
specs = st.tuples(st.sampled_from([A, D, B, S]), rules, rules, rules)
spec_lists = st.lists(specs, max_size=5)
people = st.sampled_from(list(WHO.values()))


def decide(specs: list[Any], who: Context) -> Any:
    return evaluate(policies_of(specs), GROUPS, who)


@settings(max_examples=100, deadline=None)
@given(spec_lists, specs, st.integers(0, 5), people)
def test_ac_82_adding_a_block_never_widens(before: list[Any], spec: Any, at: int, who: Context) -> None:
    after = [*before[:at], (D, *spec[1:]), *before[at:]]
    assert not decide(after, who).allowed or decide(before, who).allowed


@settings(max_examples=100, deadline=None)
@given(spec_lists, st.integers(0, 4), st.sampled_from(ALL), people)
def test_ac_82_adding_a_require_never_widens(before: list[Any], at: int, rule: Any, who: Context) -> None:
    if at >= len(before) or before[at][0] == D:
        return
    decision, include, require, exclude = before[at]
    after = [*before[:at], (decision, include, [*require, rule], exclude), *before[at + 1 :]]
    assert not decide(after, who).allowed or decide(before, who).allowed


@settings(max_examples=100, deadline=None)
@given(spec_lists, st.integers(0, 4), st.sampled_from(ALL), people)
def test_adding_an_exclude_to_an_allow_never_widens(before: list[Any], at: int, rule: Any, who: Context) -> None:
    if at >= len(before) or before[at][0] == D:
        return
    decision, include, require, exclude = before[at]
    after = [*before[:at], (decision, include, require, [*exclude, rule]), *before[at + 1 :]]
    assert not decide(after, who).allowed or decide(before, who).allowed


@settings(max_examples=100, deadline=None)
@given(spec_lists, people, st.randoms(use_true_random=False))
def test_order_inside_a_list_is_irrelevant(before: list[Any], who: Context, rng: random.Random) -> None:
    after = [(d, *(rng.sample(rules, len(rules)) for rules in lists)) for d, *lists in before]
    first, second = decide(before, who), decide(after, who)
    assert (first.outcome, first.policy_id) == (second.outcome, second.policy_id)


@settings(max_examples=100, deadline=None)
@given(
    spec_lists,
    st.sampled_from(["include", "require", "exclude"]),
    st.sampled_from([BAD, WEIRD, group("missing")]),
    people,
)
def test_an_unanswerable_rule_in_the_first_policy_denies(
    before: list[Any], where: str, rule: Any, who: Context
) -> None:
    lists = {"include": [EVERY], "require": [], "exclude": []}
    lists[where] = [*lists[where], rule]
    decision = decide([(B, lists["include"], lists["require"], lists["exclude"]), *before], who)
    assert decision.outcome is Outcome.ERROR
    assert not decision.allowed


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
        max_leaves=8,
    ),
    people,
)
def test_arbitrary_json_as_rules_never_raises_and_never_allows(junk: Any, who: Context) -> None:
    assert not decide([(A, junk, [], [])], who).allowed
