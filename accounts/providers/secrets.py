"""Secrets of a login method: its client secret, and named ones (an API token, a service account key, a signing key).

Each is sealed to its row. Opening one is the business of the class that needs it, for the moment it needs it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from django.conf import settings

from accounts.models import IdentityProvider
from accounts.providers.base import LoginFailed
from accounts.sealing import SealError, seal, unseal


def secret_context(provider: IdentityProvider) -> tuple[str, ...]:
    return "identity-provider", provider.organization_id, str(provider.id)


def client_secret(provider: IdentityProvider) -> str:
    sealed = bytes(provider.client_secret_sealed)
    return _open(provider, sealed, *secret_context(provider)).decode() if sealed else ""


def seal_client_secret(provider: IdentityProvider, value: str) -> bytes:
    return seal(settings.SEAL_KEY, value.encode(), *secret_context(provider))


def named_secrets(provider: IdentityProvider) -> dict[str, str]:
    sealed = bytes(provider.secrets_sealed)
    if not sealed:
        return {}
    found = json.loads(_open(provider, sealed, *secret_context(provider), "named"))
    return {str(name): str(value) for name, value in found.items()}


def seal_named_secrets(provider: IdentityProvider, values: Mapping[str, str]) -> bytes:
    if not values:
        return b""
    return seal(settings.SEAL_KEY, json.dumps(dict(values)).encode(), *secret_context(provider), "named")


def _open(provider: IdentityProvider, sealed: bytes, *context: str) -> bytes:
    try:
        return unseal(settings.SEAL_KEY, sealed, *context)
    except SealError as error:
        raise LoginFailed(
            f"The secrets of {provider.name} can not be opened; enter them again.", code="provider_misconfigured"
        ) from error
