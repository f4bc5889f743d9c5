"""How long a policy decision takes: 1,000 rules over 1,000 groups, against one token verification of the same run.

    PYTHONPATH=. .venv/bin/python bench/evaluation.py

The bound of the product is 2 ms for a decision with everything that is stored about it. Rules are made ready once per
edit, as in production (access/decisions.py); what that costs is the last line of the table.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from access.evaluation import Group, Policy, evaluate, parse_group, parse_policy, rules_version
from access.selectors import Context, NamedList, Person

ROUNDS = 300
RULES, GROUPS = 1000, 1000
BOUND_SECONDS = 0.002
LIST = "22222222-2222-4222-8222-222222222222"
NOBODY = Person("mallory@elsewhere.test", True, "idp", ("other-1",))
# 2,500 rules more than the bound speaks of: shown, not held against it.
_BEYOND = "beyond: 1.5 Require, 1 Exclude in each group"
Timing = tuple[float, float]


def policies() -> list[Policy]:
    """Five policies with 200 rules each; the last rule of the last policy is the first that matches."""
    rules = [{"group": {"id": f"group-{number}"}} for number in range(RULES)]
    size = RULES // 5
    return [
        parse_policy(
            id=f"policy-{number}",
            name=f"Policy {number}",
            decision="allow",
            precedence=number,
            include=rules[number * size : (number + 1) * size],
            require=[],
            exclude=[],
        )
        for number in range(5)
    ]


def groups(*, all_lists: bool = False) -> dict[str, Group]:
    """A chain of ten groups each; the end of a chain asks for an address, a provider's group or a list. `all_lists`:
    and each group requires a country or a network, and excludes a person."""
    found = {}
    for number in range(GROUPS):
        leaf = [
            {"email": {"email": f"person-{number}@corp.test"}},
            {"okta": {"name": f"team-{number}", "identity_provider_id": "idp"}},
            {"email_list": {"id": LIST}},
        ][number % 3]
        deeper = number % 10 != 9
        include: list[Any] = [{"group": {"id": f"group-{number + 1}"}}] if deeper else [leaf]
        if number == GROUPS - 1:
            include = [{"email": {"email": "alice@corp.test"}}]
        found[f"group-{number}"] = parse_group(
            id=f"group-{number}",
            name=f"Group {number}",
            include=include,
            require=[{"geo": {"country_code": "PT"}}, {"ip": {"ip": "203.0.113.0/24"}}][: 1 + number % 2]
            if all_lists
            else [],
            exclude=[{"email": {"email": f"former-{number}@corp.test"}}] if all_lists else [],
        )
    return found


def context() -> Context:
    person = Person("alice@corp.test", True, "idp", tuple(f"other-{number}" for number in range(100)))
    listed = frozenset(f"listed-{number}@corp.test" for number in range(5000))
    return Context("203.0.113.7", "PT", person, lists={LIST: NamedList("Contractors", emails=listed)})


def measure(work: Callable[[], object]) -> Timing:
    """Medians in seconds: of the CPU, which a busy machine disturbs least, and of the clock."""
    work()
    cpu, clock = [], []
    for _ in range(ROUNDS):
        start, started = time.perf_counter(), time.thread_time()
        work()
        cpu.append(time.thread_time() - started)
        clock.append(time.perf_counter() - start)
    return statistics.median(cpu), statistics.median(clock)


def measure_decisions() -> dict[str, Timing]:
    asked, known, busy, facts = policies(), groups(), groups(all_lists=True), context()
    stranger = replace(facts, person=NOBODY)
    assert evaluate(asked, known, facts).allowed
    assert evaluate(asked, busy, facts).allowed
    assert not evaluate(asked, known, stranger).allowed

    def stored() -> object:
        decision = evaluate(asked, known, facts)
        return decision.trace, rules_version(asked, known, facts.lists)

    return {
        "decided by the last rule": measure(lambda: evaluate(asked, known, facts)),
        "the same, with trace": measure(lambda: evaluate(asked, known, facts).trace),
        "the same, with trace and version": measure(stored),
        "denied, with reason and trace": measure(lambda: evaluate(asked, known, stranger).trace),
        _BEYOND: measure(lambda: evaluate(asked, busy, facts).trace),
    }


def measure_verification() -> Timing:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    token = jwt.encode({"aud": "a", "exp": int(time.time()) + 3600}, key, algorithm="RS256")
    public = key.public_key()
    return measure(lambda: jwt.decode(token, public, algorithms=["RS256"], audience="a"))


def main() -> None:
    decisions, anchor = measure_decisions(), measure_verification()
    rows = {**decisions, "one RS256 token verification": anchor, "(reading the rules, once per edit)": measure(groups)}
    print(f"{RULES:,} rules x {GROUPS:,} groups, median of {ROUNDS}; bound {BOUND_SECONDS * 1e6:.0f} us\n")
    for name, (cpu, clock) in rows.items():
        ratio = cpu / anchor[0]
        print(f"{name:44} CPU {cpu * 1e6:7.0f} us   clock {clock * 1e6:7.0f} us   {ratio:6.1f} verifications")
    worst = max(cpu for name, (cpu, _) in decisions.items() if name != _BEYOND)
    print(f"\nslowest decision: {worst * 1e6:.0f} us of CPU, {'within' if worst < BOUND_SECONDS else 'OVER'} the bound")


if __name__ == "__main__":
    main()
