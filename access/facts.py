"""The facts of a request, collected before the (pure) evaluation: what rules ask about that is not in the request."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from access import country, external
from access.approvers import still_granted
from access.evaluation import Group, Policy
from access.kept import Kept
from access.models import AccessList, Application, ApprovalRequest, Justification, ServiceToken
from access.selectors import (
    EXTERNAL,
    GROUP,
    LIST_TYPES,
    Certificate,
    Context,
    ExternalFacts,
    NamedList,
    Person,
    Rule,
)
from accounts.models import AccessSession, Identity, IdentityProvider
from accounts.second_factor import NO_FACTORS, Factor, FactorFacts, MfaDefaults, Moment, mfa_defaults, provider_factors
from accounts.text import ascii_lower


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a request shows besides token and service token, verified by whoever made this."""

    certificate: Certificate | None = None
    linked_applications: frozenset[str] = frozenset()
    # What an edge keeps for a stream and shows again when the stream is rechecked (access.evidence).
    document: str = ""
    # Why a shown certificate is not the one above, where that is worth telling the person (access.client_crls).
    certificate_problem: str = ""

    @property
    def label(self) -> str:
        """For logs."""
        return self.certificate.common_name or self.certificate.fingerprint if self.certificate else ""


NO_EVIDENCE = Evidence()


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks for an application: somebody's session, a machine, or nobody known; from where, when, with what to show.

    `session` comes with its identity loaded."""

    ip: str
    now: datetime
    session: AccessSession | None = None
    service_token: ServiceToken | None = None
    evidence: Evidence = NO_EVIDENCE
    moment: Moment = Moment.USE


def collect(
    application: Application,
    policies: Iterable[Policy],
    groups: Mapping[str, Group],
    asker: Asker,
    *,
    lists: Mapping[str, NamedList] | None = None,
    external_facts: ExternalFacts | None = None,
) -> Context:
    """`lists` and `external_facts` may be given when they were loaded before; only what the policies want is loaded."""
    policies, session, service_token = list(policies), asker.session, asker.service_token
    if lists is None:
        lists = load_lists(application.organization_id, policies, groups)
    if external_facts is None:
        external_facts = ask_external(policies, groups, asker)
    return Context(
        ip=asker.ip,
        country=country.resolve(asker.ip),
        person=person_of(session.identity, session) if session is not None else None,
        service_token_id=str(service_token.pk) if service_token is not None else "",
        certificate=asker.evidence.certificate,
        linked_applications=asker.evidence.linked_applications,
        lists=lists,
        external=external_facts,
        approvals=_approvals(application, policies, session, asker.now),
        is_justified=_is_justified(application, policies, session),
        mfa=_factor_facts(application, session, asker.moment, asker.now),
    )


def _factor_facts(
    application: Application, session: AccessSession | None, moment: Moment, now: datetime
) -> FactorFacts:
    if session is None:
        return NO_FACTORS
    return FactorFacts(mfa_of(application), factors_of(session, now), moment)


def mfa_of(application: Application) -> MfaDefaults:
    organization = application.organization
    return mfa_defaults(
        organization.mfa_config, application.mfa_config, is_required=organization.mfa_required_for_all_apps
    )


def factors_of(session: AccessSession, now: datetime) -> tuple[Factor, ...]:
    """Those we checked, and those the login method reported. A mailed PIN reports "otp" too, but it is the login
    itself and no second factor."""
    seconds = int(now.timestamp())
    own = tuple(Factor(str(factor["kind"]), max(0, seconds - int(factor["at"]))) for factor in session.factors)
    provider = session.identity.provider
    if provider.type == IdentityProvider.Type.ONE_TIME_PIN:
        return own
    since = session.authenticated_at or session.created_at
    return own + provider_factors(session.authentication_methods, max(0, seconds - int(since.timestamp())))


def person_of(identity: Identity, session: AccessSession | None = None) -> Person:
    """Without a session (a simulation) nothing is known about how the person would log in."""
    methods = session.all_methods if session is not None else []
    return Person(
        email=identity.email,
        email_verified=identity.email_verified is True,
        provider_id=str(identity.provider_id),
        groups=tuple(group for group in identity.groups if isinstance(group, str)),
        claims=identity.claims if isinstance(identity.claims, dict) else {},
        authentication_methods=tuple(str(method) for method in methods if isinstance(method, str)),
    )


def ask_external(policies: Iterable[Policy], groups: Mapping[str, Group], asker: Asker) -> ExternalFacts:
    """Over the network when a policy wants it and somebody is logged in: not to be called inside a transaction."""
    if asker.session is None:
        return {}
    pairs = evaluators_in(policies, groups)
    if not pairs:
        return {}
    place = country.lookup(asker.ip)
    return external.ask_all(pairs, session=asker.session, ip=asker.ip, country=place, now=asker.now)


def evaluators_in(policies: Iterable[Policy], groups: Mapping[str, Group]) -> set[tuple[str, str]]:
    """(evaluate_url, keys_url) of each."""
    return {(rule.value, rule.detail) for rule in rules_outside(policies, groups) if rule.selector == EXTERNAL}


def load_lists(
    organization_id: str, policies: Iterable[Policy], groups: Mapping[str, Group]
) -> Mapping[str, NamedList]:
    """One query when any rule names a list. An entry that cannot be read leaves its list out: its rules are errors."""
    named = {rule.value for rule in rules_outside(policies, groups) if rule.selector in LIST_TYPES}
    if not named:
        return {}
    rows = AccessList.objects.filter(organization_id=organization_id, pk__in=named)
    return {str(row.pk): read for row in rows if (read := _KEPT_LISTS.of(row.pk, row)) is not None}


def rules_in(policies: Iterable[Policy], groups: Mapping[str, Group]) -> Iterator[Rule]:
    """Of the policies, and of the groups that they reach; each group once."""
    open_rules = [rule for policy in policies for rule in policy.rules()]
    seen: set[str] = set()
    while open_rules:
        rule = open_rules.pop()
        yield rule
        if rule.selector == GROUP and rule.value in groups and rule.value not in seen:
            seen.add(rule.value)
            open_rules += groups[rule.value].rules()


def rules_outside(policies: Iterable[Policy], groups: Mapping[str, Group]) -> Iterator[Rule]:
    """Those of `rules_in` that ask about named lists or external evaluators."""
    open_lists = [policy.lists for policy in policies]
    seen: set[str] = set()
    while open_lists:
        lists = open_lists.pop()
        yield from lists.outside
        for key in lists.groups:
            if key in groups and key not in seen:
                seen.add(key)
                open_lists.append(groups[key].lists)


def _read(row: AccessList) -> NamedList | None:
    version = row.updated_at.isoformat()
    try:
        values = [item["value"] for item in row.items]
        if row.type == AccessList.Type.EMAIL:
            return NamedList(row.name, emails=frozenset(ascii_lower(value) for value in values), version=version)
        return NamedList(row.name, networks=tuple(ipaddress.ip_network(value) for value in values), version=version)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


_KEPT_LISTS = Kept(
    _read,
    lambda row: (row.name, row.type, row.updated_at, row.items),
    lambda read: len(read.emails) + len(read.networks) if read is not None else 0,
)


def _approvals(
    application: Application, policies: Iterable[Policy], session: AccessSession | None, now: datetime
) -> dict[str, int]:
    if session is None or not any(policy.terms.needs_approval for policy in policies):
        return {}
    rows = ApprovalRequest.objects.filter(
        application=application,
        identity_id=session.identity_id,
        status=ApprovalRequest.Status.APPROVED,
        ends_at__gt=now,
    )
    groups = {policy.id: policy.terms.approval_groups for policy in policies}
    held: dict[str, int] = {}
    for request in still_granted(rows.prefetch_related("votes"), groups):
        left = max(1, int(((request.ends_at or now) - now).total_seconds()))
        held[str(request.policy_id)] = max(left, held.get(str(request.policy_id), 0))
    return held


def _is_justified(application: Application, policies: Iterable[Policy], session: AccessSession | None) -> bool:
    if session is None or not any(policy.terms.needs_purpose for policy in policies):
        return False
    return Justification.objects.filter(application=application, session=session).exists()


def as_document(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"))
