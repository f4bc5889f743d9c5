"""django-allauth's adapters: dashboard accounts are made by invitation or command, never by open sign-up; the secrets
of their second factors are sealed at rest."""

from __future__ import annotations

import base64
from typing import Any, ClassVar

from allauth.account import app_settings
from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.internal import ratelimit
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings
from django.contrib.sites.shortcuts import get_current_site
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils import timezone

from accounts.factor_mail import tell_member
from accounts.models import Invitation
from accounts.sealing import seal, unseal
from accounts.templatetags.pages import sentence_case

_CONTEXT = "dashboard second factor"


_INVITATION = "invitation"


def remember_invitation(request: HttpRequest, invitation: Invitation) -> None:
    """This browser opened the mailed link: it may make an account for that address, which counts as confirmed."""
    request.session[_INVITATION] = str(invitation.pk)


def _remembered(request: HttpRequest) -> Invitation | None:
    rows = Invitation.objects.all_organizations(reason="the link this browser opened names no organization")
    opened = request.session.get(_INVITATION)
    found = rows.filter(pk=opened).first() if opened else None
    return found if found is not None and found.is_usable(timezone.now()) else None


class DashboardAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    error_messages: ClassVar[dict[str, Any]] = {
        **DefaultAccountAdapter.error_messages,
        "account_inactive": "This account is switched off. Ask the people who run this installation.",
        "email_password_mismatch": "This e-mail address and password do not belong together.",
        "incorrect_code": "This code is not right, or was used already.",
        "incorrect_password": "This password is not right.",
        "rate_limited": "Too many tries. Wait some minutes, then try again.",
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Only for somebody who holds an invitation, and only for its address (clean_email)."""
        invitation = _remembered(request)
        if invitation is None:
            return False
        # allauth shows it in the form and takes it for confirmed.
        self.stash_verified_email(request, invitation.email)
        return True

    def clean_email(self, email: str) -> str:
        match = self.request.resolver_match if self.request is not None else None
        if match is not None and match.url_name == "account_signup":
            invitation = _remembered(self.request)
            if invitation is None or email.lower() != invitation.email:
                raise ValidationError("The invitation is for another address.")
        return str(super().clean_email(email))

    def _get_login_attempts_cache_key(self, request: HttpRequest | None, **credentials: Any) -> str:
        """One count per account, whichever of the dashboard's names was used."""
        return f"dashboard:{str(credentials.get('email', '')).lower()}"

    def get_client_ip(self, request: HttpRequest) -> str:
        """The address HostGuard vouches for; forwarded headers of strangers never count (rate limits depend on it)."""
        return str(request.client_ip)  # type: ignore[attr-defined]

    def format_email_subject(self, subject: str) -> str:
        return str(super().format_email_subject(sentence_case(subject)))

    def send_notification_mail(
        self, template_prefix: str, user: Any, context: dict[str, Any] | None = None, email: str | None = None
    ) -> None:
        """Written here, sent by a worker: the change stands and its page comes, even where mail does not work."""
        self._is_notification = True
        try:
            super().send_notification_mail(template_prefix, user, context, email)
        finally:
            self._is_notification = False

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        if not getattr(self, "_is_notification", False):
            super().send_mail(template_prefix, email, context)
            return
        site = get_current_site(self.request)
        mail = self.render_mail(template_prefix, email, {"email": email, "current_site": site, **context})
        tell_member(mail.subject, str(mail.body), email)


class SealedMfaAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """TOTP secrets and recovery code seeds as they are stored (allauth keeps them in JSON, so as text)."""

    def encrypt(self, text: str) -> str:
        return base64.b64encode(seal(settings.SEAL_KEY, text.encode(), _CONTEXT)).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return unseal(settings.SEAL_KEY, base64.b64decode(encrypted_text), _CONTEXT).decode()


def forget_failed_sign_ins(email: str) -> None:
    """End the waiting time of one account after failed sign-ins, as a password reset does. Addresses keep theirs."""
    adapter = DashboardAdapter()
    key = adapter._get_login_attempts_cache_key(None, email=email)
    for rate in ratelimit.parse_rates(app_settings.RATE_LIMITS["login_failed"]):
        if rate.per == "key":
            cache.delete(
                ratelimit.get_cache_key(None, app="allauth.account", action="login_failed", rate=rate, key=key)
            )
