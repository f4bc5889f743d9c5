"""Who has an authenticator added, removed or reset gets a mail about it, once the change is made."""

from __future__ import annotations

import pytest
from django.core import mail
from django.db import transaction
from django.test import Client
from django.urls import reverse

from access.models import Application
from accounts.actions.authenticators import reset_authenticators
from accounts.actor import Actor, ActorKind
from accounts.mfa_models import IdentityAuthenticator
from accounts.models import Identity
from tests.access.edge_client import EdgeBrowser
from tests.access.login_flows import make_application, pin_provider
from tests.access.mfa_kit import ACCOUNT, ALL, EMAIL, SoftPasskey, add_passkey, enroll_app, follow, log_in
from tests.factories import Cast
from tests.pages_kit import login

ADMIN = Actor(ActorKind.USER, "1", "root@widgetcorp.test", "192.0.2.77")


@pytest.fixture
def application(cast: Cast) -> Application:
    pin_provider(cast.widgetcorp)
    return make_application(cast.widgetcorp, mfa_config=ALL)


@pytest.fixture
def browser(application: Application) -> EdgeBrowser:
    """Of a person who has just enrolled an app."""
    found = EdgeBrowser()
    url, page = follow(found, log_in(found, application))
    mail.outbox.clear()  # the login's PIN
    enroll_app(found, url, page)
    return found


def the_mail() -> mail.EmailMessage:
    (sent,) = mail.outbox
    assert sent.to == [EMAIL]
    assert sent.extra_headers["Auto-Submitted"] == "auto-generated"
    return sent


def test_added(browser: EdgeBrowser) -> None:
    sent = the_mail()
    assert sent.subject == "An authenticator was added to your account at Widget Corp"
    assert "Authenticator app" in sent.body and ACCOUNT in sent.body
    assert f"UTC, from {browser.ip}" in sent.body


def test_a_passkey_added(application: Application) -> None:
    found = EdgeBrowser()
    _, page = follow(found, log_in(found, application))
    mail.outbox.clear()
    add_passkey(found, page, SoftPasskey())
    assert "passkey" in the_mail().body


def test_removed(browser: EdgeBrowser) -> None:
    mail.outbox.clear()
    address = f"{ACCOUNT}/{IdentityAuthenticator.objects.get().pk}/remove"
    page = browser.get(address)
    assert not mail.outbox
    browser.submit(address, page, containing="Remove</button>")
    assert the_mail().subject == "An authenticator was removed from your account at Widget Corp"


def test_reset_by_an_administrator(browser: EdgeBrowser, cast: Cast) -> None:
    mail.outbox.clear()
    admin: Client = login(cast.alice)
    identity = Identity.objects.get(email=EMAIL)
    admin.post(reverse("user_reset_authenticators", args=["widgetcorp", identity.pk]), {"confirm": "on"})
    assert not IdentityAuthenticator.objects.exists()
    sent = the_mail()
    assert sent.subject == "Your authenticators at Widget Corp were reset"
    assert "An administrator of Widget Corp removed" in sent.body and "Authenticator app" in sent.body
    assert "127.0.0.1" not in sent.body


def test_nothing_to_reset_is_nothing_to_say(application: Application) -> None:
    log_in(EdgeBrowser(), application)
    mail.outbox.clear()
    assert reset_authenticators(Identity.objects.get(email=EMAIL), actor=ADMIN) == 0
    assert not mail.outbox


def test_a_change_that_is_taken_back_is_not_told(browser: EdgeBrowser) -> None:
    mail.outbox.clear()
    # Two blocks: the suite takes what ends one level down for a commit (tests/conftest.py).
    with transaction.atomic(), transaction.atomic():
        reset_authenticators(Identity.objects.get(email=EMAIL), actor=ADMIN)
        assert not mail.outbox
        transaction.set_rollback(True)
    assert IdentityAuthenticator.objects.exists()
    assert not mail.outbox
