"""django-allauth's adapter: dashboard accounts are made by invitation or command, never by open sign-up."""

from __future__ import annotations

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest


class DashboardAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        """The address HostGuard vouches for; forwarded headers of strangers never count (rate limits depend on it)."""
        return str(request.client_ip)  # type: ignore[attr-defined]
