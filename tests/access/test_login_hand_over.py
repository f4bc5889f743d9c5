"""From the team domain to the application host: one-time codes, redirects, the exchange clients do with HEAD."""

from __future__ import annotations

import threading
from datetime import timedelta
from urllib.parse import quote

import jwt
import pytest
from django.db import connection
from django.utils import timezone

from access.actions.logins import HandOverRefused, take_hand_over
from access.login_links import LoginContext, app_session_cookie, hash_of, login_url, read_signed, safe_path
from access.models import HandOver
from access.tokens import mint_organization_token
from accounts.actions.identities import record_login
from accounts.actions.sessions import revoke_session
from accounts.actor import system
from accounts.models import AccessSession, AuditEvent
from dataplane.wire.names import COOKIE_APP_SESSION, COOKIE_AUTH
from tests.access.edge_client import HOST, TEAM, EdgeBrowser
from tests.access.login_flows import log_in_with_pin, make_application, pin_provider, query_of, start_at_application
from tests.factories import make_cast

EMAIL = "alice@corp.test"


def make_session(organization, email: str = EMAIL, **changes) -> AccessSession:
    given = {
        "subject": email,
        "email": email,
        "email_verified": True,
        "name": "",
        "groups": [],
        "claims": {},
        "amr": ["otp"],
        "ip": "203.0.113.7",
        "country": "PT",
        "user_agent": "test",
        "session_seconds": 86400,
        **changes,
    }
    return record_login(pin_provider(organization), **given)


@pytest.fixture
def application(cast):
    pin_provider(cast.widgetcorp)
    return make_application(cast.widgetcorp, emails=(EMAIL,))


@pytest.fixture
def client_with_org_token(cast, application):
    """A command-line client: no browser cookies but the two the protocol forwards."""
    session = make_session(cast.widgetcorp)
    browser = EdgeBrowser()
    browser.set_cookie(TEAM, COOKIE_AUTH, mint_organization_token(session, now=timezone.now()))
    return browser


def test_the_head_exchange_turns_an_organization_token_into_an_application_token(application, client_with_org_token):
    """access-client.md 6.1: three HEAD requests, token in the last answer's cookie with Expires."""
    step2 = client_with_org_token.head(start_at_application(client_with_org_token, application))
    assert step2.status_code == 302
    assert step2["Location"].startswith(f"https://{HOST}/cdn-cgi/access/authorized?nonce=")
    assert COOKIE_AUTH not in step2.cookies
    step3 = client_with_org_token.head(step2["Location"])
    assert step3.status_code == 302 and step3["Location"] == f"https://{HOST}/"
    assert "expires=" in step3.cookies[COOKIE_AUTH].output().lower()
    claims = jwt.decode(step3.cookies[COOKIE_AUTH].value, options={"verify_signature": False})
    assert (claims["aud"], claims["type"]) == ([application.aud], "app")


def test_the_head_exchange_without_a_good_token_meets_the_login_page(cast, application, client_with_org_token):
    for value in ("", "x", "a.b.c", client_with_org_token.cookie(TEAM, COOKIE_AUTH) + "x"):
        browser = EdgeBrowser()
        browser.set_cookie(TEAM, COOKIE_AUTH, value)
        answer = browser.head(start_at_application(browser, application))
        assert answer.status_code == 200 and COOKIE_AUTH not in answer.cookies
        assert (answer["CF-Access-Domain"], answer["CF-Access-Aud"]) == (HOST, application.aud)


def test_an_application_token_is_no_organization_token(cast, application, client_with_org_token):
    """AC-29: presented at the team domain it logs nobody in."""
    step2 = client_with_org_token.head(start_at_application(client_with_org_token, application))
    app_token = client_with_org_token.head(step2["Location"]).cookies[COOKIE_AUTH].value
    browser = EdgeBrowser()
    browser.set_cookie(TEAM, COOKIE_AUTH, app_token)
    assert browser.head(start_at_application(browser, application)).status_code == 200
    browser.set_cookie("evilcorp.access.example.test", COOKIE_AUTH, client_with_org_token.cookie(TEAM, COOKIE_AUTH))
    assert browser.get("https://evilcorp.access.example.test/cdn-cgi/access/get-identity").status_code == 401


def test_ac87_a_revoked_session_exchanges_nothing(application, client_with_org_token):
    revoke_session(AccessSession.objects.get(), actor=system("tests"))
    assert client_with_org_token.head(start_at_application(client_with_org_token, application)).status_code == 200
    assert not HandOver.objects.exists()


def test_a_session_about_to_end_must_log_in_again(application, client_with_org_token):
    """Tokens shorter than ten minutes hang listeners (access-client.md 11.3)."""
    AccessSession.objects.update(expires_at=timezone.now() + timedelta(minutes=10))
    answer = client_with_org_token.get(start_at_application(client_with_org_token, application))
    assert answer.status_code == 200 and "about to end" in answer.content.decode()


def test_a_denied_exchange_is_403(cast, application):
    session = make_session(cast.widgetcorp, "eve@corp.test")
    browser = EdgeBrowser()
    browser.set_cookie(TEAM, COOKIE_AUTH, mint_organization_token(session, now=timezone.now()))
    assert browser.head(start_at_application(browser, application)).status_code == 403


def test_a_code_works_once(application, client_with_org_token):
    target = client_with_org_token.head(start_at_application(client_with_org_token, application))["Location"]
    assert client_with_org_token.get(target).status_code == 302
    second = client_with_org_token.get(target)
    assert second.status_code == 403 and COOKIE_AUTH not in second.cookies
    assert "used already" in second.content.decode()


def test_ac39_a_code_in_another_browser_is_refused_and_not_burned(application, client_with_org_token):
    """AC-40: an attacker's link does not log the victim in as the attacker."""
    target = client_with_org_token.head(start_at_application(client_with_org_token, application))["Location"]
    for cookie in ("", "some-other-session"):
        victim = EdgeBrowser()
        victim.set_cookie(HOST, COOKIE_APP_SESSION, cookie)
        answer = victim.get(target)
        assert answer.status_code == 403 and COOKIE_AUTH not in answer.cookies
    assert client_with_org_token.get(target).status_code == 302


def test_a_code_is_refused_on_another_host_after_a_minute_and_after_revocation(
    cast, application, client_with_org_token
):
    other = make_application(cast.widgetcorp, hostname="wiki.widgetcorp.test", name="Wiki")
    target = client_with_org_token.head(start_at_application(client_with_org_token, application))["Location"]
    value = client_with_org_token.cookie(HOST, COOKIE_APP_SESSION)
    client_with_org_token.set_cookie(other.hostname, COOKIE_APP_SESSION, value)
    assert client_with_org_token.get(target.replace(HOST, other.hostname)).status_code == 403
    HandOver.objects.update(expires_at=timezone.now())
    assert client_with_org_token.get(target).status_code == 403
    HandOver.objects.update(expires_at=timezone.now() + timedelta(seconds=30))
    AccessSession.objects.update(revoked_at=timezone.now())
    assert client_with_org_token.get(target).status_code == 403
    assert not AuditEvent.objects.filter(name="access.token.issued").exists()


@pytest.mark.django_db(transaction=True)
def test_ac35_of_fifty_parallel_uses_of_a_code_exactly_one_succeeds():
    cast = make_cast()
    application = make_application(cast.widgetcorp, emails=(EMAIL,))
    session = make_session(cast.widgetcorp)
    mint_organization_token(session, now=timezone.now())
    HandOver.objects.create(
        code_sha256=hash_of("code"),
        organization=cast.widgetcorp,
        application=application,
        session=session,
        app_session_sha256=hash_of("cookie"),
        hostname=HOST,
        redirect_path="/",
        session_duration_seconds=3600,
        expires_at=timezone.now() + timedelta(seconds=60),
    )
    outcomes: list[str] = []
    barrier = threading.Barrier(50, timeout=60)

    def use() -> None:
        try:
            barrier.wait()
            take_hand_over(
                cast.widgetcorp, hostname=HOST, code="code", app_session="cookie", now=timezone.now(), ip="203.0.113.7"
            )
            outcomes.append("token")
        except HandOverRefused:
            outcomes.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=use) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(outcomes) == ["refused"] * 49 + ["token"]
    assert AuditEvent.objects.filter(name="access.token.issued").count() == 1


@pytest.mark.parametrize(
    "target",
    [
        "//evil.test/x",
        "///evil.test",
        "/\\evil.test",
        "\\\\evil.test",
        "https:evil.test",
        "https://evil.test/",
        "https:/evil.test",
        "http://ssh.widgetcorp.test/",
        "https://ssh.widgetcorp.test.evil.test/",
        "https://ssh.widgetcorp.test@evil.test/",
        "https://user@ssh.widgetcorp.test/",
        "https://evil.test\\@ssh.widgetcorp.test/",
        "https://ssh.widgetcorp.test:8443/",
        "https://ssh.evilcorp.test/",
        "https://ssh.widgetcorp.test//evil.test",
        "/x\r\nSet-Cookie: a=b",
        "/x\ny",
        "/\tx",
        " //evil.test",
        "data:text/html,x",
        "javascript:alert(1)",
        "%2F%2Fevil.test",
        "//%65vil.test",
        "/ü",
        "x" * 5000,
        "",
        "https://[::1",
    ],
)
def test_ac38_redirects_never_leave_the_applications_own_host(cast, application, client_with_org_token, target):
    assert safe_path(target, HOST) == "/"
    url = start_at_application(client_with_org_token, application).split("&redirect_url=")
    meta = url[1].split("&meta=")[1]
    answer = client_with_org_token.get(f"{url[0]}&redirect_url={quote(target, safe='')}&meta={meta}")
    done = client_with_org_token.get(answer["Location"])
    assert done["Location"] == f"https://{HOST}/"


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a/b?c=d&e=%2F%2Fx", "/a/b?c=d&e=%2F%2Fx"),
        (f"https://{HOST}/a?b", "/a?b"),
        (f"https://{HOST.upper()}/a", "/a"),
        (f"https://{HOST}", "/"),
        ("/%2F%2Fevil.test", "/%2F%2Fevil.test"),
    ],
)
def test_ac38_paths_on_the_own_host_are_kept(target, path):
    assert safe_path(target, HOST) == path


def test_a_tampered_or_foreign_meta_binds_nothing(cast, application, client_with_org_token):
    other = make_application(cast.widgetcorp, hostname="wiki.widgetcorp.test", name="Wiki")
    good = start_at_application(client_with_org_token, application)
    foreign = query_of(start_at_application(client_with_org_token, other))["meta"]
    own = query_of(good)["meta"]
    for meta in (foreign, own[:-1], f"{own}x", ""):
        answer = client_with_org_token.get(good.replace(quote(own, safe=""), quote(meta, safe="")))
        assert answer["Location"] == f"https://{HOST}/"
    assert read_signed("x" * 100) is None
    assert not HandOver.objects.exists()


def test_login_links_carry_no_cookie_value_and_round_trip(cast, application):
    url = login_url(application, hostname=HOST, redirect_path="/p?q=1", app_session="secret-cookie")
    assert "secret-cookie" not in url
    query = query_of(url)
    assert (query["kid"], query["redirect_url"]) == (application.aud, "/p?q=1")
    context = read_signed(query["meta"])
    assert context == LoginContext(str(application.id), HOST, "/", hash_of("secret-cookie"))
    assert app_session_cookie("v") == f"{COOKIE_APP_SESSION}=v; Path=/; Max-Age=86400; Secure; HttpOnly; SameSite=Lax"


def test_cookie_settings_of_the_application_hold(cast, client_with_org_token):
    application = make_application(
        cast.widgetcorp,
        hostname="tools.widgetcorp.test",
        path="/wiki",
        settings={
            "same_site_cookie_attribute": "strict",
            "path_cookie_attribute": True,
            "http_only_cookie_attribute": False,
        },
    )
    step2 = client_with_org_token.get(start_at_application(client_with_org_token, application, "/wiki/x"))
    morsel = client_with_org_token.get(step2["Location"]).cookies[COOKIE_AUTH]
    assert (morsel["samesite"], morsel["path"], morsel["httponly"], morsel["secure"]) == ("Strict", "/wiki", "", True)


def test_a_wildcard_application_hands_over_to_the_host_visited(cast, client_with_org_token):
    application = make_application(cast.widgetcorp, hostname="*.lab.widgetcorp.test", name="Lab")
    browser, host = client_with_org_token, "box7.lab.widgetcorp.test"
    browser.set_cookie(host, COOKIE_APP_SESSION, "v" * 32)
    step2 = browser.get(login_url(application, hostname=host, redirect_path="/", app_session="v" * 32))
    assert step2["Location"].startswith(f"https://{host}/cdn-cgi/access/authorized")
    assert browser.get(step2["Location"]).status_code == 302


def test_the_token_ends_with_the_session_at_the_latest(cast, application):
    session = make_session(cast.widgetcorp, session_seconds=3600)
    browser = EdgeBrowser()
    browser.set_cookie(TEAM, COOKIE_AUTH, mint_organization_token(session, now=timezone.now()))
    step2 = browser.head(start_at_application(browser, application))
    token = browser.head(step2["Location"]).cookies[COOKIE_AUTH].value
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] == int(session.expires_at.timestamp())


def test_a_second_login_in_the_same_browser_makes_a_second_session(cast, application):
    browser = EdgeBrowser()
    log_in_with_pin(browser, start_at_application(browser, application), EMAIL)
    browser.set_cookie(TEAM, COOKIE_AUTH, "")
    log_in_with_pin(browser, start_at_application(browser, application), EMAIL)
    first, second = AccessSession.objects.order_by("created_at")
    assert first.nonce != second.nonce and first.identity == second.identity
