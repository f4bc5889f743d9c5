"""Settings, Login methods: the identity providers of the team domain, and testing them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.actions.identity_providers import create_provider, delete_provider, update_provider
from accounts.actions.provider_tests import start_provider_test
from accounts.http import OrganizationRequest, requires
from accounts.models import IdentityProvider, ProviderTest
from accounts.pages import at, confirmed, done, find, list_page, posted, refusals, show
from accounts.permissions import Permission
from accounts.provider_forms import PROVIDER_FORMS, ProviderForm
from accounts.providers import redirect_url
from accounts.providers.discovery import discovered
from accounts.providers.secrets import named_secrets

# Types as the "Add" page offers them: what they bring, in a sentence.
TILES: Mapping[str, str] = {
    "onetimepin": "A code by e-mail, valid ten minutes. Works at once; good for guests and for the first try.",
    "okta": "With groups, also more than 100 of them. Needs an OIDC web application at your Okta.",
    "azureAD": "One directory of Microsoft Entra ID (Azure AD), with its groups.",
    "google-apps": "Accounts of your Google Workspace domain, with groups when a service account may read them.",
    "google": "Any Google account. Policies decide who of them gets in.",
    "github": "GitHub accounts, with organizations and teams.",
    "saml": "Any SAML 2.0 identity provider, with its attributes: AD FS, Shibboleth, PingFederate and others.",
    "oidc": "Any provider with a discovery page: Keycloak, GitLab, authentik, Auth0 and others.",
}


@requires(Permission.IDENTITY_READ)
@require_GET
def login_methods(request: OrganizationRequest) -> HttpResponse:
    rows = IdentityProvider.objects.for_organization(request.organization)
    response = show(
        request,
        "accounts/login_methods.html",
        title="Authentication",
        listing=list_page(request, rows, search=("name",)),
    )
    return _may_post_to_team_domain(request, response)


@requires(Permission.IDENTITY_EDIT)
@require_GET
def login_method_add(request: OrganizationRequest) -> HttpResponse:
    tiles = [(kind, IdentityProvider.Type(kind).label, text) for kind, text in TILES.items()]
    template = "accounts/login_method_add.html"
    return show(request, template, title="Add a login method", crumbs=_crumbs(request), tiles=tiles)


@requires(Permission.IDENTITY_EDIT)
@require_http_methods(["GET", "POST"])
def login_method_create(request: OrganizationRequest, kind: str) -> HttpResponse:
    if kind not in PROVIDER_FORMS:
        raise Http404
    form = PROVIDER_FORMS[kind](posted(request), request.FILES if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            provider = create_provider(
                request.organization,
                type=kind,
                name=form.cleaned_data["name"],
                config=discovered(kind, form.config()),
                client_secret=form.cleaned_data.get("client_secret") or None,
                secrets=form.secrets(),
                actor=request.actor,
            )
            return done(request, f"{provider.name} is on the login page now. Test it once.", "login_methods")
    shown = IdentityProvider(organization=request.organization, type=kind)
    return _page(request, form, shown, title=f"Add {IdentityProvider.Type(kind).label}")


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
                config=discovered(provider.type, {**_kept(provider, form), **form.config()}),
                client_secret=form.cleaned_data.get("client_secret") or None,
                secrets=form.secrets(),
                actor=request.actor,
            )
            return done(request, f"{provider.name} is saved.", "login_methods")
    return _page(request, form, provider, title=f"Edit {provider.name}", saved=True)


@requires(Permission.IDENTITY_EDIT)
@require_http_methods(["GET", "POST"])
def login_method_delete(request: OrganizationRequest, provider_id: UUID) -> HttpResponse:
    provider = _provider(request, provider_id)
    return confirmed(
        request,
        lambda: delete_provider(provider, actor=request.actor),
        said=f"{provider.name} is deleted.",
        question=f"Delete the login method {provider.name}?",
        consequences=[
            "People who log in with it lose their sessions and cannot log in this way again.",
            "Rules that name it match nobody from then on.",
            "Its secrets are kept sealed as long as this can be undone. Sessions that ended stay ended.",
        ],
        button="Delete login method",
        can_undo=True,
        crumbs=_crumbs(request),
    )


@requires(Permission.IDENTITY_EDIT)
@require_POST
def login_method_test(request: OrganizationRequest, provider_id: UUID) -> HttpResponse:
    """Opens in a window of its own: a real login at the team domain that ends on the result page below."""
    _, ticket = start_provider_test(_provider(request, provider_id), user=request.user, actor=request.actor)
    response = HttpResponseRedirect(f"{request.organization.team_url}/cdn-cgi/access/test/{ticket}")
    response.status_code = 303
    return response


@requires(Permission.IDENTITY_EDIT)
@require_GET
def login_method_test_result(request: OrganizationRequest, provider_id: UUID, provider_test_id: UUID) -> HttpResponse:
    """Only for the admin who started the test; what a provider says about a person is nobody else's business."""
    provider = _provider(request, provider_id)
    rows = ProviderTest.objects.for_organization(request.organization)
    test = find(rows, pk=provider_test_id, provider=provider, started_by=request.user)
    response = show(
        request,
        "accounts/login_method_test.html",
        title=f"Test of {provider.name}",
        crumbs=_crumbs(request),
        provider=provider,
        test=test,
        person=None if "error" in test.result else test.result,
        error=test.result.get("error"),
        document=json.dumps(test.result, indent=2, ensure_ascii=False),
    )
    return _may_post_to_team_domain(request, response)


def _may_post_to_team_domain(request: OrganizationRequest, response: HttpResponse) -> HttpResponse:
    """The Test button's form ends, after a redirect, at the team domain (Content-Security-Policy form-action)."""
    response.csp_form_action = request.organization.team_url  # type: ignore[attr-defined]
    return response


def _edit_form(request: OrganizationRequest, provider: IdentityProvider) -> ProviderForm:
    initial: dict[str, Any] = {**provider.config, "name": provider.name}
    kept = set(named_secrets(provider)) | ({"client_secret"} if provider.client_secret_sealed else set())
    files = request.FILES if request.method == "POST" else None
    return PROVIDER_FORMS[provider.type](posted(request), files, initial=initial, kept=frozenset(kept))


def _kept(provider: IdentityProvider, form: ProviderForm) -> dict[str, Any]:
    """Configuration set over the API that this form has no field for."""
    return {key: value for key, value in provider.config.items() if key not in form.fields}


def _page(
    request: OrganizationRequest, form: ProviderForm, provider: IdentityProvider, *, title: str, saved: bool = False
) -> HttpResponse:
    return show(
        request,
        "accounts/login_method_form.html",
        title=title,
        crumbs=_crumbs(request),
        form=form,
        kind=provider.type,
        help_template=f"accounts/login_method_help/{provider.type}.html",
        provider=provider if saved else None,
        # An address of its own has the row's id in it, which a form not saved yet does not know.
        redirect_url=redirect_url(provider),
        metadata_url=f"{request.organization.team_url}/cdn-cgi/access/saml-metadata/{provider.id}" if saved else "",
        back=at(request, "login_methods"),
    )


def _crumbs(request: OrganizationRequest) -> list[tuple[str, str | None]]:
    return [("Authentication", at(request, "login_methods"))]


def _provider(request: OrganizationRequest, provider_id: UUID) -> IdentityProvider:
    rows = IdentityProvider.objects.for_organization(request.organization).select_related("organization")
    return find(rows, pk=provider_id)
