"""Simulations: proposed rules against all known identities, or against the decisions of the last days.

A simulation carries both sets of rules as JSON rows (`freeze`), so it sees no change made while it runs. It advances in
parts: each part is one transaction that stores results, counts and the place to go on from, so a worker may die or a
message arrive twice without counting anybody twice.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from celery import shared_task
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.db.models import Model, OuterRef, Q, Subquery
from django.utils import timezone

from access.decision_facts import context_of
from access.evaluation import PURPOSE_REQUIRED, Decision, Outcome, Policy, evaluate
from access.evaluation import Group as RuleGroup
from access.facts import load_lists
from access.models import (
    AccessRequest,
    Application,
    ApplicationPolicy,
    Group,
    Simulation,
    SimulationResult,
)
from access.models import Policy as PolicyRow
from access.questions import Asked, answer, context_for, person_for
from access.rule_store import group_of, policy_of
from access.selectors import NamedList
from accounts.models import AccessSession, Identity, Organization
from accounts.second_factor import ASSUMED

PART = 200
# A part of a task; well below the broker's visibility timeout, after which a message would be delivered again.
TASK_SECONDS = 20.0
LONGEST = timedelta(minutes=15)
STALE = timedelta(seconds=60)
KEPT = timedelta(days=7)
MAX_REPLAYED = 100_000
ModelT = TypeVar("ModelT", bound=Model)
_APPROVED, _BLOCKED, _ERROR = SimulationResult.Status


@dataclass(frozen=True)
class Proposal:
    """An edit that is not saved: `policy` and `group` are rows as they would be. A policy that is not attached yet
    comes last. Without either, the saved rules are tried as they are."""

    applications: Sequence[Application]
    policy: PolicyRow | None = None
    group: Group | None = None


@dataclass(frozen=True)
class Target:
    """One application under both sets of rules; `before` is None when there is nothing to compare with."""

    application_id: str | None
    label: str
    before: list[Policy] | None
    after: list[Policy]


@dataclass(frozen=True)
class RuleSets:
    targets: list[Target]
    groups_before: dict[str, RuleGroup]
    groups_after: dict[str, RuleGroup]
    # The organization's lists that any of the rules names, as they are when a worker begins.
    lists: Mapping[str, NamedList]


# --- rules as they are now, and as proposed -------------------------------------------------------------------
def freeze(organization: Organization, proposal: Proposal) -> dict[str, Any]:
    """Both sets of rules, for Simulation.rules."""
    groups = {str(row.pk): as_json(row) for row in Group.objects.for_organization(organization)}
    changed = {str(proposal.group.pk): as_json(proposal.group)} if proposal.group is not None else {}
    targets = [_freeze_application(application, proposal.policy) for application in proposal.applications]
    return {"targets": targets, "groups": groups, "groups_changed": changed}


def freeze_policies(organization: Organization, policies: Sequence[PolicyRow]) -> dict[str, Any]:
    """Policies on their own, in this order, compared with nothing."""
    groups = {str(row.pk): as_json(row) for row in Group.objects.for_organization(organization)}
    after = [{"policy": as_json(policy), "precedence": place} for place, policy in enumerate(policies, start=1)]
    target = {"application_id": None, "label": "", "before": None, "after": after}
    return {"targets": [target], "groups": groups, "groups_changed": {}}


def _freeze_application(application: Application, proposed: PolicyRow | None) -> dict[str, Any]:
    links = list(application.policy_links.select_related("policy").order_by("precedence"))
    before = [{"policy": as_json(link.policy), "precedence": link.precedence} for link in links]
    after = list(before)
    if proposed is not None:
        places = [link.precedence for link in links if link.policy_id == proposed.pk]
        place = places[0] if places else 1 + max((link.precedence for link in links), default=0)
        kept = [item for item, link in zip(before, links, strict=True) if link.policy_id != proposed.pk]
        after = [*kept, {"policy": as_json(proposed), "precedence": place}]
    return {"application_id": str(application.pk), "label": application.name, "before": before, "after": after}


def as_json(row: Model) -> dict[str, Any]:
    """The row's columns; a row that is not saved yet counts as edited now."""
    values = {item.attname: item.value_from_object(row) for item in row._meta.concrete_fields}
    for name in ("created_at", "updated_at"):
        values[name] = values.get(name) or timezone.now()
    plain: dict[str, Any] = json.loads(json.dumps(values, cls=DjangoJSONEncoder))
    return plain


def thaw(kind: type[ModelT], values: Mapping[str, Any]) -> ModelT:
    """The row behind as_json, not saved. Columns that are gone meanwhile are left out."""
    known = {item.attname: item for item in kind._meta.concrete_fields}
    return kind(**{name: known[name].to_python(value) for name, value in values.items() if name in known})


def rule_sets(simulation: Simulation) -> RuleSets:
    rules = simulation.rules
    before = {key: group_of(thaw(Group, values)) for key, values in rules["groups"].items()}
    changed = {key: group_of(thaw(Group, values)) for key, values in rules["groups_changed"].items()}
    targets = [
        Target(item["application_id"], item["label"], _policies(item["before"]), _policies(item["after"]) or [])
        for item in rules["targets"]
    ]
    after = before | changed
    policies = [policy for target in targets for policy in (*(target.before or ()), *target.after)]
    lists: dict[str, NamedList] = {}
    for groups in (before, after):
        lists |= load_lists(simulation.organization_id, policies, groups)
    return RuleSets(targets, before, after, lists)


def _policies(items: Sequence[Mapping[str, Any]] | None) -> list[Policy] | None:
    if items is None:
        return None
    return [
        policy_of(ApplicationPolicy(policy=thaw(PolicyRow, item["policy"]), precedence=item["precedence"]))
        for item in items
    ]


# --- progress -------------------------------------------------------------------------------------------------
def count_of(simulation: Simulation) -> int:
    """How many evaluations there will be."""
    if simulation.kind == Simulation.Kind.REPLAY:
        return int(_requests(simulation).count())
    return int(_identities(simulation).count()) * len(simulation.rules["targets"])


def newest_only(simulation: Simulation) -> None:
    """Move `since` so that at most MAX_REPLAYED decisions are replayed."""
    last = _requests(simulation).order_by("-created_at", "-id").values_list("created_at", flat=True)
    beyond = list(last[MAX_REPLAYED : MAX_REPLAYED + 1])
    if beyond:
        simulation.since = beyond[0]


@shared_task
def run_simulation(simulation_id: str) -> None:
    """Some parts, then a message to itself: no task runs longer than the broker waits for it."""
    if not advance(uuid.UUID(simulation_id), seconds=TASK_SECONDS):
        run_simulation.delay(simulation_id)


def advance(simulation_id: uuid.UUID, *, seconds: float, part: int = PART) -> bool:
    """Do parts for about so many seconds. True when there is nothing left to do."""
    end = time.monotonic() + seconds
    sets: RuleSets | None = None
    while True:
        with transaction.atomic():
            rows = Simulation.objects.all_organizations(reason="a job").select_for_update(of=("self",), no_key=True)
            simulation = rows.select_related("organization").filter(pk=simulation_id).first()
            if simulation is None or simulation.status != Simulation.Status.PROCESSING:
                return True
            sets = sets or rule_sets(simulation)
            _advance_part(simulation, sets, part)
        if simulation.status != Simulation.Status.PROCESSING:
            return True
        if time.monotonic() >= end:
            return False


def _advance_part(simulation: Simulation, sets: RuleSets, part: int) -> None:
    replay = simulation.kind == Simulation.Kind.REPLAY
    more = _replay_part(simulation, sets, part) if replay else _identity_part(simulation, sets, part)
    if not more:
        simulation.status = Simulation.Status.COMPLETE
    elif timezone.now() - simulation.created_at > LONGEST:
        simulation.status = Simulation.Status.EXCEEDED_TIME
    simulation.save()


def redrive(*, now: datetime) -> dict[str, int]:
    """Ask again for simulations whose worker died, and forget old ones."""
    rows = Simulation.objects.all_organizations(reason="a sweeper")
    stuck = rows.filter(status=Simulation.Status.PROCESSING, updated_at__lt=now - STALE)
    asked = [run_simulation.delay(str(pk)) for pk in stuck.values_list("pk", flat=True)[:100]]
    forgotten, _ = rows.filter(created_at__lt=now - KEPT).delete()
    return {"asked_again": len(asked), "forgotten": forgotten}


# --- all known identities -------------------------------------------------------------------------------------
def _identities(simulation: Simulation) -> Any:
    return Identity.objects.for_organization(simulation.organization).filter(created_at__lte=simulation.created_at)


def _identity_part(simulation: Simulation, sets: RuleSets, part: int) -> bool:
    last = AccessSession.objects.filter(identity=OuterRef("pk")).order_by("-created_at")
    rows = _identities(simulation).annotate(
        last_ip=Subquery(last.values("ip_address")[:1]),
        last_methods=Subquery(last.values("authentication_methods")[:1]),
    )
    if simulation.cursor:
        rows = rows.filter(pk__gt=simulation.cursor)
    identities = list(rows.order_by("pk")[:part])
    now = timezone.now()
    results = [
        _of_identity(simulation, sets, target, identity, now) for identity in identities for target in sets.targets
    ]
    SimulationResult.objects.bulk_create(results)
    _count(simulation, results)
    if identities:
        simulation.cursor = str(identities[-1].pk)
    return len(identities) == part


def _of_identity(
    simulation: Simulation, sets: RuleSets, target: Target, identity: Any, now: datetime
) -> SimulationResult:
    """As the person would come back: from the address of their last login, with the methods of then."""
    person = person_for(identity, identity.last_methods or [])
    asked = Asked(context_for(person, identity.last_ip or ""), str(identity), identity=identity)
    decision = answer(target.after, sets.groups_after, asked, now=now, lists=sets.lists)
    before = ""
    if target.before is not None:
        before = _status(answer(target.before, sets.groups_before, asked, now=now, lists=sets.lists))
    return SimulationResult(
        simulation=simulation,
        identity=identity,
        who=str(identity)[:350],
        application_label=target.label,
        before=before,
        **_outcome(decision, before),
    )


# --- recorded decisions ---------------------------------------------------------------------------------------
def _requests(simulation: Simulation) -> Any:
    """Decisions that policies made: refusals before or after them hold no facts, and no policy would change them."""
    ids = [item["application_id"] for item in simulation.rules["targets"]]
    return (
        AccessRequest.objects.for_organization(simulation.organization)
        .filter(application__in=ids, created_at__gte=simulation.since, created_at__lte=simulation.created_at)
        .exclude(facts={})
    )


def _replay_part(simulation: Simulation, sets: RuleSets, part: int) -> bool:
    rows = _requests(simulation)
    if simulation.cursor:
        moment, _, key = simulation.cursor.partition("|")
        rows = rows.filter(Q(created_at__gt=moment) | Q(created_at=moment, pk__gt=key))
    chosen = list(rows.select_related("identity").order_by("created_at", "pk")[:part])
    targets = {target.application_id: target for target in sets.targets}
    known: dict[str, Decision] = {}
    results = [_of_request(simulation, sets, targets[str(row.application_id)], row, known) for row in chosen]
    changed = [row for row in results if row.change != SimulationResult.Change.SAME or row.status == _ERROR]
    SimulationResult.objects.bulk_create(changed)
    _count(simulation, results)
    if chosen:
        simulation.cursor = f"{chosen[-1].created_at.isoformat()}|{chosen[-1].pk}"
    return len(chosen) == part


def _of_request(
    simulation: Simulation, sets: RuleSets, target: Target, row: AccessRequest, known: dict[str, Decision]
) -> SimulationResult:
    """The facts as they were; `known` answers the same facts once."""
    key = json.dumps([target.application_id, str(row.identity_id), row.facts], sort_keys=True)
    if key not in known:
        known[key] = _again(sets, target, row)
    before = _APPROVED.value if row.allowed else _BLOCKED.value
    if row.reason == "policy_error":
        before = _ERROR.value
    return SimulationResult(
        simulation=simulation,
        identity=row.identity,
        request=row,
        who=(row.email or "nobody")[:350],
        application_label=target.label,
        before=before,
        happened_at=row.created_at,
        **_outcome(known[key], before),
    )


def _again(sets: RuleSets, target: Target, row: AccessRequest) -> Decision:
    claims = row.identity.claims if row.identity is not None and isinstance(row.identity.claims, dict) else {}
    try:
        context = context_of(row.facts, claims, sets.lists)
    except ValueError:
        return Decision(False, Outcome.ERROR, "facts_unreadable", "")
    # As in access.questions a purpose counts as stated, except where its absence was the refusal, and a second factor
    # as given: the facts do not keep it.
    stated = context.is_justified or row.reason != PURPOSE_REQUIRED
    return evaluate(target.after, sets.groups_after, replace(context, is_justified=stated, mfa=ASSUMED))


# --- shared ---------------------------------------------------------------------------------------------------
def _status(decision: Decision) -> str:
    if decision.outcome is Outcome.ERROR:
        return _ERROR.value
    return _APPROVED.value if decision.allowed else _BLOCKED.value


def _outcome(decision: Decision, before: str) -> dict[str, str]:
    status = _status(decision)
    change = SimulationResult.Change.SAME
    if before and before != _APPROVED and status == _APPROVED:
        change = SimulationResult.Change.GAINED
    elif before == _APPROVED and status != _APPROVED:
        change = SimulationResult.Change.LOST
    return {
        "status": status,
        "change": change.value,
        "reason": decision.reason[:60],
        "policy_name": decision.policy_name,
    }


def _count(simulation: Simulation, results: Iterable[SimulationResult]) -> None:
    for result in results:
        simulation.processed += 1
        simulation.approved += result.status == _APPROVED
        simulation.blocked += result.status == _BLOCKED
        simulation.errored += result.status == _ERROR
        simulation.gained += result.change == SimulationResult.Change.GAINED
        simulation.lost += result.change == SimulationResult.Change.LOST
