"""The Test button: a real login shows what policies would see, and makes neither session nor identity."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import AccessSession, AuditEvent, Identity, ProviderTest
from accounts.tasks import sweep_expired
from tests.access.edge_client import TEAM, EdgeBrowser, links_of
from tests.access.idp_flows import at_provider, idp, oidc_provider, team_url
from tests.access.login_flows import last_pin, pin_provider
from tests.pages_kit import login

__all__ = ["idp"]


@pytest.fixture
def provider(cast, idp):
    return oidc_provider(cast.widgetcorp, idp)


def press(user, provider) -> str:
    """The Test button in the dashboard; the team-domain address of the new window."""
    answer = login(user).post(f"/o/widgetcorp/settings/login-methods/{provider.pk}/test/")
    assert answer.status_code == 303
    return answer["Location"]


def to_idp(browser: EdgeBrowser, ticket_url: str) -> str:
    page = browser.get(ticket_url)
    assert page.status_code == 200, page.content.decode()
    link = next(link for link in links_of(page) if "/start?" in link)
    return browser.get(f"https://{TEAM}{link}")["Location"]


def result_page(user, location: str) -> str:
    assert location.startswith("http://testserver/o/widgetcorp/settings/login-methods/")
    answer = login(user).get(location.removeprefix("http://testserver"))
    assert answer.status_code == 200
    assert f"form-action 'self' https://{TEAM}" in answer["Content-Security-Policy"]
    return answer.content.decode()


def nobody_logged_in() -> bool:
    return not AccessSession.objects.exists() and not Identity.objects.exists()


def test_a_test_shows_identity_groups_claims_and_methods(cast, idp, provider):
    browser = EdgeBrowser()
    answer = browser.get(at_provider(idp, to_idp(browser, press(cast.alice, provider)), "alice"))
    assert answer.status_code == 303 and not browser.cookie(TEAM, "CF_Authorization")
    page = result_page(cast.alice, answer["Location"])
    for shown in ("user-alice", "alice@widgetcorp.test", "verified", "engineering", "preferred_username", "mfa"):
        assert shown in page
    assert nobody_logged_in()
    names = list(AuditEvent.objects.filter(name__contains="identity_provider.test").values_list("name", flat=True))
    assert sorted(names) == ["accounts.identity_provider.test_started", "accounts.identity_provider.tested"]
    tested = AuditEvent.objects.get(name="accounts.identity_provider.tested")
    assert tested.new["outcome"] == "worked" and "alice@" not in str(tested.new)


def test_a_failed_login_is_explained_to_the_admin(cast, idp, provider):
    idp.claims_overrides = {"aud": "somebody-else"}
    browser = EdgeBrowser()
    answer = browser.get(at_provider(idp, to_idp(browser, press(cast.alice, provider)), "alice"))
    assert answer.status_code == 303
    page = result_page(cast.alice, answer["Location"])
    assert "issued to another client" in page and "id_token_refused" in page
    assert nobody_logged_in()


def test_a_wrong_client_secret_is_explained(cast, idp, provider):
    idp.client_secret = "another"
    browser = EdgeBrowser()
    answer = browser.get(at_provider(idp, to_idp(browser, press(cast.alice, provider)), "alice"))
    assert "client ID or secret is wrong" in result_page(cast.alice, answer["Location"])


def test_pin_is_tested_too(cast):
    provider = pin_provider(cast.widgetcorp)
    browser = EdgeBrowser()
    url = press(cast.alice, provider)
    sent = browser.submit(url, browser.get(url), containing='name="email"', email="alice@widgetcorp.test")
    location = team_url(sent["Location"])
    page = browser.get(location)
    assert "http://testserver" in page["Content-Security-Policy"]
    answer = browser.submit(location, page, containing='name="pin"', pin=last_pin())
    assert answer.status_code == 303
    assert "alice@widgetcorp.test" in result_page(cast.alice, answer["Location"]) and nobody_logged_in()


def test_the_ticket_belongs_to_the_first_browser_and_ends(cast, idp, provider):
    url = press(cast.alice, provider)
    first = EdgeBrowser()
    assert first.get(url).status_code == 200 and first.get(url).status_code == 200
    assert EdgeBrowser().get(url).status_code == 404
    assert EdgeBrowser().get(url.replace(TEAM, "evilcorp.access.example.test")).status_code == 404
    assert EdgeBrowser().get(team_url("/cdn-cgi/access/test/guess")).status_code == 404
    late = press(cast.alice, provider)
    ProviderTest.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert EdgeBrowser().get(late).status_code == 404


def test_ac39_a_login_of_another_browser_is_no_answer_to_the_test(cast, idp, provider):
    """Somebody who gets hold of the way to the provider can neither finish the test nor log in by it."""
    first, other = EdgeBrowser(), EdgeBrowser()
    link = next(link for link in links_of(first.get(press(cast.alice, provider))) if "/start?" in link)
    answer = other.get(at_provider(idp, other.get(f"https://{TEAM}{link}")["Location"], "bob"))
    assert answer.status_code == 401 and "another browser" in answer.content.decode()
    assert nobody_logged_in() and ProviderTest.objects.get().result == {}


def test_a_test_is_finished_once(cast, idp, provider):
    browser = EdgeBrowser()
    url = press(cast.alice, provider)
    first, second = to_idp(browser, url), to_idp(browser, url)
    assert browser.get(at_provider(idp, first, "alice")).status_code == 303
    answer = browser.get(at_provider(idp, second, "bob"))
    assert answer.status_code == 401 and nobody_logged_in()
    assert ProviderTest.objects.get().result["subject"] == "user-alice"


def test_only_admins_test_and_only_the_one_who_started_sees_the_result(cast, idp, provider):
    path = f"/o/widgetcorp/settings/login-methods/{provider.pk}/test/"
    assert [login(user).post(path).status_code for user in (cast.bob, cast.erin, cast.mallory)] == [403, 403, 404]
    assert not ProviderTest.objects.exists()
    browser = EdgeBrowser()
    answer = browser.get(at_provider(idp, to_idp(browser, press(cast.alice, provider)), "alice"))
    result = answer["Location"].removeprefix("http://testserver")
    cast.widgetcorp.memberships.filter(user=cast.erin).update(role="admin")
    assert login(cast.erin).get(result).status_code == 404
    assert login(cast.mallory).get(result).status_code == 404


def test_results_do_not_stay(cast, idp, provider):
    press(cast.alice, provider)
    ProviderTest.objects.update(expires_at=timezone.now() - timedelta(seconds=1), result={"email": "a@b.test"})
    sweep_expired()
    assert not ProviderTest.objects.exists()
