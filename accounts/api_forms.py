"""Login methods as API requests ("Copy as API request"). Secrets never come out: placeholders stand for them."""

from __future__ import annotations

from accounts import api_requests
from accounts.api_providers import ProviderBody, shape_provider
from accounts.api_requests import ApiCall, body_of
from accounts.models import IdentityProvider
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


def register() -> None:
    api_requests.register("login_method_create", IdentityProvider, provider_request, is_new=True)
    api_requests.register("login_method_edit", IdentityProvider, provider_request, is_new=False)
