"""Members and end users in a real browser: invitation to role change, start page and account, refusal, look, logs.

Pages of the team domain are fetched from the live server as an edge would ask for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.core import mail
from django.utils import timezone
from playwright.sync_api import BrowserContext, Page, Route, expect
from pytest_django.live_server_helper import LiveServer

from access.login_links import login_url, new_app_session
from access.models import AccessRequest, Certificate, Group, Policy, PrincipalClaim, TokenKey
from access.tokens import mint_organization_token
from accounts.models import AccessSession, Invitation, Membership, Organization, OrganizationLogo, SavedLogView
from dataplane.wire.names import COOKIE_AUTH
from tests.access.test_login_hand_over import make_session
from tests.axe import violations
from tests.browser.test_dashboard import browser_page, elsewhere
from tests.factories import PASSWORD, make_cast
from tests.shared_browser import PATIENCE_MS, shared_chromium
from tests.world import World, make_world

pytestmark = [pytest.mark.integration, pytest.mark.once, pytest.mark.django_db(transaction=True)]
TEAM = "widgetcorp.access.example.test"
PHONE, WIDE = {"width": 360, "height": 780}, {"width": 1280, "height": 900}


@pytest.fixture
def world(transactional_db: None) -> World:
    return make_world(make_cast().widgetcorp, domain="widgetcorp.tech")


@pytest.fixture
def session(world: World) -> AccessSession:
    """carol at the team domain, with everything the world has of hers."""
    TokenKey.objects.all().delete()  # the world's is no key
    mine = make_session(world.organization, "carol@people.test", groups=["engineers"])
    for model in (AccessRequest, Certificate, PrincipalClaim):
        model.objects.update(identity=mine.identity)
    return mine


@contextmanager
def team_page(server: LiveServer, session: AccessSession | None, **options: Any) -> Iterator[Page]:
    """A page of somebody at the team domain. Console errors fail the test, but for the status of a refusal."""
    token = mint_organization_token(session, now=timezone.now()) if session is not None else ""
    complaints: list[str] = []
    with shared_chromium() as browser:
        context = browser.new_context(**options)
        if token:
            context.add_cookies([{"name": COOKIE_AUTH, "value": token, "url": f"https://{TEAM}", "secure": True}])
        _behind_an_edge(context, server)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        yield page
        # What is still on its way (pictures, live parts) ends before its context does.
        context.unroute_all(behavior="wait")
        unexpected = [text for text in complaints if "status of 403" not in text]
    assert unexpected == []


def _behind_an_edge(context: BrowserContext, server: LiveServer) -> None:
    def carry(route: Route) -> None:
        parts = urlsplit(route.request.url)
        headers = {
            **route.request.all_headers(),
            "host": parts.netloc,
            "sallyport-edge-token": settings.EDGE_TOKEN,
            "sallyport-client-ip": "203.0.113.7",
            "sallyport-ray": "0123456789abcdef",
            "x-forwarded-proto": "https",
        }
        target = f"{server.url}{parts.path}{'?' + parts.query if parts.query else ''}"
        route.fulfill(response=route.fetch(url=target, headers=headers, max_redirects=0))

    context.route(f"https://{TEAM}/**", carry)


def no_sideways_scroll(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_invite_accept_and_change_the_role(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server) as page:
        page.goto("/o/widgetcorp/team/members/")
        page.get_by_role("link", name="Invite a member").click()
        page.get_by_label("E-mail").fill("not an address")
        page.get_by_role("button", name="Send invitation").click()
        expect(page.locator("#id_email_error")).to_contain_text("valid")
        page.get_by_label("E-mail").fill("zoe@people.test")
        page.get_by_label("Role", exact=True).select_option("editor")
        page.get_by_role("button", name="Send invitation").click()
        expect(page.get_by_text("zoe@people.test is invited")).to_be_visible()

        link = re.search(r"(/invitations/\S+/)", str(mail.outbox[-1].body))
        assert link is not None
        context = page.context.browser.new_context(base_url=live_server.url)  # type: ignore[union-attr]
        zoe = context.new_page()
        zoe.set_default_timeout(PATIENCE_MS)
        zoe.goto(link.group(1))
        assert violations(zoe) == []
        zoe.get_by_role("link", name="Make an account to accept").click()
        expect(zoe.get_by_label("E-mail")).to_have_value("zoe@people.test")
        assert violations(zoe) == []
        zoe.get_by_label("Password", exact=True).fill(PASSWORD)
        zoe.get_by_label("Password (again)").fill(PASSWORD)
        zoe.get_by_role("button", name="Make the account and go on").click()
        zoe.get_by_role("button", name="Accept and join").click()
        expect(zoe.get_by_text("you are a member now, as editor")).to_be_visible()
        expect(zoe.get_by_role("link", name="API tokens")).to_have_count(0)

        page.goto("/o/widgetcorp/team/members/?q=zoe")
        page.get_by_role("link", name="Change role of zoe@people.test").click()
        page.get_by_label("Role", exact=True).select_option("auditor")
        page.get_by_role("button", name="Change role").click()
        expect(page.get_by_text("The role of zoe@people.test is changed.")).to_be_visible()
        zoe.goto("/o/widgetcorp/access/groups/add/")
        expect(zoe.get_by_text("changing applications, policies")).to_be_visible()
        zoe.goto("/o/widgetcorp/logs/audit/")
        expect(zoe.get_by_role("link", name="Member's role changed")).to_be_visible()
    assert Membership.objects.get(user__email="zoe@people.test").role == "auditor"
    assert Invitation.objects.get(email="zoe@people.test").accepted_at is not None


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_start_page_and_account(live_server: LiveServer, world: World, session: AccessSession, size: Any) -> None:
    Policy.objects.update(include=[{"everyone": {}}], require=[])
    Group.objects.update(include=[{"everyone": {}}], require=[])
    other = make_session(world.organization, "carol@people.test")
    with team_page(live_server, session, viewport=size) as page:
        page.goto(f"https://{TEAM}/")
        expect(page.get_by_role("heading", name="Your applications")).to_be_visible()
        page.get_by_text("How to ssh there").click()
        expect(page.get_by_text("ssh carol@ssh-bastion.widgetcorp.tech")).to_be_visible()
        expect(page.get_by_role("button", name="Copy").first).to_be_visible()
        assert violations(page) == []
        assert no_sideways_scroll(page)
        page.get_by_role("link", name="carol@people.test").click()
        expect(page.get_by_role("heading", name="My account")).to_be_visible()
        assert violations(page) == []
        assert no_sideways_scroll(page)
        page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        assert violations(page, "color-contrast") == []
        asked = page.locator("details.confirm", has=page.locator(f'input[value="{other.pk}"]'))
        expect(asked.locator("button")).not_to_be_visible()
        asked.locator("summary").click()
        asked.get_by_role("button", name="Yes, end this session").click()
        expect(page.get_by_role("heading", name="My account")).to_be_visible()
        elsewhere(lambda: other.refresh_from_db())
        assert other.revoked_at is not None
        page.get_by_text("Sign out everywhere", exact=True).click()
        page.get_by_role("button", name="Yes, sign out everywhere").click()
        expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    session.refresh_from_db()
    assert session.revoked_at is not None


def test_denial_has_a_reason_and_a_reference_that_is_found(
    live_server: LiveServer, world: World, session: AccessSession
) -> None:
    Policy.objects.update(include=[{"email": {"email": "nobody@people.test"}}])
    application = world.application
    address = login_url(application, hostname=application.hostname, redirect_path="/", app_session=new_app_session())
    with team_page(live_server, session, viewport=PHONE) as page:
        page.goto(address)
        expect(page.get_by_role("heading", name="You do not have access")).to_be_visible()
        expect(page.get_by_text("0123456789abcdef")).to_be_visible()
        expect(page.get_by_text("carol@people.test by One-time PIN")).to_be_visible()
        assert violations(page) == []
        assert no_sideways_scroll(page)
    with browser_page(live_server) as page:
        page.goto("/o/widgetcorp/access/log/?q=0123456789abcdef")
        page.locator("tbody a").first.click()
        expect(page.get_by_role("heading", name="How it was decided")).to_be_visible()


def test_the_look_is_previewed_live_and_reaches_people(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server) as page:
        page.goto("/o/widgetcorp/settings/login-page/")
        page.get_by_label("Text above the login methods").fill("Call 123 for help")
        expect(page.locator("#login-preview")).to_contain_text("Call 123 for help")
        page.get_by_label("Colour of buttons and links").fill("#ffee00")
        expect(page.locator("#login-preview")).to_contain_text("too pale")
        page.get_by_label("Colour of buttons and links").fill("#7a0c0c")
        expect(page.locator(".lp-button").first).to_have_css("background-color", "rgb(122, 12, 12)")
        assert violations(page) == []
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("The login page is saved.")).to_be_visible()
    assert Organization.objects.get(pk=world.organization.pk).settings["login_design"]["button_color"] == "#7a0c0c"
    OrganizationLogo.objects.all().delete()
    with team_page(live_server, None, viewport=PHONE) as page:
        page.goto(f"https://{TEAM}/")
        expect(page.get_by_text("Call 123 for help")).to_be_visible()
        expect(page.get_by_role("link", name="Log in with Keycloak")).to_have_css(
            "background-color", "rgb(122, 12, 12)"
        )
        assert violations(page) == []
        assert no_sideways_scroll(page)


def test_logs_are_filtered_saved_and_shown_in_the_viewers_zone(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server, timezone_id="Asia/Tokyo") as page:
        page.goto("/o/widgetcorp/access/log/")
        expect(page.get_by_text("Times are Asia/Tokyo.")).to_be_visible()
        page.get_by_label("Decision", exact=True).select_option("denied")
        page.get_by_role("button", name="Search", exact=True).click()
        expect(page.get_by_text("Nothing matches.")).to_be_visible()
        page.get_by_label("Name of the view").fill("Refusals")
        page.get_by_role("button", name="Save view").click()
        expect(page.get_by_role("link", name="Refusals", exact=True)).to_be_visible()
        with page.expect_download() as download:
            page.get_by_role("link", name="CSV").click()
        assert download.value.suggested_filename.startswith("access-log-")
        assert violations(page) == []
    assert SavedLogView.objects.get(name="Refusals").query.startswith("decision=denied")
