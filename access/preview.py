"""Whom policies that are not saved yet would let in: the people known from logins, as they would come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import F, OuterRef, Subquery

from access.evaluation import Outcome
from access.facts import load_lists
from access.models import ApplicationPolicy, Group, Policy
from access.questions import Asked, answer, context_for, person_for
from access.rule_store import group_of, policy_of
from accounts.models import AccessSession, Identity, Organization

# Those who came last; everybody is a simulation's job.
MAX_PEOPLE = 200
MAX_NAMED = 12


@dataclass
class Preview:
    """`known`: how many people the organization knows; of these the last MAX_PEOPLE were asked about."""

    known: int
    allowed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)

    @property
    def asked(self) -> int:
        return len(self.allowed) + len(self.refused) + len(self.undecided)

    @property
    def groups(self) -> list[tuple[str, str, list[str], int]]:
        """Label, badge, the first names, and how many more."""
        found = [("get in", "good", self.allowed), ("are refused", "bad", self.refused)]
        found.append(("cannot be decided", "warn", self.undecided))
        return [(label, css, names[:MAX_NAMED], max(0, len(names) - MAX_NAMED)) for label, css, names in found]


def preview(organization: Organization, policies: Sequence[Policy], *, now: datetime) -> Preview:
    """`policies` in their order, saved or not. The login methods of an application do not count here."""
    for policy in policies:
        # As in access.simulation: what is not saved yet counts as edited now.
        policy.updated_at = policy.updated_at or now
    rules = [
        policy_of(ApplicationPolicy(policy=policy, precedence=place)) for place, policy in enumerate(policies, start=1)
    ]
    groups = {str(row.pk): group_of(row) for row in Group.objects.for_organization(organization)}
    lists = load_lists(organization.pk, rules, groups)
    last = AccessSession.objects.filter(identity=OuterRef("pk")).order_by("-created_at")
    people = Identity.objects.for_organization(organization)
    found = Preview(known=people.count())
    annotated = people.annotate(
        last_ip=Subquery(last.values("ip_address")[:1]),
        last_methods=Subquery(last.values("authentication_methods")[:1]),
    )
    for identity in annotated.order_by(F("last_login_at").desc(nulls_last=True), "pk")[:MAX_PEOPLE]:
        context = context_for(person_for(identity, identity.last_methods or []), identity.last_ip or "")
        asked = Asked(context, str(identity), identity=identity)
        decision = answer(rules, groups, asked, now=now, lists=lists)
        undecided = decision.outcome is Outcome.ERROR
        kept = found.undecided if undecided else found.allowed if decision.allowed else found.refused
        kept.append(str(identity))
    return found
