"""An application's policies: its own and attached reusable ones, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from access.actions.policies import (
    attach_policy,
    create_policy,
    delete_policy,
    detach_policy,
    make_policy_reusable,
    reorder_policies,
    update_policy,
)
from access.forms import AttachForm, MoveForm, OrderForm, OverridableForm
from access.lint_context import findings_of_application
from access.models import Application, ApplicationPolicy, Policy
from access.policy_forms import PolicyForm
from access.rule_builder import RuleBuilder
from access.rule_text import RuleNames
from access.simulation import Proposal
from access.views.applications import crumbs, own_application, tab
from access.views.policies import UNSENT, policy_page, policy_values, rules_of, sent_policy
from access.views.trials import COMPARE, REPLAY, proposed_policy, start_trial
from accounts.errors import Conflict
from accounts.http import OrganizationRequest, requires
from accounts.models import DeletedObject
from accounts.pages import at, confirmed, done, find, posted, refusals, telling
from accounts.permissions import Permission


@requires(Permission.ACCESS_READ)
@require_GET
def application_policies(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    return _policies_tab(request, own_application(request, application_id))


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_policy_add(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    form, builder, step = sent_policy(request)
    values = policy_values(request, form, builder) if step not in UNSENT else None
    if values is not None and step in (COMPARE, REPLAY):
        answer = _try(request, application, form, None, values, step)
        if answer is not None:
            return answer
    elif values is not None:
        with refusals(form):
            policy = create_policy(request.organization, application=application, actor=request.actor, **values)
            return done(request, f"{policy.name} is added.", "application_policies", application.pk)
    return _form_page(request, application, form, builder, title="Add a policy")


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_policy_edit(request: OrganizationRequest, application_id: UUID, policy_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    policy = _link(application, policy_id).policy
    if policy.reusable:
        return redirect(at(request, "policy_edit", policy.pk))
    form, builder, step = sent_policy(request, policy)
    values = policy_values(request, form, builder) if step not in UNSENT else None
    if values is not None and step in (COMPARE, REPLAY):
        answer = _try(request, application, form, policy, values, step)
        if answer is not None:
            return answer
    elif values is not None:
        with refusals(form):
            update_policy(policy, actor=request.actor, **values)
            return done(request, f"{values['name']} is saved.", "application_policies", application.pk)
    return _form_page(request, application, form, builder, title=f"Edit {policy.name}", policy=policy)


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_policy_make_reusable(
    request: OrganizationRequest, application_id: UUID, policy_id: UUID
) -> HttpResponse:
    application = own_application(request, application_id)
    policy = _link(application, policy_id).policy
    with telling(request):
        make_policy_reusable(policy, actor=request.actor)
        messages.success(request, f"{policy.name} is reusable now: other applications can attach it.")
    return redirect(at(request, "application_policies", application.pk))


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_policy_delete(request: OrganizationRequest, application_id: UUID, policy_id: UUID) -> HttpResponse:
    """An own policy is deleted, a reusable one only detached."""
    application = own_application(request, application_id)
    policy = _link(application, policy_id).policy
    form = OverridableForm(posted(request))
    verb, past = ("Detach", "detached") if policy.reusable else ("Delete", "deleted")

    def take_away() -> DeletedObject:
        reason = form.cleaned_data["override_reason"]
        if policy.reusable:
            return detach_policy(application, policy, actor=request.actor, override_reason=reason)
        return delete_policy(policy, actor=request.actor, override_reason=reason)

    return confirmed(
        request,
        take_away,
        form=form,
        said=f"{policy.name} is {past}.",
        question=f"{verb} the policy {policy.name}?",
        consequences=[
            "Whoever only this policy lets in is refused from now on; running sessions are cut within seconds.",
            "An application without policies lets nobody in.",
        ],
        button=f"{verb} policy",
        can_undo=True,
        crumbs=crumbs(request, application),
        back=at(request, "application_policies", application.pk),
    )


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_policy_move(request: OrganizationRequest, application_id: UUID, policy_id: UUID) -> HttpResponse:
    """One place up or down (POST direction=up|down)."""
    application = own_application(request, application_id)
    order = [link.policy_id for link in application.policy_links.order_by("precedence")]
    if policy_id not in order:
        raise Http404
    place = order.index(policy_id)
    target = place + (-1 if request.POST.get("direction") == "up" else 1)
    if 0 <= target < len(order):
        order[place], order[target] = order[target], order[place]
        form = MoveForm(request.POST)
        return _reordered(request, application, form, order=order, said="The order is changed.")
    return redirect(at(request, "application_policies", application.pk))


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_policies_order(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    """The whole order (POST order=ids, seen=ids as they were shown)."""
    application = own_application(request, application_id)
    form = OrderForm(request.POST)
    if form.is_valid():
        return _reordered(request, application, form, order=form.cleaned_data["order"], said="The order is saved.")
    return redirect(at(request, "application_policies", application.pk))


def _reordered(
    request: OrganizationRequest,
    application: Application,
    form: MoveForm | OrderForm,
    *,
    order: Sequence[str | UUID],
    said: str,
) -> HttpResponse:
    """Done as asked; the question is shown only when it was refused."""
    back = at(request, "application_policies", application.pk)

    def reorder() -> HttpResponse | None:
        seen, reason = form.cleaned_data["seen"] or None, form.cleaned_data["override_reason"]
        try:
            reorder_policies(application, order, seen=seen, actor=request.actor, override_reason=reason)
        except Conflict as error:
            # Asked to confirm with a reason, the same order can be sent again; an order that is out of date cannot.
            if error.code != "policies_changed":
                raise
            messages.error(request, error.message)
            return redirect(back)
        return None

    return confirmed(
        request,
        reorder,
        form=form,
        said=said,
        question="Change the order of the policies?",
        consequences=["The first policy that matches decides, so another order is another answer."],
        button="Change the order",
        crumbs=crumbs(request, application),
        back=back,
    )


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_policy_attach(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    form = AttachForm(request.POST, policies=_attachable(request, application))
    if form.is_valid():
        with refusals(form):
            policy = find(Policy.objects.for_organization(request.organization), pk=form.cleaned_data["policy"])
            reason = form.cleaned_data["override_reason"]
            attach_policy(application, policy, precedence=None, actor=request.actor, override_reason=reason)
            return done(request, f"{policy.name} is attached.", "application_policies", application.pk)
    return _policies_tab(request, application, form)


def _policies_tab(
    request: OrganizationRequest, application: Application, form: AttachForm | None = None
) -> HttpResponse:
    links = list(application.policy_links.select_related("policy").order_by("precedence"))
    names = RuleNames(request.organization)
    findings = findings_of_application(application, [link.policy for link in links])
    rows = [(link, names.lines(*rules_of(link.policy)), found) for link, found in zip(links, findings, strict=True)]
    attachable = _attachable(request, application)
    return tab(
        request,
        application,
        "policies",
        rows=rows,
        order=",".join(str(link.policy_id) for link in links),
        form=form or AttachForm(policies=attachable),
        can_attach=bool(attachable),
        live=True,
    )


def _attachable(request: OrganizationRequest, application: Application) -> list[Policy]:
    reusable = Policy.objects.for_organization(request.organization).filter(reusable=True)
    return list(reusable.exclude(application_links__application=application)[:500])


def _try(
    request: OrganizationRequest,
    application: Application,
    form: PolicyForm,
    policy: Policy | None,
    values: dict[str, Any],
    step: str,
) -> HttpResponse | None:
    proposal = Proposal([application], policy=proposed_policy(request, policy, values))
    verb = "Edit of" if policy else "New policy"
    title = f"{verb} {values['name']} at {application.name}"
    return start_trial(request, form, step=step, title=title, proposal=proposal)


def _form_page(
    request: OrganizationRequest,
    application: Application,
    form: PolicyForm,
    builder: RuleBuilder,
    *,
    title: str,
    policy: Policy | None = None,
) -> HttpResponse:
    return policy_page(
        request,
        form,
        builder,
        title=title,
        crumbs=crumbs(request, application),
        back=at(request, "application_policies", application.pk),
        application=application,
        policy=policy,
        can_try=True,
    )


def _link(application: Application, policy_id: UUID) -> ApplicationPolicy:
    return find(
        ApplicationPolicy.objects.filter(application=application).select_related("policy__organization"),
        policy_id=policy_id,
    )
