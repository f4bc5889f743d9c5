"""Trying an edit before it is saved: the buttons "Who gains, who loses" and "Replay" of policy and group forms.

A trial keeps what the form held in the simulation's `draft`; its page leads back to the form with ?draft=<id>.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django import forms
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect

from access.actions.simulations import start_simulation
from access.models import Group, Policy, Simulation
from access.policy_terms import checked_terms
from access.rules import check_rules
from access.simulation import Proposal
from accounts.http import OrganizationRequest
from accounts.pages import at, refusals

COMPARE, REPLAY = "compare", "replay"
REPLAY_DAYS = (1, 7, 30, 90)
_NOT_KEPT = {"csrfmiddlewaretoken", "form_id", "step", "override_reason"}


def asked_step(request: OrganizationRequest) -> str:
    """compare, replay or save."""
    step = request.POST.get("step", "save")
    return step if step in {COMPARE, REPLAY} else "save"


def kept_draft(request: OrganizationRequest) -> QueryDict | None:
    """What this form held when a trial was started from it."""
    try:
        key = uuid.UUID(request.GET.get("draft", ""))
    except ValueError:
        return None
    simulation = Simulation.objects.for_organization(request.organization).filter(pk=key).first()
    if simulation is None or simulation.draft.get("path") != request.path:
        return None
    fields = QueryDict(mutable=True)
    for name, values in simulation.draft["fields"].items():
        fields.setlist(name, values if isinstance(values, list) else [values])
    return fields


def start_trial(
    request: OrganizationRequest, form: forms.Form, *, step: str, title: str, proposal: Proposal
) -> HttpResponse | None:
    """The answer that leads to the trial's page, or None when it was refused; `form` then holds why."""
    sent = {name: values for name, values in request.POST.lists() if name not in _NOT_KEPT}
    fields = {name: values[0] if len(values) == 1 else values for name, values in sent.items()}
    days = request.POST.get("replay_days", "")
    with refusals(form):
        _check(request, proposal)
        simulation = start_simulation(
            request.organization,
            actor=request.actor,
            title=title,
            proposal=proposal,
            replay_days=(int(days) if days.isdigit() and len(days) < 4 else 7) if step == REPLAY else None,
            draft={"path": request.path, "fields": fields},
        )
        return redirect(at(request, "simulation", simulation.pk))
    return None


def proposed_policy(request: OrganizationRequest, policy: Policy | None, values: Mapping[str, Any]) -> Policy:
    """The policy as the form would make it, not saved."""
    row: Policy = Policy(organization=request.organization) if policy is None else _copy(policy)
    _change(row, values)
    return row


def proposed_group(group: Group, values: Mapping[str, Any]) -> Group:
    row: Group = _copy(group)
    _change(row, values)
    return row


def _copy(row: Any) -> Any:
    return type(row)(**{item.attname: item.value_from_object(row) for item in row._meta.concrete_fields})


def _change(row: Any, values: Mapping[str, Any]) -> None:
    """`updated_at` is cleared: a proposed edit counts as made now."""
    columns = {item.attname for item in row._meta.concrete_fields}
    for name, value in {**values, **values.get("terms", {})}.items():
        if name in columns:
            setattr(row, name, value)
    row.updated_at = None


def _check(request: OrganizationRequest, proposal: Proposal) -> None:
    """As the action would when saving."""
    policy, group = proposal.policy, proposal.group
    if policy is not None:
        lists = (policy.include, policy.require, policy.exclude)
        check_rules(request.organization, *lists, decision=policy.decision)
        checked_terms(request.organization, policy.decision, {}, policy)
    if group is not None:
        check_rules(request.organization, group.include, group.require, group.exclude, group=group)
