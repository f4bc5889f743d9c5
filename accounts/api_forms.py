"""Login methods and the organization's settings as API requests ("Copy as API request"). Secrets never come out:
placeholders stand for them."""

from __future__ import annotations

from collections.abc import Callable

from accounts import api_requests
from accounts.api_organization import OrganizationBody, shape_organization
from accounts.api_providers import ProviderBody, shape_provider
from accounts.api_requests import ApiCall, body_of
from accounts.models import IdentityProvider, Organization
from accounts.providers import LOGIN_METHODS

_READ_ONLY = ("redirect_url", "sp_metadata_url")
_FILL_IN = "Put the secrets in place of the <...> before you send it."


def provider_request(provider: IdentityProvider, is_new: bool) -> ApiCall:
    """A secret that is stored and left out stays, so an edit needs none."""
    shaped = shape_provider(provider)
    config = {name: value for name, value in shaped.config.items() if name not in _READ_ONLY}
    method = LOGIN_METHODS.get(provider.type)
    names = ("client_secret", *(method.secret_names if method is not None else ()))
    config = {name: value for name, value in config.items() if name not in names}
    notes: tuple[str, ...] = ()
    if is_new and provider.client_secret_sealed:
        config["client_secret"] = "<client secret>"  # noqa: S105 - a placeholder
        notes = (_FILL_IN,)
    body = body_of(shaped, ProviderBody, keep=("config",), config=config, scim_config=None)
    base = f"/accounts/{provider.organization_id}/access/identity_providers"
    return ApiCall("POST", base, body, notes) if is_new else ApiCall("PUT", f"{base}/{provider.pk}", body)


_NO_LOGO = "The logo is no part of the API: it is uploaded here."


def organization_request(*fields: str) -> Callable[[Organization, bool], ApiCall]:
    """PUT keeps what is not sent, so a form sends its own fields only."""

    def build(organization: Organization, is_new: bool) -> ApiCall:
        shaped = body_of(shape_organization(organization), OrganizationBody, keep=fields)
        body = {name: value for name, value in shaped.items() if name in fields}
        has_logo = "login_design" in fields and organization.settings.get("login_logo")
        notes = (_NO_LOGO,) if has_logo else ()
        return ApiCall("PUT", f"/accounts/{organization.pk}/access/organizations", body, notes)

    return build


def register() -> None:
    api_requests.register("login_method_create", IdentityProvider, provider_request, is_new=True)
    api_requests.register("login_method_edit", IdentityProvider, provider_request, is_new=False)
    for name, fields in (
        ("organization_settings_edit", ("name", "session_duration", "auto_redirect_to_identity")),
        ("organization_settings_mfa_edit", ("mfa_config", "mfa_required_for_all_apps")),
        ("login_page_edit", ("login_design",)),
        ("custom_pages_choose", ("custom_pages",)),
    ):
        api_requests.register(name, Organization, organization_request(*fields), is_new=False)
