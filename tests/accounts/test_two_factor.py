"""Two-factor authentication of dashboard accounts: an authenticator app, recovery codes, and login with them."""

from __future__ import annotations

import re
from typing import Any

from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import hotp_value, yield_hotp_counters_from_time
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend

from accounts.models import User
from tests.factories import PASSWORD, Cast
from tests.pages_kit import browser, shown, text_of


def code(secret: str) -> str:
    # The step of now, not the oldest one accepted, which is over at the turn of the next half minute.
    counters = list(yield_hotp_counters_from_time())
    return f"{hotp_value(secret, counters[len(counters) // 2]):06d}"


def activate(user: User) -> str:
    """Turn an authenticator app on, as a person would; returns the app's secret."""
    client = browser()
    client.post("/accounts/login/", {"login": user.email, "password": PASSWORD})
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    page = shown(client, "/accounts/2fa/totp/activate/")
    assert '<img src="data:image/svg+xml' in page
    assert " style=" not in page
    secret = re.search(r'value="([A-Z2-7]{16,})"', page)
    assert secret is not None
    response = client.post("/accounts/2fa/totp/activate/", {"code": code(secret.group(1))})
    assert response.status_code == 302, text_of(response)
    return secret.group(1)


def test_login_asks_for_the_code(cast: Cast) -> None:
    secret = activate(cast.alice)
    client = browser()
    response = client.post("/accounts/login/", {"login": cast.alice.email, "password": PASSWORD})
    assert response["Location"].startswith("/accounts/2fa/authenticate/")
    assert client.get("/o/widgetcorp/").status_code == 302
    assert "Use a security key" in shown(client, "/accounts/2fa/authenticate/")
    wrong = client.post("/accounts/2fa/authenticate/", {"code": "000000"})
    assert wrong.status_code == 200
    assert client.get("/o/widgetcorp/").status_code == 302
    authenticator = Authenticator.objects.get(user=cast.alice, type=Authenticator.Type.TOTP)
    assert secret not in str(authenticator.data)
    assert get_adapter().decrypt(authenticator.data["secret"]) == secret
    codes = Authenticator.objects.get(user=cast.alice, type=Authenticator.Type.RECOVERY_CODES)
    assert isinstance(codes.wrap(), RecoveryCodes)
    recovery = codes.wrap().get_unused_codes()[0]
    client.post("/accounts/2fa/authenticate/", {"code": recovery})
    assert client.get("/o/widgetcorp/").status_code == 200
    codes.refresh_from_db()
    assert recovery not in codes.wrap().get_unused_codes()
    again = browser()
    again.post("/accounts/login/", {"login": cast.alice.email, "password": PASSWORD})
    again.post("/accounts/2fa/authenticate/", {"code": recovery})
    assert again.get("/o/widgetcorp/").status_code == 302


def told(user: User) -> list[str]:
    """Subjects of the mails that went to this member about their account, oldest first; then forgotten."""
    found = [message for message in mail.outbox if message.extra_headers.get("Auto-Submitted")]
    assert all(message.to == [user.email] and "from 127.0.0.1" in message.body for message in found)
    mail.outbox.clear()
    return [message.subject for message in found]


def test_changes_are_mailed_to_the_member(cast: Cast, django_capture_on_commit_callbacks: Any) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        activate(cast.alice)
    assert told(cast.alice) == ["Sallyport: Authenticator app activated"]
    client = browser()
    client.force_login(cast.alice)
    new = "another long passphrase"
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/accounts/password/change/", {"oldpassword": PASSWORD, "password1": new, "password2": new})
    assert told(cast.alice) == ["Sallyport: Password changed"]
    client.post("/accounts/reauthenticate/", {"password": new})
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/accounts/2fa/totp/deactivate/")
    assert "Sallyport: Authenticator app deactivated" in told(cast.alice)


def test_a_change_stands_where_mail_does_not_work(
    cast: Cast, settings: Any, django_capture_on_commit_callbacks: Any
) -> None:
    settings.EMAIL_BACKEND = "tests.accounts.test_two_factor.NoMail"
    with django_capture_on_commit_callbacks(execute=True):
        activate(cast.alice)
    assert Authenticator.objects.filter(user=cast.alice, type=Authenticator.Type.TOTP).exists()


class NoMail(BaseEmailBackend):
    def send_messages(self, email_messages: Any) -> int:
        raise ConnectionRefusedError


def test_pages_show_what_is_set_up(cast: Cast) -> None:
    activate(cast.alice)
    client = browser()
    client.force_login(cast.alice)
    assert "You confirm each sign-in with a code of your app." in shown(client, "/accounts/2fa/")
