"""What a rule may ask about, and how each question is answered. Pure: no database, no clock, no network.

A selector compares one fact of the request with the rule's wanted value. It answers True or False, or raises
RuleError when the fact cannot be known: not knowing is never the same as "no" (security.md AC-81).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from accounts.second_factor import NO_MFA, Factor, MfaDefaults, Moment
from accounts.text import ascii_lower


class RuleError(Exception):
    """A rule that cannot be evaluated; the message says why, for administrators."""


@dataclass(frozen=True, slots=True)
class Person:
    """What an identity provider told us about the person at login."""

    email: str = ""
    email_verified: bool = False
    provider_id: str = ""
    groups: tuple[str, ...] = ()
    claims: Mapping[str, Any] = field(default_factory=dict)
    # How the person proved who they are at this login (RFC 8176 values).
    authentication_methods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Certificate:
    """A client certificate that the edge verified against roots of the organization."""

    common_name: str
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class NamedList:
    """Entries of a list, ready for comparison: addresses in lower case, or networks."""

    name: str
    emails: frozenset[str] = frozenset()
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()


# What an external evaluator said about the person (True, False), or why it gave no answer (text).
ExternalFacts = Mapping[tuple[str, str], bool | str]


@dataclass(frozen=True, slots=True)
class Context:
    """The facts of one request. `country`: "" = the address is in no country we know, None = no country database."""

    ip: str
    country: str | None = ""
    person: Person | None = None
    service_token_id: str = ""
    certificate: Certificate | None = None
    # Ids of the applications whose valid tokens the request carries besides its own.
    linked_applications: frozenset[str] = frozenset()
    # By id; a rule about a list that is not here is an error.
    lists: Mapping[str, NamedList] = field(default_factory=dict)
    # By (evaluate_url, keys_url), asked before the evaluation begins.
    external: ExternalFacts = field(default_factory=dict)
    # Ids of policies with an approval that holds now -> seconds it still holds.
    approvals: Mapping[str, int] = field(default_factory=dict)
    # The person said in this session what access to this application is for.
    is_justified: bool = False
    # Second factors: what application and organization ask for, what the session holds, and what is being decided.
    mfa: MfaDefaults = NO_MFA
    factors: tuple[Factor, ...] = ()
    moment: Moment = Moment.USE
    # Simulations and replays count the second factor as given: whoever is let in can give one.
    assumes_factor: bool = False

    @property
    def is_machine(self) -> bool:
        """Something that stands for a machine was shown: the door of service-auth policies."""
        return bool(self.service_token_id) or self.certificate is not None or bool(self.linked_applications)


@dataclass(frozen=True, slots=True)
class Rule:
    """One selector with its wanted value. `problem` marks a rule that could not be read: evaluating it is an error."""

    selector: str
    value: str = ""
    provider_id: str = ""
    claim: str = ""
    # The second part of a value: a team of an organization, the keys of an evaluator.
    detail: str = ""
    problem: str = ""

    def wanted(self) -> str:
        value = f"{self.value}/{self.detail}" if self.detail and self.selector == GITHUB else self.value
        return f"{self.claim} = {value}" if self.claim else value


@dataclass(frozen=True, slots=True)
class Answer:
    """`actual` is the fact as it was, for the trace."""

    matches: bool
    actual: str


@dataclass(frozen=True, slots=True)
class Selector:
    """`body` maps the keys of the rule's JSON body to fields of Rule; `needs_person` = identity selector."""

    label: str
    needs_person: bool
    body: Mapping[str, str]
    ask: Callable[[Rule, Context], Answer]
    optional: frozenset[str] = frozenset()


def _person(rule: Rule, context: Context) -> Person:
    if context.person is None:
        raise RuleError(
            f'"{rule.selector}" asks about a person, and this kind of policy decides before anyone logs in.'
        )
    return context.person


def _email(rule: Rule, context: Context) -> Answer:
    person = _person(rule, context)
    matches = (
        person.email_verified is True and bool(person.email) and ascii_lower(person.email) == ascii_lower(rule.value)
    )
    return Answer(matches, _shown_email(person))


def _email_domain(rule: Rule, context: Context) -> Answer:
    person = _person(rule, context)
    _, at, domain = person.email.rpartition("@")
    matches = person.email_verified is True and bool(at) and ascii_lower(domain) == ascii_lower(rule.value)
    return Answer(matches, _shown_email(person))


def _shown_email(person: Person) -> str:
    if not person.email:
        return "no e-mail"
    return person.email if person.email_verified is True else f"{person.email} (not verified)"


def _everyone(rule: Rule, context: Context) -> Answer:
    return Answer(True, "everyone")


def _email_list(rule: Rule, context: Context) -> Answer:
    person = _person(rule, context)
    known = _list(rule, context).emails
    matches = person.email_verified is True and bool(person.email) and ascii_lower(person.email) in known
    return Answer(matches, _shown_email(person))


def _list(rule: Rule, context: Context) -> NamedList:
    found = context.lists.get(rule.value)
    if found is None:
        raise RuleError("A list named by a rule does not exist, or is of another kind.")
    return found


def _ip(rule: Rule, context: Context) -> Answer:
    try:
        network = ipaddress.ip_network(rule.value)
    except ValueError as error:
        raise RuleError(f"IP range {rule.value!r} cannot be read.") from error
    address = _address(context)
    return Answer(address.version == network.version and address in network, str(address))


def _ip_list(rule: Rule, context: Context) -> Answer:
    address = _address(context)
    networks = _list(rule, context).networks
    return Answer(any(address.version == net.version and address in net for net in networks), str(address))


def _address(context: Context) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(context.ip)
    except ValueError as error:
        raise RuleError(f"The address {context.ip!r} cannot be read.") from error
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _geo(rule: Rule, context: Context) -> Answer:
    if context.country is None:
        raise RuleError("The country database is not available, so no country rule can be decided.")
    wanted = rule.value.upper()
    return Answer(bool(context.country) and context.country.upper() == wanted, context.country or "unknown")


def _provider_group(rule: Rule, context: Context) -> Answer:
    person = _person(rule, context)
    if person.provider_id != rule.provider_id:
        return Answer(False, "another login method")
    return Answer(rule.value in person.groups, ", ".join(person.groups[:20]) or "no groups")


def _folded_group(rule: Rule, context: Context) -> Answer:
    """Ids and names that their provider compares without case."""
    person = _person(rule, context)
    if person.provider_id != rule.provider_id:
        return Answer(False, "another login method")
    wanted = ascii_lower(f"{rule.value}/{rule.detail}" if rule.detail else rule.value)
    held = {ascii_lower(group) for group in person.groups}
    return Answer(wanted in held, ", ".join(person.groups[:20]) or "no groups")


def _saml_attribute(rule: Rule, context: Context) -> Answer:
    person = _person(rule, context)
    if person.provider_id != rule.provider_id:
        return Answer(False, "another login method")
    return _held_value(rule, person.claims.get(rule.claim), absent="attribute absent")


def _oidc_claim(rule: Rule, context: Context) -> Answer:
    person = _person(rule, context)
    if person.provider_id != rule.provider_id:
        return Answer(False, "another login method")
    held = person.claims.get(rule.claim, list(person.groups) if rule.claim == "groups" else None)
    return _held_value(rule, held, absent="claim absent")


def _held_value(rule: Rule, held: Any, *, absent: str) -> Answer:
    values = [_claim_text(value) for value in (held if isinstance(held, list | tuple) else [held]) if value is not None]
    return Answer(rule.value in values, ", ".join(values[:20]) or absent)


def _claim_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    raise RuleError(f"The claim holds a {type(value).__name__}; only texts, whole numbers, true and false compare.")


def _login_method(rule: Rule, context: Context) -> Answer:
    person = _person(rule, context)
    return Answer(bool(person.provider_id) and person.provider_id == rule.value, person.provider_id)


def _service_token(rule: Rule, context: Context) -> Answer:
    held = context.service_token_id
    return Answer(bool(held) and held == rule.value, held or "none")


def _any_service_token(rule: Rule, context: Context) -> Answer:
    return Answer(bool(context.service_token_id), context.service_token_id or "none")


def _authentication_method(rule: Rule, context: Context) -> Answer:
    held = _person(rule, context).authentication_methods
    return Answer(rule.value in held, ", ".join(held[:20]) or "none stated")


def _certificate(rule: Rule, context: Context) -> Answer:
    shown = context.certificate
    return Answer(shown is not None, "none" if shown is None else shown.common_name or shown.fingerprint)


def _common_name(rule: Rule, context: Context) -> Answer:
    shown = context.certificate
    return Answer(shown is not None and shown.common_name == rule.value, "none" if shown is None else shown.common_name)


def _linked_application(rule: Rule, context: Context) -> Answer:
    held = context.linked_applications
    return Answer(rule.value in held, ", ".join(sorted(held)) or "none")


def _external(rule: Rule, context: Context) -> Answer:
    _person(rule, context)
    said = context.external.get((rule.value, rule.detail), "It was not asked.")
    if isinstance(said, str):
        raise RuleError(f"The external evaluation gave no answer: {said}")
    return Answer(said, "success" if said else "no success")


def _group(rule: Rule, context: Context) -> Answer:
    raise RuleError("A group is answered by access/evaluation.py, which knows the groups.")


GROUP = "group"
GITHUB = "github-organization"
EXTERNAL = "external_evaluation"
_PROVIDER = {"identity_provider_id": "provider_id"}
SELECTORS: Mapping[str, Selector] = {
    "email": Selector("Emails", True, {"email": "value"}, _email),
    "email_domain": Selector("Emails ending in", True, {"domain": "value"}, _email_domain),
    "everyone": Selector("Everyone", False, {}, _everyone),
    "ip": Selector("IP ranges", False, {"ip": "value"}, _ip),
    "geo": Selector("Country", False, {"country_code": "value"}, _geo),
    GROUP: Selector("Access group", False, {"id": "value"}, _group),
    "okta": Selector("Okta groups", True, {"name": "value", **_PROVIDER}, _provider_group),
    "oidc": Selector("OIDC claim", True, {"claim_name": "claim", "claim_value": "value", **_PROVIDER}, _oidc_claim),
    "login_method": Selector("Login methods", True, {"id": "value"}, _login_method),
    "service_token": Selector("Service token", False, {"token_id": "value"}, _service_token),
    "any_valid_service_token": Selector("Any Access service token", False, {}, _any_service_token),
    "email_list": Selector("Email list", True, {"id": "value"}, _email_list),
    "ip_list": Selector("IP list", False, {"id": "value"}, _ip_list),
    "azureAD": Selector("Entra groups", True, {"id": "value", **_PROVIDER}, _folded_group),
    GITHUB: Selector(
        "GitHub organization",
        True,
        {"name": "value", "team": "detail", **_PROVIDER},
        _folded_group,
        frozenset({"team"}),
    ),
    "gsuite": Selector("Google Workspace groups", True, {"email": "value", **_PROVIDER}, _folded_group),
    "saml": Selector(
        "SAML attribute", True, {"attribute_name": "claim", "attribute_value": "value", **_PROVIDER}, _saml_attribute
    ),
    "auth_method": Selector("Authentication method", True, {"auth_method": "value"}, _authentication_method),
    "certificate": Selector("Valid certificate", False, {}, _certificate),
    "common_name": Selector("Common name", False, {"common_name": "value"}, _common_name),
    "linked_app_token": Selector("Linked app token", False, {"app_uid": "value"}, _linked_application),
    EXTERNAL: Selector("External evaluation", True, {"evaluate_url": "value", "keys_url": "detail"}, _external),
}
# Selectors whose value is the id of a list -> the type of list.
LIST_TYPES = {"email_list": "EMAIL", "ip_list": "IP"}


def read_rule(item: Any) -> Rule:
    """A Rule from its public JSON shape, {"selector": {body}} (product.md 1.5). Raises RuleError naming the fault."""
    if not isinstance(item, dict) or len(item) != 1:
        raise RuleError('a rule is an object with one selector, such as {"email": {"email": "alice@example.com"}}')
    name, body = next(iter(item.items()))
    selector = SELECTORS.get(name)
    if selector is None:
        raise RuleError(f"unknown selector {str(name)[:60]!r}; known are {', '.join(SELECTORS)}")
    if not isinstance(body, dict):
        raise RuleError(f'"{name}" needs an object, even an empty one')
    for key in body:
        if key not in selector.body:
            raise RuleError(f'"{name}" has an unknown key {str(key)[:60]!r}')
    given = {}
    for key, field_name in selector.body.items():
        value = body.get(key)
        if value is None and key in selector.optional:
            continue
        if not isinstance(value, str) or not (value.strip() or key in selector.optional):
            raise RuleError(f'"{name}" needs "{key}", a text that is not empty')
        given[field_name] = value
    return Rule(name, **given)


def read_rules(items: Any) -> tuple[Rule, ...]:
    """Stored rules for evaluation. What cannot be read stays, as a rule whose evaluation is an error: never skipped."""
    if not isinstance(items, list):
        return (Rule("unreadable", problem="The rule list is not a list."),)
    return tuple(_read_or_mark(item) for item in items)


def _read_or_mark(item: Any) -> Rule:
    try:
        return read_rule(item)
    except RuleError as error:
        name = str(next(iter(item), "unreadable"))[:60] if isinstance(item, dict) else "unreadable"
        return Rule(name, problem=f"Unreadable rule: {error}.")


def ask(rule: Rule, context: Context) -> Answer:
    """Raises RuleError for an unreadable rule, an unknown selector or a fact that cannot be known."""
    if rule.problem:
        raise RuleError(rule.problem)
    selector = SELECTORS.get(rule.selector)
    if selector is None:
        raise RuleError(f"Unknown selector {rule.selector!r}.")
    return selector.ask(rule, context)
