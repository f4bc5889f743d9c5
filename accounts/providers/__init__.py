"""The login methods an organization can choose from: one small class per type (docs/decisions/0006)."""

from __future__ import annotations

from accounts.models import IdentityProvider
from accounts.providers.base import LoginMethod
from accounts.providers.entra import EntraId
from accounts.providers.github import GitHub
from accounts.providers.google import Google, GoogleWorkspace
from accounts.providers.okta import Okta
from accounts.providers.onetimepin import OneTimePin
from accounts.providers.openid import OpenIdConnect
from accounts.providers.saml import Saml

_METHODS: tuple[LoginMethod, ...] = (
    OneTimePin(),
    OpenIdConnect(),
    Okta(),
    EntraId(),
    Google(),
    GoogleWorkspace(),
    GitHub(),
    Saml(),
)
LOGIN_METHODS: dict[str, LoginMethod] = {method.kind.value: method for method in _METHODS}
CALLBACK_PATH = "/cdn-cgi/access/callback"


def method_of(provider: IdentityProvider) -> LoginMethod:
    return LOGIN_METHODS[provider.type]


def redirect_url(provider: IdentityProvider) -> str:
    """What the provider has to be told, and the only address this login method's answers are taken at."""
    slug = method_of(provider).callback_slug(provider)
    return f"{provider.organization.team_url}{CALLBACK_PATH}{'/' + slug if slug else ''}"
