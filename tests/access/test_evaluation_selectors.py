"""The second half of the golden table: every selector of product.md 1.5 in every place a rule can stand.

With tests/access/test_evaluation.py the table has more than 250 cases.
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest

from access.evaluation import parse_group
from access.selectors import Certificate, Context, NamedList, Person
from access.terms import Terms
from tests.access.test_evaluation import ALICE, EVERY, GROUPS, IDP, TABLE, P, evaluate, policies_of

PERSON = replace(
    ALICE,
    groups=("Widget", "widget/Ops", "6f8a1b54-0C3E-4b8f-9d0e-1f2a3b4c5d6e", "Staff@widgetcorp.test", "engineers"),
    claims={"department": "it", "unix": ["ada", "dba"]},
    authentication_methods=("pwd", "mfa"),
)
LISTS = {
    "mails": NamedList("Mails", emails=frozenset({"alice@widgetcorp.test"})),
    "others": NamedList("Others", emails=frozenset({"bob@widgetcorp.test"})),
    "nets": NamedList("Nets", networks=(ipaddress.ip_network("203.0.113.0/24"), ipaddress.ip_network("2001:db8::/32"))),
    "far": NamedList("Far", networks=(ipaddress.ip_network("198.51.100.0/24"),)),
}
YES, NO, DOWN = (
    ("https://yes.test/", "https://k.test/"),
    ("https://no.test/", "https://k.test/"),
    ("https://down.test/", "k"),
)
FULL = Context(
    "203.0.113.7",
    "PT",
    PERSON,
    certificate=Certificate("dev1", "ab" * 32),
    linked_applications=frozenset({"app-1"}),
    lists=LISTS,
    external={YES: True, NO: False, DOWN: "It did not answer."},
)


def of(name: str, /, **body: str) -> dict[str, Any]:
    return {name: body}


def held(name: str, /, **body: str) -> dict[str, Any]:
    return {name: {**body, "identity_provider_id": IDP}}


def external(pair: tuple[str, str]) -> dict[str, Any]:
    return of("external_evaluation", evaluate_url=pair[0], keys_url=pair[1])


# (rule that holds, rule that does not, reason when it is missed, asks about a person)
SELECTORS: list[tuple[dict[str, Any], dict[str, Any], str, bool]] = [
    (of("email_list", id="mails"), of("email_list", id="others"), "email_not_allowed", True),
    (of("ip_list", id="nets"), of("ip_list", id="far"), "ip_not_allowed", False),
    (
        held("azureAD", id="6F8A1B54-0c3e-4b8f-9d0e-1f2a3b4c5d6e"),
        held("azureAD", id="00000000-0c3e-4b8f-9d0e-1f2a3b4c5d6e"),
        "group_not_allowed",
        True,
    ),
    (held("github-organization", name="widget"), held("github-organization", name="gadget"), "group_not_allowed", True),
    (
        held("github-organization", name="Widget", team="ops"),
        held("github-organization", name="widget", team="op"),
        "group_not_allowed",
        True,
    ),
    (
        held("gsuite", email="staff@widgetcorp.test"),
        held("gsuite", email="staff@evil.test"),
        "group_not_allowed",
        True,
    ),
    (
        held("saml", attribute_name="unix", attribute_value="dba"),
        held("saml", attribute_name="unix", attribute_value="DBA"),
        "group_not_allowed",
        True,
    ),
    (
        held("saml", attribute_name="department", attribute_value="it"),
        held("saml", attribute_name="groups", attribute_value="engineers"),
        "group_not_allowed",
        True,
    ),
    (
        of("auth_method", auth_method="mfa"),
        of("auth_method", auth_method="hwk"),
        "authentication_method_not_allowed",
        True,
    ),
    (of("common_name", common_name="dev1"), of("common_name", common_name="dev2"), "certificate_required", False),
    (of("linked_app_token", app_uid="app-1"), of("linked_app_token", app_uid="app-2"), "linked_token_required", False),
    (external(YES), external(NO), "external_evaluation_refused", True),
]
NAMES = [next(iter(rule)) for rule, *_ in SELECTORS]
A, D, B, S = "allow", "deny", "bypass", "non_identity"
ALL = P(A, [EVERY])


def cases() -> list[Any]:
    """Each selector in twelve places: (policies, outcome, reason)."""
    found = []
    for name, (yes, no, reason, asks_person) in zip(NAMES, SELECTORS, strict=True):
        early = ("error", "policy_error") if asks_person else ("bypass", "bypass")
        places: list[tuple[str, list[Any], str, str]] = [
            ("include", [P(A, [yes])], "allow", "allowed"),
            ("include-missed", [P(A, [no])], "no_match", reason),
            ("include-any", [P(A, [no, yes])], "allow", "allowed"),
            ("require", [P(A, [EVERY], [yes])], "allow", "allowed"),
            ("require-missed", [P(A, [EVERY], [no])], "no_match", reason),
            ("require-all", [P(A, [EVERY], [yes, no])], "no_match", reason),
            ("exclude", [P(A, [EVERY], [], [yes])], "no_match", reason),
            ("exclude-missed", [P(A, [EVERY], [], [no])], "allow", "allowed"),
            ("block", [P(D, [yes]), ALL], "deny", "blocked_by_policy"),
            ("block-missed", [P(D, [no]), ALL], "allow", "allowed"),
            ("group", [P(A, [{"group": {"id": "inner"}}])], "allow", "allowed"),
            ("bypass", [P(B, [yes])], *early),
        ]
        found += [
            pytest.param(yes, policies, outcome, why, id=f"{name}-{place}") for place, policies, outcome, why in places
        ]
    return found


CASES = cases()


def test_the_whole_table_is_large_enough() -> None:
    assert len(TABLE) + len(CASES) >= 250


@pytest.mark.parametrize(("inner", "specs", "outcome", "reason"), CASES)
def test_golden_table(inner: dict[str, Any], specs: list[Any], outcome: str, reason: str) -> None:
    groups = {**GROUPS, "inner": parse_group(id="inner", name="inner", include=[inner], require=[], exclude=[])}
    decision = evaluate(policies_of(specs), groups, FULL)
    assert (decision.outcome.value, decision.reason) == (outcome, reason), decision.trace


MACHINE = replace(FULL, person=None)
ODD: list[tuple[Context, list[Any], str, str]] = [
    # what cannot be known refuses, wherever it stands
    (FULL, [P(A, [of("email_list", id="gone")])], "error", "policy_error"),
    (FULL, [P(A, [of("ip_list", id="gone")])], "error", "policy_error"),
    (FULL, [P(D, [of("ip_list", id="gone")]), ALL], "error", "policy_error"),
    (FULL, [P(A, [external(DOWN)])], "error", "policy_error"),
    (FULL, [P(D, [external(DOWN)]), ALL], "error", "policy_error"),
    (FULL, [P(A, [EVERY, external(DOWN)])], "error", "policy_error"),
    (FULL, [P(A, [external(("https://never.test/", "k"))])], "error", "policy_error"),
    (replace(FULL, ip="nonsense"), [P(A, [of("ip_list", id="nets")])], "error", "policy_error"),
    # addresses in other spellings
    (replace(FULL, ip="::ffff:203.0.113.9"), [P(A, [of("ip_list", id="nets")])], "allow", "allowed"),
    (replace(FULL, ip="2001:db8::1"), [P(A, [of("ip_list", id="nets")])], "allow", "allowed"),
    (
        replace(FULL, person=replace(PERSON, email="ALICE@widgetcorp.test")),
        [P(A, [of("email_list", id="mails")])],
        "allow",
        "allowed",
    ),
    (
        replace(FULL, person=replace(PERSON, email_verified=False)),
        [P(A, [of("email_list", id="mails")])],
        "no_match",
        "email_not_verified",
    ),
    # another login method holds none of these groups
    *[
        (replace(FULL, person=replace(PERSON, provider_id="idp-2")), [P(A, [rule])], "no_match", "group_not_allowed")
        for rule, _, reason, _ in SELECTORS
        if reason == "group_not_allowed"
    ],
    # machines: a certificate or a linked token opens only policies that ask for one
    (MACHINE, [P(S, [of("certificate")])], "service_auth", "service_token"),
    (MACHINE, [P(S, [of("common_name", common_name="dev1")])], "service_auth", "service_token"),
    (MACHINE, [P(S, [of("linked_app_token", app_uid="app-1")])], "service_auth", "service_token"),
    # (under Include: a Require rule that opened the door would let more in by being added)
    (MACHINE, [P(S, [EVERY], [of("certificate")])], "no_match", "service_token_required"),
    (replace(MACHINE, service_token_id="tok-1"), [P(S, [EVERY], [of("certificate")])], "service_auth", "service_token"),
    (MACHINE, [P(S, [of("certificate")], [of("certificate")])], "service_auth", "service_token"),
    (MACHINE, [P(S, [EVERY])], "no_match", "service_token_required"),
    (MACHINE, [P(S, [EVERY], [], [of("certificate")])], "no_match", "service_token_required"),
    (MACHINE, [P(S, [of("ip_list", id="nets")])], "no_match", "service_token_required"),
    (replace(MACHINE, certificate=None), [P(S, [of("certificate")])], "no_match", "service_token_required"),
    (MACHINE, [P(A, [of("certificate")])], "no_match", "login_required"),
    (MACHINE, [P(B, [of("certificate")])], "bypass", "bypass"),
]


@pytest.mark.parametrize(("context", "specs", "outcome", "reason"), ODD)
def test_golden_table_of_odd_facts(context: Context, specs: list[Any], outcome: str, reason: str) -> None:
    decision = evaluate(policies_of(specs), GROUPS, context)
    assert (decision.outcome.value, decision.reason) == (outcome, reason), decision.trace


@pytest.mark.parametrize(
    ("terms", "context", "reason"),
    [
        (Terms(needs_purpose=True), FULL, "purpose_required"),
        (Terms(needs_purpose=True), replace(FULL, is_justified=True), "allowed"),
        (Terms(needs_approval=True), FULL, "approval_required"),
        (Terms(needs_approval=True), replace(FULL, approvals={"p1": 60}), "allowed"),
        (Terms(needs_approval=True), replace(FULL, approvals={"p2": 60}), "approval_required"),
        (Terms(needs_purpose=True, needs_approval=True), replace(FULL, approvals={"p1": 60}), "purpose_required"),
        (Terms(needs_purpose=True, needs_approval=True), replace(FULL, is_justified=True), "approval_required"),
    ],
)
def test_consent_stands_before_the_yes_and_no_later_policy_is_asked(
    terms: Terms, context: Context, reason: str
) -> None:
    first, second = policies_of([ALL, ALL])
    decision = evaluate([replace(first, terms=terms), second], GROUPS, context)
    assert (decision.reason, decision.allowed) == (reason, reason == "allowed")


def test_person_without_anything() -> None:
    empty = replace(FULL, person=Person(), certificate=None, linked_applications=frozenset())
    for yes, _, _, _ in SELECTORS:
        if next(iter(yes)) not in {"ip_list", "external_evaluation"}:
            assert not evaluate(policies_of([P(A, [yes])]), GROUPS, empty).allowed, yes
