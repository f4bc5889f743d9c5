"""The rule builder in Chromium: by keyboard, live sentence and warnings, nothing typed is lost; and without scripts."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Route, expect
from pytest_django.live_server_helper import LiveServer

from access.models import Policy
from accounts.models import Identity
from tests.axe import violations
from tests.browser.test_dashboard import browser_page
from tests.factories import make_cast
from tests.world import World, make_world

pytestmark = [pytest.mark.integration, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def world(transactional_db: None) -> World:
    world = make_world(make_cast().widgetcorp, domain="widgetcorp.tech")
    Identity.objects.bulk_create(
        Identity(organization=world.organization, provider=world.oidc, subject=f"n{n}", email=f"n{n:03}@many.test")
        for n in range(120)
    )
    return world


def open_form(page: Page, world: World) -> None:
    page.goto(f"/o/widgetcorp/access/applications/{world.application.pk}/policies/add/")
    page.get_by_label("Policy name").fill("Engineers")


def test_keyboard_sentence_and_warnings(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server) as page:
        open_form(page, world)
        words, warnings = page.locator("#policy-sentence"), page.locator("#lint")
        expect(words).to_contain_text("Matches nobody yet")
        page.locator("#rule-0-value").focus()
        page.keyboard.type("a@x.test b@x.test")
        page.keyboard.press("Enter")
        expect(words).to_contain_text("Lets in whoever has the e-mail a@x.test or b@x.test.")
        expect(page.locator("#rule-0-value-2")).to_be_focused()
        page.keyboard.type("c@x.test")
        page.keyboard.press("Enter")
        expect(words).to_contain_text("a@x.test, b@x.test or c@x.test.")
        expect(page.locator("#rule-0-value-3")).to_be_focused()

        page.get_by_role("button", name="Add a rule").press("Enter")
        page.locator("#rule-1-list").select_option("require")
        page.locator("#rule-1-selector").select_option("geo")
        country = page.locator("#rule-1-value")
        expect(country).to_have_attribute("list", "countries")
        country.fill("Portugal")
        country.press("Enter")
        expect(words).to_contain_text("the person comes from Portugal.")
        expect(warnings).to_have_count(0)
        expect(page.locator("#rule-1-value-1")).to_be_focused()
        page.keyboard.type("Spain")
        page.keyboard.press("Tab")
        expect(warnings).to_contain_text("Several rules on Country under Require")
        page.get_by_role("button", name="Take rule 2, entry 2 away").press("Enter")
        expect(warnings).to_have_count(0)
        expect(page.locator("#rule-1-value-1")).to_have_value("")

        page.get_by_label("Action").select_option("deny")
        expect(words).to_contain_text("Refuses whoever")
        page.get_by_label("Action").select_option("allow")
        expect(words).to_contain_text("Lets in whoever")
        # Landmarks of the page around it are the business of test_accessibility.py.
        assert [line for line in violations(page) if not line.startswith("region")] == []
        page.get_by_role("button", name="Save policy").click()
        expect(page.get_by_text("Engineers is added.")).to_be_visible()
    policy = Policy.objects.get(name="Engineers")
    assert [rule["email"]["email"] for rule in policy.include] == ["a@x.test", "b@x.test", "c@x.test"]
    assert policy.require == [{"geo": {"country_code": "PT"}}]


def test_offers_follow_what_is_typed(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server) as page:
        open_form(page, world)
        field = page.locator("#rule-0-value")
        offers = page.locator(f"#{field.get_attribute('list')} option")
        expect(offers.filter(has=page.locator("[value='n119@many.test']"))).to_have_count(0)
        field.press_sequentially("n119")
        expect(offers).to_have_count(1)
        expect(offers.first).to_have_attribute("value", "n119@many.test")


def test_what_is_typed_while_an_answer_is_under_way_stays(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server) as page:
        open_form(page, world)
        held: list[Route] = []
        page.route("**/policies/add/", lambda route: held.append(route))
        page.locator("#rule-0-value").fill("a@x.test")
        page.get_by_label("Session duration").focus()
        while not held:
            page.wait_for_timeout(20)
        page.locator("#rule-0-value").fill("other@x.test")
        with page.expect_response("**/policies/add/"):
            held[0].continue_()
        page.wait_for_timeout(500)  # what must not happen has no other end
        expect(page.locator("#rule-0-value")).to_have_value("other@x.test")


def test_without_scripts(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server, scripts=False) as page:
        open_form(page, world)
        page.get_by_label("Selector").select_option("geo")
        page.get_by_role("button", name="Show fields and sentence").click()
        page.locator("#rule-0-value").fill("Portugal")
        page.get_by_role("button", name="Show fields and sentence").click()
        expect(page.locator("#policy-sentence")).to_contain_text("Lets in whoever comes from Portugal.")
        page.locator("#rule-0-value-1").fill("Spain")
        page.get_by_role("button", name="Save policy").click()
        expect(page.get_by_text("Engineers is added.")).to_be_visible()
    assert Policy.objects.get(name="Engineers").include == [
        {"geo": {"country_code": "PT"}},
        {"geo": {"country_code": "ES"}},
    ]
