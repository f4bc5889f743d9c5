"""Hypothesis strategies for everything a decision is made from: requests, rules of every selector, groups, policies."""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import strategies as st

from access.evaluation import Group, Policy, parse_group, parse_policy
from access.selectors import SELECTORS, Certificate, Context, NamedList, Person
from access.terms import SshRights, Terms

IDP, OTHER = "idp-1", "idp-2"
EVALUATORS = [("https://a.test/", "https://k.test/"), ("https://b.test/", "https://k.test/")]
LISTS = {
    "mails": NamedList("Mails", emails=frozenset({"alice@x.test", "bob@y.test"}), version="1"),
    "no-mails": NamedList("No mails", emails=frozenset({"carol@x.test"}), version="1"),
    "nets": NamedList(
        "Nets", networks=(ipaddress.ip_network("192.0.2.0/25"), ipaddress.ip_network("2001:db8::/33")), version="1"
    ),
    "all": NamedList("All", networks=(ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")), version="1"),
}
_COUNTRIES = st.sampled_from(["PT", "FR", "pt"])
_EMAILS = st.sampled_from(["alice@x.test", "ALICE@X.test", "bob@y.test", "\u212aate@x.test", "kate@x.test"])
_NAMES = st.sampled_from(["engineers", "Engineers", "ops", "acme", "acme/ops", "Acme/Ops"])
_PROVIDERS = st.sampled_from([IDP, OTHER])
_VALUES = st.sampled_from(["it", "3", "true", "dev", "engineers"])
_GROUP_IDS = [f"g{number}" for number in range(6)]


def _of(name: str, /, **body: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({name: st.fixed_dictionaries(body)})


# Every selector of product.md 1.5; a test sees that none is missing.
RULES_BY_SELECTOR: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "email": _of("email", email=_EMAILS),
    "email_domain": _of("email_domain", domain=st.sampled_from(["x.test", "X.TEST", "y.test", "test"])),
    "everyone": _of("everyone"),
    "ip": _of(
        "ip",
        ip=st.sampled_from(
            ["192.0.2.7", "192.0.2.0/24", "192.0.2.128/25", "0.0.0.0/0", "2001:db8::/32", "::/0", "192.0.2.7/24"]
        ),
    ),
    "geo": _of("geo", country_code=_COUNTRIES),
    "group": _of("group", id=st.sampled_from(_GROUP_IDS)),
    "okta": _of("okta", name=_NAMES, identity_provider_id=_PROVIDERS),
    "oidc": _of(
        "oidc",
        claim_name=st.sampled_from(["department", "level", "roles", "groups", "nested", "absent"]),
        claim_value=_VALUES,
        identity_provider_id=_PROVIDERS,
    ),
    "login_method": _of("login_method", id=_PROVIDERS),
    "service_token": _of("service_token", token_id=st.sampled_from(["tok-1", "tok-2"])),
    "any_valid_service_token": _of("any_valid_service_token"),
    "email_list": _of("email_list", id=st.sampled_from(["mails", "no-mails", "gone"])),
    "ip_list": _of("ip_list", id=st.sampled_from(["nets", "all", "gone"])),
    "azureAD": _of("azureAD", id=_NAMES, identity_provider_id=_PROVIDERS),
    "github-organization": st.one_of(
        _of("github-organization", name=st.sampled_from(["acme", "ACME"]), identity_provider_id=_PROVIDERS),
        _of("github-organization", name=st.just("acme"), team=st.just("ops"), identity_provider_id=_PROVIDERS),
    ),
    "gsuite": _of("gsuite", email=_NAMES, identity_provider_id=_PROVIDERS),
    "saml": _of(
        "saml",
        attribute_name=st.sampled_from(["department", "roles", "groups", "nested"]),
        attribute_value=_VALUES,
        identity_provider_id=_PROVIDERS,
    ),
    "auth_method": _of("auth_method", auth_method=st.sampled_from(["mfa", "otp", "pwd"])),
    "certificate": _of("certificate"),
    "common_name": _of("common_name", common_name=st.sampled_from(["dev1", "dev2"])),
    "linked_app_token": _of("linked_app_token", app_uid=st.sampled_from(["app-1", "app-2"])),
    "external_evaluation": st.sampled_from(
        [{"external_evaluation": {"evaluate_url": ask, "keys_url": keys}} for ask, keys in EVALUATORS]
    ),
}
# What can never be answered, whoever asks.
BROKEN: list[Any] = [
    {"planet": {"name": "mars"}},
    {"email": "alice@x.test"},
    {"email": {}},
    {"ip": {"ip": "300.0.0.0/8"}},
    {"geo": {"country_code": 5}},
    {},
    "everyone",
    None,
]
ANSWERABLE = st.one_of(*RULES_BY_SELECTOR.values())
RULES = st.one_of(ANSWERABLE, ANSWERABLE, ANSWERABLE, st.sampled_from(BROKEN))


def rule_lists(rules: st.SearchStrategy[Any] = RULES) -> st.SearchStrategy[tuple[list[Any], list[Any], list[Any]]]:
    few = st.lists(rules, max_size=2)
    return st.tuples(st.lists(rules, max_size=4), few, few)


@st.composite
def groups(draw: st.DrawFn, rules: st.SearchStrategy[Any] = RULES) -> dict[str, Group]:
    """Some of the groups that rules name; loops and gaps come by themselves."""
    ids = draw(st.lists(st.sampled_from(_GROUP_IDS), unique=True))
    found = {}
    for group_id in ids:
        include, require, exclude = draw(rule_lists(rules))
        found[group_id] = parse_group(
            id=group_id, name=f"Group {group_id}", include=include, require=require, exclude=exclude
        )
    return found


TERMS = st.builds(
    Terms,
    ssh=st.sampled_from([None, SshRights(usernames=("deploy",)), SshRights(allow_email_alias=False)]),
    needs_purpose=st.booleans(),
    needs_approval=st.booleans(),
)


@st.composite
def policy_lists(
    draw: st.DrawFn, *, max_size: int = 4, rules: st.SearchStrategy[Any] = RULES, decision: str | None = None
) -> list[Policy]:
    """Policies in their order."""
    found = []
    for place in range(draw(st.integers(0, max_size))):
        include, require, exclude = draw(rule_lists(rules))
        found.append(
            parse_policy(
                id=f"p{place}",
                name=f"policy {place}",
                decision=decision or draw(st.sampled_from(["allow", "allow", "deny", "bypass", "non_identity"])),
                precedence=place * 10,
                include=include,
                require=require,
                exclude=exclude,
                session_duration_seconds=draw(st.sampled_from([None, 0, 900])),
                version="1",
                terms=draw(TERMS),
            )
        )
    return found


PEOPLE = st.builds(
    Person,
    email=st.one_of(st.just(""), _EMAILS),
    email_verified=st.booleans(),
    provider_id=st.sampled_from([IDP, OTHER, ""]),
    groups=st.lists(_NAMES, max_size=3).map(tuple),
    claims=st.fixed_dictionaries(
        {},
        optional={
            "department": st.sampled_from(["it", ["it", 3], None]),
            "level": st.sampled_from([3, True, "3"]),
            "roles": st.lists(_VALUES, max_size=2),
            "groups": st.sampled_from([["engineers"], None]),
            "nested": st.just({"a": 1}),
        },
    ),
    authentication_methods=st.lists(st.sampled_from(["mfa", "otp", "pwd"]), max_size=2).map(tuple),
)
REQUESTS = st.builds(
    Context,
    ip=st.sampled_from(["192.0.2.7", "198.51.100.9", "2001:db8::1", "::ffff:192.0.2.200", "nonsense", ""]),
    country=st.sampled_from(["PT", "FR", "", None]),
    person=st.one_of(PEOPLE, PEOPLE, st.none()),
    service_token_id=st.sampled_from(["", "", "tok-1"]),
    certificate=st.sampled_from([None, None, Certificate("dev1", "ab"), Certificate("", "cd")]),
    linked_applications=st.sampled_from([frozenset(), frozenset(), frozenset({"app-1"})]),
    lists=st.just(LISTS),
    external=st.fixed_dictionaries(
        {}, optional={pair: st.sampled_from([True, False, "It did not answer."]) for pair in EVALUATORS}
    ),
    approvals=st.sampled_from([{}, {"p0": 60, "p1": 60}]),
    is_justified=st.booleans(),
)


def missing_selectors() -> set[str]:
    return set(SELECTORS) - set(RULES_BY_SELECTOR)
