"""Settings, Organization."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from accounts.actions.organizations import update_organization
from accounts.actions.support import open_support_sessions
from accounts.forms import OrganizationForm
from accounts.http import OrganizationRequest, requires
from accounts.mfa_forms import OrganizationMfaForm
from accounts.pages import done, refusals, show
from accounts.permissions import Permission

_FIELDS = ("name", "session_duration_seconds", "auto_redirect_to_identity")


@requires(Permission.ORGANIZATION_READ)
@require_GET
def organization_settings(request: OrganizationRequest) -> HttpResponse:
    return _page(request)


@requires(Permission.ORGANIZATION_EDIT)
@require_POST
def organization_settings_edit(request: OrganizationRequest) -> HttpResponse:
    current = {name: getattr(request.organization, name) for name in _FIELDS}
    form = OrganizationForm(request.POST, initial=current)
    if form.is_valid():
        with refusals(form):
            update_organization(request.organization, actor=request.actor, **form.cleaned_data)
            return done(request, "The organization's settings are saved.", "organization_settings")
    return _page(request, form=form)


@requires(Permission.ORGANIZATION_EDIT)
@require_POST
def organization_settings_mfa_edit(request: OrganizationRequest) -> HttpResponse:
    form = OrganizationMfaForm(request.POST, initial=_mfa_initial(request))
    if form.is_valid():
        with refusals(form):
            update_organization(
                request.organization,
                actor=request.actor,
                mfa_config=form.mfa_config(),
                mfa_required_for_all_apps=form.cleaned_data["mfa_required_for_all_apps"],
            )
            return done(request, "Second factors are saved; logins from now on follow them.", "organization_settings")
    return _page(request, mfa=form)


def _page(
    request: OrganizationRequest, *, form: OrganizationForm | None = None, mfa: OrganizationMfaForm | None = None
) -> HttpResponse:
    current = {name: getattr(request.organization, name) for name in _FIELDS}
    return show(
        request,
        "accounts/organization_settings.html",
        title="Organization",
        form=form or OrganizationForm(initial=current),
        live=True,
        open_support_sessions=open_support_sessions(request.organization, timezone.now()),
        mfa=mfa or OrganizationMfaForm(initial=_mfa_initial(request)),
    )


def _mfa_initial(request: OrganizationRequest) -> dict[str, Any]:
    organization = request.organization
    values = OrganizationMfaForm.mfa_initial(organization.mfa_config)
    return {**values, "mfa_required_for_all_apps": organization.mfa_required_for_all_apps}
