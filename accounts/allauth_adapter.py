"""django-allauth's adapters: dashboard accounts are made by invitation or command, never by open sign-up; the secrets
of their second factors are sealed at rest."""

from __future__ import annotations

import base64

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings
from django.http import HttpRequest

from accounts.sealing import seal, unseal

_CONTEXT = "dashboard second factor"


class DashboardAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        """The address HostGuard vouches for; forwarded headers of strangers never count (rate limits depend on it)."""
        return str(request.client_ip)  # type: ignore[attr-defined]


class SealedMfaAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """TOTP secrets and recovery code seeds as they are stored (allauth keeps them in JSON, so as text)."""

    def encrypt(self, text: str) -> str:
        return base64.b64encode(seal(settings.SEAL_KEY, text.encode(), _CONTEXT)).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return unseal(settings.SEAL_KEY, base64.b64decode(encrypted_text), _CONTEXT).decode()
