"""Applications: wizard, list, tabs, policies and their order, deletion."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from access.models import Application, ApplicationPolicy, Group, Policy
from tests.factories import Cast
from tests.pages_kit import EVIL_NAME, form_id, last_event, login, rows_of, shown, text_of
from tests.world import World, make_world
from tunnels.models import Zone

CONFIGURE = {
    "name": "Jump host",
    "subdomain": "jump",
    "domain": "widgetcorp.tech",
    "path": "",
    "session_duration_seconds": "3600",
    "app_launcher_visible": "on",
}
POLICY = {
    "name": "Engineers",
    "decision": "allow",
    "session_duration_seconds": "",
    "rule-0-list": "include",
    "rule-0-selector": "email",
    "rule-0-value": "alice@people.test, bob@people.test",
    "step": "save",
}
SETUP = {
    "certificate_lifetime_seconds": "300",
    "certificate_extensions": ["permit-pty"],
    "bastion_destinations": "10.0.0.0/8:22\ndb.internal:22",
    "principal_overrides": "alice@people.test = deploy",
}


@pytest.fixture
def world(cast: Cast) -> World:
    return make_world(cast.widgetcorp, domain="widgetcorp.tech")


@pytest.fixture
def alice(cast: Cast) -> Client:
    return login(cast.alice)


def url(name: str, *args: object) -> str:
    return reverse(name, args=["widgetcorp", *args])


def set_up(client: Client, **changed: Any) -> Any:
    assert client.post(url("application_add"), CONFIGURE).status_code == 302
    assert client.post(url("application_add_policies"), {**POLICY, "then": "next"}).status_code == 302
    return client.post(url("application_add_setup"), {**SETUP, **changed})


class TestWizard:
    def test_three_steps_make_application_and_policy_at_once(self, alice: Client, world: World) -> None:
        page = shown(alice, url("application_add"))
        assert '<option value="widgetcorp.tech">' in page
        response = alice.post(url("application_add"), CONFIGURE)
        assert response["Location"] == url("application_add_policies")
        response = alice.post(url("application_add_policies"), {**POLICY, "then": "next"})
        assert response["Location"] == url("application_add_setup")
        assert not Application.objects.filter(name="Jump host").exists()
        assert "jump.widgetcorp.tech" in shown(alice, url("application_add_policies"))
        response = alice.post(url("application_add_setup"), SETUP)
        application = Application.objects.get(name="Jump host")
        assert response["Location"] == url("application_detail", application.pk)
        assert application.hostname == "jump.widgetcorp.tech"
        assert application.session_duration_seconds == 3600
        assert application.certificate_lifetime_seconds == 300
        assert application.certificate_extensions == ["permit-pty"]
        assert application.bastion_destinations == ["10.0.0.0/8:22", "db.internal:22"]
        assert application.principal_overrides == {"alice@people.test": "deploy"}
        policy = application.policy_links.get().policy
        assert policy.include == [{"email": {"email": "alice@people.test"}}, {"email": {"email": "bob@people.test"}}]
        assert last_event(world.organization).name == "access.application.created"
        assert "Jump host" in shown(alice, url("applications"))

    def test_the_draft_is_gone_afterwards(self, alice: Client, world: World) -> None:
        set_up(alice)
        assert alice.get(url("application_add_setup")).status_code == 302
        assert 'value="Jump host"' not in shown(alice, url("application_add"))

    def test_double_submit_makes_one_application(self, alice: Client, world: World) -> None:
        alice.post(url("application_add"), CONFIGURE)
        alice.post(url("application_add_policies"), {**POLICY, "then": "next"})
        sent = {**SETUP, "form_id": form_id(shown(alice, url("application_add_setup")))}
        alice.post(url("application_add_setup"), sent)
        alice.post(url("application_add_setup"), sent)
        assert Application.objects.filter(name="Jump host").count() == 1

    def test_step_one_refuses_with_the_input_kept(self, alice: Client, world: World) -> None:
        bad = ({"name": ""}, {"subdomain": "not a name"}, {"subdomain": "ssh-bastion"}, {"domain": "evilcorp.tech"})
        for wrong in bad:
            response = alice.post(url("application_add"), {**CONFIGURE, **wrong})
            assert response.status_code == 422, wrong
            page = text_of(response)
            assert 'role="alert"' in page
            assert 'value="jump"' in page or "subdomain" in wrong
        assert alice.get(url("application_add_policies")).status_code == 302

    def test_another_tenants_name_is_refused_without_a_word_about_them(self, alice: Client, cast: Cast) -> None:
        Zone.objects.create(
            organization=cast.widgetcorp,
            name="shared.tech",
            skeleton="shared.tech",
            status="active",
            verification_token="t",
        )
        Application.objects.create(organization=cast.evilcorp, name="Secret plan", hostname="x.shared.tech")
        response = alice.post(url("application_add"), {**CONFIGURE, "subdomain": "x", "domain": "shared.tech"})
        assert response.status_code in {403, 422}
        assert "Secret plan" not in text_of(response)
        assert "Evil" not in text_of(response)

    def test_step_two_refuses_an_unfinished_rule(self, alice: Client, world: World) -> None:
        alice.post(url("application_add"), CONFIGURE)
        for wrong in ({"rule-0-value": ""}, {"rule-0-value": "no address"}, {"rule-0-list": "exclude"}, {"name": ""}):
            response = alice.post(url("application_add_policies"), {**POLICY, **wrong})
            assert response.status_code == 422, wrong
            assert 'role="alert"' in text_of(response)
        assert "First policy" in shown(alice, url("application_add_policies"))

    def test_step_three_refuses_with_the_input_kept(self, alice: Client, world: World) -> None:
        for wrong in ({"bastion_destinations": "localhost"}, {"principal_overrides": "alice"}):
            response = set_up(alice, **wrong)
            assert response.status_code == 422
            assert next(iter(wrong.values())) in text_of(response)
        assert not Application.objects.filter(name="Jump host").exists()

    def test_default_groups_are_suggested(self, alice: Client, world: World) -> None:
        Group.objects.filter(pk=world.group.pk).update(is_default=True)
        alice.post(url("application_add"), CONFIGURE)
        page = shown(alice, url("application_add_policies"))
        assert f'<option value="{world.group.pk}" selected>Engineering</option>' in page

    def test_reusable_policies_can_be_attached_and_dropped(self, alice: Client, world: World) -> None:
        alice.post(url("application_add"), CONFIGURE)
        alice.post(url("application_add_attach"), {"policy": str(world.reusable.pk)})
        alice.post(url("application_add_policies"), {**POLICY, "then": "more"})
        assert "Everybody of the company" in shown(alice, url("application_add_policies"))
        alice.post(url("application_add_drop"), {"number": "1"})
        alice.post(url("application_add_setup"), SETUP)
        links = Application.objects.get(name="Jump host").policy_links.all()
        assert [link.policy_id for link in links] == [world.reusable.pk]

    def test_without_zone_the_page_says_what_to_do(self, alice: Client, cast: Cast) -> None:
        assert "There is no active zone yet" in shown(alice, url("application_add"))

    def test_discarding_and_editors(self, cast: Cast, world: World) -> None:
        client = login(cast.erin)
        client.post(url("application_add"), CONFIGURE)
        client.post(url("application_add_cancel"))
        assert client.get(url("application_add_policies")).status_code == 302


class TestRuleBuilder:
    """Without JavaScript: every change of rows is a form submit that keeps what was typed."""

    def test_rows_come_and_go(self, alice: Client, world: World) -> None:
        add = url("application_policy_add", world.application.pk)
        page = text_of(alice.post(add, {**POLICY, "step": "add-row"}))
        assert "alice@people.test, bob@people.test</textarea>" in page
        assert 'name="rule-1-selector"' in page
        assert 'value="Engineers"' in page
        two = {**POLICY, "rule-1-list": "require", "rule-1-selector": "geo", "rule-1-value": "Portugal"}
        page = text_of(alice.post(add, {**two, "step": "remove-row-0"}))
        assert 'value="Portugal"' in page
        assert "alice@people.test" not in page
        assert ApplicationPolicy.objects.count() == 1

    def test_changing_rows_does_not_use_up_the_form(self, alice: Client, world: World) -> None:
        """With htmx only the rows are exchanged, so the same form_id is sent again when the form is saved."""
        add = url("application_policy_add", world.application.pk)
        sent = {**POLICY, "form_id": form_id(shown(alice, add))}
        for step in ("add-row", "refresh", "remove-row-0"):
            assert alice.post(add, {**sent, "step": step}).status_code == 200
        alice.post(add, sent)
        alice.post(add, sent)
        assert Policy.objects.filter(name="Engineers").count() == 1

    def test_changed_selector_offers_its_own_fields(self, alice: Client, world: World) -> None:
        add = url("application_policy_add", world.application.pk)
        page = text_of(alice.post(add, {**POLICY, "rule-0-selector": "group", "step": "refresh"}))
        assert f'<option value="{world.group.pk}">Engineering</option>' in page
        page = text_of(alice.post(add, {**POLICY, "rule-0-selector": "oidc", "step": "refresh"}))
        assert 'name="rule-0-claim"' in page
        assert 'name="rule-0-provider"' in page

    def test_every_selector_becomes_its_public_rule(self, alice: Client, world: World) -> None:
        rows: list[dict[str, str]] = [
            {"selector": "email", "value": "a@people.test"},
            {"selector": "email_domain", "value": "@people.test"},
            {"selector": "everyone"},
            {"selector": "ip", "value": "192.0.2.0/24; 2001:db8::/32"},
            {"selector": "geo", "value": "Portugal, us"},
            {"selector": "group", "value": "Engineering"},
            {"selector": "okta", "value": "Ops, night shift\nengineers"},
            {"selector": "oidc", "value": "blue", "claim": "team", "provider": str(world.oidc.pk)},
            {"selector": "login_method", "value": str(world.pin.pk)},
            {"selector": "service_token", "value": str(world.service_token.pk)},
            {"selector": "any_valid_service_token"},
        ]
        data = {"name": "All", "decision": "allow", "step": "save"}
        for number, row in enumerate(rows):
            data[f"rule-{number}-list"] = "include"
            data |= {f"rule-{number}-{key}": value for key, value in row.items()}
        response = alice.post(url("application_policy_add", world.application.pk), data)
        assert response.status_code == 302, text_of(response)
        provider = str(world.oidc.pk)
        assert Policy.objects.get(name="All").include == [
            {"email": {"email": "a@people.test"}},
            {"email_domain": {"domain": "people.test"}},
            {"everyone": {}},
            {"ip": {"ip": "192.0.2.0/24"}},
            {"ip": {"ip": "2001:db8::/32"}},
            {"geo": {"country_code": "PT"}},
            {"geo": {"country_code": "US"}},
            {"group": {"id": str(world.group.pk)}},
            {"okta": {"name": "Ops, night shift", "identity_provider_id": provider}},
            {"okta": {"name": "engineers", "identity_provider_id": provider}},
            {"oidc": {"claim_name": "team", "claim_value": "blue", "identity_provider_id": provider}},
            {"login_method": {"id": str(world.pin.pk)}},
            {"service_token": {"token_id": str(world.service_token.pk)}},
            {"any_valid_service_token": {}},
        ]

    def test_saving_an_untouched_policy_changes_no_rule(self, alice: Client, world: World) -> None:
        lists = {
            "include": [{"email": {"email": "a@b.test"}}, {"email": {"email": "c@d.test"}}, {"everyone": {}}],
            "require": [{"geo": {"country_code": "PT"}}],
            "exclude": [{"ip": {"ip": "10.0.0.0/8"}}],
        }
        Policy.objects.filter(pk=world.policy.pk).update(**lists)
        edit = url("application_policy_edit", world.application.pk, world.policy.pk)
        alice.post(edit, {**_fields(shown(alice, edit)), "step": "save"})
        world.policy.refresh_from_db()
        assert {name: getattr(world.policy, name) for name in lists} == lists

    def test_unknown_country_and_foreign_group_are_refused_at_the_row(
        self, alice: Client, cast: Cast, world: World
    ) -> None:
        theirs = make_world(cast.evilcorp, domain="evilcorp.tech")
        add = url("application_policy_add", world.application.pk)
        for selector, value in (("geo", "Atlantis"), ("group", str(theirs.group.pk)), ("group", "Nobody")):
            response = alice.post(add, {**POLICY, "rule-0-selector": selector, "rule-0-value": value})
            assert response.status_code == 422
            assert 'id="rule-0-error"' in text_of(response)
        assert str(theirs.group.pk) not in text_of(alice.get(add))

    def test_names_in_rules_are_escaped(self, alice: Client, world: World) -> None:
        Group.objects.filter(pk=world.group.pk).update(name=EVIL_NAME)
        Policy.objects.filter(pk=world.policy.pk).update(name=EVIL_NAME)
        for page in (
            shown(alice, url("application_detail", world.application.pk)),
            shown(alice, url("application_policies", world.application.pk)),
            shown(alice, url("application_policy_edit", world.application.pk, world.policy.pk)),
            shown(alice, url("groups")),
        ):
            assert "<script>alert" not in page
            assert "&lt;script&gt;alert" in page


class TestPolicies:
    def test_order_by_buttons(self, alice: Client, world: World) -> None:
        alice.post(url("application_policy_add", world.application.pk), {**POLICY, "name": "Second"})
        second = Policy.objects.get(name="Second")
        move = url("application_policy_move", world.application.pk, second.pk)
        assert alice.post(move, {"direction": "up"}).status_code == 302
        order = list(world.application.policy_links.order_by("precedence").values_list("policy__name", flat=True))
        assert order == ["Second", "Engineers get in"]
        assert last_event(world.organization).name == "access.policy.reordered"
        before = rows_of(world.organization)
        alice.post(move, {"direction": "up"})
        assert rows_of(world.organization) == before

    def test_attach_detach_and_delete(self, alice: Client, world: World) -> None:
        app = world.application.pk
        alice.post(url("application_policy_attach", app), {"policy": str(world.reusable.pk)})
        assert world.application.policy_links.count() == 2
        assert "Detach" in shown(alice, url("application_policies", app))
        alice.post(url("application_policy_delete", app, world.reusable.pk))
        assert Policy.objects.filter(pk=world.reusable.pk).exists()
        alice.post(url("application_policy_delete", app, world.policy.pk))
        assert not Policy.objects.filter(pk=world.policy.pk).exists()
        assert "No policy, no entry" in shown(alice, url("application_policies", app))

    def test_policy_of_another_application_is_not_found_here(self, alice: Client, cast: Cast, world: World) -> None:
        theirs = make_world(cast.evilcorp, domain="evilcorp.tech")
        for name in ("application_policy_edit", "application_policy_delete"):
            assert alice.get(url(name, world.application.pk, theirs.policy.pk)).status_code == 404
        response = alice.post(
            url("application_policy_attach", world.application.pk), {"policy": str(theirs.reusable.pk)}
        )
        assert response.status_code == 422
        assert world.application.policy_links.count() == 1

    def test_reusable_policies_have_a_page(self, alice: Client, world: World) -> None:
        alice.post(url("policy_add"), {**POLICY, "name": "Shared"})
        shared = Policy.objects.get(name="Shared")
        assert shared.reusable
        assert "Shared" in shown(alice, url("policies"))
        alice.post(url("policy_edit", shared.pk), {**POLICY, "name": "Shared 2", "decision": "deny"})
        shared.refresh_from_db()
        assert (shared.name, shared.decision) == ("Shared 2", "deny")
        alice.post(url("application_policy_attach", world.application.pk), {"policy": str(shared.pk)})
        assert alice.post(url("policy_delete", shared.pk)).status_code == 422
        assert Policy.objects.filter(pk=shared.pk).exists()

    def test_service_auth_policies_cannot_ask_about_people(self, alice: Client, world: World) -> None:
        data = {**POLICY, "decision": "non_identity"}
        response = alice.post(url("application_policy_add", world.application.pk), data)
        assert response.status_code == 422
        assert "before anyone logs in" in text_of(response)

    def test_warnings_are_shown(self, alice: Client, world: World) -> None:
        Policy.objects.filter(pk=world.policy.pk).update(include=[{"everyone": {}}])
        assert "Everyone who can log in" in shown(alice, url("application_policies", world.application.pk))


class TestTabs:
    def test_overview(self, alice: Client, world: World) -> None:
        page = shown(alice, url("application_detail", world.application.pk))
        assert world.application.aud in page
        assert "group Engineering" in page

    def test_ssh_profile(self, alice: Client, world: World) -> None:
        edit = url("application_ssh_edit", world.application.pk)
        assert alice.post(edit, SETUP).status_code == 302
        world.application.refresh_from_db()
        assert world.application.certificate_lifetime_seconds == 300
        assert world.application.principal_overrides == {"alice@people.test": "deploy"}
        assert "alice@people.test = deploy" in shown(alice, url("application_ssh", world.application.pk))
        assert last_event(world.organization).name == "access.application.updated"
        response = alice.post(edit, {**SETUP, "principal_overrides": "alice@people.test = Not An Account"})
        assert response.status_code == 422

    def test_settings(self, alice: Client, world: World) -> None:
        data = {
            "name": "Renamed",
            "domain": "renamed.widgetcorp.tech",
            "session_duration_seconds": "900",
            "allowed_provider_ids": [str(world.oidc.pk)],
            "auto_redirect_to_identity": "on",
        }
        edit = url("application_settings_edit", world.application.pk)
        assert alice.post(edit, data).status_code == 302
        world.application.refresh_from_db()
        assert (world.application.name, world.application.hostname) == ("Renamed", "renamed.widgetcorp.tech")
        assert not world.application.app_launcher_visible
        assert [provider.pk for provider in world.application.allowed_providers.all()] == [world.oidc.pk]
        response = alice.post(edit, {**data, "domain": "elsewhere.test"})
        assert response.status_code == 422
        assert 'value="elsewhere.test"' in text_of(response)

    def test_revoking_tokens(self, alice: Client, world: World) -> None:
        alice.post(url("application_revoke_tokens", world.application.pk))
        assert last_event(world.organization).name == "access.application.tokens_revoked"

    def test_delete_needs_the_typed_name(self, alice: Client, world: World) -> None:
        delete = url("application_delete", world.application.pk)
        assert alice.post(delete, {"confirmation": "ssh bastion"}).status_code == 422
        assert Application.objects.filter(pk=world.application.pk).exists()
        response = alice.post(delete, {"confirmation": "SSH bastion"})
        assert response.status_code in {302, 422}, text_of(response)

    def test_viewer_sees_everything_disabled(self, cast: Cast, world: World) -> None:
        client = login(cast.bob)
        for name in ("application_ssh", "application_settings"):
            page = shown(client, url(name, world.application.pk))
            assert '<fieldset class="stack" disabled>' in page
        assert "Add an application" not in shown(client, url("applications"))
        assert "Delete application" not in shown(client, url("application_detail", world.application.pk))


class TestList:
    def test_search_paging_and_budget(
        self, alice: Client, world: World, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        for number in range(60):
            Application.objects.create(
                organization=world.organization, name=f"App {number:02}", hostname=f"app{number}.widgetcorp.tech"
            )
        with django_assert_max_num_queries(7):
            page = shown(alice, url("applications"))
        assert "1 to 25 of 61" in page
        assert "none: nobody gets in" in page
        page = shown(alice, url("applications") + "?q=app 59")
        assert page.count("<tr>") == 2
        assert "Nothing matches" in shown(alice, url("applications") + "?q=zzz")

    def test_empty_state_teaches(self, alice: Client, cast: Cast) -> None:
        assert "Protect your first host" in shown(alice, url("applications"))


def _fields(page: str) -> dict[str, str]:
    """What a browser would send from the first form of a page with post method and rules."""
    from html.parser import HTMLParser

    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: dict[str, str] = {}
            self.select = self.area = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            values = dict(attrs)
            name = values.get("name") or ""
            if tag == "select":
                self.select = name
            elif tag == "option" and ("selected" in values or self.select not in self.found):
                self.found[self.select] = values.get("value") or ""
            elif tag == "textarea":
                self.area = name
                self.found[name] = ""
            elif tag == "input" and values.get("type") not in {"checkbox", "search"} and name:
                self.found[name] = values.get("value") or ""

        def handle_endtag(self, tag: str) -> None:
            if tag == "textarea":
                self.area = ""

        def handle_data(self, data: str) -> None:
            if self.area:
                self.found[self.area] += data.removeprefix("\n") if not self.found[self.area] else data

    reader = Reader()
    reader.feed(page)
    return reader.found
