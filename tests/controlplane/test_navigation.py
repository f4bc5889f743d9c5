"""The frame around every page: navigation by role, the current place, the switcher, the way back after signing in."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from accounts.models import Membership
from accounts.permissions import Role
from controlplane.navigation import NAVIGATION, place_of
from tests.factories import PASSWORD, Cast
from tests.pages_kit import browser, login, shown, text_of

LOGIN = "/accounts/login/"


def menu(page: str) -> str:
    found = re.search(r'<nav class="side-nav".*?</nav>', page, re.DOTALL)
    assert found is not None
    return found.group(0)


def test_sections_in_their_order(cast: Cast) -> None:
    page = menu(shown(login(cast.alice), "/o/widgetcorp/"))
    assert re.findall(r"<h2[^>]*>([^<]+)</h2>", page) == ["Access", "My Team", "Logs", "Settings"]
    labels = re.findall(r">([^<>]+)</a>", page)
    assert labels == [entry.label for section in NAVIGATION for entry in section.entries]
    assert labels.index("Tunnels") < labels.index("DNS") < labels.index("Users")


def test_a_menu_leads_only_where_the_role_may_look(cast: Cast) -> None:
    assert ">API tokens</a>" in menu(shown(login(cast.alice), "/o/widgetcorp/"))
    assert ">API tokens</a>" not in menu(shown(login(cast.bob), "/o/widgetcorp/"))


@pytest.mark.parametrize("entry", [entry for section in NAVIGATION for entry in section.entries], ids=lambda e: e.label)
def test_the_current_page_is_marked_once(cast: Cast, entry: object) -> None:
    address = reverse(entry.url_name, args=["widgetcorp"])  # type: ignore[attr-defined]
    page = menu(shown(login(cast.alice), address))
    assert page.count('aria-current="page"') == 1
    assert f'href="{address}" aria-current="page"' in page


def test_the_longest_name_decides() -> None:
    found = place_of("application_policy_edit")
    assert found is not None
    assert (found[0].title, found[1].label) == ("Access", "Applications")
    assert place_of("nothing_of_ours") is None


def test_crumbs_name_the_section(cast: Cast) -> None:
    page = shown(login(cast.alice), "/o/widgetcorp/access/groups/add/")
    crumbs = re.search(r'<nav class="crumbs".*?</nav>', page, re.DOTALL)
    assert crumbs is not None
    texts = re.findall(r"<li>(?:<[^>]+>)?([^<]+)<", crumbs.group(0))
    assert texts[:3] == ["Widget Corp", "Access", "Groups"]
    assert crumbs.group(0).count('aria-current="page"') == 1


class TestSwitcher:
    def test_leads_to_the_same_section_where_the_role_may_see_it(self, cast: Cast) -> None:
        Membership.objects.create(organization=cast.evilcorp, user=cast.alice, role=Role.EDITOR)
        client = login(cast.alice)
        assert 'href="/o/evilcorp/access/log/"' in shown(client, "/o/widgetcorp/access/log/")
        tokens = shown(client, "/o/widgetcorp/settings/api-tokens/")
        assert 'href="/o/evilcorp/settings/api-tokens/"' not in tokens
        assert 'href="/o/evilcorp/"' in tokens

    def test_the_choice_can_be_asked_for(self, cast: Cast) -> None:
        Membership.objects.create(organization=cast.evilcorp, user=cast.alice, role=Role.VIEWER)
        client = login(cast.alice)
        assert 'href="/?choose"' in shown(client, "/o/widgetcorp/")
        assert "Evil Corp" in shown(client, "/?choose")


class TestTheWayBack:
    def test_a_deep_link_survives_signing_in(self, cast: Cast) -> None:
        address = "/o/widgetcorp/access/log/?decision=denied&q=carol"
        client = browser()
        asked = client.get(address)["Location"]
        page = shown(client, asked)
        hidden = re.search(r'name="next"\s+value="([^"]+)"', page)
        assert hidden is not None
        data = {"login": cast.alice.email, "password": PASSWORD, "next": hidden.group(1).replace("&amp;", "&")}
        assert client.post(LOGIN, data)["Location"] == address

    def test_a_form_sent_after_the_session_ended_leads_back_to_its_page(self, cast: Cast) -> None:
        form = "http://testserver/o/widgetcorp/access/groups/add/?from=home"
        client = browser()
        asked = client.post("/o/widgetcorp/access/groups/add/", {"name": "x"}, headers={"referer": form})["Location"]
        assert "What you sent was not saved" in shown(client, asked)
        answer = client.post(asked, {"login": cast.alice.email, "password": PASSWORD})
        assert answer["Location"] == "/o/widgetcorp/access/groups/add/?from=home"

    @pytest.mark.parametrize(
        "referrer", ["https://evil.test/o/widgetcorp/", "http://testserver.evil.test/x", "", "//x"]
    )
    def test_a_foreign_page_before_is_nobodys_way_back(self, cast: Cast, referrer: str) -> None:
        client = browser()
        asked = client.post("/o/widgetcorp/access/groups/add/", headers={"referer": referrer})["Location"]
        assert client.post(asked, {"login": cast.alice.email, "password": PASSWORD})["Location"] == "/"

    @pytest.mark.parametrize(
        "address",
        [
            "https://evil.test/",
            "//evil.test/",
            "/\\evil.test/",
            "https:evil.test",
            "http://testserver@evil.test/",
            "javascript:alert(1)",
            "data:text/html,x",
            "http://testserver.evil.test/",
            "/%0d%0aLocation: https://evil.test/",
        ],
    )
    def test_next_stays_on_this_host(self, cast: Cast, address: str) -> None:
        data = {"login": cast.alice.email, "password": PASSWORD, "next": address}
        location = browser().post(LOGIN, data)["Location"]
        assert location.startswith("/")
        assert not location.startswith(("//", "/\\"))
        assert "\r" not in location


def test_skip_link_and_menu_need_no_scripts(cast: Cast) -> None:
    page = text_of(login(cast.alice).get("/o/widgetcorp/"))
    assert page.index('href="#content"') < page.index('id="menu-toggle"')
    assert re.search(r'<details class="menu-toggle"[^>]*><summary>Menu</summary></details>\s*<div class="menu"', page)
