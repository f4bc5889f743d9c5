"""Applications in a real browser: fields checked while typing, drafts, order by keyboard, the way in, API requests."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from access.models import Application, ApplicationPolicy, Policy
from tests.axe import violations
from tests.browser.test_dashboard import browser_page, elsewhere
from tests.factories import make_cast
from tests.world import World, make_world
from tunnels.models import Connection, Dial, Edge

pytestmark = [pytest.mark.integration, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def world(transactional_db: None) -> World:
    return make_world(make_cast().widgetcorp, domain="widgetcorp.tech")


def add_policies(world: World, *names: str) -> None:
    for place, name in enumerate(names, start=2):
        rules = [{"email": {"email": "x@people.test"}}]
        policy = Policy.objects.create(organization=world.organization, name=name, decision="allow", include=rules)
        ApplicationPolicy.objects.create(application=world.application, policy=policy, precedence=place)


def order_of(world: World) -> list[str]:
    return list(world.application.policy_links.order_by("precedence").values_list("policy__name", flat=True))


def shown_order(page: Page) -> list[str]:
    return page.locator("[data-order] tr strong").all_inner_texts()


def test_fields_are_checked_when_they_are_left(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server) as page:
        page.goto("/o/widgetcorp/access/applications/add/")
        page.get_by_label("Subdomain").fill("ssh-bastion")
        page.keyboard.press("Tab")
        expect(page.locator("#check-domain")).to_contain_text("SSH bastion is at ssh-bastion.widgetcorp.tech already")
        page.get_by_label("Subdomain").fill("fresh")
        page.keyboard.press("Tab")
        expect(page.locator("#check-domain")).to_contain_text("fresh.widgetcorp.tech is free and yours.")
        page.get_by_label("Logo").fill("http://example.com")
        page.keyboard.press("Tab")
        expect(page.locator("#check-logo_url")).to_contain_text("begins with https://")
        assert violations(page) == []
        # Nobody was told off about fields not filled in yet.
        expect(page.locator("#check-name")).to_be_empty()


def test_an_answer_does_not_take_the_button_from_under_a_click(live_server: LiveServer, world: World) -> None:
    """The field is left by the press: what the server says about it moves the page, so it waits for the release."""
    with browser_page(live_server) as page:
        page.goto("/o/widgetcorp/access/applications/add/")
        page.get_by_label("Application name").fill("Slowly pressed")
        button = page.get_by_role("button", name="Save draft and leave")
        button.scroll_into_view_if_needed()
        page.get_by_label("Subdomain").fill("slow")
        button.hover()
        page.mouse.down()
        page.wait_for_timeout(700)  # what must not happen has no other end
        expect(page.locator("#check-domain")).to_be_empty()
        page.mouse.up()
        expect(page.get_by_text("The draft is saved.")).to_be_visible()
        page.get_by_role("link", name="Go on with Slowly pressed").click()
        page.get_by_label("Subdomain").fill("slower")
        page.get_by_role("heading", name="Domain").click()
        expect(page.locator("#check-domain")).to_contain_text("slower.widgetcorp.tech is free and yours.")


def test_a_draft_is_gone_on_with_later(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server) as page:
        page.goto("/o/widgetcorp/access/applications/add/")
        page.get_by_label("Application name").fill("Half done")
        page.get_by_label("Subdomain").fill("half")
        page.get_by_role("button", name="Save draft and leave").click()
        expect(page.get_by_text("The draft is saved.")).to_be_visible()
        page.get_by_role("link", name="Go on with Half done").click()
        expect(page.get_by_label("Subdomain")).to_have_value("half")
        page.get_by_role("button", name="Next: add policies").click()
        page.get_by_label("Policy name").fill("Everybody known")
        page.get_by_label("Value").nth(0).fill("carol@people.test")
        page.get_by_role("button", name="Preview who gets in").click()
        expect(page.get_by_text("1 get in")).to_be_visible()
        page.get_by_role("button", name="Add policy and go on").click()
        page.get_by_role("button", name="Add application").click()
        expect(page.get_by_role("heading", name="What to do next")).to_be_visible()
        expect(page.locator("#next-record")).to_contain_text("route dns ssh-pool half.widgetcorp.tech")
        assert violations(page) == []
    assert Application.objects.filter(name="Half done").exists()


def test_policies_are_ordered_by_keyboard_and_saved_at_once(live_server: LiveServer, world: World) -> None:
    add_policies(world, "Second", "Third")
    with browser_page(live_server) as page:
        page.goto(f"/o/widgetcorp/access/applications/{world.application.pk}/policies/")
        handle = page.get_by_role("button", name="Move Third", exact=True)
        handle.focus()
        page.keyboard.press("ArrowUp")
        expect(page.locator("#order-said")).to_have_text("Third: place 2 of 3. Not saved yet.")
        expect(handle).to_be_focused()
        page.keyboard.press("Home")
        expect(page.locator("#order-said")).to_have_text("Third: place 1 of 3. Not saved yet.")
        assert shown_order(page) == ["Third", "Engineers get in", "Second"]
        page.keyboard.press("Escape")
        expect(page.locator("#order-form")).to_be_hidden()
        assert shown_order(page) == ["Engineers get in", "Second", "Third"]
        page.get_by_role("button", name="Move Second up").press("Enter")
        expect(handle).not_to_be_focused()
        expect(page.get_by_role("button", name="Move Second", exact=True)).to_be_focused()
        assert violations(page) == []
        page.get_by_role("button", name="Save order", exact=True).press("Enter")
        expect(page.get_by_text("The order is saved.")).to_be_visible()
        assert shown_order(page) == ["Second", "Engineers get in", "Third"]
    assert order_of(world) == ["Second", "Engineers get in", "Third"]


def test_policies_are_ordered_by_dragging(live_server: LiveServer, world: World) -> None:
    add_policies(world, "Second", "Third")
    with browser_page(live_server) as page:
        page.goto(f"/o/widgetcorp/access/applications/{world.application.pk}/policies/")
        grip = page.get_by_role("button", name="Move Third", exact=True).bounding_box()
        first = page.locator("[data-order] tr").first.bounding_box()
        assert grip is not None and first is not None
        page.mouse.move(grip["x"] + 5, grip["y"] + 5)
        page.mouse.down()
        page.mouse.move(grip["x"] + 5, first["y"] + first["height"] + 5, steps=4)
        page.mouse.move(grip["x"] + 5, first["y"] + 3, steps=4)
        page.mouse.up()
        assert shown_order(page) == ["Third", "Engineers get in", "Second"]
        page.get_by_role("button", name="Save order", exact=True).click()
        expect(page.get_by_text("The order is saved.")).to_be_visible()
    assert order_of(world) == ["Third", "Engineers get in", "Second"]


def test_order_without_scripts(live_server: LiveServer, world: World) -> None:
    add_policies(world, "Second")
    with browser_page(live_server, scripts=False) as page:
        page.goto(f"/o/widgetcorp/access/applications/{world.application.pk}/policies/")
        page.get_by_role("button", name="Move Second up").click()
        expect(page.get_by_text("The order is changed.")).to_be_visible()
    assert order_of(world) == ["Second", "Engineers get in"]


def test_the_way_in_follows_reality(live_server: LiveServer, world: World) -> None:
    Connection.objects.update(last_seen_at=timezone.now() + timedelta(minutes=5), rtt_ms=12.3)
    Edge.objects.update(last_seen_at=timezone.now() + timedelta(minutes=5))
    with browser_page(live_server) as page:
        page.goto(f"/o/widgetcorp/access/applications/{world.application.pk}/way-in/")
        expect(page.get_by_text("Nobody has come this far yet")).to_be_visible()
        expect(page.locator(".hop-time").first).to_have_text("12 ms")
        assert violations(page) == []

        def dialled() -> None:
            Dial.objects.create(
                organization=world.organization,
                tunnel=world.tunnel,
                hostname=world.application.hostname,
                reason="origin_refused",
                message="connection refused by localhost:22",
                latency_ms=1.5,
                at=timezone.now(),
            )

        elsewhere(dialled)
        expect(page.get_by_text("The way in is broken at: Host.")).to_be_visible()
        expect(page.get_by_text("connection refused by localhost:22")).to_be_visible()
        assert violations(page) == []


def test_a_form_becomes_an_api_request_in_place(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server) as page:
        page.goto(f"/o/widgetcorp/access/applications/{world.application.pk}/settings/")
        page.get_by_label("Application name").fill("Renamed, not saved")
        page.get_by_role("button", name="Copy as API request").click()
        expect(page.locator("#api-command")).to_contain_text('"name": "Renamed, not saved"')
        expect(page.get_by_label("Application name")).to_have_value("Renamed, not saved")
        expect(page.get_by_role("button", name="Copy API request")).to_be_visible()
        assert violations(page) == []
    world.application.refresh_from_db()
    assert world.application.name == "SSH bastion"
