"""A support session in a real browser: find, ask, be allowed, look, be ended by the customer."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import AuditEvent, Organization, User
from tests.axe import violations
from tests.factories import PASSWORD, make_cast
from tests.shared_browser import PATIENCE_MS, shared_chromium
from tests.world import World, make_world

pytestmark = [pytest.mark.integration, pytest.mark.once, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def world(transactional_db: None) -> World:
    User.objects.create_user("sam@operator.test", PASSWORD, is_staff=True)
    world = make_world(make_cast().widgetcorp, domain="widgetcorp.tech")
    Organization.objects.filter(pk=world.organization.pk).update(support_needs_consent=True)
    world.support_session.delete()
    return world


def signed_in(browser: Browser, server: LiveServer, email: str, *, width: int = 1280) -> Page:
    context = browser.new_context(
        base_url=server.url, viewport={"width": width, "height": 800}, reduced_motion="reduce", color_scheme="light"
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto("/accounts/login/")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(lambda url: "/accounts/login/" not in url)
    return page


def checked(page: Page) -> None:
    """axe in both colour schemes, and no sideways scroll."""
    assert violations(page) == []
    page.emulate_media(color_scheme="dark")
    assert violations(page, "color-contrast") == []
    page.emulate_media(color_scheme="light")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("width", [1280, 360])
def test_support_session(live_server: LiveServer, world: World, width: int) -> None:
    with shared_chromium() as browser:
        staff = signed_in(browser, live_server, "sam@operator.test", width=width)
        expect(staff.get_by_role("heading", name="Organizations")).to_be_visible()
        checked(staff)
        staff.get_by_label(re.compile("^Name, team name")).fill("alice@widgetcorp.test")
        staff.get_by_role("button", name="Find").click()
        staff.get_by_role("link", name="Widget Corp").click()
        staff.get_by_label("Reason").fill("Ticket 4711: certificates fail")
        checked(staff)
        staff.get_by_role("button", name="Ask for consent").click()
        expect(staff.get_by_role("heading", name="Waiting for consent")).to_be_visible()

        owner = signed_in(browser, live_server, "alice@widgetcorp.test", width=width)
        owner.goto("/o/widgetcorp/settings/organization/")
        expect(owner.get_by_text("Ticket 4711: certificates fail")).to_be_visible()
        checked(owner)
        owner.get_by_role("button", name="Allow", exact=True).click()
        expect(owner.get_by_text("sam@operator.test may look in now.")).to_be_visible()

        staff.reload()
        staff.get_by_role("link", name="Open their dashboard").click()
        banner = staff.get_by_role("region", name="Support session")
        expect(banner).to_contain_text("each page you open is written into their audit log")
        staff.goto("/o/widgetcorp/access/applications/")
        expect(staff.get_by_role("link", name="Add an application")).to_have_count(0)
        checked(staff)
        banner.get_by_role("link", name="Tools").click()
        checked(staff)
        staff.get_by_role("button", name=re.compile("^Sign out everywhere.*carol@people.test")).click()
        expect(staff.get_by_text("carol@people.test is signed out everywhere.")).to_be_visible()
        staff.goto("/staff/jobs/")
        checked(staff)

        owner.goto("/o/widgetcorp/settings/organization/")
        owner.get_by_role("link", name="audit log").click()
        expect(owner.get_by_role("link", name="Page looked at by support staff").first).to_be_visible()
        owner.goto("/o/widgetcorp/settings/organization/")
        owner.get_by_role("button", name="End now", exact=True).click()
        expect(owner.get_by_text("The support session of sam@operator.test is over.")).to_be_visible()
        answer = staff.goto("/o/widgetcorp/access/applications/")
        assert answer is not None
        assert answer.status == 404
    names = list(AuditEvent.objects.filter(actor_kind="staff").order_by("id").values_list("name", flat=True))
    assert names[0] == "accounts.support.requested"
    assert "accounts.session.all_revoked" in names
