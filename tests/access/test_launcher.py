"""The App Launcher, get-identity, sign-out: what people see of themselves, and how they end it."""

from __future__ import annotations

import pytest
from django.utils import timezone

from access.models import AccessRequest, Certificate, Group, Policy, PrincipalClaim, TokenKey
from access.tokens import mint_application_token, mint_organization_token
from accounts.models import AccessSession, AuditEvent
from dataplane.wire.names import COOKIE_AUTH
from tests.access.edge_client import HOST, TEAM, EdgeBrowser, form_of
from tests.access.login_flows import log_in_with_pin, make_application, pin_provider
from tests.access.test_login_hand_over import make_session
from tests.world import make_world

EMAIL = "alice@corp.test"
HOME = f"https://{TEAM}/"
ACCOUNT = f"https://{TEAM}/account"


def browser_of(session: AccessSession) -> EdgeBrowser:
    browser = EdgeBrowser()
    browser.set_cookie(TEAM, COOKIE_AUTH, mint_organization_token(session, now=timezone.now()))
    return browser


@pytest.fixture
def session(cast):
    return make_session(cast.widgetcorp, groups=["engineering"], ip="203.0.113.7")


def test_a_visitor_sees_the_login_page(cast):
    pin_provider(cast.widgetcorp)
    page = EdgeBrowser().get(HOME)
    assert page.status_code == 200 and "Log in" in page.content.decode()
    assert "style=" not in page.content.decode() and "<script" not in page.content.decode()


def test_tiles_are_the_applications_the_person_may_reach(cast, session):
    make_application(cast.widgetcorp, emails=(EMAIL,), name="Mine")
    make_application(cast.widgetcorp, hostname="a.widgetcorp.test", emails=("bob@corp.test",), name="Not mine")
    make_application(cast.widgetcorp, hostname="b.widgetcorp.test", name="Hidden", app_launcher_visible=False)
    make_application(cast.evilcorp, hostname="c.evilcorp.test", name="Foreign")
    text = browser_of(session).get(HOME).content.decode()
    assert "Mine" in text and f"https://{HOST}" in text
    assert not [name for name in ("Not mine", "Hidden", "Foreign") if name in text]


def test_more_applications_cost_no_more_queries(cast, session, django_assert_max_num_queries):
    for number in range(30):
        make_application(cast.widgetcorp, hostname=f"a{number}.widgetcorp.test", name=f"App {number}")
    browser = browser_of(session)
    with django_assert_max_num_queries(12):
        assert "App 29" in browser.get(HOME).content.decode()


def test_my_account_shows_the_identity_escaped(cast, session):
    session.identity.name = "<script>alert(1)</script>"
    session.identity.save()
    text = browser_of(session).get(ACCOUNT).content.decode()
    assert "engineering" in text and EMAIL in text and "203.0.113.7" in text and "this browser" in text
    assert "<script>" not in text and "style=" not in text


def test_my_account_without_a_login_asks_for_one_and_comes_back(cast):
    pin_provider(cast.widgetcorp)
    browser = EdgeBrowser()
    answer = log_in_with_pin(browser, ACCOUNT, EMAIL)
    assert answer["Location"] == "/account"
    assert "Who I am here" in browser.get(ACCOUNT).content.decode()


def test_my_account_shows_my_certificates_only(cast):
    world = make_world(cast.widgetcorp, domain="widgetcorp.tech")
    TokenKey.objects.all().delete()  # the world's is no key
    session = make_session(cast.widgetcorp)
    assert world.certificate.serial not in browser_of(session).get(ACCOUNT).content.decode()
    Certificate.objects.update(identity=session.identity)
    text = browser_of(session).get(ACCOUNT).content.decode()
    assert world.certificate.serial in text and "SSH bastion" in text and "valid" in text


def test_tiles_say_when_used_and_how_to_ssh(cast):
    world = make_world(cast.widgetcorp, domain="widgetcorp.tech")
    TokenKey.objects.all().delete()
    session = make_session(cast.widgetcorp)
    Policy.objects.update(include=[{"everyone": {}}], require=[])
    Group.objects.update(include=[{"everyone": {}}], require=[])
    browser = browser_of(session)
    text = browser.get(HOME).content.decode()
    assert "Not used yet" in text
    assert "sallyport access ssh-config --hostname ssh-bastion.widgetcorp.tech --short-lived-cert" in text
    assert "ssh ssh-bastion.widgetcorp.tech<" in text
    AccessRequest.objects.update(identity=session.identity)
    PrincipalClaim.objects.update(identity=session.identity)
    text = browser.get(HOME).content.decode()
    assert "Last used" in text and "ssh carol@ssh-bastion.widgetcorp.tech<" in text
    world.authority.state = "retired"
    world.authority.save()
    assert "How to ssh there" not in browser.get(HOME).content.decode()


def test_search_keeps_to_the_reachable_ones(cast, session):
    make_application(cast.widgetcorp, emails=(EMAIL,), name="Wiki")
    make_application(cast.widgetcorp, hostname="a.widgetcorp.test", emails=(EMAIL,), name="Build")
    make_application(cast.widgetcorp, hostname="b.widgetcorp.test", emails=("bob@corp.test",), name="Wiki of Bob")
    browser = browser_of(session)
    text = browser.get(f"{HOME}?q=wik").content.decode()
    assert "Wiki" in text and "Build" not in text and "Wiki of Bob" not in text
    assert "None of your applications fits" in browser.get(f"{HOME}?q=%3Cscript%3E").content.decode()


@pytest.mark.parametrize(
    ("logo", "allowed"),
    [
        ("https://logos.test/wiki.png", " https://logos.test;"),
        ("http://logos.test/wiki.png", ""),
        ("https://logos.test; script-src *//x.png", ""),
        ("javascript:alert(1)", ""),
        ("https://user@logos.test/x.png", ""),
        ("https://[::1/x.png", ""),
    ],
)
def test_logos_widen_the_policy_by_their_own_origin_only(cast, session, logo, allowed):
    make_application(cast.widgetcorp, name="Wiki", settings={"logo_url": logo})
    answer = browser_of(session).get(HOME)
    policy = answer["Content-Security-Policy"]
    assert f"img-src 'self' data:{allowed or ';'}" in policy and policy.count("script-src") == 1
    assert ("<img" in answer.content.decode()) is bool(allowed)


def test_ending_one_session_ends_only_that_one(cast, session):
    other = make_session(cast.widgetcorp)
    browser = browser_of(session)
    page = browser.get(ACCOUNT)
    answer = browser.submit(ACCOUNT, page, containing=str(other.id))
    assert answer.status_code == 303
    other.refresh_from_db()
    session.refresh_from_db()
    assert other.revoked_at is not None and session.revoked_at is None
    event = AuditEvent.objects.get(name="accounts.session.revoked")
    assert (event.actor_label, event.target_id) == (EMAIL, str(other.id))


def test_another_persons_session_can_not_be_ended(cast, session):
    theirs = make_session(cast.widgetcorp, "bob@corp.test")
    browser = browser_of(session)
    page = browser.get(ACCOUNT)
    target = f"https://{TEAM}/cdn-cgi/access/sessions/end"
    fields = form_of(page, str(session.id))[1] | {"session": str(theirs.id)}
    assert browser.request("POST", target, fields).status_code == 404
    theirs.refresh_from_db()
    assert theirs.revoked_at is None


def test_sign_out_everywhere_ends_all_own_sessions(cast, session):
    make_session(cast.widgetcorp)
    theirs = make_session(cast.widgetcorp, "bob@corp.test")
    browser = browser_of(session)
    answer = browser.submit(ACCOUNT, browser.get(ACCOUNT), containing="everywhere")
    assert answer.status_code == 200 and answer.cookies[COOKIE_AUTH].value == ""
    live = AccessSession.objects.filter(revoked_at__isnull=True)
    assert [item.id for item in live] == [theirs.id]
    event = AuditEvent.objects.get(name="accounts.session.all_revoked")
    assert event.new == {"sessions": 2}


def test_get_identity_is_the_public_document(cast, session):
    browser = browser_of(session)
    found = browser.get(f"https://{TEAM}/cdn-cgi/access/get-identity").json()
    assert (found["email"], found["idp"]["type"], found["groups"]) == (EMAIL, "onetimepin", ["engineering"])
    assert (found["user_uuid"], found["account_id"]) == (str(session.identity_id), cast.widgetcorp.id)
    assert (found["geo"], found["amr"], found["ip"]) == ({"country": "PT"}, ["otp"], "203.0.113.7")
    assert session.nonce not in str(found)
    assert EdgeBrowser().get(f"https://{TEAM}/cdn-cgi/access/get-identity").status_code == 401


def test_get_identity_on_an_application_host_takes_cookie_or_header(cast, session):
    application = make_application(cast.widgetcorp)
    token = mint_application_token(application, session, now=timezone.now(), lifetime_seconds=3600, country="")
    url = f"https://{HOST}/cdn-cgi/access/get-identity"
    browser = EdgeBrowser()
    assert browser.get(url).status_code == 401
    assert browser.get(url, HTTP_CF_ACCESS_TOKEN=token).json()["email"] == EMAIL
    browser.set_cookie(HOST, COOKIE_AUTH, token)
    assert browser.get(url).json()["email"] == EMAIL
    # Another application of the same host: its token is as good for this question.
    second = make_application(cast.widgetcorp, path="/wiki", name="Wiki")
    other = mint_application_token(second, session, now=timezone.now(), lifetime_seconds=3600, country="")
    assert browser.get(url, HTTP_CF_ACCESS_TOKEN=other).json()["email"] == EMAIL
    assert browser.get(url, HTTP_CF_ACCESS_TOKEN=f"{other}x").status_code == 401


@pytest.mark.parametrize("host", [TEAM, HOST])
def test_logging_out_on_either_host_ends_the_whole_session(cast, session, host):
    application = make_application(cast.widgetcorp)
    browser = browser_of(session)
    token = mint_application_token(application, session, now=timezone.now(), lifetime_seconds=3600, country="")
    browser.set_cookie(HOST, COOKIE_AUTH, token)
    answer = browser.get(f"https://{host}/cdn-cgi/access/logout")
    if host == HOST:
        assert (answer.status_code, answer["Location"]) == (303, f"https://{TEAM}/cdn-cgi/access/logout")
        assert browser.cookie(HOST, COOKIE_AUTH) == ""
        answer = browser.get(answer["Location"])
    assert answer.status_code == 200 and "signed out" in answer.content.decode()
    assert browser.cookie(TEAM, COOKIE_AUTH) == ""
    session.refresh_from_db()
    assert session.revoked_at is not None
    assert AuditEvent.objects.filter(name="accounts.session.revoked").count() == 1


def test_pages_are_not_kept_framed_or_scripted(cast):
    page = EdgeBrowser().get(HOME)
    policy = page["Content-Security-Policy"]
    assert "script-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert (page["Cache-Control"], page["Referrer-Policy"], page["X-Frame-Options"]) == (
        "no-store",
        "same-origin",
        "DENY",
    )


def test_the_stylesheet_is_served_on_both_kinds_of_host(cast):
    make_application(cast.widgetcorp)
    for host in (TEAM, HOST):
        answer = EdgeBrowser().get(f"https://{host}/cdn-cgi/access/public.css?v=1")
        assert answer.status_code == 200 and answer["Content-Type"].startswith("text/css")


def test_unknown_pages_have_the_same_look(cast):
    make_application(cast.widgetcorp)
    for host in (TEAM, HOST):
        answer = EdgeBrowser().get(f"https://{host}/cdn-cgi/access/nothing")
        assert answer.status_code == 404 and "Nothing is here" in answer.content.decode()


def test_logos_of_tiles_and_of_nobody_else(cast, session):
    application = make_application(cast.widgetcorp)
    application.settings = {"logo_url": "https://pictures.example.com/logo.png"}
    application.save()
    page = browser_of(session).get(HOME)
    assert 'src="https://pictures.example.com/logo.png"' in page.content.decode()
    assert "img-src 'self' data: https://pictures.example.com;" in page["Content-Security-Policy"]
    application.settings = {"logo_url": "https://x; script-src *"}
    application.save()
    assert "img-src 'self' data:;" in browser_of(session).get(HOME)["Content-Security-Policy"]
