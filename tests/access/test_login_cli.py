"""Command-line logins: the approve page, the sealed transfer, and what a stranger's link can not do."""

from __future__ import annotations

import base64
import json
import threading
from datetime import timedelta
from urllib.parse import urlencode

import jwt
import pytest
from django.db import connection
from django.utils import timezone
from nacl.public import Box, PrivateKey, PublicKey

from access import tokens
from access.actions.transfers import approve_transfer, take_transfer, waiting_client
from access.models import AccessRequest, Transfer
from access.tokens import mint_organization_token
from accounts.actor import system
from accounts.models import AccessSession, AuditEvent
from dataplane.wire.confirmation import confirmation_code
from dataplane.wire.names import COOKIE_AUTH
from tests.access.edge_client import HOST, TEAM, EdgeBrowser, form_of
from tests.access.login_flows import last_pin, make_application, pin_provider
from tests.access.mfa_kit import enroll_app, follow, onward_of
from tests.access.test_login_hand_over import make_session
from tests.factories import make_cast
from tests.tunnels.helpers import Agent

EMAIL = "alice@corp.test"
CLIENT_IP = "203.0.113.7"


class Terminal:
    """A waiting command-line client."""

    def __init__(self) -> None:
        self.key = PrivateKey.generate()
        self.public = base64.urlsafe_b64encode(bytes(self.key.public_key)).decode()

    def url(self, aud: str, **changes: str) -> str:
        query = {
            "aud": aud,
            "edge_token_transfer": "true",
            "redirect_url": f"https://{HOST}/?token={self.public}",
            "send_org_token": "true",
            "token": self.public,
            **changes,
        }
        return f"https://{HOST}/cdn-cgi/access/cli?{urlencode(query)}"

    def poll(self, ip: str = CLIENT_IP, **later) -> tuple[str, str] | None:
        return take_transfer(self.public, client_ip=ip, now=timezone.now() + timedelta(**later))

    def open(self, found: tuple[str, str]) -> dict[str, str]:
        peer = PublicKey(base64.urlsafe_b64decode(found[0]))
        return json.loads(Box(self.key, peer).decrypt(base64.b64decode(found[1], validate=True)))


@pytest.fixture
def application(cast):
    pin_provider(cast.widgetcorp)
    return make_application(cast.widgetcorp, emails=(EMAIL,))


@pytest.fixture
def browser(cast, application):
    """A person who is logged in at the team domain."""
    browser = EdgeBrowser()
    session = make_session(cast.widgetcorp)
    browser.set_cookie(TEAM, COOKIE_AUTH, mint_organization_token(session, now=timezone.now()))
    return browser


def approve_page(browser: EdgeBrowser, terminal: Terminal, aud: str, **changes: str):
    answer = browser.get(terminal.url(aud, **changes))
    assert answer.status_code == 302 and answer["Location"].startswith(f"https://{TEAM}/cdn-cgi/access/cli?")
    return answer["Location"], browser.get(answer["Location"])


def test_approving_gives_the_client_both_tokens_once(cast, application, browser):
    terminal = Terminal()
    assert terminal.poll() is None
    url, page = approve_page(browser, terminal, application.aud)
    done = browser.submit(url, page, containing="approve", decision="approve")
    assert done.status_code == 200 and "you may close this window" in done.content.decode()
    found = terminal.poll()
    assert found is not None
    opened = terminal.open(found)
    now = timezone.now()
    app = tokens.verify(cast.widgetcorp, opened["app_token"], now=now, audience=application.aud)
    org = tokens.verify(cast.widgetcorp, opened["org_token"], now=now, audience=None)
    assert app.email == org.email == EMAIL and app.session_nonce == AccessSession.objects.get().nonce
    assert terminal.poll() is None
    row = Transfer.objects.get()
    assert row.body == "" and row.fetched_at is not None
    names = AuditEvent.objects.filter(name__startswith="access.transfer").order_by("id")
    assert list(names.values_list("name", flat=True)) == ["access.transfer.approved", "access.transfer.fetched"]
    assert AccessRequest.objects.filter(allowed=True).exists()


def test_the_organization_token_is_given_only_when_asked_for(application, browser):
    terminal = Terminal()
    url, page = approve_page(browser, terminal, application.aud, send_org_token="false")
    browser.submit(url, page, containing="approve", decision="approve")
    assert set(terminal.open(terminal.poll())) == {"app_token"}


def test_ac40_ac41_the_page_shows_account_application_code_address_and_time(application, browser):
    terminal = Terminal()
    terminal.poll(ip="198.51.100.9")
    _, page = approve_page(browser, terminal, application.aud)
    text = page.content.decode()
    since = waiting_client(terminal.public).since.strftime("%H:%M:%S UTC")
    for shown in (EMAIL, "SSH bastion", HOST, confirmation_code(terminal.public), "198.51.100.9", since):
        assert shown in text
    assert "another address than your browser" in text
    assert not Transfer.objects.exists()


def test_ac41_a_mailed_link_gives_nothing_without_the_victims_approval(application, browser):
    """Opening the attacker's link, even logged in, seals nothing; a form from elsewhere is refused."""
    attacker = Terminal()
    attacker.poll(ip="198.51.100.66")
    _, page = approve_page(browser, attacker, application.aud)
    assert attacker.poll(ip="198.51.100.66") is None
    _, fields = form_of(page, "approve")
    forged = {name: value for name, value in fields.items() if name != "csrfmiddlewaretoken"}
    target = f"https://{TEAM}/cdn-cgi/access/cli"
    assert browser.request("POST", target, {**forged, "decision": "approve"}).status_code == 403
    cross = browser.request("POST", target, {**fields, "decision": "approve"}, HTTP_ORIGIN=f"https://{HOST}")
    assert cross.status_code == 403
    assert attacker.poll(ip="198.51.100.66") is None and not Transfer.objects.exists()


def test_the_application_host_itself_has_no_approve_form(application, browser):
    """Scripts of the application are same-origin there: the page is on the team domain."""
    answer = browser.request("POST", Terminal().url(application.aud), {"decision": "approve"})
    assert answer.status_code in {403, 405}


def test_denying_burns_the_link(application, browser):
    terminal = Terminal()
    url, page = approve_page(browser, terminal, application.aud)
    done = browser.submit(url, page, containing="approve", decision="deny")
    assert done.status_code == 200 and "Denied" in done.content.decode()
    assert terminal.poll() is None
    assert browser.submit(url, page, containing="approve", decision="approve").status_code == 409
    assert browser.get(url).status_code == 409
    assert AuditEvent.objects.filter(name="access.transfer.denied").count() == 1
    answer = Agent().get(f"transfers/{terminal.public}?client_ip={CLIENT_IP}")
    assert (answer.status_code, answer.json()["reason"]) == (410, "login_denied")


def test_a_key_is_used_once_ever(application, browser):
    terminal = Terminal()
    url, page = approve_page(browser, terminal, application.aud)
    browser.submit(url, page, containing="approve", decision="approve")
    assert browser.submit(url, page, containing="approve", decision="approve").status_code == 409
    assert terminal.poll() is not None
    assert browser.submit(url, page, containing="approve", decision="approve").status_code == 409


def test_a_visitor_logs_in_first_and_comes_back(cast, application):
    browser, terminal = EdgeBrowser(), Terminal()
    url, page = approve_page(browser, terminal, application.aud)
    assert "approve" not in page.content.decode().lower()
    answer = browser.submit(url, page, containing='name="email"', email=EMAIL)
    pin_url = f"https://{TEAM}{answer['Location']}"
    answer = browser.submit(pin_url, browser.get(pin_url), containing='name="pin"', pin=last_pin())
    assert answer["Location"].startswith("/cdn-cgi/access/cli?")
    page = browser.get(f"https://{TEAM}{answer['Location']}")
    assert confirmation_code(terminal.public) in page.content.decode()


def test_a_person_outside_the_policy_gets_a_reason_and_no_button(cast, application):
    browser, terminal = EdgeBrowser(), Terminal()
    session = make_session(cast.widgetcorp, "eve@corp.test")
    browser.set_cookie(TEAM, COOKIE_AUTH, mint_organization_token(session, now=timezone.now()))
    _, page = approve_page(browser, terminal, application.aud)
    assert page.status_code == 403 and "You do not have access" in page.content.decode()
    assert terminal.poll() is None
    answer = Agent().get(f"transfers/{terminal.public}?client_ip={CLIENT_IP}")
    assert answer.status_code == 410
    denied = AccessRequest.objects.get(email="eve@corp.test")
    assert (answer.json()["reason"], answer.json()["reference"]) == (denied.reason, denied.ray_id)


def test_the_policy_is_asked_again_at_the_click(cast, application, browser):
    terminal = Terminal()
    url, page = approve_page(browser, terminal, application.aud)
    application.policy_links.all().delete()
    assert browser.submit(url, page, containing="approve", decision="approve").status_code == 403
    assert terminal.poll() is None


def test_ac87_a_session_revoked_before_the_click_approves_nothing(application, browser):
    terminal = Terminal()
    url, page = approve_page(browser, terminal, application.aud)
    AccessSession.objects.update(revoked_at=timezone.now())
    answer = browser.submit(url, page, containing="approve", decision="approve")
    assert "Log in" in answer.content.decode()
    assert not Transfer.objects.exists()


def test_skip_interstitial_needs_the_client_beside_the_browser(application, browser):
    application.skip_interstitial = True
    application.save()
    unseen, elsewhere, here = Terminal(), Terminal(), Terminal()
    assert "Approve" in approve_page(browser, unseen, application.aud)[1].content.decode()
    elsewhere.poll(ip="198.51.100.66")
    assert "Approve" in approve_page(browser, elsewhere, application.aud)[1].content.decode()
    here.poll(ip=browser.ip)
    assert "you may close this window" in approve_page(browser, here, application.aud)[1].content.decode()
    assert unseen.poll() is None and elsewhere.poll() is None and here.poll() is not None


@pytest.mark.parametrize(
    "key", ["", "x", "A" * 43, "A" * 44, "A" * 42 + "B=", "../" * 14 + "==", "%00" * 10, "ü" * 43 + "="]
)
def test_malformed_keys_are_refused_before_anything_else(application, browser, key):
    answer = browser.get(Terminal().url(application.aud, token=key))
    assert answer.status_code == 400 and "damaged" in answer.content.decode()
    assert take_transfer(key, client_ip=CLIENT_IP, now=timezone.now()) is None


def test_a_key_of_low_order_is_refused(application, browser):
    zero = base64.urlsafe_b64encode(bytes(32)).decode()
    terminal = Terminal()
    terminal.public = zero
    url, page = approve_page(browser, terminal, application.aud)
    assert browser.submit(url, page, containing="approve", decision="approve").status_code == 400
    assert not Transfer.objects.exists()


def test_another_tenants_application_can_not_be_approved_here(cast, browser):
    foreign = make_application(cast.evilcorp, hostname="ssh.evilcorp.test")
    query = urlencode({"aud": foreign.aud, "host": foreign.hostname, "token": Terminal().public})
    assert browser.get(f"https://{TEAM}/cdn-cgi/access/cli?{query}").status_code == 404


def test_a_transfer_ends_after_ten_minutes(application, browser):
    terminal = Terminal()
    url, page = approve_page(browser, terminal, application.aud)
    browser.submit(url, page, containing="approve", decision="approve")
    assert terminal.poll(minutes=11) is None
    assert terminal.poll() is not None


@pytest.mark.django_db(transaction=True)
def test_ac35_of_fifty_parallel_polls_exactly_one_gets_the_tokens():
    cast = make_cast()
    application = make_application(cast.widgetcorp)
    terminal, found = Terminal(), []
    approve_transfer(
        application,
        session=make_session(cast.widgetcorp),
        public_key=terminal.public,
        with_organization_token=True,
        lifetime_seconds=3600,
        now=timezone.now(),
        actor=system("tests"),
    )
    barrier = threading.Barrier(50, timeout=60)

    def poll() -> None:
        try:
            barrier.wait()
            found.append(terminal.poll())
        finally:
            connection.close()

    threads = [threading.Thread(target=poll) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(found) == 50
    won = [answer for answer in found if answer is not None]
    assert len(won) == 1
    assert jwt.decode(terminal.open(won[0])["app_token"], options={"verify_signature": False})["aud"] == [
        application.aud
    ]


def test_no_token_comes_before_the_second_factor(application, browser):
    application.mfa_config = {"allowed_authenticators": ["totp"], "session_duration_seconds": 3600}
    application.save()
    terminal = Terminal()
    link = browser.get(terminal.url(application.aud))["Location"]
    first = browser.get(link)
    assert "/second-factor?" in first["Location"]
    approving = {"aud": application.aud, "host": HOST, "token": terminal.public, "send_org_token": "true"}
    _, fields = form_of(browser.get(f"https://{TEAM}/account"))
    posted = browser.request("POST", link, {**fields, **approving, "decision": "approve"})
    assert "/second-factor?" in posted["Location"]
    assert not Transfer.objects.exists()
    assert terminal.poll() is None

    url, shown = follow(browser, first)
    _, done = enroll_app(browser, url, shown)
    _, page = follow(browser, browser.get(onward_of(done)))
    answer = browser.submit(link, page, containing="approve", decision="approve")
    assert answer.status_code == 200
    assert set(terminal.open(terminal.poll())) == {"app_token", "org_token"}


def test_tokens_carry_the_clients_device(application, browser):
    terminal, device = Terminal(), "d" * 43
    link = browser.get(terminal.url(application.aud, cnf=device))["Location"]
    page = browser.get(link)
    browser.submit(link, page, containing="approve", decision="approve")
    for token in terminal.open(terminal.poll()).values():
        assert jwt.decode(token, options={"verify_signature": False})["cnf"] == {"jkt": device}
    damaged = browser.get(terminal.url(application.aud, cnf="x"))
    assert damaged.status_code == 400
