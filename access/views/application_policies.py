"""An application's policies: its own and attached reusable ones, in their order."""

from __future__ import annotations

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
    reorder_policies,
    update_policy,
)
from access.forms import AttachForm
from access.models import Application, ApplicationPolicy, Policy
from access.policy_forms import PolicyForm
from access.rule_builder import RuleBuilder
from access.rule_text import RuleNames
from access.rules import warnings
from access.views.applications import crumbs, own_application, tab
from access.views.policies import policy_page, policy_values, rules_of, sent_policy
from accounts.forms import PlainForm
from accounts.http import OrganizationRequest, requires
from accounts.pages import at, done, find, posted, refusals, sent_once, show, telling
from accounts.permissions import Permission


@requires(Permission.ACCESS_READ)
@require_GET
def application_policies(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    return _policies_tab(request, own_application(request, application_id))


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
@sent_once
def application_policy_add(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    form, builder, step = sent_policy(request)
    values = policy_values(request, form, builder) if step == "save" else None
    if values is not None:
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
    values = policy_values(request, form, builder) if step == "save" else None
    if values is not None:
        with refusals(form):
            update_policy(policy, actor=request.actor, **values)
            return done(request, f"{values['name']} is saved.", "application_policies", application.pk)
    return _form_page(request, application, form, builder, title=f"Edit {policy.name}")


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_policy_delete(request: OrganizationRequest, application_id: UUID, policy_id: UUID) -> HttpResponse:
    """An own policy is deleted, a reusable one only detached."""
    application = own_application(request, application_id)
    policy = _link(application, policy_id).policy
    form = PlainForm(posted(request))
    if request.method == "POST":
        with refusals(form):
            if policy.reusable:
                detach_policy(application, policy, actor=request.actor)
            else:
                delete_policy(policy, actor=request.actor)
            done_word = "detached" if policy.reusable else "deleted"
            return done(request, f"{policy.name} is {done_word}.", "application_policies", application.pk)
    verb = "Detach" if policy.reusable else "Delete"
    return show(
        request,
        "confirm.html",
        title=f"{verb} policy",
        crumbs=crumbs(request, application),
        question=f"{verb} the policy {policy.name}?",
        consequences=[
            "Whoever only this policy lets in is refused from now on; running sessions are cut within seconds.",
            "An application without policies lets nobody in.",
        ],
        button=f"{verb} policy",
        danger=True,
        back=at(request, "application_policies", application.pk),
        form=form,
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
        with telling(request):
            reorder_policies(application, order, actor=request.actor)
            messages.success(request, "The order is changed.")
    return redirect(at(request, "application_policies", application.pk))


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_policy_attach(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    form = AttachForm(request.POST, policies=_attachable(request, application))
    if form.is_valid():
        with refusals(form):
            policy = find(Policy.objects.for_organization(request.organization), pk=form.cleaned_data["policy"])
            attach_policy(application, policy, precedence=None, actor=request.actor)
            return done(request, f"{policy.name} is attached.", "application_policies", application.pk)
    return _policies_tab(request, application, form)


def _policies_tab(
    request: OrganizationRequest, application: Application, form: AttachForm | None = None
) -> HttpResponse:
    links = list(application.policy_links.select_related("policy").order_by("precedence"))
    names = RuleNames(request.organization)
    rows = [
        (
            link,
            names.lines(*rules_of(link.policy)),
            warnings(link.policy.decision, link.policy.include, link.policy.require),
        )
        for link in links
    ]
    attachable = _attachable(request, application)
    return tab(
        request,
        application,
        "policies",
        rows=rows,
        form=form or AttachForm(policies=attachable),
        can_attach=bool(attachable),
    )


def _attachable(request: OrganizationRequest, application: Application) -> list[Policy]:
    reusable = Policy.objects.for_organization(request.organization).filter(reusable=True)
    return list(reusable.exclude(application_links__application=application)[:500])


def _form_page(
    request: OrganizationRequest, application: Application, form: PolicyForm, builder: RuleBuilder, *, title: str
) -> HttpResponse:
    back = at(request, "application_policies", application.pk)
    return policy_page(request, form, builder, title=title, crumbs=crumbs(request, application), back=back)


def _link(application: Application, policy_id: UUID) -> ApplicationPolicy:
    return find(
        ApplicationPolicy.objects.filter(application=application).select_related("policy__organization"),
        policy_id=policy_id,
    )
