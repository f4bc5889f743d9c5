"""Every route of every URLconf declares its Permission, and every page of an organization keeps its door.

A route that is added anywhere is covered by being there: nothing here lists our routes by name. Django admin and
allauth are other people's views; they are held to what can be observed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from accounts.models import User
from accounts.permissions import Permission, role_allows
from controlplane.navigation import place_of
from tests.factories import PASSWORD, Cast
from tests.pages_kit import browser, login, rows_of
from tests.world import World, make_world

URLCONFS = ("controlplane.urls", "access.team_urls", "access.app_urls")
ALLAUTH = "accounts/"
ADMIN = "staff/"
# allauth pages that have to work without a login; everything else of allauth asks for one or for a running login.
OPEN_ALLAUTH = {
    "account_login",
    "account_logout",
    "account_signup",
    "account_inactive",
    "account_email_verification_sent",
    "account_confirm_email",
    "account_confirm_login_code",
    "account_request_login_code",
    "account_reset_password",
    "account_reset_password_done",
    "account_reset_password_from_key",
    "account_reset_password_from_key_done",
    "account_reauthenticate",
    "mfa_authenticate",
    "mfa_trust",
    "mfa_login_webauthn",
    "mfa_signup_webauthn",
    "mfa_reauthenticate",
}


@dataclass(frozen=True)
class Route:
    path: str
    name: str | None
    view: Any


def routes(urlconf: str) -> list[Route]:
    return list(_walk(get_resolver(urlconf).url_patterns, ""))


def _walk(patterns: list[Any], prefix: str) -> Iterator[Route]:
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern):
            yield Route(path, pattern.name, pattern.callback)


def own_routes() -> list[Route]:
    found = [route for urlconf in URLCONFS for route in routes(urlconf)]
    return [route for route in found if not route.path.startswith((ALLAUTH, ADMIN))]


def team_routes() -> list[Route]:
    return [route for route in routes("controlplane.urls") if route.path.startswith("o/<slug:team>/")]


def declared(view: Any) -> list[Permission]:
    """The permission of a view, or of each operation behind a ninja path view."""
    if hasattr(view, "permission"):
        return [view.permission]
    path_view = getattr(getattr(view, "__self__", None), "operations", None) or _operations(view)
    views = [operation.view_func for operation in path_view or ()]
    return [view.permission for view in views if hasattr(view, "permission")]


def _operations(view: Any) -> list[Any] | None:
    """ninja hands Django a closure over its PathView."""
    for cell in getattr(view, "__closure__", None) or ():
        operations = getattr(cell.cell_contents, "operations", None)
        if operations:
            return list(operations)
    return None


@pytest.mark.parametrize("route", own_routes(), ids=lambda route: route.path)
def test_every_route_declares_its_permission(route: Route) -> None:
    permissions = declared(route.view)
    operations = _operations(route.view)
    assert permissions, f"{route.path} declares no Permission"
    assert operations is None or hasattr(route.view, "permission") or len(permissions) == len(operations)
    assert all(isinstance(permission, Permission) for permission in permissions)


def test_organization_pages_ask_for_an_organization_permission() -> None:
    outside = {Permission.PUBLIC, Permission.SIGNED_IN, Permission.EDGE, Permission.STAFF}
    assert team_routes()
    for route in team_routes():
        assert declared(route.view)[0] not in outside, route.path


@pytest.mark.parametrize("route", team_routes(), ids=lambda route: route.name)
def test_every_organization_page_has_its_place_in_the_navigation(route: Route) -> None:
    """Otherwise nothing is marked as current there: name the route after an entry of controlplane/navigation.py."""
    assert place_of(str(route.name)) is not None, route.name


@pytest.fixture
def worlds(cast: Cast) -> tuple[World, World]:
    """Two organizations with the same application name, group name, e-mails, tunnel name."""
    return make_world(cast.widgetcorp, domain="widgetcorp.tech"), make_world(cast.evilcorp, domain="evilcorp.tech")


def urls_of(world: World, route: Route) -> list[str]:
    """The route's address in a world. Arguments that several kinds of objects share get each of them."""
    arguments = world.url_arguments()
    names = [part.partition(":")[2] for part in route.path.replace(">", "<").split("<") if ":" in part]
    values = {name: arguments[name] for name in names}
    if "token_id" in values and str(route.name).startswith("api_token"):
        values["token_id"] = world.api_token.pk
    if route.name in {"policy_edit", "policy_delete"}:
        values["policy_id"] = world.reusable.pk
    return [reverse(route.name, kwargs=values)]


@pytest.mark.parametrize("route", team_routes(), ids=lambda route: route.name)
class TestOrganizationPages:
    def test_anonymous_is_sent_to_login(self, route: Route, worlds: tuple[World, World]) -> None:
        for url in urls_of(worlds[0], route):
            for response in (browser().get(url), browser().post(url, {"name": "changed"})):
                assert response.status_code == 302, url
                assert response["Location"].startswith("/accounts/login/"), url

    def test_another_tenant_finds_nothing(self, route: Route, worlds: tuple[World, World], cast: Cast) -> None:
        """Neither the other organization's page, nor its objects under the own organization's address."""
        mine = worlds[0]
        before = rows_of(mine.organization)
        client = login(cast.mallory)
        for url in urls_of(mine, route):
            own_prefix = url.replace("/o/widgetcorp/", "/o/evilcorp/", 1)
            tried = [url] if _is_list(route) else [url, own_prefix]
            for address in tried:
                data = {"name": "stolen", "confirmation": mine.application.name, "step": "save"}
                answers = [client.get(address), client.post(address, data)]
                assert all(answer.status_code in {404, 405} for answer in answers), address
                assert any(answer.status_code == 404 for answer in answers), address
        assert rows_of(mine.organization) == before

    @pytest.mark.parametrize("role", ["viewer", "auditor"])
    def test_readers_change_nothing(self, route: Route, role: str, worlds: tuple[World, World], cast: Cast) -> None:
        """By any method, on any page. What they may read is shown; all else is refused."""
        before = rows_of(worlds[0].organization)
        client = login(cast.bob if role == "viewer" else cast.ada)
        needed = declared(route.view)[0]
        data = {"name": "changed", "confirmation": "SSH bastion", "role": "owner", "email": "x@people.test"}
        for url in urls_of(worlds[0], route):
            got = client.get(url)
            unsafe = [getattr(client, method)(url, data) for method in ("post", "put", "patch", "delete")]
            if role_allows(role, needed):
                assert got.status_code == 200 or route.name == "tunnel_edge_authority", url
                assert {answer.status_code for answer in unsafe} == {405}, url
            else:
                assert {got.status_code, *(answer.status_code for answer in unsafe)} == {403}, url
        assert rows_of(worlds[0].organization) == before

    def test_owner_gets_the_page(self, route: Route, worlds: tuple[World, World], cast: Cast) -> None:
        client = login(cast.alice)
        for url in urls_of(worlds[0], route):
            response = client.get(url)
            assert response.status_code in {200, 405} or route.name == "tunnel_edge_authority", url
            if response.status_code == 200 and response["Content-Type"].startswith("text/html"):
                text = response.content.decode()
                assert "evilcorp" not in text
                assert " style=" not in text
                assert "<script>" not in text


def _is_list(route: Route) -> bool:
    """Without an object in the address there is nothing of the other tenant to ask for."""
    return route.path.count("<") == 1 or route.name in {"login_method_create", "log_view_save"}


class TestOtherPeoplesViews:
    def test_admin_is_for_staff_only(self, cast: Cast) -> None:
        anonymous, member = browser(), login(cast.alice)
        for route in routes("controlplane.urls"):
            if not route.path.startswith(ADMIN) or "<" in route.path or "(" in route.path or not route.name:
                continue
            url = "/" + route.path
            assert anonymous.get(url).status_code in {302, 404}, url
            assert member.get(url).status_code in {302, 403, 404}, url

    def test_account_pages_ask_for_a_login(self, db: None) -> None:
        for route in routes("controlplane.urls"):
            if not route.path.startswith(ALLAUTH) or "<" in route.path or "(?P" in route.path:
                continue
            if route.name in OPEN_ALLAUTH:
                continue
            response = browser().get("/" + route.path)
            assert response.status_code in {302, 404, 405, 429} or response.status_code == 401, route.path

    def test_nobody_signs_up(self, db: None) -> None:
        response = browser().post(
            "/accounts/signup/", {"email": "new@people.test", "password1": PASSWORD, "password2": PASSWORD}
        )
        assert response.status_code in {200, 403}
        assert not User.objects.filter(email="new@people.test").exists()
