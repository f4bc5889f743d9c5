"""One application: overview, SSH profile, logins, settings. The list: application_list.py; adding one:
application_wizard.py; duplicating and deleting: application_copies.py."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from access.actions.applications import revoke_application_tokens, update_application
from access.actions.tags import ensure_tags
from access.application_forms import RENAMED, AuthenticationForm, SettingsForm, TagsForm, settings_from
from access.forms import SshProfileForm
from access.models import Application, SshAuthority
from access.rule_text import RuleNames
from accounts.http import OrganizationRequest, requires
from accounts.pages import Crumbs, at, confirmed, done, find, posted, refusals, show
from accounts.permissions import Permission
from accounts.tenancy import TenantQuerySet

_LIVE_STATES = (SshAuthority.State.PENDING, SshAuthority.State.ACTIVE)


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
@require_http_methods(["GET", "POST"])
def application_revoke_tokens(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    return confirmed(
        request,
        lambda: revoke_application_tokens(application, actor=request.actor),
        said=f"Tokens of {application.name} are revoked: everybody logs in again.",
        question=f"Revoke the existing tokens of {application.name}?",
        consequences=[
            "Every token issued up to now stops being accepted; connections that run over one are cut within seconds.",
            "Whoever is still logged in to the team gets a new one by themselves; command-line users log in again.",
        ],
        button="Revoke existing tokens",
        crumbs=crumbs(request, application),
    )


@requires(Permission.ACCESS_READ)
@require_GET
def application_ssh(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    form = SshProfileForm(initial=SshProfileForm.initial_of(application))
    return tab(request, application, "ssh", form=form, live=True)


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
def application_authentication(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    form = AuthenticationForm(initial=AuthenticationForm.initial_of(application), organization=request.organization)
    return tab(request, application, "authentication", form=form, live=True)


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_authentication_edit(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    initial = AuthenticationForm.initial_of(application)
    form = AuthenticationForm(request.POST, initial=initial, organization=request.organization)
    if form.is_valid():
        with refusals(form):
            update_application(application, actor=request.actor, **form.values())
            return done(request, "Logins to this application are saved.", "application_authentication", application.pk)
    return tab(request, application, "authentication", form=form, live=True)


@requires(Permission.ACCESS_READ)
@require_GET
def application_settings(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    form = SettingsForm(initial=SettingsForm.initial_of(application), organization=request.organization)
    return tab(request, application, "settings", form=form, known_tags=form.known_tags(), live=True)


@requires(Permission.ACCESS_EDIT)
@require_POST
def application_settings_edit(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    initial = SettingsForm.initial_of(application)
    form = SettingsForm(request.POST, initial=initial, organization=request.organization)
    if form.is_valid():
        with refusals(form, **{**RENAMED, "domain": "domain"}):
            values = form.cleaned_data
            ensure_tags(request.organization, values["tags"], actor=request.actor)
            update_application(
                application,
                actor=request.actor,
                settings=settings_from(values, application.settings),
                **{name: values[name] for name in _SETTLED},
            )
            return done(request, "The application is saved.", "application_settings", application.pk)
    return tab(request, application, "settings", form=form, known_tags=form.known_tags(), live=True)


_SETTLED = ("name", "domain", "session_duration_seconds", "app_launcher_visible", "tags")


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def application_tags_edit(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    """From the list: the words of one application."""
    application = own_application(request, application_id)
    initial = {"tags": ", ".join(tag.name for tag in application.tags.all())}
    form = TagsForm(posted(request), initial=initial, organization=request.organization)
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            ensure_tags(request.organization, form.cleaned_data["tags"], actor=request.actor)
            update_application(application, actor=request.actor, tags=form.cleaned_data["tags"])
            return done(request, f"The tags of {application.name} are saved.", "applications")
    page: dict[str, Any] = {"form": form, "known_tags": form.known_tags(), "back": at(request, "applications")}
    title = f"Tags of {application.name}"
    return show(request, "access/application_tags.html", title=title, crumbs=crumbs(request, application), **page)


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
