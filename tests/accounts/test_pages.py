"""My Team, Settings and audit pages: work, role, tenant, effect, audit, escaping, double submits, query budgets."""

from __future__ import annotations

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from accounts.actor import system
from accounts.audit import record
from accounts.models import (
    AccessSession,
    ApiToken,
    AuditEvent,
    Identity,
    IdentityProvider,
    Membership,
    Organization,
    User,
)
from accounts.permissions import Role
from tests.factories import PASSWORD, Cast, make_user
from tests.pages_kit import EVIL_NAME, browser, event_names, form_id, last_event, login, shown, text_of
from tests.world import World, make_world


@pytest.fixture
def world(cast: Cast) -> World:
    return make_world(cast.widgetcorp, domain="widgetcorp.tech")


@pytest.fixture
def alice(cast: Cast) -> Client:
    return login(cast.alice)


def url(name: str, *args: object) -> str:
    return reverse(name, args=["widgetcorp", *args])


class TestSignIn:
    def test_login_leads_to_the_only_organization(self, cast: Cast) -> None:
        client = browser()
        page = shown(client, "/accounts/login/?next=/")
        assert "Sign in with a passkey" in page
        assert "sign up" not in page.lower()
        response = client.post("/accounts/login/", {"login": cast.alice.email, "password": PASSWORD})
        assert response.status_code == 302
        assert client.get("/")["Location"] == "/o/widgetcorp/"

    def test_wrong_password_says_so_and_keeps_the_address(self, cast: Cast) -> None:
        response = browser().post("/accounts/login/", {"login": cast.alice.email, "password": "wrong"})
        assert response.status_code == 200
        assert 'role="alert"' in text_of(response)
        assert cast.alice.email in text_of(response)

    def test_deep_links_survive_the_login(self, cast: Cast) -> None:
        client = browser()
        asked = client.get("/o/widgetcorp/team/members/")
        response = client.post(asked["Location"], {"login": cast.alice.email, "password": PASSWORD})
        assert response["Location"] == "/o/widgetcorp/team/members/"

    def test_sign_out_needs_a_post(self, alice: Client) -> None:
        alice.get("/accounts/logout/")
        assert alice.get("/o/widgetcorp/").status_code == 200
        alice.post("/accounts/logout/")
        assert alice.get("/o/widgetcorp/").status_code == 302

    @pytest.mark.parametrize("path", ["2fa/", "2fa/totp/activate/", "2fa/webauthn/add/", "password/change/", "email/"])
    def test_account_pages_are_styled_and_free_of_inline_code(self, alice: Client, path: str) -> None:
        response = alice.get(f"/accounts/{path}", follow=True)
        page = text_of(response)
        assert response.status_code == 200
        assert "/static/tokens.css" in page
        assert " style=" not in page
        assert "<script>" not in page

    def test_password_reset_sends_a_mail(self, cast: Cast) -> None:
        assert browser().post("/accounts/password/reset/", {"email": cast.alice.email}).status_code == 302
        assert cast.alice.email in mail.outbox[0].to


class TestOrganizations:
    def test_choice_and_switcher(self, cast: Cast) -> None:
        Membership.objects.create(organization=cast.evilcorp, user=cast.alice, role=Role.VIEWER)
        client = login(cast.alice)
        page = shown(client, "/")
        assert "/o/widgetcorp/" in page
        assert "/o/evilcorp/" in page
        assert "/o/evilcorp/" in shown(client, "/o/widgetcorp/")
        assert client.get("/")["Location"] == "/o/widgetcorp/"  # the one used last

    def test_without_any_organization(self, db: None) -> None:
        user = User.objects.create_user("nobody@people.test", PASSWORD)
        assert "not a member of any organization" in shown(login(user), "/")

    def test_unknown_addresses_have_a_page(self, alice: Client) -> None:
        response = alice.get("/o/unknown/")
        assert response.status_code == 404
        assert "There is nothing here" in text_of(response)

    def test_settings(self, alice: Client, cast: Cast) -> None:
        assert cast.widgetcorp.team_domain in shown(alice, url("organization_settings"))
        data = {"name": "Widget Corporation", "session_duration_seconds": "3600", "auto_redirect_to_identity": "on"}
        assert alice.post(url("organization_settings_edit"), data).status_code == 302
        cast.widgetcorp.refresh_from_db()
        assert cast.widgetcorp.name == "Widget Corporation"
        assert cast.widgetcorp.session_duration_seconds == 3600
        assert last_event(cast.widgetcorp).name == "accounts.organization.updated"

    def test_refused_settings_keep_the_input(self, alice: Client, cast: Cast) -> None:
        response = alice.post(url("organization_settings_edit"), {"name": "", "session_duration_seconds": "3600"})
        assert response.status_code == 422
        assert 'aria-invalid="true"' in text_of(response)
        assert '<option value="3600" selected>' in text_of(response)
        assert event_names(cast.widgetcorp) == []

    def test_team_name_cannot_be_changed_by_adding_a_field(self, alice: Client, cast: Cast) -> None:
        data = {"name": "Widget Corp", "session_duration_seconds": "3600", "team_name": "stolen", "id": "0" * 32}
        alice.post(url("organization_settings_edit"), data)
        cast.widgetcorp.refresh_from_db()
        assert cast.widgetcorp.team_name == "widgetcorp"


class TestUsers:
    def test_list_and_detail(self, alice: Client, world: World) -> None:
        assert "carol@people.test" in shown(alice, url("users"))
        assert "Nothing matches" in shown(alice, url("users") + "?q=nobody")
        assert "carol@people.test" not in shown(alice, url("users") + "?state=disabled")
        page = shown(alice, url("user_detail", world.identity.pk))
        assert "subject-1" in page
        assert "on-call" in page

    def test_disable_and_enable(self, alice: Client, world: World) -> None:
        assert alice.post(url("user_disable", world.identity.pk)).status_code == 302
        world.identity.refresh_from_db()
        world.session.refresh_from_db()
        assert world.identity.disabled_at is not None
        assert world.session.revoked_at is not None
        assert last_event(world.organization).name == "accounts.identity.disabled"
        assert "Blocked" in shown(alice, url("users") + "?state=disabled")
        assert "Unblock" in shown(alice, url("user_detail", world.identity.pk))
        alice.post(url("user_enable", world.identity.pk))
        world.identity.refresh_from_db()
        assert world.identity.disabled_at is None

    def test_sessions_end_one_by_one_or_all_at_once(self, alice: Client, world: World) -> None:
        alice.post(url("session_revoke", world.session.pk))
        world.session.refresh_from_db()
        assert world.session.revoked_at is not None
        assert last_event(world.organization).name == "accounts.session.revoked"
        alice.post(url("user_revoke_sessions", world.identity.pk))
        assert last_event(world.organization).name == "accounts.session.all_revoked"

    def test_viewer_sees_no_buttons(self, cast: Cast, world: World) -> None:
        page = shown(login(cast.bob), url("user_detail", world.identity.pk))
        assert "Block this person" not in page
        assert "End session" not in page

    def test_names_are_escaped(self, alice: Client, world: World) -> None:
        Identity.objects.filter(pk=world.identity.pk).update(name=EVIL_NAME, groups=[EVIL_NAME])
        for page in (shown(alice, url("users")), shown(alice, url("user_detail", world.identity.pk))):
            assert "<script>alert" not in page
            assert "&lt;script&gt;alert" in page

    def test_query_budget(
        self, alice: Client, world: World, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        for number in range(60):
            Identity.objects.create(
                organization=world.organization,
                provider=world.oidc,
                subject=f"s{number}",
                email=f"u{number}@people.test",
            )
        with django_assert_max_num_queries(9):
            page = shown(alice, url("users"))
        assert "1 to 25 of 61" in page
        assert 'href="?page=2"' in page
        assert "51 to 61 of 61" in shown(alice, url("users") + "?page=3")


class TestMembers:
    def test_role_and_removal(self, alice: Client, cast: Cast) -> None:
        membership = cast.bob.memberships.get()
        assert alice.post(url("member_change_role", membership.pk), {"role": "editor"}).status_code == 302
        membership.refresh_from_db()
        assert membership.role == Role.EDITOR
        assert "Remove bob@widgetcorp.test" in shown(alice, url("member_remove", membership.pk))
        alice.post(url("member_remove", membership.pk))
        assert not Membership.objects.filter(pk=membership.pk).exists()
        assert last_event(cast.widgetcorp).name == "accounts.member.removed"

    def test_the_last_owner_stays(self, alice: Client, cast: Cast) -> None:
        own = cast.alice.memberships.get()
        assert alice.post(url("member_remove", own.pk)).status_code == 422
        assert alice.post(url("member_change_role", own.pk), {"role": "viewer"}).status_code == 422
        own.refresh_from_db()
        assert own.role == Role.OWNER

    def test_search_and_role_filter(self, alice: Client, cast: Cast) -> None:
        assert "erin@widgetcorp.test" not in shown(alice, url("members") + "?q=bob@")
        page = shown(alice, url("members") + "?role=auditor")
        assert cast.ada.email in page
        assert cast.bob.email not in page

    def test_viewer_may_look_only(self, cast: Cast) -> None:
        client = login(cast.bob)
        assert "Invite a member" not in shown(client, url("members"))
        response = client.post(url("member_invite"), {"email": "x@people.test", "role": "owner"})
        assert response.status_code == 403
        assert "changing members and invitations is not part of it" in text_of(response)

    def test_viewer_reads_no_logs_and_an_auditor_does(self, cast: Cast) -> None:
        for name in ("access_log", "certificates", "audit_log"):
            assert login(cast.bob).get(url(name)).status_code == 403
            assert login(cast.ada).get(url(name)).status_code == 200
        assert url("audit_log") not in shown(login(cast.bob), url("organization_home"))
        assert url("api_tokens") in shown(login(cast.ada), url("organization_home"))

    def test_the_role_table_says_what_permissions_say(self, alice: Client) -> None:
        page = shown(alice, url("member_invite"))
        logs = page.split("Logs: access")[1].split("</tr>")[0]
        assert logs.count('data-label="Viewer"><span class="soft">No') == 1
        assert logs.count(">reads<") == 4


class TestApiTokens:
    def test_created_token_is_shown_once_and_works(self, alice: Client, cast: Cast) -> None:
        data = {"name": "ci", "lifetime_days": "30", "scopes": ["access.read", "dns.edit"]}
        page = text_of(alice.post(url("api_token_create"), data))
        secret = page.split('<pre id="token"')[1].split(">", 1)[1].split("<")[0]
        token = ApiToken.objects.get(name="ci")
        assert sorted(token.scopes) == ["access.read", "dns.edit"]
        assert token.expires_at is not None
        answer = browser().get("/client/v4/user/tokens/verify", headers={"authorization": f"Bearer {secret}"})
        assert answer.status_code == 200
        assert secret not in shown(alice, url("api_tokens"))
        assert secret not in str(list(AuditEvent.objects.values()))

    def test_double_submit_makes_one_token(self, alice: Client, cast: Cast) -> None:
        sent = {"name": "ci", "lifetime_days": "0", "scopes": ["access.read"]}
        sent["form_id"] = form_id(shown(alice, url("api_token_create")))
        assert alice.post(url("api_token_create"), sent).status_code == 200
        again = alice.post(url("api_token_create"), sent, follow=True)
        assert "acted upon once" in text_of(again)
        assert ApiToken.objects.filter(name="ci").count() == 1

    def test_a_form_without_scope_is_refused_with_its_input(self, alice: Client, cast: Cast) -> None:
        response = alice.post(url("api_token_create"), {"name": "ci", "lifetime_days": "30"})
        assert response.status_code == 422
        assert 'value="ci"' in text_of(response)
        assert not ApiToken.objects.exists()

    def test_unknown_and_forbidden_scopes_are_refused(self, alice: Client, cast: Cast) -> None:
        for scope in ("signed_in", "staff", "everything"):
            data = {"name": "ci", "lifetime_days": "30", "scopes": [scope]}
            assert alice.post(url("api_token_create"), data).status_code == 422
        assert not ApiToken.objects.exists()

    def test_revoke(self, alice: Client, world: World) -> None:
        assert alice.post(url("api_token_revoke", world.api_token.pk)).status_code == 302
        world.api_token.refresh_from_db()
        assert world.api_token.revoked_at is not None
        assert last_event(world.organization).name == "accounts.api_token.revoked"

    def test_tokens_are_not_for_editors(self, cast: Cast) -> None:
        client = login(cast.erin)
        assert client.get(url("api_tokens")).status_code == 403
        assert url("api_tokens") not in shown(client, url("organization_home"))


class TestLoginMethods:
    OIDC = {
        "name": "Keycloak 2",
        "client_id": "sallyport",
        "client_secret": "very-secret-value",
        "auth_url": "https://idp.example.com/auth",
        "token_url": "https://idp.example.com/token",
        "certs_url": "https://idp.example.com/certs",
        "claims": "groups\ndepartment",
        "pkce_enabled": "on",
    }

    def test_add_shows_the_redirect_url(self, alice: Client, cast: Cast) -> None:
        page = shown(alice, url("login_method_create", "oidc"))
        assert f"{cast.widgetcorp.team_url}/cdn-cgi/access/callback" in page
        assert alice.get(url("login_method_create", "nonsense")).status_code == 404

    def test_oidc(self, alice: Client, cast: Cast) -> None:
        assert alice.post(url("login_method_create", "oidc"), self.OIDC).status_code == 302
        provider = IdentityProvider.objects.get(name="Keycloak 2")
        assert provider.config["claims"] == ["groups", "department"]
        assert "client_secret" not in provider.config
        assert last_event(cast.widgetcorp).name == "accounts.identity_provider.created"
        assert "very-secret-value" not in shown(alice, url("login_method_edit", provider.pk))

    def test_edit_without_secret_keeps_it(self, alice: Client, cast: Cast) -> None:
        alice.post(url("login_method_create", "oidc"), self.OIDC)
        provider = IdentityProvider.objects.get(name="Keycloak 2")
        sealed = bytes(provider.client_secret_sealed)
        data = {**self.OIDC, "name": "Keycloak three", "client_secret": ""}
        assert alice.post(url("login_method_edit", provider.pk), data).status_code == 302
        provider.refresh_from_db()
        assert provider.name == "Keycloak three"
        assert bytes(provider.client_secret_sealed) == sealed

    def test_addresses_inside_are_refused_with_the_input_kept(self, alice: Client, cast: Cast) -> None:
        data = {**self.OIDC, "token_url": "http://127.0.0.1:8000/token"}
        response = alice.post(url("login_method_create", "oidc"), data)
        assert response.status_code == 422
        assert "http://127.0.0.1:8000/token" in text_of(response)
        assert "very-secret-value" not in text_of(response)
        assert not IdentityProvider.objects.exists()

    def test_one_time_pin_and_okta(self, alice: Client, cast: Cast) -> None:
        assert alice.post(url("login_method_create", "onetimepin"), {"name": "PIN"}).status_code == 302
        okta = {
            "name": "Okta",
            "client_id": "0oa1",
            "client_secret": "s",
            "okta_account": "https://widgetcorp.okta.com",
            "pkce_enabled": "on",
        }
        assert alice.post(url("login_method_create", "okta"), okta).status_code == 302
        assert IdentityProvider.objects.get(name="Okta").config["okta_account"] == "https://widgetcorp.okta.com"

    def test_delete(self, alice: Client, world: World) -> None:
        assert alice.post(url("login_method_delete", world.pin.pk)).status_code == 302
        assert "One-time PIN" not in shown(alice, url("login_methods")).split("<table")[1].split("</table")[0]
        assert last_event(world.organization).name == "accounts.identity_provider.deleted"


class TestAuditLog:
    def test_list_filter_and_detail(self, alice: Client, cast: Cast) -> None:
        event = record(
            "accounts.member.role_changed",
            organization=cast.widgetcorp,
            actor=system("tests"),
            target_label="bob",
            old={"role": "viewer", "same": 1},
            new={"role": "editor", "same": 1},
        )
        assert "Member&#x27;s role changed" in shown(alice, url("audit_log"))
        assert "bob" in shown(alice, url("audit_log") + "?event=accounts.member.role_changed&q=bob")
        assert "Nothing matches" in shown(alice, url("audit_log") + "?event=accounts.organization.updated")
        page = shown(alice, url("audit_log_event", event.pk))
        assert "<del>viewer</del>" in page
        assert "<ins>editor</ins>" in page
        assert "<code>same</code>" not in page

    def test_events_of_others_are_not_found(self, cast: Cast, alice: Client) -> None:
        event = record("accounts.member.added", organization=cast.evilcorp, actor=system("tests"))
        assert alice.get(url("audit_log_event", event.pk)).status_code == 404

    def test_labels_are_escaped_and_odd_queries_do_no_harm(self, alice: Client, cast: Cast) -> None:
        record(
            "accounts.member.added",
            organization=cast.widgetcorp,
            actor=system("tests"),
            target_label=EVIL_NAME,
            new={"name": EVIL_NAME},
        )
        page = shown(alice, url("audit_log"))
        assert "<script>alert" not in page
        for query in (
            "?q=%00",
            "?page=0",
            "?page=99999999",
            "?page=-1",
            "?area=x%27--",
            "?q=" + "x" * 5000,
            "?page=1e3",
        ):
            assert alice.get(url("audit_log") + query).status_code == 200

    def test_query_budget(
        self, alice: Client, cast: Cast, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        for _ in range(60):
            record("accounts.member.added", organization=cast.widgetcorp, actor=system("tests"))
        with django_assert_max_num_queries(7):
            shown(alice, url("audit_log"))


class TestPagesAreSafe:
    def test_csrf_is_enforced_and_explained(self, cast: Cast) -> None:
        client = Client(enforce_csrf_checks=True, headers={"host": "testserver"})
        client.force_login(cast.alice)
        response = client.post(url("member_invite"), {"email": "x@people.test", "role": "owner"})
        assert response.status_code == 403
        assert "The form was not accepted" in text_of(response)
        assert not User.objects.filter(email="x@people.test").exists()

    def test_policy_of_content_is_strict(self, alice: Client) -> None:
        policy = alice.get(url("organization_home"))["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "script-src 'self'" in policy

    def test_organization_names_are_escaped(self, alice: Client, cast: Cast) -> None:
        Organization.objects.filter(pk=cast.widgetcorp.pk).update(name=EVIL_NAME)
        page = shown(alice, url("organization_home"))
        assert "<script>alert" not in page
        assert "{{ 7*7 }}" in page

    def test_session_of_another_tenant_cannot_be_ended(self, alice: Client, cast: Cast) -> None:
        theirs = make_world(cast.evilcorp, domain="evilcorp.tech")
        assert alice.post(url("session_revoke", theirs.session.pk)).status_code == 404
        assert AccessSession.objects.get(pk=theirs.session.pk).revoked_at is None

    def test_roles_of_another_organization_do_not_count(self, cast: Cast) -> None:
        make_user("both@people.test", cast.evilcorp, Role.OWNER)
        both = User.objects.get(email="both@people.test")
        Membership.objects.create(organization=cast.widgetcorp, user=both, role=Role.VIEWER)
        assert login(both).post(url("member_invite"), {"email": "x@people.test", "role": "owner"}).status_code == 403
