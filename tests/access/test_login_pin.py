"""Login with a one-time PIN, from the application host and back to it."""

from __future__ import annotations

import threading
from datetime import timedelta
from email.utils import parsedate_to_datetime
from smtplib import SMTPServerDisconnected
from urllib.parse import urlsplit

import jwt
import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.db import connection
from django.utils import timezone
from kombu.exceptions import OperationalError

from access.models import AccessRequest, HandOver
from accounts.actions.login import PinResult, start_pin_login, try_pin
from accounts.actor import system
from accounts.models import AccessSession, AuditEvent, Identity, LoginAttempt
from accounts.tasks import send_pin
from tests.access.edge_client import HOST, TEAM, EdgeBrowser, form_of
from tests.access.login_flows import (
    ask_for_pin,
    last_pin,
    log_in_with_pin,
    make_application,
    pin_provider,
    start_at_application,
)
from tests.factories import Cast, make_cast

EMAIL = "alice@corp.test"


@pytest.fixture
def application(cast: Cast):
    pin_provider(cast.widgetcorp)
    return make_application(cast.widgetcorp, emails=(EMAIL,))


def test_login_ends_at_the_page_asked_for_with_an_application_token(cast, application):
    browser = EdgeBrowser()
    answer = log_in_with_pin(browser, start_at_application(browser, application, "/console?x=1"), EMAIL)
    assert answer.status_code == 302
    target = answer["Location"]
    assert target.startswith(f"https://{HOST}/cdn-cgi/access/authorized?nonce=")
    done = browser.get(target)
    assert (done.status_code, done["Location"]) == (302, f"https://{HOST}/console?x=1")
    morsel = done.cookies["CF_Authorization"]
    assert parsedate_to_datetime(morsel["expires"]) > timezone.now() + timedelta(hours=23)
    assert (morsel["secure"], morsel["httponly"], morsel["path"], morsel["samesite"]) == (True, True, "/", "Lax")
    header = jwt.get_unverified_header(morsel.value)
    claims = jwt.decode(morsel.value, options={"verify_signature": False})
    assert header["alg"] == "RS256" and len(header["kid"]) == 64
    assert claims["aud"] == [application.aud]
    assert claims["iss"] == f"https://{TEAM}"
    assert (claims["type"], claims["email"]) == ("app", EMAIL)
    assert all(type(claims[name]) is int for name in ("exp", "iat", "nbf"))
    session = AccessSession.objects.get()
    assert (session.nonce, str(session.identity_id)) == (claims["identity_nonce"], claims["sub"])
    assert (session.ip_address, session.user_agent) == (browser.ip, "test-browser")
    assert session.identity.email_verified is True


def test_login_leaves_audit_events_and_a_log_entry(cast, application):
    browser = EdgeBrowser()
    answer = log_in_with_pin(browser, start_at_application(browser, application), EMAIL)
    browser.get(answer["Location"])
    names = list(AuditEvent.objects.order_by("id").values_list("name", flat=True))
    assert [name for name in names if "token_keys" not in name] == [
        "accounts.login.started",
        "accounts.login.pin_sent",
        "accounts.login.succeeded",
        "access.login.handed_over",
        "access.token.issued",
    ]
    entry = AccessRequest.objects.get()
    assert (entry.allowed, entry.action, entry.email, entry.ray_id) == (True, "login", EMAIL, "ray-of-test")


def test_the_login_page_names_the_application_for_old_clients(cast, application):
    browser = EdgeBrowser()
    page = browser.get(start_at_application(browser, application))
    assert (page["CF-Access-Aud"], page["CF-Access-Domain"]) == (application.aud, HOST)
    assert "Log in to SSH bastion" in page.content.decode()


def test_denied_shows_reason_account_and_reference(cast, application):
    browser = EdgeBrowser()
    page = log_in_with_pin(browser, start_at_application(browser, application), "eve@corp.test")
    text = page.content.decode()
    assert page.status_code == 403
    entry = AccessRequest.objects.get()
    assert (entry.allowed, entry.reason) == (False, "email_not_allowed")
    for shown in ("Your e-mail address (eve@corp.test) is not on this application", "ray-of-test"):
        assert shown in text
    assert entry.reason not in text
    assert not HandOver.objects.exists()
    # Logged in nevertheless: the account is known, the application refuses it.
    assert browser.cookie(TEAM, "CF_Authorization")


def test_single_sign_on_needs_no_second_login(cast, application):
    browser = EdgeBrowser()
    log_in_with_pin(browser, start_at_application(browser, application), EMAIL)
    second = make_application(cast.widgetcorp, hostname="wiki.widgetcorp.test", name="Wiki")
    answer = browser.get(start_at_application(browser, second, "/w"))
    assert answer.status_code == 302
    assert browser.get(answer["Location"])["Location"] == "https://wiki.widgetcorp.test/w"


def test_without_a_signed_start_the_login_goes_by_way_of_the_application(cast, application):
    browser = EdgeBrowser()
    url = f"https://{TEAM}/cdn-cgi/access/login/{HOST}?kid={application.aud}&redirect_url=%2Fp"
    answer = log_in_with_pin(browser, url, EMAIL)
    assert answer["Location"] == f"https://{HOST}/p"
    assert not HandOver.objects.exists()


def test_the_answer_to_a_pin_request_is_the_same_for_every_address(cast, application):
    pages = []
    for email in (EMAIL, "eve@corp.test"):
        browser = EdgeBrowser()
        _, page = ask_for_pin(browser, start_at_application(browser, application), email)
        pages.append((page.status_code, page.content.decode().replace(email, "E").split("<form")[0]))
    assert pages[0] == pages[1]


def test_the_pin_is_stored_only_as_a_hash_and_is_in_no_event(cast, application):
    browser = EdgeBrowser()
    ask_for_pin(browser, start_at_application(browser, application), EMAIL)
    attempt = LoginAttempt.objects.get()
    assert last_pin() not in attempt.pin_hash and len(attempt.pin_hash) == 64
    assert not any(last_pin() in f"{event.old}{event.new}{event.target_label}" for event in AuditEvent.objects.all())
    assert mail.outbox[-1].to == [EMAIL]


def test_a_wrong_pin_is_refused_and_five_end_it(cast, application):
    browser = EdgeBrowser()
    url, page = ask_for_pin(browser, start_at_application(browser, application), EMAIL)
    right = last_pin()
    wrong = "000000" if right != "000000" else "111111"
    for _ in range(5):
        assert browser.submit(url, page, containing='name="pin"', pin=wrong).status_code == 403
    late = browser.submit(url, page, containing='name="pin"', pin=right)
    assert late.status_code == 403 and "has ended" in late.content.decode()
    assert not AccessSession.objects.exists()
    assert AuditEvent.objects.filter(name="accounts.login.failed").count() == 6


def test_a_pin_older_than_ten_minutes_is_refused(cast, application):
    browser = EdgeBrowser()
    url, page = ask_for_pin(browser, start_at_application(browser, application), EMAIL)
    LoginAttempt.objects.update(expires_at=timezone.now())
    assert browser.submit(url, page, containing='name="pin"', pin=last_pin()).status_code == 403
    assert not AccessSession.objects.exists()


def test_ac48_a_used_pin_is_refused_however_it_is_written(cast, application):
    browser = EdgeBrowser()
    url, page = ask_for_pin(browser, start_at_application(browser, application), EMAIL)
    pin, before = last_pin(), browser.cookie(TEAM, "__Host-CF_Session")
    spaced = f" {pin[:3]} {pin[3:]} "
    wide = "".join(chr(ord("０") + int(digit)) for digit in pin)
    # Full-width digits are no digits; pasted spaces are forgiven.
    assert browser.submit(url, page, containing='name="pin"', pin=wide).status_code == 403
    assert browser.submit(url, page, containing='name="pin"', pin=spaced).status_code == 302
    browser.set_cookie(TEAM, "__Host-CF_Session", before)
    for variant in (pin, spaced, wide):
        assert browser.submit(url, page, containing='name="pin"', pin=variant).status_code == 403
    assert AccessSession.objects.count() == 1


def test_ac39_a_pin_page_of_another_browser_does_not_exist(cast, application):
    browser, other = EdgeBrowser(), EdgeBrowser()
    url, _ = ask_for_pin(browser, start_at_application(browser, application), EMAIL)
    assert other.get(url).status_code == 404


def test_ac39_cookies_from_before_the_login_are_replaced(cast, application):
    browser = EdgeBrowser()
    url = start_at_application(browser, application)
    location, page = ask_for_pin(browser, url, EMAIL)
    before = browser.cookie(TEAM, "__Host-CF_Session")
    browser.submit(location, page, containing='name="pin"', pin=last_pin())
    assert browser.cookie(TEAM, "__Host-CF_Session") not in {"", before}


def test_ac47_pin_requests_are_limited_by_account_whatever_the_headers_say(cast, application):
    statuses = []
    for number in range(7):
        browser = EdgeBrowser(ip=f"203.0.113.{number}")
        page = browser.get(start_at_application(browser, application))
        answer = browser.request(
            "POST",
            f"https://{TEAM}/cdn-cgi/access/pin",
            {**_hidden(page), "email": EMAIL},
            HTTP_X_FORWARDED_FOR=f"198.51.100.{number}",
        )
        statuses.append(answer.status_code)
    assert statuses == [303] * 5 + [429] * 2
    assert len(mail.outbox) == 5


def test_ac47_pin_requests_are_limited_by_the_real_address(cast, application):
    browser = EdgeBrowser()
    page = browser.get(start_at_application(browser, application))
    statuses = [
        browser.request(
            "POST",
            f"https://{TEAM}/cdn-cgi/access/pin",
            {**_hidden(page), "email": f"user{number}@corp.test"},
            HTTP_X_FORWARDED_FOR=f"198.51.100.{number}",
        ).status_code
        for number in range(31)
    ]
    assert statuses[-1] == 429 and set(statuses[:-1]) == {303}


def test_a_pin_form_without_csrf_token_is_refused(cast, application):
    browser = EdgeBrowser()
    page = browser.get(start_at_application(browser, application))
    fields = {key: value for key, value in _hidden(page).items() if key != "csrfmiddlewaretoken"}
    answer = browser.request("POST", f"https://{TEAM}/cdn-cgi/access/pin", {**fields, "email": EMAIL})
    assert answer.status_code == 403 and not LoginAttempt.objects.exists()


def test_a_malformed_address_gets_a_message(cast, application):
    browser = EdgeBrowser()
    url = start_at_application(browser, application)
    answer = browser.submit(url, browser.get(url), containing='name="email"', email="not an address")
    assert answer.status_code == 400 and "Enter an e-mail address" in answer.content.decode()


def test_ac49_an_identity_disabled_meanwhile_gets_no_session(cast, application):
    browser = EdgeBrowser()
    log_in_with_pin(browser, start_at_application(browser, application), EMAIL)
    fresh = EdgeBrowser()
    url, page = ask_for_pin(fresh, start_at_application(fresh, application), EMAIL)
    Identity.objects.update(disabled_at=timezone.now())
    answer = fresh.submit(url, page, containing='name="pin"', pin=last_pin())
    assert answer.status_code == 401 and "was disabled" in answer.content.decode()
    assert AccessSession.objects.count() == 1
    assert AuditEvent.objects.filter(name="accounts.login.failed", new__reason="identity_disabled").exists()


def test_a_mail_that_can_not_be_handed_over_is_tried_again_with_another_pin(cast, application, monkeypatch):
    real, calls = EmailMessage.send, []

    def flaky(self, *args, **kwargs):
        calls.append(self.body)
        if len(calls) == 1:
            raise SMTPServerDisconnected("gone")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(EmailMessage, "send", flaky)
    browser = EdgeBrowser()
    url, page = ask_for_pin(browser, start_at_application(browser, application), EMAIL)
    assert len(calls) == 2 and len(mail.outbox) == 1
    assert browser.submit(url, page, containing='name="pin"', pin=last_pin()).status_code == 302


def test_fault4_no_broker_is_a_clear_answer(cast, application, monkeypatch):
    def unreachable(*args):
        raise OperationalError("broker gone")

    monkeypatch.setattr("accounts.actions.login.send_pin.delay", unreachable)
    browser = EdgeBrowser()
    url = start_at_application(browser, application)
    answer = browser.submit(url, browser.get(url), containing='name="email"', email=EMAIL)
    assert answer.status_code == 503 and "Mail cannot be sent" in answer.content.decode()


def test_a_task_that_runs_twice_sends_one_mail(cast, application):
    browser = EdgeBrowser()
    ask_for_pin(browser, start_at_application(browser, application), EMAIL)
    send_pin.delay(str(LoginAttempt.objects.get().id))
    assert len(mail.outbox) == 1


@pytest.mark.django_db(transaction=True)
def test_ac35_a_right_pin_entered_fifty_times_at_once_counts_once():
    cast = make_cast()
    started = start_pin_login(
        pin_provider(cast.widgetcorp), email=EMAIL, browser="b" * 32, return_to={}, actor=system("tests")
    )
    attempt, right = started.attempt, last_pin()
    barrier, results = threading.Barrier(50, timeout=60), []

    def enter() -> None:
        try:
            barrier.wait()
            own = LoginAttempt.objects.select_related("organization", "provider").get(pk=attempt.pk)
            results.append(try_pin(own, value=right, now=timezone.now(), actor=system("tests")))
        finally:
            connection.close()

    threads = [threading.Thread(target=enter) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(results) == [PinResult.ACCEPTED] + [PinResult.ENDED] * 49
    attempt.refresh_from_db()
    assert attempt.tries <= 5


def test_another_tenants_application_has_no_login_page_here(cast, application):
    foreign = make_application(cast.evilcorp, hostname="ssh.evilcorp.test")
    browser = EdgeBrowser()
    url = start_at_application(browser, foreign).replace("evilcorp.access", "widgetcorp.access")
    assert urlsplit(url).netloc == TEAM
    assert browser.get(url).status_code == 404


def test_a_team_domain_is_not_served_without_an_edge(cast, application, client):
    assert client.get("/", HTTP_HOST=TEAM).status_code == 404


def _hidden(page):
    return form_of(page, 'name="email"')[1]
