"""Login methods, SCIM: enable it, see the address, make a secret that is shown once, look at the last updates."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpResponse
from django.views.decorators.http import require_http_methods

from accounts.actions.scim_settings import refresh_scim_secret, scim_base_url, set_scim
from accounts.forms import ScimForm
from accounts.http import OrganizationRequest, requires
from accounts.models import IdentityProvider, ScimUpdate
from accounts.pages import at, confirmed, done, find, posted, refusals, show
from accounts.permissions import Permission

SHOWN_UPDATES = 20


@requires(Permission.IDENTITY_EDIT)
@require_http_methods(["GET", "POST"])
def login_method_scim(request: OrganizationRequest, provider_id: UUID) -> HttpResponse:
    provider = _provider(request, provider_id)
    initial = {
        "enabled": provider.scim_enabled,
        "user_deprovision": provider.scim_user_deprovision,
        "seat_deprovision": provider.scim_seat_deprovision,
        "identity_update_behavior": provider.scim_identity_update_behavior,
    }
    form = ScimForm(posted(request), initial=initial)
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            secret = set_scim(provider, actor=request.actor, **form.cleaned_data)
            if secret is not None:
                return _secret_page(request, provider, secret)
            return done(request, f"SCIM settings of {provider.name} are saved.", "login_method_scim", provider.pk)
    updates = ScimUpdate.objects.for_organization(request.organization).filter(provider=provider)
    return show(
        request,
        "accounts/login_method_scim.html",
        title=f"SCIM of {provider.name}",
        crumbs=[("Authentication", at(request, "login_methods"))],
        provider=provider,
        form=form,
        base_url=scim_base_url(provider),
        users=provider.scim_users.count(),
        groups=provider.scim_groups.count(),
        updates=updates.order_by("-created_at", "-id")[:SHOWN_UPDATES],
        back=at(request, "login_methods"),
    )


@requires(Permission.IDENTITY_EDIT)
@require_http_methods(["GET", "POST"])
def login_method_scim_secret(request: OrganizationRequest, provider_id: UUID) -> HttpResponse:
    provider = _provider(request, provider_id)
    return confirmed(
        request,
        lambda: _secret_page(request, provider, refresh_scim_secret(provider, actor=request.actor)),
        question=f"Make a new SCIM secret for {provider.name}?",
        consequences=["The present secret stops working at once: the provider cannot push changes until it has this."],
        button="Make a new secret",
        title="New SCIM secret",
        crumbs=[("Authentication", at(request, "login_methods"))],
        back=at(request, "login_method_scim", provider.pk),
        danger=False,
    )


def _secret_page(request: OrganizationRequest, provider: IdentityProvider, secret: str) -> HttpResponse:
    return show(
        request,
        "accounts/scim_secret.html",
        title="SCIM secret",
        crumbs=[("Authentication", at(request, "login_methods"))],
        provider=provider,
        base_url=scim_base_url(provider),
        secret=secret,
    )


def _provider(request: OrganizationRequest, provider_id: UUID) -> IdentityProvider:
    rows = IdentityProvider.objects.for_organization(request.organization).select_related("organization")
    return find(rows, pk=provider_id)
