"""Applications: wizard, list, tabs, policies and their order, deletion."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from access.models import Application, ApplicationDraft, ApplicationPolicy, Certificate, Group, Policy
from access.tasks import sweep_expired
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


def begin(client: Client, **changed: Any) -> ApplicationDraft:
    """Step 1, sent and accepted."""
    response = client.post(url("application_add"), {**CONFIGURE, **changed})
    assert response.status_code == 302, text_of(response)
    draft = ApplicationDraft.objects.order_by("-created_at").first()
    assert draft is not None
    assert response["Location"] == url("application_draft_policies", draft.pk)
    return draft


def set_up(client: Client, **changed: Any) -> Any:
    draft = begin(client)
    policies = client.post(url("application_draft_policies", draft.pk), {**POLICY, "then": "next"})
    assert policies["Location"] == url("application_draft_setup", draft.pk)
    return client.post(url("application_draft_setup", draft.pk), {**SETUP, **changed})


@pytest.fixture(autouse=True)
def _no_drafts(request: pytest.FixtureRequest) -> None:
    """The world comes with a draft of alice's; here they are counted."""
    if "world" in request.fixturenames:
        request.getfixturevalue("world")
        ApplicationDraft.objects.all().delete()


class TestWizard:
    def test_three_steps_make_application_and_policy_at_once(self, alice: Client, world: World) -> None:
        page = shown(alice, url("application_add"))
        assert '<option value="widgetcorp.tech">' in page
        draft = begin(alice, tags="Production, ssh")
        response = alice.post(url("application_draft_policies", draft.pk), {**POLICY, "then": "next"})
        assert response["Location"] == url("application_draft_setup", draft.pk)
        assert not Application.objects.filter(name="Jump host").exists()
        assert "jump.widgetcorp.tech" in shown(alice, url("application_draft_policies", draft.pk))
        response = alice.post(url("application_draft_setup", draft.pk), SETUP)
        application = Application.objects.get(name="Jump host")
        assert response["Location"] == url("application_way_in", application.pk)
        assert application.hostname == "jump.widgetcorp.tech"
        assert application.session_duration_seconds == 3600
        assert application.certificate_lifetime_seconds == 300
        assert application.certificate_extensions == ["permit-pty"]
        assert application.bastion_destinations == ["10.0.0.0/8:22", "db.internal:22"]
        assert application.principal_overrides == {"alice@people.test": "deploy"}
        assert [tag.name for tag in application.tags.all()] == ["production", "ssh"]
        policy = application.policy_links.get().policy
        assert policy.include == [{"email": {"email": "alice@people.test"}}, {"email": {"email": "bob@people.test"}}]
        assert last_event(world.organization).name == "access.application.created"
        assert "Jump host" in shown(alice, url("applications"))
        assert not ApplicationDraft.objects.exists()

    def test_the_end_says_what_to_do_next(self, alice: Client, world: World) -> None:
        response = set_up(alice)
        page = text_of(alice.get(response["Location"]))
        assert "What to do next" in page
        assert "sallyport tunnel route dns ssh-pool jump.widgetcorp.tech" in page
        assert "No DNS record leads jump.widgetcorp.tech to the edge." in page

    def test_web_settings_of_the_last_step_are_stored_as_the_api_has_them(self, alice: Client, world: World) -> None:
        sent = {
            "same_site_cookie_attribute": "strict",
            "cors": "answer",
            "cors_origins": "https://app.example.com",
            "cors_methods": ["GET", "POST"],
            "cors_all_headers": "on",
            "cors_max_age": "600",
        }
        assert set_up(alice, **sent).status_code == 302
        assert Application.objects.get(name="Jump host").settings == {
            "same_site_cookie_attribute": "strict",
            "http_only_cookie_attribute": False,
            "cors_headers": {
                "allowed_origins": ["https://app.example.com"],
                "allowed_methods": ["GET", "POST"],
                "allow_all_headers": True,
                "max_age": 600,
            },
        }

    def test_double_submit_makes_one_application(self, alice: Client, world: World) -> None:
        draft = begin(alice)
        alice.post(url("application_draft_policies", draft.pk), {**POLICY, "then": "next"})
        sent = {**SETUP, "form_id": form_id(shown(alice, url("application_draft_setup", draft.pk)))}
        alice.post(url("application_draft_setup", draft.pk), sent)
        alice.post(url("application_draft_setup", draft.pk), sent)
        assert Application.objects.filter(name="Jump host").count() == 1

    def test_step_one_refuses_with_the_input_kept(self, alice: Client, world: World) -> None:
        bad: tuple[dict[str, Any], ...] = (
            {"name": ""},
            {"subdomain": "not a name"},
            {"subdomain": "ssh-bastion"},
            {"domain": "evilcorp.tech"},
            {"auto_redirect_to_identity": "on"},
            {"logo_url": "http://example.com/logo.png"},
            {"custom_deny_url": "javascript:alert(1)"},
        )
        for wrong in bad:
            response = alice.post(url("application_add"), {**CONFIGURE, **wrong})
            assert response.status_code == 422, wrong
            page = text_of(response)
            assert 'role="alert"' in page
            assert 'value="jump"' in page or "subdomain" in wrong
        assert not ApplicationDraft.objects.exists()

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
        assert response.status_code == 422
        assert "Secret plan" not in text_of(response)
        assert "Evil" not in text_of(response)

    def test_step_two_refuses_an_unfinished_rule(self, alice: Client, world: World) -> None:
        draft = begin(alice)
        for wrong in ({"rule-0-value": ""}, {"rule-0-value": "no address"}, {"rule-0-list": "exclude"}, {"name": ""}):
            response = alice.post(url("application_draft_policies", draft.pk), {**POLICY, **wrong})
            assert response.status_code == 422, wrong
            assert 'role="alert"' in text_of(response)
        assert "First policy" in shown(alice, url("application_draft_policies", draft.pk))

    def test_step_three_refuses_with_the_input_kept(self, alice: Client, world: World) -> None:
        bad: tuple[dict[str, Any], ...] = (
            {"bastion_destinations": "localhost"},
            {"principal_overrides": "alice"},
            {"cors": "answer", "cors_origins": "example.com/path", "cors_methods": ["GET"]},
            {"cors_max_age": "99999999"},
        )
        for number, wrong in enumerate(bad):
            draft = begin(alice, subdomain=f"jump{number}")
            response = alice.post(url("application_draft_setup", draft.pk), {**SETUP, **wrong})
            assert response.status_code == 422, wrong
            assert 'class="errorlist"' in text_of(response)
        assert not Application.objects.filter(name="Jump host").exists()

    def test_default_groups_are_suggested(self, alice: Client, world: World) -> None:
        Group.objects.filter(pk=world.group.pk).update(is_default=True)
        page = shown(alice, url("application_draft_policies", begin(alice).pk))
        assert f'<option value="{world.group.pk}" selected>Engineering</option>' in page

    def test_reusable_policies_can_be_attached_ordered_and_dropped(self, alice: Client, world: World) -> None:
        draft = begin(alice)
        policies, arrange = url("application_draft_policies", draft.pk), url("application_draft_arrange", draft.pk)
        alice.post(url("application_draft_attach", draft.pk), {"policy": str(world.reusable.pk)})
        alice.post(policies, {**POLICY, "then": "more"})
        alice.post(arrange, {"number": "1", "do": "up"})
        page = shown(alice, policies)
        assert page.index("1. Engineers") < page.index("2. Everybody of the company")
        alice.post(arrange, {"number": "0", "do": "remove"})
        alice.post(url("application_draft_setup", draft.pk), SETUP)
        links = Application.objects.get(name="Jump host").policy_links.all()
        assert [link.policy_id for link in links] == [world.reusable.pk]

    def test_preview_says_who_gets_in_and_saves_nothing(self, alice: Client, world: World) -> None:
        draft = begin(alice)
        sent = {**POLICY, "rule-0-value": "carol@people.test", "step": "preview"}
        page = text_of(alice.post(url("application_draft_policies", draft.pk), sent))
        assert "Who gets in, with the policy below" in page
        assert "1 get in" in page and "carol@people.test" in page
        sent["rule-0-value"] = "dora@people.test"
        assert "1 are refused" in text_of(alice.post(url("application_draft_policies", draft.pk), sent))
        draft.refresh_from_db()
        assert "policies" not in draft.data

    def test_without_zone_the_page_says_what_to_do(self, alice: Client, cast: Cast) -> None:
        assert "There is no active zone yet" in shown(alice, url("application_add"))


class TestDrafts:
    def test_a_draft_is_kept_as_it_is_and_goes_on_later(self, alice: Client, world: World) -> None:
        unfinished = {**CONFIGURE, "name": "Half done", "subdomain": "not a name", "then": "later"}
        assert alice.post(url("application_add"), unfinished)["Location"] == url("application_drafts")
        draft = ApplicationDraft.objects.get()
        assert last_event(world.organization).name == "access.application_draft.saved"
        assert "Half done" in shown(alice, url("application_drafts"))
        page = shown(alice, url("application_draft", draft.pk))
        assert 'value="not a name"' in page and 'value="Half done"' in page
        for name in ("policies", "setup"):
            answer = alice.get(url(f"application_draft_{name}", draft.pk))
            assert answer["Location"] == url("application_draft", draft.pk)

    def test_several_drafts_side_by_side(self, alice: Client, world: World) -> None:
        first, second = begin(alice, name="One"), begin(alice, name="Two", subdomain="two")
        alice.post(url("application_draft_policies", second.pk), {**POLICY, "then": "more"})
        alice.post(url("application_draft_setup", second.pk), {**SETUP, "then": "later", "cors_max_age": "bad"})
        assert 'value="bad"' in shown(alice, url("application_draft_setup", second.pk))
        assert "2 drafts to go on with" in shown(alice, url("application_add"))
        assert "Drafts (2)" in shown(alice, url("applications"))
        assert alice.post(url("application_draft_setup", second.pk), SETUP).status_code == 302
        assert Application.objects.get(name="Two").policy_links.count() == 1
        assert list(ApplicationDraft.objects.all()) == [first]

    def test_nobody_else_sees_it(self, alice: Client, cast: Cast, world: World) -> None:
        draft = begin(alice)
        erin = login(cast.erin)
        for name in ("", "_policies", "_setup"):
            assert erin.get(url(f"application_draft{name}", draft.pk)).status_code == 404
        assert erin.post(url("application_draft_discard", draft.pk)).status_code == 404
        assert "Jump host" not in shown(erin, url("application_drafts"))

    def test_discarding(self, alice: Client, world: World) -> None:
        draft = begin(alice)
        assert "Discard the draft Jump host?" in shown(alice, url("application_draft_discard", draft.pk))
        assert ApplicationDraft.objects.exists()
        alice.post(url("application_draft_discard", draft.pk))
        assert not ApplicationDraft.objects.exists()
        assert last_event(world.organization).name == "access.application_draft.discarded"
        assert "No drafts" in shown(alice, url("application_drafts"))

    def test_forgotten_after_thirty_days(self, alice: Client, world: World) -> None:
        old, young = begin(alice), begin(alice, subdomain="young")
        ApplicationDraft.objects.filter(pk=old.pk).update(expires_at=timezone.now())
        assert alice.get(url("application_draft", old.pk)).status_code == 404
        sweep_expired()
        assert list(ApplicationDraft.objects.all()) == [young]
        assert timedelta(days=29) < young.expires_at - timezone.now() <= timedelta(days=30)


class TestInlineChecks:
    def check(self, client: Client, field: str, **changed: Any) -> str:
        response = client.post(url("application_check"), {**CONFIGURE, **changed, "field": field})
        assert response.status_code == 200
        return text_of(response)

    def test_the_domain_is_judged_while_it_is_typed(self, alice: Client, world: World) -> None:
        assert "jump.widgetcorp.tech is free and yours" in self.check(alice, "subdomain")
        taken = self.check(alice, "subdomain", subdomain="ssh-bastion")
        assert "SSH bastion is at ssh-bastion.widgetcorp.tech already" in taken
        assert "not a hostname" in self.check(alice, "subdomain", subdomain="not a name")
        Zone.objects.update(status="pending")
        assert 'class="errorlist"' in self.check(alice, "domain")

    def test_a_field_that_is_not_asked_about_is_not_judged(self, alice: Client, world: World) -> None:
        assert "errorlist" not in self.check(alice, "logo_url", name="")
        assert "begins with https" in self.check(alice, "logo_url", logo_url="ftp://x")
        assert "This field is required" in self.check(alice, "name", name="")
        assert self.check(alice, "csrfmiddlewaretoken").strip() == ""

    def test_fields_of_the_last_step(self, alice: Client, world: World) -> None:
        assert "write e-mail = account name" in self.check(alice, "principal_overrides", principal_overrides="alice")
        assert not rows_changed(world)


def rows_changed(world: World) -> bool:
    return Application.objects.for_organization(world.organization).count() != 1 or ApplicationDraft.objects.exists()


class TestRuleBuilder:
    """Without JavaScript: every change of rows is a form submit that keeps what was typed."""

    def test_rows_come_and_go(self, alice: Client, world: World) -> None:
        add = url("application_policy_add", world.application.pk)
        page = text_of(alice.post(add, {**POLICY, "step": "add-row"}))
        assert 'id="rule-0-value" name="rule-0-value" value="alice@people.test"' in page
        assert 'id="rule-0-value-1" name="rule-0-value" value="bob@people.test"' in page
        assert 'name="rule-1-selector"' in page
        assert 'value="Engineers"' in page
        two = {**POLICY, "rule-1-list": "require", "rule-1-selector": "geo", "rule-1-value": "Portugal"}
        page = text_of(alice.post(add, {**two, "step": "remove-row-0"}))
        assert 'value="Portugal"' in page
        assert 'value="alice@people.test"' not in page
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

    def order(self, world: World) -> list[str]:
        return list(world.application.policy_links.order_by("precedence").values_list("policy__name", flat=True))

    def three(self, alice: Client, world: World) -> list[str]:
        for name in ("Second", "Third"):
            alice.post(url("application_policy_add", world.application.pk), {**POLICY, "name": name})
        return [str(link.policy_id) for link in world.application.policy_links.order_by("precedence")]

    def test_the_whole_order_in_one_post(self, alice: Client, world: World) -> None:
        one, two, three = self.three(alice, world)
        sent = {"order": f"{three},{one},{two}", "seen": f"{one},{two},{three}"}
        assert f'value="{one},{two},{three}"' in shown(alice, url("application_policies", world.application.pk))
        alice.post(url("application_policies_order", world.application.pk), sent)
        assert self.order(world) == ["Third", "Engineers get in", "Second"]
        assert last_event(world.organization).name == "access.policy.reordered"

    def test_two_people_ordering_at_once(self, alice: Client, cast: Cast, world: World) -> None:
        one, two, three = self.three(alice, world)
        seen, address = f"{one},{two},{three}", url("application_policies_order", world.application.pk)
        login(cast.erin).post(address, {"order": f"{two},{one},{three}", "seen": seen})
        response = alice.post(address, {"order": f"{three},{two},{one}", "seen": seen}, follow=True)
        assert "Somebody changed the policies or their order meanwhile" in text_of(response)
        assert self.order(world) == ["Second", "Engineers get in", "Third"]
        move = url("application_policy_move", world.application.pk, three)
        response = alice.post(move, {"direction": "up", "seen": seen}, follow=True)
        assert "Somebody changed the policies or their order meanwhile" in text_of(response)
        assert self.order(world) == ["Second", "Engineers get in", "Third"]

    def test_a_made_up_order_changes_nothing(self, alice: Client, world: World) -> None:
        one, two, three = self.three(alice, world)
        address, before = url("application_policies_order", world.application.pk), self.order(world)
        for order in (f"{one},{two}", f"{one},{one},{two}", "x", "", f"{one},{two},{three},{world.reusable.pk}"):
            alice.post(address, {"order": order, "seen": f"{one},{two},{three}"})
        assert self.order(world) == before

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
            "session_duration_seconds": "0",
            "tags": "Production",
            "logo_url": "https://example.com/logo.png",
            "http_only_cookie_attribute": "on",
            "cors": "pass",
        }
        Application.objects.filter(pk=world.application.pk).update(settings={"reserved_principals": ["deploy"]})
        edit = url("application_settings_edit", world.application.pk)
        assert alice.post(edit, data).status_code == 302
        world.application.refresh_from_db()
        assert (world.application.name, world.application.hostname) == ("Renamed", "renamed.widgetcorp.tech")
        assert not world.application.app_launcher_visible
        assert world.application.session_duration_seconds == 0
        assert world.application.settings == {
            "reserved_principals": ["deploy"],
            "logo_url": "https://example.com/logo.png",
            "options_preflight_bypass": True,
        }
        page = shown(alice, url("application_settings", world.application.pk))
        assert 'value="pass" selected' in page
        response = alice.post(edit, {**data, "domain": "elsewhere.test"})
        assert response.status_code in {403, 422}

    def test_authentication(self, alice: Client, world: World) -> None:
        edit = url("application_authentication_edit", world.application.pk)
        data = {"allowed_provider_ids": [str(world.oidc.pk)], "auto_redirect_to_identity": "on"}
        assert alice.post(edit, data).status_code == 302
        world.application.refresh_from_db()
        assert [provider.pk for provider in world.application.allowed_providers.all()] == [world.oidc.pk]
        assert world.application.auto_redirect_to_identity
        page = shown(alice, url("application_authentication", world.application.pk))
        assert f'value="{world.oidc.pk}"' in page
        response = alice.post(edit, {"auto_redirect_to_identity": "on"})
        assert response.status_code == 422
        assert "Tick exactly one login method" in text_of(response)

    def test_revoking_tokens(self, alice: Client, world: World) -> None:
        before = rows_of(world.organization)
        page = shown(alice, url("application_revoke_tokens", world.application.pk))
        assert "connections that run over one are cut" in page
        assert rows_of(world.organization) == before
        alice.post(url("application_revoke_tokens", world.application.pk))
        assert last_event(world.organization).name == "access.application.tokens_revoked"

    def test_delete_needs_the_typed_name(self, alice: Client, world: World) -> None:
        delete = url("application_delete", world.application.pk)
        assert alice.post(delete, {"confirmation": "ssh bastion"}).status_code == 422
        assert Application.objects.filter(pk=world.application.pk).exists()
        response = alice.post(delete, {"confirmation": "SSH bastion"})
        assert response["Location"] == url("applications")
        assert not Application.objects.filter(pk=world.application.pk).exists()

    def test_delete_names_what_goes_with_it(self, alice: Client, world: World) -> None:
        alice.post(url("application_policy_attach", world.application.pk), {"policy": str(world.reusable.pk)})
        page = shown(alice, url("application_delete", world.application.pk))
        assert "Its own policy goes with it: Engineers get in." in page
        assert "Reusable policies stay: Everybody of the company." in page
        assert world.authority.fingerprint in page
        assert "1 certificate is still valid" in page
        Certificate.objects.update(revoked_at=timezone.now())
        assert "still valid" not in shown(alice, url("application_delete", world.application.pk))

    def test_duplicate(self, alice: Client, world: World) -> None:
        alice.post(url("application_policy_attach", world.application.pk), {"policy": str(world.reusable.pk)})
        Application.objects.filter(pk=world.application.pk).update(settings={"logo_url": "https://example.com/l.png"})
        duplicate = url("application_duplicate", world.application.pk)
        assert "Everybody of the company" in shown(alice, duplicate)
        same = {"name": "Copy", "subdomain": "ssh-bastion", "domain": "widgetcorp.tech"}
        assert alice.post(duplicate, same).status_code == 422
        response = alice.post(duplicate, {**same, "subdomain": "copy"})
        copy = Application.objects.get(name="Copy")
        assert response["Location"] == url("application_way_in", copy.pk)
        assert copy.hostname == "copy.widgetcorp.tech" and copy.aud != world.application.aud
        assert copy.settings == {"logo_url": "https://example.com/l.png"}
        own, shared = [link.policy for link in copy.policy_links.order_by("precedence")]
        assert (own.name, own.reusable, shared.pk) == ("Engineers get in", False, world.reusable.pk)
        assert own.pk != world.policy.pk and own.include == Policy.objects.get(pk=world.policy.pk).include
        assert not copy.ssh_authorities.exists()
        event = last_event(world.organization)
        assert (event.name, (event.new or {})["copied_from"]) == (
            "access.application.created",
            str(world.application.pk),
        )

    def test_viewer_sees_everything_disabled(self, cast: Cast, world: World) -> None:
        client = login(cast.bob)
        for name in ("application_ssh", "application_settings", "application_authentication"):
            page = shown(client, url(name, world.application.pk))
            assert '<fieldset class="stack" disabled>' in page
        assert "Add an application" not in shown(client, url("applications"))
        assert "Delete application" not in shown(client, url("application_detail", world.application.pk))


class TestList:
    def test_search_paging_and_budget(
        self, alice: Client, world: World, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        shown(alice, url("applications"))
        with CaptureQueriesContext(connection) as first:
            shown(alice, url("applications"))
        for number in range(60):
            application = Application.objects.create(
                organization=world.organization, name=f"App {number:02}", hostname=f"app{number}.widgetcorp.tech"
            )
            application.tags.add(world.tag)
        with django_assert_num_queries(len(first)):
            page = shown(alice, url("applications"))
        assert "1 to 25 of 61" in page
        assert "nobody gets in" in page
        page = shown(alice, url("applications") + "?q=app 59")
        assert page.count("<tr>") == 2
        assert "Nothing matches" in shown(alice, url("applications") + "?q=zzz")

    def test_filters(self, alice: Client, world: World) -> None:
        other = Application.objects.create(
            organization=world.organization, name="Nothing yet", hostname="n.widgetcorp.tech"
        )
        world.application.tags.add(world.tag)

        def names(query: str) -> set[str]:
            page = shown(alice, url("applications") + query)
            return {row.name for row in (world.application, other) if f"<strong>{row.name}</strong>" in page}

        with_everything = {world.application.name}
        for query in ("?policy=yes", "?ssh=yes", "?tunnel=yes", f"?tag={world.tag.name}"):
            assert names(query) == with_everything, query
        for query in ("?policy=no", "?ssh=no", "?tunnel=no"):
            assert names(query) == {"Nothing yet"}, query
        assert (
            names("?type=self_hosted") == names("?type=nonsense&tag=unknown") == {world.application.name, "Nothing yet"}
        )
        world.connector.connections.update(closed_at=timezone.now())
        assert names("?tunnel=yes") == set()

    def test_order_by_column(self, alice: Client, world: World) -> None:
        Application.objects.create(organization=world.organization, name="Aaa", hostname="zzz.widgetcorp.tech")

        def first(query: str) -> bool:
            page = shown(alice, url("applications") + query)
            return page.index("<strong>Aaa</strong>") < page.index("<strong>SSH bastion</strong>")

        assert first("") and first("?sort=policies") and first("?sort=-domain")
        assert not first("?sort=-name") and not first("?sort=domain") and not first("?sort=-policies")
        assert first("?sort=organization__name") and first("?sort=--name")
        assert 'aria-sort="descending"' in shown(alice, url("applications") + "?sort=-name")

    def test_tags_are_edited_from_the_list(self, alice: Client, world: World) -> None:
        edit = url("application_tags_edit", world.application.pk)
        assert edit in shown(alice, url("applications"))
        assert alice.post(edit, {"tags": "production, new word"}).status_code == 302
        assert {tag.name for tag in world.application.tags.all()} == {"new word", "production"}
        assert "new word" in shown(alice, url("applications"))
        assert alice.post(edit, {"tags": "bad/word"}).status_code == 422
        alice.post(edit, {"tags": ""})
        assert not world.application.tags.exists()

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
                # Several fields of one name: the values of one rule.
                before = self.found.get(self.select, "") if self.select.endswith("-value") else ""
                self.found[self.select] = "\n".join(filter(None, [before, values.get("value")]))
            elif tag == "textarea":
                self.area = name
                self.found[name] = ""
            elif tag == "input" and values.get("type") not in {"checkbox", "search"} and name:
                before = self.found.get(name, "") if name.endswith("-value") else ""
                self.found[name] = "\n".join(filter(None, [before, values.get("value")]))

        def handle_endtag(self, tag: str) -> None:
            if tag == "textarea":
                self.area = ""

        def handle_data(self, data: str) -> None:
            if self.area:
                self.found[self.area] += data.removeprefix("\n") if not self.found[self.area] else data

    reader = Reader()
    reader.feed(page)
    return reader.found
