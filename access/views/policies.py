"""Access, Policies: reusable ones. Also what every page with a policy form shares."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Count, Q
from django.http import HttpResponse
from django.views.decorators.http import require_GET, require_http_methods

from access.actions.policies import create_policy, delete_policy, obstacle_to_deleting, update_policy
from access.lint_context import findings_of_edit
from access.models import Application, Policy
from access.policy_forms import PolicyForm
from access.policy_words import sentence
from access.rule_builder import RuleBuilder
from access.rule_text import RuleNames
from access.simulation import Proposal
from access.views.trials import COMPARE, REPLAY, REPLAY_DAYS, asked_step, kept_draft, proposed_policy, start_trial
from accounts.http import OrganizationRequest, requires
from accounts.mfa_forms import REQUIRED
from accounts.pages import (
    Crumbs,
    Filter,
    at,
    confirmed,
    done,
    find,
    list_page,
    refusals,
    show,
    with_input,
)
from accounts.permissions import Permission
from accounts.tenancy import TenantQuerySet

# Steps after which a form is only shown again.
UNSENT = ("", "rows")
RuleLists = tuple[list[Any], list[Any], list[Any]]


@requires(Permission.ACCESS_READ)
@require_GET
def policies(request: OrganizationRequest) -> HttpResponse:
    rows = _reusable(request).annotate(application_count=Count("application_links"))
    decision = Filter(
        "action",
        "Action",
        [(value, label) for value, label in Policy.Decision.choices],
        {value: Q(decision=value) for value in Policy.Decision.values},
    )
    listing = list_page(request, rows, search=("name",), filters=[decision])
    names = RuleNames(request.organization)
    entries = [(policy, names.lines(*rules_of(policy))) for policy in listing]
    return show(request, "access/policies.html", title="Policies", listing=listing, entries=entries)


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def policy_add(request: OrganizationRequest) -> HttpResponse:
    form, builder, step = sent_policy(request)
    values = policy_values(request, form, builder) if step not in UNSENT else None
    if values is not None:
        with refusals(form):
            policy = create_policy(request.organization, actor=request.actor, **values)
            return done(request, f"{policy.name} can be attached to applications now.", "policies")
    return _page(request, form, builder, title="Add a reusable policy")


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def policy_edit(request: OrganizationRequest, policy_id: UUID) -> HttpResponse:
    policy = find(_reusable(request).select_related("organization"), pk=policy_id)
    form, builder, step = sent_policy(request, policy)
    values = policy_values(request, form, builder) if step not in UNSENT else None
    if values is not None and step in (COMPARE, REPLAY):
        users = [link.application for link in policy.application_links.select_related("application")]
        proposal = Proposal(users, policy=proposed_policy(request, policy, values))
        answer = start_trial(request, form, step=step, title=f"Edit of {policy.name}", proposal=proposal)
        if answer is not None:
            return answer
    elif values is not None:
        with refusals(form):
            update_policy(policy, actor=request.actor, **values)
            return done(request, f"{values['name']} is saved, for every application it is attached to.", "policies")
    return _page(request, form, builder, title=f"Edit {policy.name}", policy=policy)


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def policy_delete(request: OrganizationRequest, policy_id: UUID) -> HttpResponse:
    policy = find(_reusable(request).select_related("organization"), pk=policy_id)
    obstacle = obstacle_to_deleting(policy)
    return confirmed(
        request,
        lambda: delete_policy(policy, actor=request.actor),
        said=f"{policy.name} is deleted.",
        question=f"Delete the policy {policy.name}?",
        consequences=[] if obstacle else ["No application uses it."],
        obstacle=obstacle,
        button="Delete policy",
        can_undo=True,
        crumbs=[("Policies", at(request, "policies"))],
    )


# --- shared by every page with a policy form ------------------------------------------------------------------
def sent_policy(request: OrganizationRequest, policy: Policy | None = None) -> tuple[PolicyForm, RuleBuilder, str]:
    """Form and rule builder, and the step asked for: "" (shown first), "rows" (builder changed), "compare" or
    "replay" (try it), or "save"."""
    initial = policy_initial(policy)
    draft = kept_draft(request) if request.method != "POST" else None
    if draft is not None:
        return with_input(PolicyForm(initial=initial), draft), RuleBuilder.sent(request.organization, draft), "rows"
    if request.method != "POST":
        return PolicyForm(initial=initial), RuleBuilder.stored(request.organization, initial), ""
    builder = RuleBuilder.sent(request.organization, request.POST)
    if builder.take_step(request.POST.get("step", "save")):
        return with_input(PolicyForm(initial=initial), request.POST), builder, "rows"
    return PolicyForm(request.POST, initial=initial), builder, asked_step(request)


def policy_initial(policy: Policy | None) -> dict[str, Any]:
    if policy is None:
        return {}
    rules = {name: getattr(policy, name) for name in ("include", "require", "exclude")}
    return {**PolicyForm.initial_of(policy), **rules}


def policy_values(request: OrganizationRequest, form: PolicyForm, builder: RuleBuilder) -> dict[str, Any] | None:
    """Arguments for the policy actions; None when form or rows hold errors."""
    lists = builder.read()
    if not form.is_valid() or lists is None:
        if lists is None:
            form.add_error(None, "A rule is not complete. Nothing was saved; look at the marked row.")
        return None
    return {**form.values(request.organization), **lists}


def policy_page(
    request: OrganizationRequest,
    form: PolicyForm,
    builder: RuleBuilder,
    *,
    title: str,
    crumbs: Crumbs,
    back: str,
    template: str = "access/policy_form.html",
    application: Application | None = None,
    policy: Policy | None = None,
    **context: Any,
) -> HttpResponse:
    """`application` and `policy` (None: a new one) say where lint has to look."""
    rules = builder.readable()
    decision = str(form["decision"].value() or Policy.Decision.ALLOW)
    builder.sentence = sentence(
        builder.names,
        rules,
        decision=decision,
        needs_purpose=bool(form["purpose_justification_required"].value()),
        needs_approval=bool(form["approval_required"].value()),
        needs_factor=form["mfa_mode"].value() == REQUIRED,
    )
    if any(rules.values()):
        builder.findings = findings_of_edit(
            request.organization, rules, decision=decision, application=application, policy=policy
        )
    page = {"form": form, "builder": builder, "back": back, "live": True, "replay_days": REPLAY_DAYS, **context}
    return show(request, template, title=title, crumbs=crumbs, **page)


def rules_of(policy: Policy) -> RuleLists:
    return policy.include, policy.require, policy.exclude


def _page(
    request: OrganizationRequest, form: PolicyForm, builder: RuleBuilder, *, title: str, policy: Policy | None = None
) -> HttpResponse:
    back = at(request, "policies")
    return policy_page(
        request,
        form,
        builder,
        title=title,
        crumbs=[("Policies", back)],
        back=back,
        policy=policy,
        can_try=policy is not None,
    )


def _reusable(request: OrganizationRequest) -> TenantQuerySet[Policy]:
    return Policy.objects.for_organization(request.organization).filter(reusable=True)
