"""The dashboard in a real browser (Debian's Chromium): what only a browser can show.

Rows are written before pages are open and read when they are closed; in between, by `elsewhere`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone
from playwright.sync_api import BrowserContext, Page, expect
from pytest_django.live_server_helper import LiveServer

from access.models import Application
from accounts.models import User
from tests.factories import make_cast
from tests.pages_kit import login
from tests.shared_browser import PATIENCE_MS, shared_chromium
from tests.world import World, make_world
from tunnels.models import Connection, TunnelConfiguration

pytestmark = [pytest.mark.integration, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def world(transactional_db: None) -> World:
    return make_world(make_cast().widgetcorp, domain="widgetcorp.tech")


@contextmanager
def browser_page(
    server: LiveServer, *, scripts: bool = True, quiet: Sequence[str] = (), **options: Any
) -> Iterator[Page]:
    """A page signed in as alice. Console errors (a blocked inline script, a missing file) fail the test, but for those
    that hold one of `quiet`."""
    complaints: list[str] = []
    with shared_chromium() as browser:
        context = browser.new_context(java_script_enabled=scripts, base_url=server.url, **options)
        sign_in(context, server, "alice@widgetcorp.test")
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto("/o/widgetcorp/")
        expect(page.get_by_role("heading", name="Widget Corp", exact=True)).to_be_visible()
        yield page
        expected = ["status of 422", *quiet]  # refused forms
        # Before the page is closed, which makes its script complain about the question then under way.
        unexpected = [text for text in complaints if not any(part in text for part in expected)]
    assert unexpected == []


def sign_in(context: BrowserContext, server: LiveServer, email: str) -> None:
    """By a session's cookie; test_staff.py and test_people.py go by the form."""
    cookie = login(User.objects.get(email=email)).cookies[settings.SESSION_COOKIE_NAME]
    context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": server.url}])


def elsewhere(work: Callable[[], Any]) -> None:
    """Database work while the browser is open: in a thread of its own, as another request would do it."""

    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = Thread(target=run)
    thread.start()
    thread.join(timeout=10)
    assert not thread.is_alive()


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_wizard_with_an_error_on_each_step(live_server: LiveServer, world: World, scripts: bool) -> None:
    with browser_page(live_server, scripts=scripts) as page:
        page.get_by_role("link", name="Add an application").click()
        page.get_by_label("Application name").fill("Jump host")
        page.get_by_label("Subdomain").fill("not a name")
        page.get_by_role("button", name="Next: add policies").click()
        expect(page.locator("#id_subdomain_error")).to_contain_text("is not a hostname")
        expect(page.get_by_label("Application name")).to_have_value("Jump host")
        page.get_by_label("Subdomain").fill("jump")
        page.get_by_role("button", name="Next: add policies").click()

        page.get_by_label("Policy name").fill("People")
        page.get_by_role("button", name="Add a rule").click()
        expect(page.get_by_label("Rule 2", exact=True)).to_be_visible()
        expect(page.get_by_label("Policy name")).to_have_value("People")
        page.get_by_label("Selector").nth(1).select_option("geo")
        if scripts:
            expect(page.locator("#rule-1-value")).to_have_attribute("list", "countries")
        page.get_by_label("Value").nth(1).fill("Atlantis")
        page.get_by_label("Value").nth(0).fill("alice@people.test")
        page.get_by_role("button", name="Add policy and go on").click()
        expect(page.locator("#rule-1-error")).to_contain_text("Atlantis is no country")
        page.get_by_label("Rule 2", exact=True).select_option("require")
        page.get_by_label("Value").nth(1).fill("Portugal")
        page.get_by_role("button", name="Add policy and go on").click()

        page.get_by_label("Bastion destinations").fill("localhost")
        page.get_by_role("button", name="Add application").click()
        expect(page.get_by_role("alert")).to_be_visible()
        page.get_by_label("Bastion destinations").fill("10.0.0.0/8:22")
        page.get_by_role("button", name="Add application").click()
        expect(page.get_by_text("Jump host is added.")).to_be_visible()
    policy = Application.objects.get(name="Jump host").policy_links.get().policy
    assert policy.include == [{"email": {"email": "alice@people.test"}}]
    assert policy.require == [{"geo": {"country_code": "PT"}}]


def test_tunnel_page_follows_reality_without_reload(live_server: LiveServer, world: World) -> None:
    Connection.objects.update(closed_at=timezone.now())
    with browser_page(live_server) as page:
        page.goto(f"/o/widgetcorp/tunnels/{world.tunnel.pk}/")
        expect(page.get_by_text("No connector is connected.")).to_be_visible()
        elsewhere(lambda: Connection.objects.update(closed_at=None, last_seen_at=timezone.now()))
        expect(page.get_by_role("link", name=world.connector.client_id.hex[:8], exact=True)).to_be_visible()
        expect(page.get_by_text("healthy")).to_be_visible()
        page.get_by_role("link", name="Published hostnames").first.click()
        page.get_by_role("button", name="Add hostname").click()
        page.locator("#host-1-hostname").fill("web.widgetcorp.tech")
        page.locator("#host-1-target").fill("localhost:22")
        page.get_by_role("button", name="Publish").click()
        expect(page.get_by_text("version 1, pushing")).to_be_visible()
        elsewhere(lambda: Connection.objects.update(applied_version=2, last_seen_at=timezone.now()))
        expect(page.get_by_text("version 2", exact=True)).to_be_visible()
    assert TunnelConfiguration.objects.filter(tunnel=world.tunnel).count() == 2


def test_an_update_does_not_take_the_focus(live_server: LiveServer, world: World) -> None:
    Connection.objects.update(last_seen_at=timezone.now() + timezone.timedelta(minutes=5))
    with browser_page(live_server) as page:
        page.goto(f"/o/widgetcorp/tunnels/{world.tunnel.pk}/")
        button = page.locator("#live details.ask summary", has_text="Disconnect").first
        button.focus()
        with page.expect_response(lambda response: response.url.endswith(f"{world.tunnel.pk}/")):
            pass
        expect(button).to_be_focused()


def test_keyboard_reaches_the_content_first(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server) as page:
        page.goto("/o/widgetcorp/tunnels/")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#content")).to_be_focused()


def _paths(world: World) -> list[str]:
    return [
        "",
        "access/applications/",
        "access/applications/add/",
        f"access/applications/{world.application.pk}/",
        "access/applications/drafts/",
        f"access/applications/drafts/{world.draft.pk}/",
        f"access/applications/drafts/{world.draft.pk}/policies/",
        f"access/applications/drafts/{world.draft.pk}/setup/",
        f"access/applications/{world.application.pk}/policies/",
        f"access/applications/{world.application.pk}/way-in/",
        f"access/applications/{world.application.pk}/settings/",
        "access/groups/add/",
        "access/service-auth/",
        f"access/service-auth/ssh/{world.application.pk}/",
        "access/log/",
        f"access/log/{world.access_request.pk}/",
        "access/certificates/",
        f"tunnels/{world.tunnel.pk}/",
        f"tunnels/{world.tunnel.pk}/install/",
        f"tunnels/{world.tunnel.pk}/install/?system=debian",
        f"tunnels/{world.tunnel.pk}/versions/1/",
        f"tunnels/{world.tunnel.pk}/connectors/{world.connector.client_id}/",
        f"access/service-auth/ssh/{world.application.pk}/hosts/",
        f"tunnels/{world.tunnel.pk}/hostnames/",
        f"dns/{world.zone.pk}/",
        "team/users/",
        "settings/api-tokens/create/",
        "logs/audit/",
    ]


# The longest line of running text, in characters of average width (half the size of the type).
_LONGEST_LINE = """() => {
  const found = [[0, ""]];
  for (const element of document.querySelectorAll("main :is(p, dd, li, label, h1, h2, h3, .help)")) {
    const size = parseFloat(getComputedStyle(element).fontSize);
    const range = document.createRange();
    for (const node of element.childNodes) {
      if (node.nodeType !== Node.TEXT_NODE) continue;
      range.selectNodeContents(node);
      for (const line of range.getClientRects()) found.push([line.width / (size * 0.5), node.textContent.trim()]);
    }
  }
  return found.reduce((longest, next) => next[0] > longest[0] ? next : longest);
}"""
_READABLE = 125  # more than that, and the eye loses the beginning of the next line


@pytest.mark.parametrize("width", [360, 768, 3840])
def test_no_page_scrolls_sideways_and_lines_stay_readable(live_server: LiveServer, world: World, width: int) -> None:
    unreadable = {}
    with browser_page(live_server, viewport={"width": width, "height": 800}) as page:
        for path in _paths(world):
            page.goto(f"/o/widgetcorp/{path}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            characters, text = page.evaluate(_LONGEST_LINE)
            if characters > _READABLE:
                unreadable[path] = f"{characters:.0f}: {text}"
            content = page.locator("main > *").first.bounding_box()
            assert content is not None and content["width"] <= 1600, path
    assert unreadable == {}


def test_menu_opens_on_a_phone_without_scripts(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server, scripts=False, viewport={"width": 360, "height": 740}) as page:
        link = page.get_by_role("navigation", name="Main").get_by_role("link", name="Tunnels")
        expect(link).not_to_be_visible()
        page.locator("summary", has_text="Menu").press("Enter")
        link.click()
        expect(page.get_by_role("heading", name="Tunnels", level=1)).to_be_visible()


def test_generate_certificate(live_server: LiveServer, world: World) -> None:
    """Service Auth, SSH, as the tutorial tells it: drop-down, button, public key and audience tag."""
    application = Application.objects.create(
        organization=world.organization, name="Build hosts", hostname="build.widgetcorp.tech"
    )
    with browser_page(live_server) as page:
        page.goto("/o/widgetcorp/access/service-auth/")
        page.get_by_role("link", name="SSH", exact=True).click()
        page.get_by_label("Application", exact=True).select_option(label="Build hosts (build.widgetcorp.tech)")
        page.get_by_role("button", name="Generate certificate").click()
        expect(page.locator("#public-key")).to_contain_text("ssh-ed25519 ")
        expect(page.locator("#aud")).to_have_text(application.aud)
        expect(page.locator("#script")).to_contain_text(f"/cdn-cgi/access/ssh/{application.aud}/host-setup.sh")
        with page.expect_download() as download:
            page.get_by_role("link", name="Download ca.pub").click()
        assert download.value.suggested_filename == "ca.pub"
        page.get_by_role("link", name="SSH", exact=True).first.click()
        row = page.get_by_role("row", name="Build hosts")
        row.locator("summary").click()
        expect(row.get_by_role("button", name="Copy audience tag of Build hosts")).to_be_visible()


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_a_deletion_is_undone_from_its_message(live_server: LiveServer, world: World, scripts: bool) -> None:
    with browser_page(live_server, scripts=scripts) as page:
        page.goto("/o/widgetcorp/access/lists/")
        page.get_by_role("link", name="Delete Contractors").click()
        page.get_by_role("button", name="Delete list").click()
        message = page.get_by_role("listitem").filter(has_text="The list Contractors is deleted.")
        message.get_by_role("button", name="Undo").press("Enter")
        expect(page.get_by_text("Contractors is back.")).to_be_visible()
        expect(page.get_by_role("link", name="Delete Contractors")).to_be_visible()
        page.goto("/o/widgetcorp/settings/deleted/")
        expect(page.get_by_text("legacy", exact=True)).to_be_visible()  # of before
        expect(page.get_by_text("Contractors", exact=True)).not_to_be_visible()
