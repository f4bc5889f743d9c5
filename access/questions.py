"""Questions to policies that nobody asks right now: a person known or made up, from an address, perhaps by a machine.

The simulator and saved tests ask them; `answer` goes the way of a real request (access.decisions), without recording.
A purpose that a policy asks for counts as stated, a second factor as given: anybody let in can do either. An approval
does not count as given. External evaluators are never asked: the question says what they answer, or a rule that needs
one cannot be decided, and refuses.
"""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from access import country
from access.country_names import country_code
from access.decisions import refused_before_rules
from access.evaluation import Decision, Group, Policy, evaluate
from access.facts import load_lists, person_of, rules_in
from access.models import ServiceToken
from access.selectors import EXTERNAL, Context, ExternalFacts, NamedList, Person
from accounts.errors import InvalidInput
from accounts.models import AccessSession, Identity, IdentityProvider, Organization
from accounts.second_factor import ASSUMED

IDENTITY, TYPED, MACHINE, NOBODY = "identity", "typed", "service_token", "nobody"
WHO = (
    (IDENTITY, "A person who has logged in before"),
    (TYPED, "Somebody made up"),
    (MACHINE, "A machine with a service token"),
    (NOBODY, "Nobody: no login, no token"),
)
EXTERNAL_ANSWERS = (("", "Not known: undecided"), ("allow", "Allow"), ("deny", "Deny"))
MAX_LIST = 200
MAX_TEXT = 500


@dataclass(frozen=True)
class Question:
    """Who asks and from where, as it is stored with saved tests. Ids are texts; country is a two-letter code."""

    who: str = IDENTITY
    identity: str = ""
    email: str = ""
    email_verified: bool = True
    provider: str = ""
    groups: list[str] = field(default_factory=list)
    claims: dict[str, str] = field(default_factory=dict)
    amr: list[str] = field(default_factory=list)
    service_token: str = ""
    ip: str = ""
    country: str = ""
    # What external evaluators would answer, "allow" or "deny"; "": unknown.
    external: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def stored(cls, values: Mapping[str, Any]) -> Question:
        known = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


@dataclass(frozen=True)
class Asked:
    """A question with what it names: ready to be put to policies."""

    context: Context
    label: str
    identity: Identity | None = None
    service_token: ServiceToken | None = None
    # What every external evaluator says; None: nobody knows.
    external: bool | None = None


def check(organization: Organization, question: Question) -> Question:
    """The question in its stored form. Raises InvalidInput whose `fields` name what is wrong."""
    if question.who not in dict(WHO):
        raise _wrong("who", "Choose who asks.")
    for name in ("groups", "amr"):
        if len(getattr(question, name)) > MAX_LIST or any(len(text) > MAX_TEXT for text in getattr(question, name)):
            raise _wrong(name, f"At most {MAX_LIST} entries of {MAX_TEXT} characters.")
    if len(question.claims) > MAX_LIST or any(
        len(text) > MAX_TEXT for pair in question.claims.items() for text in pair
    ):
        raise _wrong("claims", f"At most {MAX_LIST} claims of {MAX_TEXT} characters.")
    if question.external not in dict(EXTERNAL_ANSWERS):
        raise _wrong("external", "External evaluation answers allow or deny, or is left open.")
    place = ""
    if question.country:
        place = country_code(question.country) or ""
        if not place:
            raise _wrong("country", "Write a country's English name or its two-letter code.")
    clean = replace(question, ip=_address(question.ip), country=place)
    if clean.who == IDENTITY:
        clean = replace(clean, identity=str(_identity(organization, clean).pk))
    if clean.who == TYPED and clean.provider:
        _provider(organization, clean.provider)
    if clean.who == MACHINE:
        _service_token(organization, clean.service_token)
    return clean


def ask(organization: Organization, question: Question) -> Asked:
    """Look up what the question names, as it is now. Raises InvalidInput for what is gone."""
    asked = _look_up(organization, question)
    return replace(asked, external=question.external == "allow") if question.external else asked


def _look_up(organization: Organization, question: Question) -> Asked:
    if question.who == IDENTITY:
        identity = _identity(organization, question)
        last = _last_login(identity)
        person = person_for(identity, question.amr or (last.authentication_methods if last else []))
        ip = question.ip or (last.ip_address or "" if last else "")
        return Asked(context_for(person, ip, question.country), str(identity), identity=identity)
    if question.who == TYPED:
        return Asked(context_for(_made_up(question), question.ip, question.country), question.email or "somebody")
    if question.who == MACHINE:
        token = _service_token(organization, question.service_token)
        context = replace(context_for(None, question.ip, question.country), service_token_id=str(token.pk))
        return Asked(context, f"service token {token.name}", service_token=token)
    return Asked(context_for(None, question.ip, question.country), "nobody")


def answer(
    policies: Sequence[Policy],
    groups: Mapping[str, Group],
    asked: Asked,
    *,
    now: datetime,
    organization: Organization | None = None,
    lists: Mapping[str, NamedList] | None = None,
) -> Decision:
    """The decision, with its trace. Never raises for bad rules. Either `organization`, whose lists are loaded when a
    rule names one, or `lists`."""
    refused = refused_before_rules(asked.identity, asked.service_token, now)
    if refused is not None:
        return refused
    if lists is None:
        lists = load_lists(organization.pk, policies, groups) if organization is not None else {}
    said = _external_facts(policies, groups, asked)
    known = replace(asked.context, lists=lists, is_justified=True, mfa=ASSUMED, external=said)
    return evaluate(policies, groups, known)


def _external_facts(policies: Sequence[Policy], groups: Mapping[str, Group], asked: Asked) -> ExternalFacts:
    """As in a real request only a person is asked about."""
    if asked.external is None or asked.context.person is None:
        return {}
    rules = (rule for rule in rules_in(policies, groups) if rule.selector == EXTERNAL)
    return {(rule.value, rule.detail): asked.external for rule in rules}


def context_for(person: Person | None, ip: str, place: str = "") -> Context:
    """`place` given counts; otherwise the country of the address, as for a real request. Neither: no country."""
    where = place or (country.resolve(ip) if ip else "")
    return Context(ip=ip, country=where, person=person)


def person_for(identity: Identity, methods: Sequence[Any]) -> Person:
    """A known person as policies see them; `methods` (amr) belong to a login, not to the person."""
    return _with_methods(person_of(identity), methods)


def _made_up(question: Question) -> Person:
    person = Person(
        email=question.email,
        email_verified=question.email_verified,
        provider_id=question.provider,
        groups=tuple(question.groups),
        claims=question.claims,
    )
    return _with_methods(person, question.amr)


def _with_methods(person: Person, methods: Sequence[Any]) -> Person:
    texts = [method for method in methods if isinstance(method, str)]
    return replace(person, authentication_methods=tuple(texts)) if texts else person


def _identity(organization: Organization, question: Question) -> Identity:
    """By id, or by an e-mail address that one login method knows."""
    rows = Identity.objects.for_organization(organization).select_related("provider")
    key = question.identity.strip()
    try:
        found = list(rows.filter(pk=uuid.UUID(key)))
    except ValueError:
        found = list(rows.filter(email__iexact=key)[:20]) if key else []
        if question.provider:
            found = [row for row in found if str(row.provider_id) == question.provider]
    if not found:
        raise _wrong("identity", "Nobody with this address has logged in yet. Choose “Somebody made up” instead.")
    if len(found) > 1:
        names = ", ".join(sorted(row.provider.name for row in found))
        raise _wrong("provider", f"Several login methods know this address ({names}): choose one.")
    return found[0]


def _last_login(identity: Identity) -> AccessSession | None:
    return AccessSession.objects.filter(identity=identity).order_by("-created_at").first()


def _provider(organization: Organization, key: str) -> IdentityProvider:
    rows = IdentityProvider.objects.for_organization(organization)
    found = rows.filter(pk=key).first() if _is_uuid(key) else None
    if found is None:
        raise _wrong("provider", "This login method does not exist.")
    return found


def _service_token(organization: Organization, key: str) -> ServiceToken:
    rows = ServiceToken.objects.for_organization(organization)
    found = rows.filter(pk=key).first() if _is_uuid(key) else None
    if found is None:
        raise _wrong("service_token", "Choose a service token.")
    return found


def _address(text: str) -> str:
    if not text.strip():
        return ""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError as error:
        raise _wrong("ip", "This is not an IP address such as 192.0.2.7.") from error


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _wrong(name: str, message: str) -> InvalidInput:
    return InvalidInput(message, code="invalid_question", fields={name: message})
