"""What a rule may ask about, and how each question is answered. Pure: no database, no clock, no network.

A rule holds when its key is among those the request holds: the person's groups, the networks around the address. So
a thousand rules about one fact cost one look-up of the fact, and then set arithmetic (access/judging.py). A fact that
cannot be known raises RuleError: not knowing is never the same as "no" (security.md AC-81).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from accounts.second_factor import NO_FACTORS, FactorFacts
from accounts.text import ascii_lower


class RuleError(Exception):
    """A rule that cannot be evaluated; the message says why, for administrators."""


Held = frozenset[Any]
# Version, prefix length, and the bits of that length.
NetworkKey = tuple[int, int, int]


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
    # Which edit of the list this is (AC-86).
    version: str = ""
    network_keys: frozenset[NetworkKey] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "network_keys", frozenset(map(network_key, self.networks)))


def network_key(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> NetworkKey:
    length = network.prefixlen
    return network.version, length, int(network.network_address) >> (network.max_prefixlen - length)


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
    mfa: FactorFacts = NO_FACTORS

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


def _value(rule: Rule) -> Hashable:
    return rule.value


@dataclass(frozen=True, slots=True)
class Selector:
    """`body` maps the keys of the rule's JSON body to fields of Rule; `needs_person` = identity selector.

    A rule holds when `key(rule)` is in `held(rule, context)`. Of the rule, `held` and `shown` (the fact for people)
    read nothing but the fields in `scope`: they answer for every rule that is equal in those.
    """

    label: str
    needs_person: bool
    body: Mapping[str, str]
    held: Callable[[Rule, Context], Held]
    shown: Callable[[Rule, Context], str]
    key: Callable[[Rule], Hashable] = _value
    scope: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()


def _person(selector: str, context: Context) -> Person:
    if context.person is None:
        raise RuleError(f'"{selector}" asks about a person, and this kind of policy decides before anyone logs in.')
    return context.person


# --- e-mail
def _held_email(rule: Rule, context: Context) -> Held:
    person = _person(rule.selector, context)
    return frozenset({ascii_lower(person.email)} if person.email_verified is True and person.email else ())


def _held_domain(rule: Rule, context: Context) -> Held:
    person = _person(rule.selector, context)
    _, at, domain = person.email.rpartition("@")
    return frozenset({ascii_lower(domain)} if person.email_verified is True and at else ())


def _held_email_list(rule: Rule, context: Context) -> Held:
    held = _held_email(rule, context)
    return _ITSELF if _list(rule, context).emails & held else _NOTHING


def _list(rule: Rule, context: Context) -> NamedList:
    found = context.lists.get(rule.value)
    if found is None:
        raise RuleError("A list named by a rule does not exist, or is of another kind.")
    return found


def _shown_email(rule: Rule, context: Context) -> str:
    person = _person(rule.selector, context)
    if not person.email:
        return "no e-mail"
    return person.email if person.email_verified is True else f"{person.email} (not verified)"


# --- address and country
def _network(rule: Rule) -> NetworkKey:
    try:
        return network_key(ipaddress.ip_network(rule.value))
    except ValueError as error:
        raise RuleError(f"IP range {rule.value!r} cannot be read.") from error


def _held_networks(rule: Rule, context: Context) -> Held:
    """Every network that the address lies in, from itself to the whole space: a range is then found by hash."""
    address = _address(context)
    bits, number = address.max_prefixlen, int(address)
    return frozenset((address.version, length, number >> (bits - length)) for length in range(bits + 1))


def _held_ip_list(rule: Rule, context: Context) -> Held:
    held = _held_networks(rule, context)
    return _NOTHING if _list(rule, context).network_keys.isdisjoint(held) else _ITSELF


def _address(context: Context) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(context.ip)
    except ValueError as error:
        raise RuleError(f"The address {context.ip!r} cannot be read.") from error
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _shown_address(rule: Rule, context: Context) -> str:
    return str(_address(context))


def _held_country(rule: Rule, context: Context) -> Held:
    if context.country is None:
        raise RuleError("The country database is not available, so no country rule can be decided.")
    return frozenset({context.country.upper()} if context.country else ())


# --- what login methods say
def _held_groups(rule: Rule, context: Context) -> Held:
    person = _person(rule.selector, context)
    return frozenset(person.groups if person.provider_id == rule.provider_id else ())


def _held_folded_groups(rule: Rule, context: Context) -> Held:
    """Ids and names that their provider compares without case."""
    return frozenset(ascii_lower(str(group)) for group in _held_groups(rule, context))


def _folded_group(rule: Rule) -> str:
    return ascii_lower(f"{rule.value}/{rule.detail}" if rule.detail else rule.value)


def _shown_groups(rule: Rule, context: Context) -> str:
    person = _person(rule.selector, context)
    if person.provider_id != rule.provider_id:
        return _OTHER_METHOD
    return ", ".join(person.groups[:20]) or "no groups"


def _claim_values(rule: Rule, context: Context) -> list[str]:
    person = _person(rule.selector, context)
    held = person.claims.get(rule.claim)
    if held is None and rule.selector == "oidc" and rule.claim == "groups" and "groups" not in person.claims:
        held = list(person.groups)
    return [_claim_text(value) for value in (held if isinstance(held, list | tuple) else [held]) if value is not None]


def _held_claim(rule: Rule, context: Context) -> Held:
    is_theirs = _person(rule.selector, context).provider_id == rule.provider_id
    return frozenset(_claim_values(rule, context) if is_theirs else ())


def _shown_claim(rule: Rule, context: Context) -> str:
    if _person(rule.selector, context).provider_id != rule.provider_id:
        return _OTHER_METHOD
    return (
        ", ".join(_claim_values(rule, context)[:20])
        or ("claim" if rule.selector == "oidc" else "attribute") + " absent"
    )


def _claim_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    raise RuleError(f"The claim holds a {type(value).__name__}; only texts, whole numbers, true and false compare.")


def _held_provider(rule: Rule, context: Context) -> Held:
    provider = _person(rule.selector, context).provider_id
    return frozenset({provider} if provider else ())


def _held_methods(rule: Rule, context: Context) -> Held:
    return frozenset(_person(rule.selector, context).authentication_methods)


def _shown_methods(rule: Rule, context: Context) -> str:
    return ", ".join(_person(rule.selector, context).authentication_methods[:20]) or "none stated"


# --- machines
def _held_token(rule: Rule, context: Context) -> Held:
    return frozenset({context.service_token_id} if context.service_token_id else ())


def _any_token(rule: Rule, context: Context) -> Held:
    return _ITSELF if context.service_token_id else _NOTHING


def _any_certificate(rule: Rule, context: Context) -> Held:
    return _NOTHING if context.certificate is None else _ITSELF


def _held_common_name(rule: Rule, context: Context) -> Held:
    return frozenset(() if context.certificate is None else {context.certificate.common_name})


def _shown_certificate(rule: Rule, context: Context) -> str:
    shown = context.certificate
    return "none" if shown is None else shown.common_name or shown.fingerprint


def _shown_common_name(rule: Rule, context: Context) -> str:
    return "none" if context.certificate is None else context.certificate.common_name


# --- other services
def _held_external(rule: Rule, context: Context) -> Held:
    _person(rule.selector, context)
    said = context.external.get((rule.value, rule.detail), "It was not asked.")
    if isinstance(said, str):
        raise RuleError(f"The external evaluation gave no answer: {said}")
    return _ITSELF if said else _NOTHING


def _group(rule: Rule, context: Context) -> Held:
    raise RuleError("A group is answered by access/judging.py, which knows the groups.")


def _itself(rule: Rule) -> str:
    """The key of a rule that holds or does not, without a value to compare."""
    return ""


_ITSELF: Held = frozenset({""})
_NOTHING: Held = frozenset()
_OTHER_METHOD = "another login method"


GROUP = "group"
GITHUB = "github-organization"
EXTERNAL = "external_evaluation"
_PROVIDER = {"identity_provider_id": "provider_id"}
_BY_PROVIDER = ("provider_id",)
_BY_CLAIM = ("provider_id", "claim")
SELECTORS: Mapping[str, Selector] = {
    "email": Selector(
        "Emails", True, {"email": "value"}, _held_email, _shown_email, lambda rule: ascii_lower(rule.value)
    ),
    "email_domain": Selector(
        "Emails ending in", True, {"domain": "value"}, _held_domain, _shown_email, lambda rule: ascii_lower(rule.value)
    ),
    "everyone": Selector(
        "Everyone", False, {}, lambda rule, context: _ITSELF, lambda rule, context: "everyone", _itself
    ),
    "ip": Selector("IP ranges", False, {"ip": "value"}, _held_networks, _shown_address, _network),
    "geo": Selector(
        "Country",
        False,
        {"country_code": "value"},
        _held_country,
        lambda rule, context: context.country or "unknown",
        lambda rule: rule.value.upper(),
    ),
    GROUP: Selector("Access group", False, {"id": "value"}, _group, lambda rule, context: ""),
    "okta": Selector(
        "Okta groups", True, {"name": "value", **_PROVIDER}, _held_groups, _shown_groups, scope=_BY_PROVIDER
    ),
    "oidc": Selector(
        "OIDC claim",
        True,
        {"claim_name": "claim", "claim_value": "value", **_PROVIDER},
        _held_claim,
        _shown_claim,
        scope=_BY_CLAIM,
    ),
    "login_method": Selector(
        "Login methods",
        True,
        {"id": "value"},
        _held_provider,
        lambda rule, context: _person(rule.selector, context).provider_id,
    ),
    "service_token": Selector(
        "Service token",
        False,
        {"token_id": "value"},
        _held_token,
        lambda rule, context: context.service_token_id or "none",
    ),
    "any_valid_service_token": Selector(
        "Any Access service token",
        False,
        {},
        _any_token,
        lambda rule, context: context.service_token_id or "none",
        _itself,
    ),
    "email_list": Selector(
        "Email list", True, {"id": "value"}, _held_email_list, _shown_email, _itself, scope=("value",)
    ),
    "ip_list": Selector("IP list", False, {"id": "value"}, _held_ip_list, _shown_address, _itself, scope=("value",)),
    "azureAD": Selector(
        "Entra groups",
        True,
        {"id": "value", **_PROVIDER},
        _held_folded_groups,
        _shown_groups,
        _folded_group,
        scope=_BY_PROVIDER,
    ),
    GITHUB: Selector(
        "GitHub organization",
        True,
        {"name": "value", "team": "detail", **_PROVIDER},
        _held_folded_groups,
        _shown_groups,
        _folded_group,
        scope=_BY_PROVIDER,
        optional=frozenset({"team"}),
    ),
    "gsuite": Selector(
        "Google Workspace groups",
        True,
        {"email": "value", **_PROVIDER},
        _held_folded_groups,
        _shown_groups,
        _folded_group,
        scope=_BY_PROVIDER,
    ),
    "saml": Selector(
        "SAML attribute",
        True,
        {"attribute_name": "claim", "attribute_value": "value", **_PROVIDER},
        _held_claim,
        _shown_claim,
        scope=_BY_CLAIM,
    ),
    "auth_method": Selector("Authentication method", True, {"auth_method": "value"}, _held_methods, _shown_methods),
    "certificate": Selector("Valid certificate", False, {}, _any_certificate, _shown_certificate, _itself),
    "common_name": Selector("Common name", False, {"common_name": "value"}, _held_common_name, _shown_common_name),
    "linked_app_token": Selector(
        "Linked app token",
        False,
        {"app_uid": "value"},
        lambda rule, context: context.linked_applications,
        lambda rule, context: ", ".join(sorted(context.linked_applications)) or "none",
    ),
    EXTERNAL: Selector(
        "External evaluation",
        True,
        {"evaluate_url": "value", "keys_url": "detail"},
        _held_external,
        lambda rule, context: "success" if _held_external(rule, context) else "no success",
        _itself,
        scope=("value", "detail"),
    ),
}
# Selectors whose value is the id of a list -> the type of list.
LIST_TYPES = {"email_list": "EMAIL", "ip_list": "IP"}
