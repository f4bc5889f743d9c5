"""The search dialog in a real browser: keys open it, arrows choose, Enter goes there, Escape gives the focus back."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect
from pytest_django.live_server_helper import LiveServer

from tests.axe import violations
from tests.browser.test_dashboard import browser_page
from tests.factories import make_cast
from tests.world import World, make_world

pytestmark = [pytest.mark.integration, pytest.mark.once, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def world(transactional_db: None) -> World:
    return make_world(make_cast().widgetcorp, domain="widgetcorp.tech")


def test_palette_by_keyboard(live_server: LiveServer, world: World) -> None:
    # Enter leaves the page, perhaps with the last question for suggestions still under way.
    with browser_page(live_server, reduced_motion="reduce", quiet=["htmx:"]) as page:
        page.goto("/o/widgetcorp/tunnels/")
        page.keyboard.press("/")
        box = page.locator("#palette-query")
        expect(box).to_be_focused()
        expect(page.locator("#palette-results").get_by_role("link", name="Applications")).to_be_visible()
        page.keyboard.type("bast")
        hit = page.locator("#palette-results").get_by_role("link", name=re.compile("SSH bastion"))
        expect(hit.first).to_be_visible()
        assert violations(page) == []
        page.keyboard.press("ArrowDown")
        expect(page.locator("#palette-results a").first).to_be_focused()
        page.keyboard.press("ArrowUp")
        expect(box).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator("#palette")).not_to_be_visible()
        page.keyboard.press("Control+k")
        expect(box).to_be_focused()
        box.fill(world.certificate.serial)
        expect(
            page.locator("#palette-results").get_by_role("link", name=re.compile(world.certificate.serial))
        ).to_be_visible()
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(f"certificates/{world.certificate.pk}/"))


def test_a_slash_in_a_field_stays_a_slash(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server) as page:
        page.goto("/o/widgetcorp/access/groups/")
        field = page.locator("#search-list")
        field.press("/")
        expect(field).to_have_value("/")
        expect(page.locator("#palette")).not_to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_search_page_without_scripts(live_server: LiveServer, world: World, scheme: str) -> None:
    with browser_page(live_server, scripts=False, color_scheme=scheme, viewport={"width": 360, "height": 740}) as page:
        page.get_by_role("link", name=re.compile("^Search")).click()
        page.locator("#search-all").fill("carol")
        page.get_by_role("button", name="Search", exact=True).click()
        expect(page.get_by_role("link", name=re.compile("carol@people.test"))).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
