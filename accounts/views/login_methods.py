"""Settings, Login methods: the identity providers of the team domain."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse
from django.views.decorators.http import require_GET, require_http_methods

from accounts.actions.identity_providers import create_provider, delete_provider, update_provider
from accounts.forms import PROVIDER_FORMS, OidcForm, OneTimePinForm, PlainForm
from accounts.http import OrganizationRequest, requires
from accounts.models import IdentityProvider
from accounts.pages import at, done, find, list_page, posted, refusals, sent_once, show
from accounts.permissions import Permission

ProviderForm = OneTimePinForm | OidcForm


@requires(Permission.IDENTITY_READ)
@require_GET
def login_methods(request: OrganizationRequest) -> HttpResponse:
    rows = IdentityProvider.objects.for_organization(request.organization)
    return show(
        request,
        "accounts/login_methods.html",
        title="Login methods",
        listing=list_page(request, rows, search=("name",)),
        redirect_url=redirect_url(request),
    )


@requires(Permission.IDENTITY_EDIT)
@require_GET
def login_method_add(request: OrganizationRequest) -> HttpResponse:
    return show(request, "accounts/login_method_add.html", title="Add a login method", crumbs=_crumbs(request))


@requires(Permission.IDENTITY_EDIT)
@require_http_methods(["GET", "POST"])
@sent_once
def login_method_create(request: OrganizationRequest, kind: str) -> HttpResponse:
    if kind not in PROVIDER_FORMS:
        raise Http404
    form = PROVIDER_FORMS[kind](posted(request))
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            provider = create_provider(
                request.organization,
                type=kind,
                name=form.cleaned_data["name"],
                config=form.config(),
                client_secret=form.cleaned_data.get("client_secret") or None,
                actor=request.actor,
            )
            return done(request, f"{provider.name} is on the login page now.", "login_methods")
    return _page(request, form, kind, title=f"Add {IdentityProvider.Type(kind).label}", button="Save")


@requires(Permission.IDENTITY_EDIT)
@require_http_methods(["GET", "POST"])
def login_method_edit(request: OrganizationRequest, provider_id: UUID) -> HttpResponse:
    provider = _provider(request, provider_id)
    form = _edit_form(request, provider)
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            update_provider(
                provider,
                name=form.cleaned_data["name"],
                config={**_kept(provider, form), **form.config()},
                client_secret=form.cleaned_data.get("client_secret") or None,
                actor=request.actor,
            )
            return done(request, f"{provider.name} is saved.", "login_methods")
    return _page(request, form, provider.type, title=f"Edit {provider.name}", button="Save", provider=provider)


@requires(Permission.IDENTITY_EDIT)
@require_http_methods(["GET", "POST"])
def login_method_delete(request: OrganizationRequest, provider_id: UUID) -> HttpResponse:
    provider = _provider(request, provider_id)
    form = PlainForm(posted(request))
    if request.method == "POST":
        with refusals(form):
            delete_provider(provider, actor=request.actor)
            return done(request, f"{provider.name} is deleted.", "login_methods")
    return show(
        request,
        "confirm.html",
        title="Delete login method",
        crumbs=_crumbs(request),
        question=f"Delete the login method {provider.name}?",
        consequences=[
            "People who log in with it lose their sessions and cannot log in this way again.",
            "Rules that name it match nobody from then on.",
        ],
        button="Delete login method",
        danger=True,
        back=at(request, "login_methods"),
        form=form,
    )


def redirect_url(request: OrganizationRequest) -> str:
    """What the identity provider has to be told (product.md 1.6)."""
    return f"{request.organization.team_url}/cdn-cgi/access/callback"


def _edit_form(request: OrganizationRequest, provider: IdentityProvider) -> ProviderForm:
    initial: dict[str, Any] = {**provider.config, "name": provider.name}
    form_class = PROVIDER_FORMS[provider.type]
    if issubclass(form_class, OidcForm):
        return form_class(posted(request), initial=initial, secret_kept=bool(provider.client_secret_sealed))
    return form_class(posted(request), initial=initial)


def _kept(provider: IdentityProvider, form: ProviderForm) -> dict[str, Any]:
    """Configuration set over the API that this form has no field for."""
    return {key: value for key, value in provider.config.items() if key not in form.fields}


def _page(
    request: OrganizationRequest,
    form: ProviderForm,
    kind: str,
    *,
    title: str,
    button: str,
    provider: IdentityProvider | None = None,
) -> HttpResponse:
    return show(
        request,
        "accounts/login_method_form.html",
        title=title,
        crumbs=_crumbs(request),
        form=form,
        kind=kind,
        button=button,
        provider=provider,
        redirect_url=redirect_url(request),
        back=at(request, "login_methods"),
    )


def _crumbs(request: OrganizationRequest) -> list[tuple[str, str | None]]:
    return [("Login methods", at(request, "login_methods"))]


def _provider(request: OrganizationRequest, provider_id: UUID) -> IdentityProvider:
    rows = IdentityProvider.objects.for_organization(request.organization).select_related("organization")
    return find(rows, pk=provider_id)
