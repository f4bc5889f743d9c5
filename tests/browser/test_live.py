"""Live parts of pages: they follow, they rest, and they never claim to be current when they are not."""

from __future__ import annotations

import re

import pytest
from django.utils import timezone
from playwright.sync_api import Page, Route, expect
from pytest_django.live_server_helper import LiveServer

from tests.browser.test_dashboard import browser_page, elsewhere
from tests.factories import make_cast
from tests.world import World, make_world
from tunnels.models import Connection

pytestmark = [pytest.mark.integration, pytest.mark.once, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def world(transactional_db: None) -> World:
    return make_world(make_cast().widgetcorp, domain="widgetcorp.tech")


def _tunnel(page: Page, world: World) -> str:
    path = f"/o/widgetcorp/tunnels/{world.tunnel.pk}/"
    page.goto(path)
    return path


def test_asked_ever_more_rarely_while_nothing_changes(live_server: LiveServer, world: World) -> None:
    Connection.objects.update(last_seen_at=timezone.now() + timezone.timedelta(minutes=5))
    with browser_page(live_server) as page:
        asked: list[str] = []
        page.clock.install()
        path = _tunnel(page, world)
        page.on("request", lambda request: asked.append(request.url) if request.url.endswith(path) else None)
        answered: list[str] = []
        page.on("requestfinished", lambda request: answered.append(request.url) if request.url.endswith(path) else None)
        for _ in range(60):
            page.clock.run_for(2000)
            page.wait_for_timeout(20)
            while len(answered) < len(asked):  # the page's clock stands still meanwhile
                page.wait_for_timeout(20)
        # Two minutes: 60 questions at the first rhythm, far fewer when nothing happens.
        assert 4 <= len(asked) <= 25


def test_a_question_is_not_taken_from_under_the_hand(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server) as page:
        asked: list[str] = []
        path = _tunnel(page, world)
        page.locator("#live details.ask summary", has_text="Disconnect").first.click()
        page.on("request", lambda request: asked.append(request.url) if request.url.endswith(path) else None)
        page.wait_for_timeout(4500)  # two rounds
        expect(page.get_by_role("button", name="Yes, disconnect").first).to_be_visible()
        assert asked == []
        page.locator("#live details.ask summary", has_text="Disconnect").first.click()
        with page.expect_request(lambda request: request.url.endswith(path)):
            pass


def test_says_so_when_nobody_answers_and_recovers(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server, quiet=["Failed to load resource", "htmx:sendError", "htmx"]) as page:
        path = _tunnel(page, world)
        mark = page.locator("#live [data-live]")
        expect(mark).to_have_text(re.compile("^As of "))

        def refuse(route: Route) -> None:
            route.abort()

        page.route(f"**{path}", refuse)
        expect(mark).to_have_text(re.compile("^Not reachable: this is as of .* may be out of date"))
        page.unroute(f"**{path}", refuse)
        expect(mark).to_have_text(re.compile("^As of "), timeout=30_000)


def test_rests_while_nobody_looks(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server) as page:
        path = _tunnel(page, world)
        page.evaluate(
            """() => {
              Object.defineProperty(document, "hidden", {get: () => window.looksAway, configurable: true});
              window.looksAway = true; document.dispatchEvent(new Event("visibilitychange"));
            }"""
        )
        mark = page.locator("#live [data-live]")
        expect(mark).to_have_text(re.compile("^Not updated while hidden"))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if request.url.endswith(path) else None)
        page.wait_for_timeout(5000)
        assert asked == []
        page.evaluate("() => { window.looksAway = false; document.dispatchEvent(new Event('visibilitychange')); }")
        expect(mark).to_have_text(re.compile("^As of "))


def test_home_follows_what_happens(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server) as page:
        page.goto("/o/widgetcorp/")
        expect(page.locator("#rail")).to_contain_text("ssh-pool is connected")
        elsewhere(lambda: Connection.objects.update(closed_at=timezone.now()))
        expect(page.locator("#rail")).to_contain_text("ssh-pool was connected and is not any more")
        expect(page.locator("#activity svg[role=img]")).to_have_count(4)
