"""Every main page, in both colour schemes, as axe-core sees it; forms also with their errors shown."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page
from pytest_django.live_server_helper import LiveServer

from tests.axe import violations
from tests.browser.test_dashboard import browser_page
from tests.factories import make_cast
from tests.world import World, make_world

pytestmark = [pytest.mark.integration, pytest.mark.once, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def world(transactional_db: None) -> World:
    return make_world(make_cast().widgetcorp, domain="widgetcorp.tech")


def _pages(world: World) -> list[str]:
    application, tunnel = world.application.pk, world.tunnel.pk
    return [
        "",
        "?by=day",
        "access/applications/",
        "access/applications/add/",
        f"access/applications/{application}/",
        f"access/applications/{application}/policies/",
        f"access/applications/{application}/way-in/",
        f"access/applications/{application}/authentication/",
        f"access/applications/{application}/settings/",
        f"access/applications/{application}/duplicate/",
        f"access/applications/{application}/delete/",
        "access/applications/drafts/",
        f"access/applications/drafts/{world.draft.pk}/",
        f"access/applications/drafts/{world.draft.pk}/policies/",
        f"access/applications/drafts/{world.draft.pk}/setup/",
        f"access/applications/{application}/policies/{world.policy.pk}/edit/",
        f"access/applications/{application}/simulator/?who=identity&identity=carol@people.test&country=PT",
        f"access/applications/{application}/tests/",
        f"access/applications/{application}/tests/add/",
        f"access/applications/{application}/ssh/",
        f"access/applications/{application}/when-refused/",
        "access/custom-pages/",
        f"access/custom-pages/{world.custom_page.pk}/edit/",
        "access/tags/",
        "access/simulator/",
        f"access/simulations/{world.simulation.pk}/",
        "access/groups/add/",
        "access/service-auth/",
        "access/service-auth/ssh/",
        f"access/service-auth/ssh/{application}/",
        "access/approvals/",
        f"access/approvals/{world.approval.pk}/",
        f"access/service-auth/ssh/{application}/hosts/",
        "access/log/",
        f"access/log/{world.access_request.pk}/",
        "access/certificates/",
        "tunnels/",
        f"tunnels/{tunnel}/",
        f"tunnels/{tunnel}/install/",
        f"tunnels/{tunnel}/install/?system=windows",
        f"tunnels/{tunnel}/rotate-token/",
        f"tunnels/{tunnel}/versions/",
        f"tunnels/{tunnel}/versions/1/?with=1",
        f"tunnels/{tunnel}/connectors/{world.connector.client_id}/",
        f"tunnels/{tunnel}/hostnames/",
        f"tunnels/{tunnel}/delete/",
        f"dns/{world.zone.pk}/",
        f"dns/{world.zone.pk}/records/add/",
        "team/users/",
        "team/members/",
        "team/members/invite/",
        f"team/users/{world.identity.pk}/",
        f"team/users/{world.identity.pk}/disable/",
        "settings/login-page/",
        "settings/login-methods/",
        "settings/login-methods/add/oidc/",
        "settings/api-tokens/create/",
        "settings/deleted/",
        "logs/audit/",
        "settings/organization/",
        "search/?q=s",
    ]


def test_main_pages(live_server: LiveServer, world: World) -> None:
    found = {}
    with browser_page(live_server, color_scheme="light", reduced_motion="reduce") as page:  # no fading colours
        for path in _pages(world):
            page.emulate_media(color_scheme="light")
            page.goto(f"/o/widgetcorp/{path}")
            found[path] = violations(page)
            page.emulate_media(color_scheme="dark")
            found[f"{path} (dark)"] = violations(page, "color-contrast")
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_forms_with_errors(live_server: LiveServer, world: World) -> None:
    forms = {
        "access/groups/add/": "Save group",
        "access/applications/add/": "Next: add policies",
        f"dns/{world.zone.pk}/records/add/": "Add record",
        "settings/login-methods/add/oidc/": "Save",
    }
    found = {}
    with browser_page(live_server) as page:
        for path, button in forms.items():
            page.goto(f"/o/widgetcorp/{path}")
            _send_empty(page, button)
            found[path] = violations(page)
    assert {path: lines for path, lines in found.items() if lines} == {}


def _send_empty(page: Page, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()
    page.locator("[aria-invalid=true], .errorlist").first.wait_for()


def test_sign_in_page(live_server: LiveServer, world: World) -> None:
    with browser_page(live_server) as page:
        page.get_by_role("button", name="Sign out").click()
        page.goto("/accounts/login/")
        assert violations(page) == []
