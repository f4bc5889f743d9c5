"""Settings, Organization."""

from __future__ import annotations

from django.http import HttpResponse
from django.views.decorators.http import require_GET, require_POST

from accounts.actions.organizations import update_organization
from accounts.forms import OrganizationForm
from accounts.http import OrganizationRequest, requires
from accounts.pages import done, refusals, show
from accounts.permissions import Permission

_FIELDS = ("name", "session_duration_seconds", "auto_redirect_to_identity")


@requires(Permission.ORGANIZATION_READ)
@require_GET
def organization_settings(request: OrganizationRequest) -> HttpResponse:
    return _page(request, OrganizationForm(initial={name: getattr(request.organization, name) for name in _FIELDS}))


@requires(Permission.ORGANIZATION_EDIT)
@require_POST
def organization_settings_edit(request: OrganizationRequest) -> HttpResponse:
    current = {name: getattr(request.organization, name) for name in _FIELDS}
    form = OrganizationForm(request.POST, initial=current)
    if form.is_valid():
        with refusals(form):
            update_organization(request.organization, actor=request.actor, **form.cleaned_data)
            return done(request, "The organization's settings are saved.", "organization_settings")
    return _page(request, form)


def _page(request: OrganizationRequest, form: OrganizationForm) -> HttpResponse:
    return show(request, "accounts/organization_settings.html", title="Organization", form=form)
