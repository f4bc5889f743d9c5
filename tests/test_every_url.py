"""Every route of every URLconf declares its Permission, and every page of an organization keeps its door.

A route that is added anywhere is covered by being there: nothing here lists our routes by name. Django admin and
allauth are other people's views; they are held to what can be observed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from accounts.actions.support import request_support_session
from accounts.actor import system
from accounts.models import AuditEvent, JobFailure, Membership, User
from accounts.permissions import SUPPORT_ROLE, Permission, Role, role_allows
from controlplane.navigation import place_of
from tests.factories import PASSWORD, Cast, make_cast, make_user
from tests.pages_kit import browser, login, rows_of
from tests.world import CANARIES, World, make_world

URLCONFS = ("controlplane.urls", "access.team_urls", "access.app_urls")
ALLAUTH = "accounts/"
ADMIN = "staff/data/"
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


_UNSAFE = ("post", "put", "patch", "delete")
_READERS = (Role.VIEWER, Role.AUDITOR)


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


@dataclass(frozen=True)
class Made:
    cast: Cast
    worlds: tuple[World, World]


@pytest.fixture(scope="module")
def made(module_transaction: None) -> Made:
    """Two organizations with the same application name, group name, e-mails, tunnel name."""
    cast = make_cast()
    mine = make_world(cast.widgetcorp, domain="widgetcorp.tech")
    return Made(cast, (mine, make_world(cast.evilcorp, domain="evilcorp.tech")))


@pytest.fixture
def db(module_transaction: None, own_savepoint: None) -> None:
    """The module's worlds, untouched by the test before."""


@pytest.fixture
def cast(db: None, made: Made) -> Cast:
    return copy.deepcopy(made.cast)


@pytest.fixture
def worlds(db: None, made: Made) -> tuple[World, World]:
    return copy.deepcopy(made.worlds)


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


class TestOrganizationPages:
    """Whose page it is not. All routes in one test: making the worlds costs more than asking."""

    def test_another_tenant_finds_nothing(self, worlds: tuple[World, World], cast: Cast) -> None:
        """Neither the other organization's page, nor its objects under the own organization's address."""
        mine = worlds[0]
        before, client, wrong = rows_of(mine.organization), login(cast.mallory), []
        data = {"name": "stolen", "confirmation": mine.application.name, "step": "save"}
        for route, url in _addresses(mine):
            own_prefix = url.replace("/o/widgetcorp/", "/o/evilcorp/", 1)
            for address in [url] if _is_list(route) else [url, own_prefix]:
                answers = [client.get(address).status_code, client.post(address, data).status_code]
                if 404 not in answers or not set(answers) <= {404, 405}:
                    wrong.append(("mallory", address, answers))
        assert not wrong, "\n".join(map(str, wrong))
        assert rows_of(mine.organization) == before


class TestEveryRole:
    """Role x page x method over all routes at once: what a role may not do is refused before anything is looked at."""

    @pytest.mark.parametrize("role", [role for role in Role if role not in _READERS], ids=str)
    def test_pages_open_exactly_for_the_roles_that_may(
        self, role: Role, worlds: tuple[World, World], cast: Cast
    ) -> None:
        # Alice in another role: what is only its maker's (a draft, a test) stays hers.
        Membership.objects.filter(user=cast.alice).update(role=role)
        client, wrong = login(cast.alice), []
        for route, url in _addresses(worlds[0]):
            response = client.get(url)
            if role_allows(role, declared(route.view)[0]):
                right = response.status_code in {200, 405} or route.name == "tunnel_edge_authority"
            else:
                right = response.status_code == 403
            if not right:
                wrong.append((str(role), url, str(response.status_code)))
            if response.status_code == 200 and response["Content-Type"].startswith("text/html"):
                text = response.content.decode()
                wrong += [(str(role), url, found) for found in ("evilcorp", " style=", "<script>") if found in text]
        assert not wrong, "\n".join(map(str, wrong))

    @pytest.mark.parametrize("role", list(Role), ids=str)
    def test_unsafe_methods_are_refused_without_the_permission(
        self, role: Role, worlds: tuple[World, World], cast: Cast
    ) -> None:
        client, wrong = login(make_user(f"{role}@roles.test", cast.widgetcorp, role)), []
        before = rows_of(worlds[0].organization)
        for route, url in _addresses(worlds[0]):
            if not role_allows(role, declared(route.view)[0]):
                methods, expected = _UNSAFE, {403}
            elif role in _READERS:
                methods, expected = _UNSAFE, {405}  # what readers may open takes no form
            else:
                methods, expected = _UNSAFE[1:], {405}
            answers = {method: getattr(client, method)(url, _CHANGES).status_code for method in methods}
            if set(answers.values()) != expected:
                wrong.append((str(role), url, answers))
        assert not wrong, "\n".join(map(str, wrong))
        assert rows_of(worlds[0].organization) == before

    @pytest.mark.parametrize("role", _READERS, ids=str)
    def test_readers_get_what_they_may_read(self, role: Role, worlds: tuple[World, World], cast: Cast) -> None:
        """The page itself and not a way around it, whoever made what it shows; and looking changes nothing."""
        client, wrong = login(cast.bob if role == Role.VIEWER else cast.ada), []
        before = _rows_but_exports(worlds[0])
        for route, url in _addresses(worlds[0]):
            status = client.get(url).status_code
            allowed = role_allows(role, declared(route.view)[0])
            if status != (200 if allowed else 403) and not (allowed and route.name == "tunnel_edge_authority"):
                wrong.append((str(role), url, status))
        assert not wrong, "\n".join(map(str, wrong))
        assert _rows_but_exports(worlds[0]) == before

    def test_outsiders_and_strangers(self, worlds: tuple[World, World], cast: Cast) -> None:
        before, wrong = rows_of(worlds[0].organization), []
        outsider = login(User.objects.create_user("outsider@people.test", PASSWORD))
        staff = login(User.objects.create_user("idle@operator.test", PASSWORD, is_staff=True))
        anonymous = browser()
        for _, url in _addresses(worlds[0]):
            for method in ("get", *_UNSAFE):
                for who, client in (("outsider", outsider), ("staff", staff)):
                    status = getattr(client, method)(url, _CHANGES).status_code
                    if status != 404:
                        wrong.append((who, method, url, status))
                answer = getattr(anonymous, method)(url, _CHANGES)
                if answer.status_code != 302 or not answer["Location"].startswith("/accounts/login/"):
                    wrong.append(("anonymous", method, url, answer.status_code))
        assert not wrong, "\n".join(map(str, wrong))
        assert rows_of(worlds[0].organization) == before

    def test_staff_in_a_support_session_look_and_change_nothing(self, worlds: tuple[World, World], cast: Cast) -> None:
        staff = User.objects.create_user("support@operator.test", PASSWORD, is_staff=True)
        request_support_session(
            cast.widgetcorp,
            staff=staff,
            reason="Ticket 18: nobody gets in",
            duration=timedelta(hours=1),
            actor=system("tests"),
        )
        before, client, seen = _rows_without_log(worlds[0]), login(staff), []
        for route, url in _addresses(worlds[0]):
            got = client.get(url)
            allowed = role_allows(SUPPORT_ROLE, declared(route.view)[0])
            assert (got.status_code in {200, 302, 404, 405}) if allowed else got.status_code == 403, url
            if allowed:
                seen.append(url)
            assert {getattr(client, m)(url, _CHANGES).status_code for m in _UNSAFE} == {403}
            text = b"".join(got.streaming_content) if got.streaming else got.content
            assert not any(secret.encode() in text for secret in CANARIES), url
        assert _rows_without_log(worlds[0]) == before
        recorded = AuditEvent.objects.for_organization(cast.widgetcorp).filter(name="accounts.support.page_viewed")
        assert [event.new["page"] for event in recorded.order_by("id")] == seen
        for _, url in _addresses(worlds[1]):
            assert client.get(url).status_code == 404, url


_CHANGES = {"name": "changed", "confirmation": "SSH bastion", "role": "owner", "email": "x@people.test", "step": "save"}


def _addresses(world: World) -> list[tuple[Route, str]]:
    return [(route, url) for route in team_routes() for url in urls_of(world, route)]


def _rows_without_log(world: World) -> dict[str, list[Any]]:
    """Looking leaves its trace in the audit log and in the support session itself."""
    rows = rows_of(world.organization)
    del rows["AuditEvent"], rows["SupportSession"]
    return rows


def _rows_but_exports(world: World) -> dict[str, list[Any]]:
    """Reading out a log leaves an event: that is no change by the reader."""
    rows = rows_of(world.organization)
    rows["AuditEvent"] = [row for row in rows["AuditEvent"] if "accounts.log.exported" not in row]
    return rows


def _is_list(route: Route) -> bool:
    """Without an object in the address there is nothing of the other tenant to ask for."""
    return route.path.count("<") == 1 or route.name in {"login_method_create", "log_view_save"}


class TestStaffArea:
    def staff_addresses(self, world: World) -> list[str]:
        values = {
            "organization_id": world.organization.pk,
            "session_id": world.support_session.pk,
            "failure_id": JobFailure.objects.create(task="access.tasks.sweep_expired", exception="OSError").pk,
            "subject": "identity",
            "operation": "revoke",
            "key": world.identity.pk,
        }
        found = []
        for route in routes("controlplane.urls"):
            if route.path.startswith("staff/") and not route.path.startswith(ADMIN):
                names = [part.partition(":")[2] for part in route.path.replace(">", "<").split("<") if ":" in part]
                found.append(reverse(str(route.name), kwargs={name: values[name] for name in names}))
        return found

    def test_is_not_there_for_anybody_else(self, worlds: tuple[World, World], cast: Cast) -> None:
        addresses = self.staff_addresses(worlds[0])
        before = rows_of(worlds[0].organization)
        assert len(addresses) >= 8
        owner = login(cast.alice)
        for url in addresses:
            for method in ("get", "post", "put", "patch", "delete"):
                assert getattr(browser(), method)(url).status_code == 302, url
                assert getattr(owner, method)(url, _CHANGES).status_code == 404, url
        assert rows_of(worlds[0].organization) == before

    def test_staff_without_a_session_get_no_tools(self, worlds: tuple[World, World]) -> None:
        client = login(User.objects.create_user("idle@operator.test", PASSWORD, is_staff=True))
        before = rows_of(worlds[0].organization)
        for url in self.staff_addresses(worlds[0]):
            answer = client.get(url)
            assert answer.status_code in {200, 302, 405}, url
            if "/tools/" in url:
                assert answer.status_code == 302 and answer["Location"].endswith(f"{worlds[0].organization.pk}/")
                assert client.post(url, _CHANGES).status_code == 302
            assert b"carol@people.test" not in answer.content, url
        assert rows_of(worlds[0].organization) == before


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
