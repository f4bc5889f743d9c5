"""How long a policy decision takes: 1,000 rules over 1,000 groups, against one token verification.

    PYTHONPATH=. .venv/bin/python bench/evaluation.py

Prints the median and the 95th percentile of each in microseconds. The bound of the product is 2 ms for a decision.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from access.evaluation import Group, Policy, evaluate, parse_group, parse_policy
from access.selectors import Context, NamedList, Person

ROUNDS = 300
RULES, GROUPS = 1000, 1000
BOUND_SECONDS = 0.002
LIST = "22222222-2222-4222-8222-222222222222"


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


def groups() -> dict[str, Group]:
    """A chain of ten groups each; the end of a chain asks for an address, a provider's group or a list."""
    found = {}
    for number in range(GROUPS):
        leaf = [
            {"email": {"email": f"person-{number}@corp.test"}},
            {"okta": {"name": f"team-{number}", "identity_provider_id": "idp"}},
            {"email_list": {"id": LIST}},
        ][number % 3]
        deeper = number % 10 != 9
        include = [{"group": {"id": f"group-{number + 1}"}}] if deeper else [leaf]
        if number == GROUPS - 1:
            include = [{"email": {"email": "alice@corp.test"}}]
        found[f"group-{number}"] = parse_group(
            id=f"group-{number}", name=f"Group {number}", include=include, require=[], exclude=[]
        )
    return found


def context() -> Context:
    person = Person("alice@corp.test", True, "idp", tuple(f"other-{number}" for number in range(100)))
    listed = frozenset(f"listed-{number}@corp.test" for number in range(5000))
    return Context("203.0.113.7", "PT", person, lists={LIST: NamedList("Contractors", emails=listed)})


def measure(work: Callable[[], object]) -> tuple[float, float]:
    """(median, 95th percentile) in seconds."""
    work()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times), statistics.quantiles(times, n=20)[18]


def measure_decision() -> tuple[float, float]:
    asked, known, facts = policies(), groups(), context()
    assert evaluate(asked, known, facts).allowed
    return measure(lambda: evaluate(asked, known, facts))


def measure_verification() -> tuple[float, float]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    token = jwt.encode({"aud": "a", "exp": int(time.time()) + 3600}, key, algorithm="RS256")
    public = key.public_key()
    return measure(lambda: jwt.decode(token, public, algorithms=["RS256"], audience="a"))


def main() -> None:
    for name, (median, high) in (
        ("decision, 1,000 rules x 1,000 groups", measure_decision()),
        ("one RS256 token verification", measure_verification()),
    ):
        print(f"{name:40} median {median * 1e6:8.0f} us   95 % {high * 1e6:8.0f} us")
    print(f"bound of a decision: {BOUND_SECONDS * 1e6:.0f} us")


if __name__ == "__main__":
    main()
