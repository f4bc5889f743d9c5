"""Lint rules, as a table: the rules of a policy or group and the codes of what is found."""

from __future__ import annotations

import time
from typing import Any

import pytest

from access.lint import Lists, Surroundings, check_application, check_group, check_policy

EVERYONE: dict[str, Any] = {"everyone": {}}
PIN = "11111111-1111-4111-8111-111111111111"
OKTA = "22222222-2222-4222-8222-222222222222"


def geo(code: str) -> dict[str, Any]:
    return {"geo": {"country_code": code}}


def email(address: str) -> dict[str, Any]:
    return {"email": {"email": address}}


def domain(name: str) -> dict[str, Any]:
    return {"email_domain": {"domain": name}}


def method(provider: str) -> dict[str, Any]:
    return {"login_method": {"id": provider}}


def network(text: str) -> dict[str, Any]:
    return {"ip": {"ip": text}}


def group(name: str) -> dict[str, Any]:
    return {"group": {"id": name}}


AROUND = Surroundings(
    groups={
        "all": Lists([EVERYONE], name="all", id="all"),
        "pin": Lists([method(PIN)], name="pin", id="pin"),
        "iberia": Lists([geo("PT"), geo("ES")], name="iberia", id="iberia"),
        "staff": Lists([domain("x.test")], name="staff", id="staff"),
        "nobody": Lists([], name="nobody", id="nobody"),
        "loop-a": Lists([group("loop-b")], name="loop-a", id="loop-a"),
        "loop-b": Lists([EVERYONE], exclude=[group("loop-a")], name="loop-b", id="loop-b"),
        "all-but": Lists([EVERYONE], exclude=[email("x@x.test")], name="all-but", id="all-but"),
    },
    pin_providers=frozenset({PIN}),
)


@pytest.mark.parametrize(
    ("decision", "include", "require", "exclude", "codes"),
    [
        # --- certificates of machines
        ("non_identity", [network("192.0.2.0/24")], [{"certificate": {}}], [], ["certificate_required_only"]),
        ("non_identity", [{"certificate": {}}], [{"common_name": {"common_name": "ci"}}], [], []),
        ("non_identity", [{"service_token": {"token_id": PIN}}], [{"certificate": {}}], [], []),
        ("allow", [domain("x.test")], [{"certificate": {}}], [], []),
        # --- nothing to say
        ("allow", [email("a@x.test")], [], [], []),
        ("allow", [domain("x.test")], [geo("PT")], [], []),
        ("allow", [geo("PT"), geo("ES")], [domain("x.test")], [], []),
        ("allow", [EVERYONE], [domain("x.test")], [], []),
        ("allow", [EVERYONE], [group("iberia")], [], []),
        ("allow", [method(OKTA)], [], [], []),
        ("allow", [method(PIN)], [domain("x.test")], [], []),
        ("allow", [group("staff")], [group("iberia")], [], []),
        ("allow", [group("all-but")], [], [], []),
        ("deny", [EVERYONE], [], [], []),
        ("deny", [method(PIN)], [], [], []),
        ("non_identity", [{"any_valid_service_token": {}}], [], [], []),
        ("allow", [domain("x.test")], [network("10.0.0.0/8"), network("10.1.0.0/16")], [], []),
        ("allow", [domain("x.test")], [geo("PT"), geo("pt")], [], []),
        # --- several of a kind under Require
        ("allow", [email("a@x.test")], [geo("PT"), geo("ES")], [], ["require_conflict"]),
        ("deny", [EVERYONE], [geo("PT"), geo("ES")], [], ["require_conflict"]),
        ("allow", [EVERYONE], [email("a@x.test"), email("b@x.test")], [], ["require_conflict"]),
        ("allow", [EVERYONE], [domain("x.test"), domain("y.test")], [], ["require_conflict"]),
        ("allow", [domain("x.test")], [method(PIN), method(OKTA)], [], ["require_conflict"]),
        ("allow", [domain("x.test")], [network("10.0.0.0/8"), network("192.0.2.0/24")], [], ["require_conflict"]),
        ("allow", [domain("x.test")], [network("10.0.0.0/8"), network("2001:db8::/32")], [], ["require_conflict"]),
        # --- everyone
        ("allow", [EVERYONE], [], [], ["allow_everyone"]),
        ("allow", [email("a@x.test"), EVERYONE], [], [], ["allow_everyone"]),
        ("allow", [EVERYONE], [EVERYONE], [], ["allow_everyone"]),
        ("allow", [group("all")], [], [], ["allow_everyone"]),
        ("non_identity", [EVERYONE], [], [], ["any_service_token"]),
        ("bypass", [network("10.0.0.0/8")], [], [], ["bypass"]),
        # --- the PIN
        ("allow", [method(PIN)], [], [], ["allow_pin"]),
        ("allow", [EVERYONE], [method(PIN)], [], ["allow_pin"]),
        ("allow", [group("pin")], [], [], ["allow_pin"]),
        ("allow", [email("a@x.test"), method(PIN)], [], [], ["allow_pin"]),
        # --- nobody
        ("allow", [], [], [], ["empty_include"]),
        ("allow", [group("nobody")], [], [], ["empty_include"]),
        ("allow", [domain("x.test")], [], [EVERYONE], ["excludes_everyone"]),
        ("allow", [domain("x.test")], [geo("PT")], [geo("PT")], ["require_excluded"]),
        # --- groups
        ("allow", [group("gone")], [], [], ["missing_group"]),
        ("allow", [domain("x.test")], [], [group("loop-a")], ["group_cycle"]),
        # --- what cannot be read is not lint's business, and opens nothing
        ("allow", [{"unheard_of": {}}], [], [], []),
        ("allow", [EVERYONE], [{"unheard_of": {}}], [], []),
    ],
)
def test_policies(decision: str, include: Any, require: Any, exclude: Any, codes: list[str]) -> None:
    found = check_policy(Lists(include, require, exclude, "p", decision, "p"), AROUND)
    assert [finding.code for finding in found] == codes
    assert all(finding.message.endswith(".") for finding in found)


@pytest.mark.parametrize(
    ("first", "second", "hidden"),
    [
        (("allow", [EVERYONE], [], []), ("allow", [email("a@x.test")], [], []), True),
        (("deny", [EVERYONE], [], []), ("allow", [email("a@x.test")], [geo("PT")], []), True),
        (("bypass", [EVERYONE], [], []), ("deny", [email("a@x.test")], [], []), True),
        (("bypass", [EVERYONE], [], []), ("non_identity", [{"any_valid_service_token": {}}], [], []), True),
        (("allow", [domain("x.test"), domain("y.test")], [], []), ("deny", [domain("x.test")], [], []), True),
        (("allow", [domain("x.test")], [], []), ("deny", [EVERYONE], [domain("x.test")], []), True),
        (("allow", [EVERYONE], [geo("PT")], []), ("allow", [domain("x.test")], [geo("PT")], []), True),
        (("allow", [EVERYONE], [geo("PT")], []), ("allow", [domain("x.test")], [], []), False),
        (("allow", [EVERYONE], [], [geo("PT")]), ("allow", [domain("x.test")], [], []), False),
        (("allow", [EVERYONE], [], [geo("PT")]), ("allow", [domain("x.test")], [], [geo("PT")]), True),
        (("allow", [domain("x.test")], [], []), ("allow", [domain("y.test")], [], []), False),
        (("non_identity", [{"any_valid_service_token": {}}], [], []), ("allow", [domain("x.test")], [], []), False),
        (("non_identity", [EVERYONE], [], []), ("bypass", [EVERYONE], [], []), False),
        (("allow", [EVERYONE, {"unheard_of": {}}], [], []), ("allow", [domain("x.test")], [], []), False),
    ],
)
def test_unreachable(first: Any, second: Any, hidden: bool) -> None:
    earlier, later = (Lists(i, r, e, name, d, name) for name, (d, i, r, e) in (("one", first), ("two", second)))
    _, found = check_application([earlier, later], AROUND)
    assert ("unreachable" in [finding.code for finding in found]) is hidden
    if hidden:
        assert '"one"' in next(finding.message for finding in found if finding.code == "unreachable")


def test_bypass_hides_people_policies_wherever_it_stands() -> None:
    allow, bypass = Lists([domain("x.test")], decision="allow"), Lists([EVERYONE], name="open", decision="bypass")
    first, second = check_application([allow, bypass], AROUND)
    assert [finding.code for finding in first] == ["unreachable"]
    assert [finding.code for finding in second] == ["bypass"]


def test_groups() -> None:
    assert [f.code for f in check_group(AROUND.groups["loop-a"], AROUND)] == ["group_cycle"]
    myself = Lists([group("me")], name="me", id="me")
    assert [f.code for f in check_group(myself, Surroundings({"me": myself}))] == ["group_cycle"]
    assert [f.code for f in check_group(Lists([]), AROUND)] == ["empty_include"]
    assert check_group(AROUND.groups["staff"], AROUND) == []


def test_a_dense_web_of_groups_stays_cheap() -> None:
    groups = {f"g{n}": Lists([group(f"g{m}") for m in range(n)] or [email("a@x.test")], id=f"g{n}") for n in range(60)}
    start = time.process_time()
    found = check_policy(Lists([group("g59")], decision="allow"), Surroundings(groups))
    assert time.process_time() - start < 10, "looks at each path, not at each group"
    assert found == []
