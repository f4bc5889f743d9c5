"""Access, Applications: list, overview, SSH profile, settings, deletion. Adding: application_wizard.py."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from access.actions.applications import delete_application, revoke_application_tokens, update_application
from access.forms import ApplicationForm, SshProfileForm
from access.models import Application, SshAuthority
from access.rule_text import RuleNames
from accounts.forms import TypedNameForm
from accounts.http import OrganizationRequest, requires
from accounts.pages import Crumbs, at, done, find, list_page, posted, refusals, show, telling
from accounts.permissions import Permission
from accounts.tenancy import TenantQuerySet

_LIVE_STATES = (SshAuthority.State.PENDING, SshAuthority.State.ACTIVE)


@requires(Permission.ACCESS_READ)
@require_GET
def applications(request: OrganizationRequest) -> HttpResponse:
    rows = _rows(request).annotate(
        policy_count=Count("policy_links", distinct=True),
        authority_count=Count("ssh_authorities", filter=Q(ssh_authorities__state__in=_LIVE_STATES), distinct=True),
    )
    listing = list_page(request, rows, search=("name", "hostname", "path"))
    return show(request, "access/applications.html", title="Applications", listing=listing)


@requires(Permission.ACCESS_READ)
@require_GET
def application_detail(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    links = application.policy_links.select_related("policy").order_by("precedence")
    names = RuleNames(request.organization)
    policies = [(link, names.lines(link.policy.include, link.policy.require, link.policy.exclude)) for link in links]
    return tab(
        request,
        application,
        "overview",
        policies=policies,
        providers=list(application.allowed_providers.all()),
        authority=application.ssh_authorities.filter(state__in=_LIVE_STATES).first(),
    )


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_revoke_tokens(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    with telling(request):
        revoke_application_tokens(application, actor=request.actor)
        messages.success(request, f"Tokens of {application.name} are revoked: everybody logs in again.")
    return redirect(at(request, "application_detail", application.pk))


@requires(Permission.ACCESS_READ)
@require_GET
def application_ssh(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    return tab(request, application, "ssh", form=SshProfileForm(initial=SshProfileForm.initial_of(application)))


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_ssh_edit(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    form = SshProfileForm(request.POST, initial=SshProfileForm.initial_of(application))
    if form.is_valid():
        with refusals(form):
            update_application(application, actor=request.actor, **form.cleaned_data)
            return done(request, "The SSH profile is saved.", "application_ssh", application.pk)
    return tab(request, application, "ssh", form=form)


@requires(Permission.ACCESS_READ)
@require_GET
def application_settings(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    form = ApplicationForm(initial=ApplicationForm.initial_of(application), organization=request.organization)
    return tab(request, application, "settings", form=form)


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_settings_edit(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    initial = ApplicationForm.initial_of(application)
    form = ApplicationForm(request.POST, initial=initial, organization=request.organization)
    if form.is_valid():
        with refusals(form):
            update_application(application, actor=request.actor, **form.values())
            return done(request, "The application is saved.", "application_settings", application.pk)
    return tab(request, application, "settings", form=form)


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_delete(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    name = application.name
    form = TypedNameForm(posted(request), name=name)
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            delete_application(application, actor=request.actor)
            return done(request, f"{name} is deleted.", "applications")
    return show(
        request,
        "confirm.html",
        title="Delete application",
        crumbs=crumbs(request, application),
        question=f"Delete {name}?",
        consequences=[
            f"{application.domain} is no longer behind Access: nothing is served under that name.",
            "Its own policies, its SSH certificate authority and the list of its certificates go with it. Hosts that "
            "trust this authority no longer get logins through Sallyport.",
            "The audience tag never comes back, not even for an application of the same name.",
        ],
        button="Delete application",
        danger=True,
        back=at(request, "application_detail", application.pk),
        form=form,
    )


# --- shared with the other views of one application -----------------------------------------------------------
def own_application(request: OrganizationRequest, application_id: UUID) -> Application:
    return find(_rows(request).select_related("organization"), pk=application_id)


def crumbs(request: OrganizationRequest, application: Application) -> Crumbs:
    return [
        ("Applications", at(request, "applications")),
        (application.name, at(request, "application_detail", application.pk)),
    ]


def tab(request: OrganizationRequest, application: Application, name: str, **context: Any) -> HttpResponse:
    """One of the tabs of an application's page."""
    return show(
        request,
        f"access/application_{name}.html",
        title=application.name,
        crumbs=[("Applications", at(request, "applications"))],
        application=application,
        tab=name,
        **context,
    )


def _rows(request: OrganizationRequest) -> TenantQuerySet[Application]:
    return Application.objects.for_organization(request.organization)
