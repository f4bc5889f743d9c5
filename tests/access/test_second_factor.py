"""Second factors of our own, as people meet them: between a login and its application."""

from __future__ import annotations

import pytest

from access.models import AccessRequest
from accounts.mfa_models import IdentityAuthenticator, RecoveryCode
from accounts.models import AccessSession, AuditEvent
from tests.access.edge_client import HOST, EdgeBrowser
from tests.access.login_flows import make_application, pin_provider
from tests.access.mfa_kit import (
    ALL,
    SoftPasskey,
    add_passkey,
    app_code,
    enroll_app,
    follow,
    log_in,
    onward_of,
    recovery_codes_of,
    text_of,
    use_passkey,
)
from tests.factories import Cast

pytestmark = pytest.mark.usefixtures("settled")


@pytest.fixture
def settled(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    pin_provider(cast.widgetcorp)


def test_the_first_application_that_asks_has_the_person_enroll_an_app(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, mfa_config=ALL)
    browser = EdgeBrowser()
    url, page = follow(browser, log_in(browser, application))
    assert "/second-factor?" in url
    assert "Add a second factor" in text_of(page)

    secret, done = enroll_app(browser, url, page)

    row = IdentityAuthenticator.objects.get()
    assert (row.kind, row.identity.email) == ("totp", "alice@widgetcorp.test")
    assert secret not in bytes(row.secret_sealed)
    assert len(recovery_codes_of(done)) == RecoveryCode.objects.count() == 10
    end, answer = follow(browser, browser.get(onward_of(done)))
    assert end.startswith(f"https://{HOST}/cdn-cgi/access/authorized?")
    session = AccessSession.objects.get()
    assert session.all_methods == ["otp", "mfa"]
    entry = AccessRequest.objects.get(action="login", allowed=True)
    asked = next(line for line in entry.trace if line.get("selector") == "mfa")
    assert asked["verdict"] == "match"
    assert AuditEvent.objects.filter(name="accounts.second_factor.enrolled").count() == 1
    # Another login: now the code is asked for.
    other = EdgeBrowser()
    url, page = follow(other, log_in(other, application))
    assert "Confirm that it is you" in text_of(page)
    answer = other.submit(url, page, containing='name="code"', code=app_code(secret))
    assert follow(other, answer)[0].startswith(f"https://{HOST}/cdn-cgi/access/authorized?")


def test_a_passkey_enrolls_and_confirms(cast: Cast) -> None:
    application = make_application(cast.widgetcorp, mfa_config={**ALL, "allowed_authenticators": ["security_key"]})
    browser, key = EdgeBrowser(), SoftPasskey()
    _, page = follow(browser, log_in(browser, application))
    assert "authenticator app" not in text_of(page)
    done = add_passkey(browser, page, key)
    assert done.status_code == 200, text_of(done)
    assert follow(browser, browser.get(onward_of(done)))[0].startswith(f"https://{HOST}/")
    other = EdgeBrowser()
    _, page = follow(other, log_in(other, application))
    answer = use_passkey(other, page, key)
    assert follow(other, answer)[0].startswith(f"https://{HOST}/cdn-cgi/access/authorized?")
    assert AccessSession.objects.latest("created_at").all_methods == ["otp", "hwk", "user", "mfa"]
