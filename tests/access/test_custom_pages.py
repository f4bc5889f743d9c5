"""What refused people see: custom pages, messages and addresses; actions, API, pages, and the page itself."""

from __future__ import annotations

from typing import Any

import pytest

from access.actions.applications import update_application
from access.actions.custom_pages import choose_custom_page, create_custom_page, delete_custom_page
from access.models import Application, CustomPage
from accounts.errors import Conflict, InvalidInput
from accounts.models import Organization
from tests.access.edge_client import EdgeBrowser
from tests.access.login_flows import log_in_with_pin, pin_provider, start_at_application
from tests.access.makers import ACTOR, email_rule, make_application, make_session
from tests.access.test_authorize import ask, with_token
from tests.controlplane.api_kit import make_api
from tests.factories import Cast
from tests.pages_kit import EVIL_NAME, event_names, login, shown, text_of

BOSS = [email_rule("the-boss@widgetcorp.test")]


def make_page(organization: Organization, kind: str = "identity_denied", html: str = "<p>Call 4711</p>") -> CustomPage:
    number = CustomPage.objects.count()
    return create_custom_page(organization, actor=ACTOR, name=f"page {number}", type=kind, custom_html=html)


def show_at(application: Application, **changes: Any) -> None:
    update_application(application, actor=ACTOR, settings_changes=changes)


def denied(cast: Cast, application: Application) -> Any:
    pin_provider(cast.widgetcorp)
    browser = EdgeBrowser()
    return log_in_with_pin(browser, start_at_application(browser, application), "eve@people.test")


@pytest.fixture
def application(cast: Cast) -> Application:
    return make_application(cast.widgetcorp, include=BOSS, authority=False)


class TestWhoIsLoggedIn:
    def test_sees_the_application_s_page_with_words_and_reference(self, cast: Cast, application: Application) -> None:
        page = make_page(cast.widgetcorp, html="<h1>No entry</h1><script>alert(1)</script><p onclick=x>Call 4711</p>")
        show_at(application, custom_pages=[str(page.pk)], custom_deny_message=f"Ask Dora. {EVIL_NAME}")
        answer = denied(cast, application)
        text = text_of(answer)
        assert answer.status_code == 403
        assert "<h2>No entry</h2><p>Call 4711</p>" in text
        assert "alert(1)" not in text
        assert "onclick" not in text
        assert "Ask Dora. &lt;script&gt;" in text
        assert "is not on this application&#x27;s list" in text and "email_not_allowed" not in text
        assert "ray-of-test" in text
        assert "script-src 'self'; style-src 'self'" in answer["Content-Security-Policy"]

    def test_sees_the_organization_s_page_where_the_application_has_none(
        self, cast: Cast, application: Application
    ) -> None:
        choose_custom_page(cast.widgetcorp, "identity_denied", make_page(cast.widgetcorp), actor=ACTOR)
        assert "Call 4711" in text_of(denied(cast, application))
        choose_custom_page(cast.widgetcorp, "identity_denied", None, actor=ACTOR)
        assert "Call 4711" not in text_of(denied(cast, application))

    def test_is_sent_to_the_application_s_address(self, cast: Cast, application: Application) -> None:
        show_at(application, custom_deny_url="https://help.test/no?team=a#top")
        answer = denied(cast, application)
        assert answer.status_code == 302
        assert answer["Location"] == "https://help.test/no?team=a&reason=email_not_allowed&reference=ray-of-test#top"

    def test_never_sees_another_organization_s_page(self, cast: Cast, application: Application) -> None:
        foreign = make_page(cast.evilcorp, html="<p>Evil words</p>")
        cast.widgetcorp.settings = {"custom_pages": {"identity_denied": str(foreign.pk)}}
        cast.widgetcorp.save()
        Application.objects.update(settings={"custom_pages": [str(foreign.pk)]})
        assert "Evil words" not in text_of(denied(cast, application))


class TestTheEdge:
    """A token that no longer suffices, or no login at all: the edge answers at the application's own hostname."""

    def test_gets_the_page_only_for_browsers(self, cast: Cast, application: Application) -> None:
        show_at(application, custom_pages=[str(make_page(cast.widgetcorp).pk)])
        session = make_session(cast.widgetcorp, email="eve@people.test")
        answer = with_token(application, session, websocket=False, page_wanted=True)
        assert (answer["outcome"], answer["status"], answer.get("location")) == ("deny", 403, None)
        assert "Call 4711" in answer["page"]
        assert "eve@people.test" in answer["page"]
        assert "/cdn-cgi/access/public.css" in answer["page"]
        for program in ({"page_wanted": False}, {"websocket": True}, {"xhr": True}):
            plain = with_token(application, session, **({"websocket": False, "page_wanted": True} | program))
            assert {"page", "location"}.isdisjoint(plain)
            assert plain["reason"] == "email_not_allowed"

    def test_without_a_login_the_other_page_and_address_count(self, cast: Cast) -> None:
        application = make_application(
            cast.widgetcorp, include=[{"geo": {"country_code": "AQ"}}], decision="non_identity", authority=False
        )
        people = make_page(cast.widgetcorp, html="<p>people</p>")
        nobody = make_page(cast.widgetcorp, "forbidden", html="<p>Machines: see the handbook</p>")
        show_at(application, custom_pages=[str(people.pk), str(nobody.pk)], custom_deny_url="https://help.test/")
        answer = ask(page_wanted=True)
        assert answer["outcome"] == "deny", answer
        assert "Machines: see the handbook" in answer["page"]
        assert "<p>people</p>" not in answer["page"]
        assert "Logged in as" not in answer["page"]
        show_at(application, custom_non_identity_deny_url="https://help.test/machines")
        location = ask(page_wanted=True)["location"]
        assert location.startswith("https://help.test/machines?reason=")


@pytest.mark.parametrize(
    "changes",
    [
        {"custom_deny_url": "http://x.test"},
        {"custom_deny_url": "javascript:alert(1)"},
        {"custom_non_identity_deny_url": "//evil.test"},
        {"custom_deny_url": "https://x.test/\r\nX: y"},
        {"custom_pages": ["nonsense"]},
        {"custom_pages": ["6f8a1b54-0c3e-4b8f-9d0e-1f2a3b4c5d6e"]},
    ],
)
def test_bad_settings_change_nothing(application: Application, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        show_at(application, **changes)
    application.refresh_from_db()
    assert application.settings == {}


def test_pages_are_own_ones_of_different_types(cast: Cast, application: Application) -> None:
    first, second, foreign = (make_page(where) for where in (cast.widgetcorp, cast.widgetcorp, cast.evilcorp))
    for wanted in ([first, second], [foreign]):
        with pytest.raises(InvalidInput):
            show_at(application, custom_pages=[str(page.pk) for page in wanted])


def test_a_page_in_use_is_not_deleted(cast: Cast, application: Application) -> None:
    page = make_page(cast.widgetcorp)
    choose_custom_page(cast.widgetcorp, "identity_denied", page, actor=ACTOR)
    show_at(application, custom_pages=[str(page.pk)])
    with pytest.raises(Conflict, match='the whole organization, "SSH bastion"'):
        delete_custom_page(page, actor=ACTOR)
    cast.widgetcorp.refresh_from_db()
    choose_custom_page(cast.widgetcorp, "identity_denied", None, actor=ACTOR)
    show_at(application, custom_pages=[])
    delete_custom_page(page, actor=ACTOR)
    assert "access.custom_page.deleted" in event_names(cast.widgetcorp)


def test_api(cast: Cast, application: Application) -> None:
    api = make_api(cast.widgetcorp)
    path, app = f"{api.account}/access/custom_pages", f"{api.account}/access/apps/{application.pk}"
    body = {"name": "Sorry", "type": "identity_denied", "custom_html": "<p style='x'>Sorry</p>"}
    made = api.ok("POST", path, body)
    assert made["warnings"] == [{"message": "style of <p> is left out.", "tier": "html"}]
    one = f"{path}/{made['uid']}"
    assert api.ok("GET", one)["custom_html"] == body["custom_html"]
    assert [row["uid"] for row in api.ok("GET", path)] == [made["uid"]]
    assert api.ok("PATCH", app, {"custom_pages": [made["uid"]]})["custom_pages"] == [made["uid"]]
    api.refused("DELETE", one, status=409)
    assert api.ok("PUT", one, body | {"custom_html": "<p>New</p>"})["warnings"] == []
    api.refused("PUT", one, body | {"type": "forbidden"}, status=409)
    api.refused("POST", path, body, status=409)
    for kind in ("login", "interstitial", "x"):
        api.refused("POST", path, body | {"name": kind, "type": kind}, status=400)
    api.refused("POST", path, body | {"name": "big", "custom_html": "x" * 70_000}, status=400)
    organization = api.ok("PUT", f"{api.account}/access/organizations", {"custom_pages": {"forbidden": "x"}})
    assert organization["custom_pages"] == {"forbidden": "x"}
    assert ask(page_wanted=True)["outcome"] == "login"
    api.ok("PATCH", app, {"custom_pages": []})
    api.ok("DELETE", one)


def test_dashboard(cast: Cast, application: Application) -> None:
    client = login(cast.alice)
    base = "/o/widgetcorp/access/custom-pages/"
    assert "Refused people see the built-in page" in shown(client, base)
    sent = {"name": "Sorry", "type": "identity_denied", "custom_html": "<p>Sorry</p><script>x</script>"}
    assert client.post(f"{base}add/", sent | {"custom_html": " "}).status_code == 422
    assert client.post(f"{base}add/", sent).status_code == 302
    page = CustomPage.objects.get()
    edit = shown(client, f"{base}{page.pk}/edit/")
    assert '<div class="own-words"><p>Sorry</p></div>' in edit
    assert "<code>&lt;script&gt;</code>" in edit
    assert client.post(f"{base}choose/", {"identity_denied": str(page.pk)}).status_code == 302
    assert "the whole organization" in shown(client, base)
    tab = f"/o/widgetcorp/access/applications/{application.pk}/when-refused/"
    assert "Sorry" in shown(client, tab)
    bad = client.post(f"{tab}edit/", {"custom_deny_message": "Ask Dora", "custom_deny_url": "http://x.test"})
    assert bad.status_code == 422
    assert "Ask Dora" in text_of(bad)
    good = {"custom_deny_message": "Ask Dora", "identity_denied": str(page.pk)}
    assert client.post(f"{tab}edit/", good).status_code == 302
    application.refresh_from_db()
    assert application.settings == {
        "custom_deny_message": "Ask Dora",
        "custom_deny_url": None,
        "custom_non_identity_deny_url": None,
        "custom_pages": [str(page.pk)],
    }
    refused = client.post(f"{base}{page.pk}/delete/")
    assert refused.status_code == 422
    assert "whole organization" in text_of(refused)
    assert client.post(f"{base}choose/", {"identity_denied": ""}).status_code == 302
    client.post(f"{tab}edit/", {})
    assert client.post(f"{base}{page.pk}/delete/").status_code == 302
    assert login(cast.erin).post(f"{base}choose/", {}).status_code == 403
