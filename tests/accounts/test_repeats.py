"""A form is acted upon once (accounts/repeats.py), on every page; and what is destructive asks first."""

from __future__ import annotations

import ast
import threading
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse

from access.models import Group
from accounts.audit import _without_secrets
from accounts.devices import device_of
from accounts.models import AccessSession, ApiToken, AuditEvent, Identity, User
from accounts.repeats import answer_once
from tests.factories import Cast, make_cast
from tests.pages_kit import event_names, form_id, last_event, login, shown, text_of
from tests.world import World, make_world

ROOT = Path(__file__).resolve().parents[2]


def url(name: str, *args: object) -> str:
    return reverse(name, args=["widgetcorp", *args])


@pytest.fixture
def world(cast: Cast) -> World:
    return make_world(cast.widgetcorp, domain="widgetcorp.tech")


@pytest.fixture
def alice(cast: Cast) -> Client:
    return login(cast.alice)


class TestSentOnce:
    def test_the_second_time_changes_nothing_and_says_so(self, alice: Client, world: World) -> None:
        address = url("user_revoke_sessions", world.identity.pk)
        sent = {"form_id": form_id(shown(alice, address))}
        assert alice.post(address, sent).status_code == 302
        count = len(event_names(world.organization))
        again = alice.post(address, sent, headers={"referer": f"http://testserver{url('users')}"})
        assert again["Location"] == url("users")
        assert "acted upon once" in shown(alice, url("users"))
        assert len(event_names(world.organization)) == count

    def test_a_refused_form_may_be_corrected_and_sent_again(self, alice: Client, cast: Cast) -> None:
        sent = {"email": cast.bob.email, "role": "viewer", "form_id": "same-form"}
        assert alice.post(url("member_invite"), sent).status_code == 422
        answer = alice.post(url("member_invite"), {**sent, "email": "new@people.test"})
        assert answer["Location"] == url("members")
        assert last_event(cast.widgetcorp).name == "accounts.invitation.sent"

    def test_a_form_that_failed_may_be_sent_again(self, alice: Client, world: World, monkeypatch) -> None:
        def broken(*args: Any, **kwargs: Any) -> None:
            raise RuntimeError("the database went away")

        alice.raise_request_exception = False
        address, sent = url("user_disable", world.identity.pk), {"form_id": "same-form"}
        with monkeypatch.context() as patch:
            patch.setattr("accounts.views.users.disable_identity", broken)
            assert alice.post(address, sent).status_code == 500
        alice.post(address, sent)
        assert Identity.objects.get(pk=world.identity.pk).disabled_at is not None

    def test_rows_of_a_form_are_not_the_form(self, alice: Client, cast: Cast) -> None:
        row = {"rule-0-list": "include", "rule-0-selector": "everyone", "rule-0-value": ""}
        sent = {"name": "All", "form_id": "same-form", **row}
        for _ in range(2):
            assert alice.post(url("group_add"), {**sent, "step": "add-row"}).status_code == 200
        alice.post(url("group_add"), sent)
        count = Group.objects.for_organization(cast.widgetcorp).count()
        alice.post(url("group_add"), sent)
        assert Group.objects.for_organization(cast.widgetcorp).count() == count

    def test_a_form_sent_while_a_step_of_it_is_answered_is_acted_upon(self, alice: Client, cast: Cast) -> None:
        """The rule builder asks for its sentence with the whole form; the person does not wait for the answer."""
        row = {"rule-0-list": "include", "rule-0-selector": "everyone", "rule-0-value": ""}
        sent = {"name": "All", "form_id": "same-form", **row}
        step = RequestFactory(headers={"HX-Request": "true"}).post(url("group_add"), {**sent, "step": "refresh"})
        step.user = cast.alice

        def meanwhile() -> HttpResponse:
            assert alice.post(url("group_add"), sent)["Location"] == url("groups")
            return HttpResponse()

        answer_once(step, meanwhile)
        assert Group.objects.for_organization(cast.widgetcorp).filter(name="All").exists()

    def test_forms_are_told_apart_by_person_and_page(self, alice: Client, cast: Cast, world: World) -> None:
        sent = {"form_id": "same-form"}
        alice.post(url("user_disable", world.identity.pk), sent)
        assert alice.post(url("user_enable", world.identity.pk), sent).status_code == 302
        assert Identity.objects.get(pk=world.identity.pk).disabled_at is None

    def test_forms_without_an_id_are_not_held_back(self, alice: Client, world: World) -> None:
        for _ in range(2):
            alice.post(url("user_revoke_sessions", world.identity.pk))
        assert event_names(world.organization)[-2:] == ["accounts.session.all_revoked"] * 2

    def test_the_way_back_never_leaves_the_host(self, alice: Client, world: World) -> None:
        address = url("user_revoke_sessions", world.identity.pk)
        alice.post(address, {"form_id": "x"})
        again = alice.post(address, {"form_id": "x"}, headers={"referer": "https://evil.test/o/widgetcorp/"})
        assert again["Location"] == "/o/widgetcorp/"


@pytest.mark.django_db(transaction=True)
def test_two_at_once_make_one() -> None:
    cast = make_cast()
    clients = [login(cast.alice), login(cast.alice)]
    sent = {"name": "ci", "lifetime_days": "30", "scopes": ["access.read"], "form_id": "same-form"}
    barrier = threading.Barrier(2)

    def send(client: Client) -> None:
        barrier.wait(timeout=10)
        client.post(url("api_token_create"), sent)
        connection.close()

    threads = [threading.Thread(target=send, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert ApiToken.objects.filter(name="ci").count() == 1
    cache.clear()


class TestConfirmations:
    @pytest.mark.parametrize(
        ("name", "attribute", "says"),
        [
            ("user_disable", "identity", "Block carol@people.test?"),
            ("user_revoke_sessions", "identity", "End all sessions of carol@people.test?"),
            ("session_revoke", "session", "Firefox on Linux at 192.0.2.7"),
            ("certificate_revoke", "certificate", "of carol@people.test?"),
        ],
    )
    def test_asking_changes_nothing(self, alice: Client, world: World, name: str, attribute: str, says: str) -> None:
        before = event_names(world.organization)
        page = shown(alice, url(name, getattr(world, attribute).pk))
        assert says in page
        assert event_names(world.organization) == before
        assert AccessSession.objects.get(pk=world.session.pk).revoked_at is None

    def test_buttons_lead_to_the_question(self, alice: Client, world: World) -> None:
        page = shown(alice, url("user_detail", world.identity.pk))
        for name, pk in (("user_disable", world.identity.pk), ("session_revoke", world.session.pk)):
            assert f'href="{url(name, pk)}"' in page
            assert f'action="{url(name, pk)}"' not in page

    def test_a_certificate_revoked_twice_is_refused_with_words(self, alice: Client, world: World) -> None:
        address = url("certificate_revoke", world.certificate.pk)
        assert alice.post(address).status_code == 302
        answer = alice.post(address)
        assert answer.status_code == 422
        assert "already revoked" in text_of(answer)


class TestUserPage:
    def test_everything_about_a_person(self, alice: Client, world: World) -> None:
        Identity.objects.filter(pk=world.identity.pk).update(claims={"department": "R&D <x>"})
        AccessSession.objects.update(last_seen_at=world.session.created_at)
        page = shown(alice, url("user_detail", world.identity.pk))
        for text in ("engineers", "department", "R&amp;D &lt;x&gt;", "Firefox on Linux", world.certificate.serial):
            assert text in page
        assert url("access_log_entry", world.access_request.pk) in page

    def test_a_viewer_sees_no_history(self, cast: Cast, world: World) -> None:
        page = shown(login(cast.bob), url("user_detail", world.identity.pk))
        assert world.certificate.serial not in page
        assert "Recent decisions" not in page

    def test_filter_by_login_method(self, alice: Client, world: World) -> None:
        assert "carol@people.test" in shown(alice, f"{url('users')}?method={world.oidc.pk}")
        assert "Nothing matches" in shown(alice, f"{url('users')}?method={world.pin.pk}")


class TestPreferences:
    def test_the_zone_is_chosen_and_undone(self, alice: Client, cast: Cast) -> None:
        assert "As my browser says" in shown(alice, "/account/preferences/")
        assert alice.post("/account/preferences/", {"time_zone": "Asia/Tokyo"}).status_code == 302
        assert User.objects.get(pk=cast.alice.pk).time_zone == "Asia/Tokyo"
        assert "Right now pages show Asia/Tokyo" in shown(alice, "/account/preferences/")
        event = AuditEvent.objects.get(name="accounts.preferences.changed")
        assert (event.old, event.new) == ({"time_zone": ""}, {"time_zone": "Asia/Tokyo"})
        alice.post("/account/preferences/", {"time_zone": ""})
        assert User.objects.get(pk=cast.alice.pk).time_zone == ""

    def test_nonsense_is_refused(self, alice: Client, cast: Cast) -> None:
        assert alice.post("/account/preferences/", {"time_zone": "../etc"}).status_code == 422
        assert User.objects.get(pk=cast.alice.pk).time_zone == ""


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/126.0 Safari/537.36 Edg/126.0", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Version/17.5 Safari/604.1", "Safari on iPhone"),
        ("Mozilla/5.0 (Linux; Android 14) Chrome/126.0 Mobile Safari/537.36", "Chrome on Android"),
        ("curl/8.5.0", "curl"),
        ("", "unknown device"),
        ("\x1b[31m\n" * 20, "unknown device"),
    ],
)
def test_devices_in_words(agent: str, words: str) -> None:
    assert device_of(agent) == words


def test_changes_record_old_and_new() -> None:
    """Every event of a change is written with both; the audit page has nothing to show otherwise."""
    missing = []
    for path in [path for app in ("accounts", "access", "tunnels") for path in (ROOT / app).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Attribute):
                continue
            name = node.args[0].attr
            if not name.endswith(("_UPDATED", "_CHANGED", "_RENAMED", "_REORDERED", "_ENABLED", "_DISABLED")):
                continue
            given = {keyword.arg for keyword in node.keywords}
            if ast.unparse(node.func).endswith("record") and not {"old", "new"} <= given:
                missing.append(f"{path.relative_to(ROOT)}:{node.lineno} {name}")
    assert missing == []


def test_secrets_are_left_out_at_any_depth() -> None:
    kept = {"mapping": "email", "shipping": [1], "config": {"client_id": "x", "deep": [{"name": "n"}]}}
    secret = {"client_secret": "s", "config": {"api_secret": "s", "deep": [{"private_key": "s"}]}, "pin": "1"}
    merged = {
        **kept,
        **secret,
        "config": {**kept["config"], **secret["config"], "deep": [{"name": "n", "password": 1}]},
    }
    assert _without_secrets(merged) == kept
