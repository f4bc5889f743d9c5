"""Which of an organization's applications one person may enter now: one question about many applications.

Decisions about a request are made in `decisions`; this answers yes or no with the same rules, of which it reads each
once and judges each group once, however many applications there are.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db.models import Q

from access import country
from access.decisions import refused_before_rules
from access.evaluation import Judges, Policy, may_enter
from access.facts import Asker, ask_external, factors_of, load_lists, person_of
from access.models import Application, ApplicationPolicy, ApprovalRequest, Justification
from access.rule_store import PolicyShelf, groups_of
from access.selectors import Context
from accounts.models import AccessSession
from accounts.second_factor import FactorFacts, Moment, mfa_defaults

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """As much of an application as the question needs."""

    id: uuid.UUID
    name: str
    hostname: str
    path: str
    mfa_config: Mapping[str, Any] | None

    @property
    def domain(self) -> str:
        return f"{self.hostname}{self.path}"


def candidates(session: AccessSession) -> list[Candidate]:
    """Applications with a tile on a real hostname that admit the person's login method; by name."""
    rows = Application.objects.for_organization(session.organization).filter(app_launcher_visible=True)
    admits = Q(allowed_providers=None) | Q(allowed_providers=session.identity.provider_id)
    rows = rows.filter(admits).exclude(hostname__startswith="*").order_by("name", "id")
    return [Candidate(*row) for row in rows.values_list("pk", "name", "hostname", "path", "mfa_config")]


def reachable(wanted: Iterable[Candidate], *, session: AccessSession, ip: str, now: datetime) -> Iterator[uuid.UUID]:
    """Ids of those that let the person in or ask for something first, in the order given. Lazily: who shows a page of
    them stops asking when it is full."""
    if refused_before_rules(session.identity, None, now) is not None:
        return
    rules = _Rules(session, ip, now)
    for application in wanted:
        if rules.admit(application):
            yield application.id


class _Rules:
    """Everything that decides about this person in this organization, read once."""

    def __init__(self, session: AccessSession, ip: str, now: datetime) -> None:
        self._session, self._now = session, now
        groups = groups_of(session.organization_id)
        self._policies = _policies_by_application(session.organization_id)
        policies = {policy.id: policy for listed in self._policies.values() for policy in listed or ()}.values()
        self._base = Context(
            ip=ip,
            country=country.resolve(ip),
            person=person_of(session.identity, session),
            lists=load_lists(session.organization_id, policies, groups),
            external=ask_external(policies, groups, Asker(ip, now, session)),
        )
        self._judges = Judges(groups, self._base)
        self._factors = factors_of(session, now)
        self._approvals = self._held_approvals() if any(one.terms.needs_approval for one in policies) else {}
        self._justified = self._said_purposes() if any(one.terms.needs_purpose for one in policies) else frozenset()
        self._contexts: dict[str, Context] = {}

    def admit(self, application: Candidate) -> bool:
        """Whatever fails here, nobody gets in by it (security.md AC-81)."""
        policies = self._policies.get(application.id.int, [])
        if policies is None:
            return False
        try:
            return may_enter(policies, self._judges, self._context(application))
        except Exception:
            log.exception("policy evaluation failed", extra={"application_id": str(application.id)})
            return False

    def _context(self, application: Candidate) -> Context:
        """Most applications have the same one."""
        key = json.dumps(application.mfa_config, sort_keys=True) if application.mfa_config else ""
        if key not in self._contexts:
            organization = self._session.organization
            defaults = mfa_defaults(
                organization.mfa_config, application.mfa_config, is_required=organization.mfa_required_for_all_apps
            )
            self._contexts[key] = replace(self._base, mfa=FactorFacts(defaults, self._factors, Moment.USE))
        context, approvals = self._contexts[key], self._approvals.get(application.id)
        if approvals is None and application.id not in self._justified:
            return context
        return replace(context, approvals=approvals or {}, is_justified=application.id in self._justified)

    def _held_approvals(self) -> dict[uuid.UUID, dict[str, int]]:
        rows = ApprovalRequest.objects.for_organization(self._session.organization).filter(
            identity_id=self._session.identity_id, status=ApprovalRequest.Status.APPROVED, ends_at__gt=self._now
        )
        found: dict[uuid.UUID, dict[str, int]] = {}
        for application_id, policy_id, ends_at in rows.values_list("application_id", "policy_id", "ends_at"):
            if ends_at is not None:
                left = max(1, int((ends_at - self._now).total_seconds()))
                held = found.setdefault(application_id, {})
                held[str(policy_id)] = max(left, held.get(str(policy_id), 0))
        return found

    def _said_purposes(self) -> frozenset[uuid.UUID]:
        return frozenset(Justification.objects.filter(session=self._session).values_list("application_id", flat=True))


def _policies_by_application(organization_id: str) -> dict[int, list[Policy] | None]:
    """By the number of the application's id. None for an application of which a policy could not be read."""
    rows = ApplicationPolicy.objects.filter(application__organization=organization_id).order_by()
    links = list(rows.values_list("application_id", "policy_id", "precedence"))
    policies = PolicyShelf(organization_id).get([(policy_id.int, precedence) for _, policy_id, precedence in links])
    found: dict[int, list[Policy] | None] = {}
    for (application_id, _, _), policy in zip(links, policies, strict=True):
        listed = found.setdefault(application_id.int, [])
        if policy is None:
            found[application_id.int] = None
        elif listed is not None:
            listed.append(policy)
    return found
