"""Simulations of policies: start one. What it does is in access/simulation.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from access import events
from access.models import Policy, Simulation
from access.simulation import Proposal, count_of, freeze, freeze_policies, newest_only, run_simulation
from accounts import audit
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput
from accounts.models import Organization

MAX_RUNNING = 5
MAX_DAYS = 90
MAX_POLICIES = 100


@transaction.atomic
def start_simulation(
    organization: Organization,
    *,
    actor: Actor,
    title: str,
    proposal: Proposal,
    replay_days: int | None = None,
    draft: Mapping[str, Any] | None = None,
) -> Simulation:
    """All known identities, or with `replay_days` the recorded decisions of the last days."""
    if not proposal.applications:
        raise InvalidInput("No application uses these rules yet, so there is nobody to try them on.")
    if replay_days is not None and not 1 <= replay_days <= MAX_DAYS:
        raise InvalidInput(f"Replay 1 to {MAX_DAYS} days.", fields={"replay_days": f"1 to {MAX_DAYS}"})
    since = timezone.now() - timedelta(days=replay_days) if replay_days is not None else None
    simulation = Simulation(
        organization=organization,
        kind=Simulation.Kind.IDENTITIES if since is None else Simulation.Kind.REPLAY,
        title=title[:400],
        rules=freeze(organization, proposal),
        draft=dict(draft or {}),
        since=since,
    )
    return _start(simulation, actor)


@transaction.atomic
def start_policy_test(organization: Organization, *, actor: Actor, policies: Sequence[Policy]) -> Simulation:
    """Policies on their own against all known identities (the public API's policy-tests)."""
    if not 1 <= len(policies) <= MAX_POLICIES:
        raise InvalidInput(f"Test 1 to {MAX_POLICIES} policies.", fields={"policies": f"1 to {MAX_POLICIES}"})
    title = ", ".join(policy.name for policy in policies[:5])
    rules = freeze_policies(organization, policies)
    kind = Simulation.Kind.IDENTITIES
    return _start(Simulation(organization=organization, kind=kind, title=title[:400], rules=rules), actor)


def _start(simulation: Simulation, actor: Actor) -> Simulation:
    organization = Organization.objects.select_for_update(no_key=True).get(pk=simulation.organization_id)
    running = Simulation.objects.for_organization(organization).filter(status=Simulation.Status.PROCESSING)
    if running.count() >= MAX_RUNNING:
        raise Conflict(f"{MAX_RUNNING} simulations are under way. Wait for one to end.", code="too_many_simulations")
    simulation.started_by = actor.label[:300]
    simulation.created_at = timezone.now()
    if simulation.since is not None:
        newest_only(simulation)
    simulation.total = count_of(simulation)
    simulation.save()
    audit.record(
        events.SIMULATION_STARTED,
        organization=organization,
        actor=actor,
        target=simulation,
        new={"kind": simulation.kind, "title": simulation.title, "total": simulation.total},
    )
    transaction.on_commit(lambda: run_simulation.delay(str(simulation.pk)))
    return simulation
