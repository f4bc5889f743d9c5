"""/client/v4 …/access: groups, policies, applications, service tokens, providers, organization, users, logs, keys."""

from __future__ import annotations

from typing import Any

import pytest

from access.models import Application, Group, Policy, ServiceToken, SshAuthority
from accounts.models import AccessSession, AuditEvent, IdentityProvider
from accounts.providers.secrets import named_secrets
from tests.controlplane.api_kit import Api, Tenant, event_count, event_names, make_access_request

SHARED_TENANTS = True

EVERYONE: list[dict[str, Any]] = [{"everyone": {}}]


@pytest.fixture
def api(widgetcorp: Tenant) -> Api:
    return widgetcorp.api


@pytest.fixture(params=["accounts", "zones"])
def base(request: pytest.FixtureRequest, widgetcorp: Tenant) -> str:
    """Both prefixes serve these paths (product.md 3.2)."""
    key = {"accounts": "account_id", "zones": "zone_id"}[request.param]
    return f"/{request.param}/{widgetcorp.ids[key]}/access"


def last_event(api: Api) -> AuditEvent:
    event = AuditEvent.objects.for_organization(api.organization).order_by("-id").first()
    assert event is not None
    return event


# --- Groups ----------------------------------------------------------------------------------------------------
def test_groups_are_created_read_changed_and_deleted(api: Api, base: str, widgetcorp: Tenant) -> None:
    provider = widgetcorp.ids["provider_id"]
    body = {
        "name": "SSH users",
        "include": [{"oidc": {"claim_name": "groups", "claim_value": "eng", "identity_provider_id": provider}}],
        "require": [{"geo": {"country_code": "PT"}}],
        "exclude": [],
        "is_default": True,
    }

    created = api.ok("POST", f"{base}/groups", body)

    assert {key: created[key] for key in body} == body
    assert last_event(api).name == "access.group.created"
    assert last_event(api).actor_kind == "api_token"
    assert api.ok("GET", f"{base}/groups/{created['id']}") == created
    assert [g["name"] for g in api.ok("GET", f"{base}/groups?name=SSH%20users")] == ["SSH users"]
    assert [g["name"] for g in api.ok("GET", f"{base}/groups?search=ssh")] == ["SSH users"]
    assert api.ok("GET", f"{base}/groups?name=nobody") == []

    changed = api.ok("PUT", f"{base}/groups/{created['id']}", {"name": "SSH", "include": EVERYONE})

    assert (changed["name"], changed["require"], changed["is_default"]) == ("SSH", [], False)
    assert last_event(api).name == "access.group.updated"
    assert api.ok("DELETE", f"{base}/groups/{created['id']}") == {"id": created["id"]}
    assert last_event(api).name == "access.group.deleted"
    api.refused("GET", f"{base}/groups/{created['id']}", status=404)


def test_a_group_in_use_is_not_deleted(api: Api, base: str, widgetcorp: Tenant) -> None:
    error = api.refused("DELETE", widgetcorp.path(f"{base}/groups/{{group_id}}"), status=409)

    assert error["reason"] == "group_in_use"
    assert Group.objects.filter(pk=widgetcorp.ids["group_id"]).exists()


# --- Reusable policies -----------------------------------------------------------------------------------------
def test_reusable_policies(api: Api) -> None:
    body = {"name": "Staff only", "decision": "allow", "include": EVERYONE, "session_duration": "1h30m"}

    created = api.ok("POST", f"{api.account}/access/policies", body)

    assert created["reusable"] is True
    assert created["app_count"] == 0
    assert created["session_duration"] == "1h30m"
    assert created["approval_required"] is False
    assert created["approval_groups"] == []
    assert last_event(api).name == "access.policy.created"
    path = f"{api.account}/access/policies/{created['id']}"
    assert api.ok("GET", path) == created
    changed = api.ok("PUT", path, {**body, "decision": "deny", "session_duration": None})
    assert (changed["decision"], changed["session_duration"]) == ("deny", None)
    assert last_event(api).name == "access.policy.updated"
    assert created["id"] in [policy["id"] for policy in api.ok("GET", f"{api.account}/access/policies")]
    assert api.ok("DELETE", path) == {"id": created["id"]}
    assert last_event(api).name == "access.policy.deleted"


def test_an_attached_policy_is_not_deleted(api: Api, widgetcorp: Tenant) -> None:
    path = widgetcorp.path("/accounts/{account_id}/access/policies/{policy_id}")
    api.ok(
        "PATCH",
        widgetcorp.path("/accounts/{account_id}/access/apps/{app_id}"),
        {"policies": [widgetcorp.ids["policy_id"]]},
    )

    assert api.ok("GET", path)["app_count"] == 1
    api.refused("DELETE", path, status=409)
    assert Policy.objects.filter(pk=widgetcorp.ids["policy_id"]).exists()


# --- Policies of an application --------------------------------------------------------------------------------
def test_policies_of_an_application(api: Api, base: str, widgetcorp: Tenant) -> None:
    policies = f"{base}/apps/{widgetcorp.ids['app_id']}/policies"
    body = {"name": "Block", "decision": "deny", "include": [{"geo": {"country_code": "AQ"}}], "precedence": 7}

    created = api.ok("POST", policies, body)

    assert (created["precedence"], created["reusable"]) == (7, False)
    assert last_event(api).name == "access.policy.created"
    assert [policy["precedence"] for policy in api.ok("GET", policies)] == [1, 7]
    changed = api.ok("PUT", f"{policies}/{created['id']}", {**body, "precedence": 3, "name": "Block more"})
    assert (changed["precedence"], changed["name"]) == (3, "Block more")
    assert api.ok("GET", f"{policies}/{created['id']}") == changed
    taken = api.refused("PUT", f"{policies}/{created['id']}", {**body, "precedence": 1}, status=409)
    assert taken["message"] == "policy precedences must be unique"
    assert api.ok("DELETE", f"{policies}/{created['id']}") == {"id": created["id"]}
    assert last_event(api).name == "access.policy.deleted"
    api.refused("GET", f"{policies}/{created['id']}", status=404)


def test_a_reusable_policy_is_only_detached(api: Api, base: str, widgetcorp: Tenant) -> None:
    app, policy = widgetcorp.ids["app_id"], widgetcorp.ids["policy_id"]
    api.ok("PATCH", f"{base}/apps/{app}", {"policies": [{"id": policy, "precedence": 5}]})

    api.refused(
        "PUT",
        f"{base}/apps/{app}/policies/{policy}",
        {"name": "x", "decision": "allow", "include": EVERYONE},
        status=400,
    )
    assert api.ok("DELETE", f"{base}/apps/{app}/policies/{policy}") == {"id": policy}

    assert last_event(api).name == "access.policy.detached"
    assert Policy.objects.filter(pk=policy).exists()


# --- Applications ----------------------------------------------------------------------------------------------
def test_an_application_comes_back_with_what_was_sent(api: Api, base: str, widgetcorp: Tenant) -> None:
    sent = {
        "type": "self_hosted",
        "name": "Bastion",
        "domain": "ssh-bastion.widgetcorp.example",
        "session_duration": "1440m",
        "allowed_idps": [widgetcorp.ids["provider_id"]],
        "auto_redirect_to_identity": True,
        "app_launcher_visible": False,
        "skip_interstitial": True,
        "cors_headers": {"allow_all_origins": True, "allowed_methods": ["GET"], "max_age": 10.5},
        "logo_url": "https://example.test/logo.png",
        "same_site_cookie_attribute": "lax",
        "custom_deny_message": "Ask \u00e9lodie",
        "destinations": [{"type": "public", "uri": "ssh-bastion.widgetcorp.example"}],
        "eager_redirect_cookie_setting": False,
    }

    created = api.ok(
        "POST", f"{base}/apps", {**sent, "policies": [{"id": widgetcorp.ids["policy_id"], "precedence": 4}]}
    )

    assert {key: created[key] for key in sent} == sent
    assert len(created["aud"]) == 64
    assert [(policy["id"], policy["precedence"]) for policy in created["policies"]] == [
        (widgetcorp.ids["policy_id"], 4)
    ]
    defaults = {
        "tags": [],
        "allow_iframe": False,
        "enable_binding_cookie": False,
        "http_only_cookie_attribute": None,
        "options_preflight_bypass": False,
        "custom_deny_url": None,
        "self_hosted_domains": [],
        "custom_pages": [],
        "service_auth_401_redirect": False,
    }
    assert {key: created[key] for key in defaults} == defaults
    assert last_event(api).name == "access.application.created"
    assert api.ok("GET", f"{base}/apps/{created['id']}") == created
    assert api.ok("GET", f"{base}/apps?aud={created['aud']}") == [created]
    assert api.ok("GET", f"{base}/apps?domain=ssh-bastion") == [created]
    assert api.ok("GET", f"{base}/apps?domain=ssh-bastion&exact=true") == []
    assert [app["name"] for app in api.ok("GET", f"{base}/apps")] == ["Bastion", "SSH"]


def test_put_replaces_public_fields_and_keeps_policies_and_ssh_profile(api: Api, base: str, widgetcorp: Tenant) -> None:
    path = f"{base}/apps/{widgetcorp.ids['app_id']}"
    api.ok("PATCH", path, {"logo_url": "https://example.test/a.png", "skip_interstitial": True})
    profile = {
        "certificate_lifetime_seconds": 120,
        "certificate_extensions": ["permit-pty"],
        "principal_overrides": {"alice@example.test": "deploy"},
        "bastion_destinations": ["10.0.0.0/8:22"],
        "require_key_proof": True,
        "reserved_principals": ["backup"],
        "authority_rotation_days": 90,
    }
    api.ok("PATCH", path, {"ssh_profile": profile})
    aud = api.ok("GET", path)["aud"]

    replaced = api.ok("PUT", path, {"type": "self_hosted", "name": "New name", "domain": "ssh.widgetcorp.example"})

    assert replaced["name"] == "New name"
    assert replaced["aud"] == aud
    assert replaced["logo_url"] is None
    assert replaced["skip_interstitial"] is False
    assert replaced["session_duration"] == "24h"
    assert replaced["ssh_profile"] == profile
    assert [policy["id"] for policy in replaced["policies"]] == [widgetcorp.ids["app_policy_id"]]
    assert last_event(api).name == "access.application.updated"


def test_patch_changes_only_what_is_sent(api: Api, base: str, widgetcorp: Tenant) -> None:
    path = f"{base}/apps/{widgetcorp.ids['app_id']}"
    before = api.ok("PATCH", path, {"tags": [], "custom_deny_url": "https://example.test/no", "session_duration": "2h"})

    after = api.ok("PATCH", path, {"app_launcher_visible": False})

    changed = {key for key in before if before[key] != after[key]}
    assert changed == {"app_launcher_visible", "updated_at"}


def test_inline_policies_keep_their_terms(api: Api, base: str, widgetcorp: Tenant) -> None:
    """A policy that wants approval must not become one that lets in, because of where it was written."""
    path = f"{base}/apps/{widgetcorp.ids['app_id']}"
    terms = {
        "approval_required": True,
        "approval_groups": [{"approvals_needed": 1, "email_addresses": ["dora@people.test"]}],
        "purpose_justification_required": True,
        "connection_rules": {"ssh": {"usernames": ["deploy"]}},
    }
    inline = {"name": "Inline", "decision": "allow", "include": EVERYONE, **terms}
    api.ok("PATCH", path, {"policies": [inline]})
    policy = Policy.objects.get(name="Inline")
    assert policy.approval_required
    assert policy.approval_groups == terms["approval_groups"]
    assert policy.purpose_justification_required
    assert policy.ssh is not None
    assert policy.ssh["usernames"] == ["deploy"]
    refused = api.refused("PATCH", path, {"policies": [{**inline, "isolation_required": True}]}, status=400)
    assert "isolation_required" in refused["message"]


def test_inline_policies_replace_the_applications_own(api: Api, base: str, widgetcorp: Tenant) -> None:
    path = f"{base}/apps/{widgetcorp.ids['app_id']}"
    inline = {"name": "Inline", "decision": "allow", "include": EVERYONE, "session_duration": "30m"}

    changed = api.ok("PATCH", path, {"policies": [inline, widgetcorp.ids["policy_id"]]})

    assert [(p["name"], p["precedence"], p["reusable"]) for p in changed["policies"]] == [
        ("Inline", 1, False),
        ("Staff", 2, True),
    ]
    assert changed["policies"][0]["session_duration"] == "30m"
    assert not Policy.objects.filter(pk=widgetcorp.ids["app_policy_id"]).exists()


def test_mass_assignment_is_ignored(api: Api, base: str, cast: Any) -> None:
    created = api.ok(
        "POST",
        f"{base}/apps",
        {
            "name": "Mass",
            "domain": "mass.widgetcorp.example",
            "id": "00000000-0000-0000-0000-000000000000",
            "aud": "f" * 64,
            "organization": cast.evilcorp.id,
            "organization_id": cast.evilcorp.id,
            "settings": {"reserved_principals": []},
            "is_staff": True,
        },
    )

    application = Application.objects.get(pk=created["id"])
    assert application.organization == api.organization
    assert application.aud != "f" * 64
    assert application.settings == {}


def test_applications_are_deleted_and_their_tokens_revoked(api: Api, base: str, widgetcorp: Tenant) -> None:
    path = f"{base}/apps/{widgetcorp.ids['app_id']}"

    assert api.ok("POST", f"{path}/revoke_tokens") == {}
    assert last_event(api).name == "access.application.tokens_revoked"
    assert api.ok("DELETE", path) == {"id": widgetcorp.ids["app_id"]}

    assert last_event(api).name == "access.application.deleted"
    api.refused("GET", path, status=404)


# --- SSH authorities -------------------------------------------------------------------------------------------
def test_an_authority_is_made_by_a_worker_and_shown(api: Api, base: str) -> None:
    app = api.ok("POST", f"{base}/apps", {"name": "CA", "domain": "ca.widgetcorp.example"})
    path = f"{base}/apps/{app['id']}/ca"
    api.refused("GET", path, status=404)

    created = api.ok("POST", path)

    assert created["aud"] == app["aud"]
    assert created["public_key"].startswith("ssh-ed25519 AAAA")
    assert set(created) == {"id", "aud", "public_key"}
    assert "access.ssh_authority.created" in event_names(api.organization)
    assert api.ok("GET", path) == created
    assert created in api.ok("GET", f"{base}/apps/ca")
    api.refused("POST", path, status=409)
    assert SshAuthority.objects.filter(application=app["id"]).count() == 1
    assert api.ok("DELETE", path) == {"id": created["id"]}
    assert last_event(api).name == "access.ssh_authority.deleted"
    api.refused("DELETE", path, status=404)


# --- Service tokens --------------------------------------------------------------------------------------------
def test_service_tokens_show_their_secret_once(api: Api, base: str) -> None:
    created = api.ok("POST", f"{base}/service_tokens", {"name": "deploy", "duration": "8760h"})
    path = f"{base}/service_tokens/{created['id']}"

    assert created["client_id"].endswith(".access")
    assert len(created["client_secret"]) >= 40
    assert created["duration"] == "8760h"
    assert last_event(api).name == "access.service_token.created"
    assert created["client_secret"] not in str(last_event(api).new)
    shown = api.ok("GET", path)
    assert "client_secret" not in shown
    assert shown == {key: value for key, value in created.items() if key != "client_secret"}
    assert [token["name"] for token in api.ok("GET", f"{base}/service_tokens?name=deploy")] == ["deploy"]

    rotated = api.ok("POST", f"{path}/rotate")

    assert rotated["client_id"] == created["client_id"]
    assert rotated["client_secret"] != created["client_secret"]
    assert last_event(api).name == "access.service_token.rotated"
    refreshed = api.ok("POST", f"{path}/refresh")
    assert refreshed["expires_at"] > created["expires_at"]
    assert last_event(api).name == "access.service_token.refreshed"
    forever = api.ok("PUT", path, {"name": "deploy 2", "duration": "forever"})
    assert (forever["duration"], forever["expires_at"]) == ("forever", None)
    assert api.ok("PUT", path, {"enabled": False})["enabled"] is False
    assert last_event(api).name == "access.service_token.updated"
    assert api.ok("DELETE", path)["id"] == created["id"]
    assert last_event(api).name == "access.service_token.deleted"
    assert not ServiceToken.objects.filter(deleted_at=None, pk=created["id"]).exists()


# --- Identity providers ----------------------------------------------------------------------------------------
def test_identity_providers_never_show_their_secret(api: Api, base: str, settings: Any) -> None:
    settings.FETCH_ALLOWED_PRIVATE_HOSTS = ["idp.example.test:443"]
    body = {
        "name": "Okta",
        "type": "oidc",
        "config": {
            "client_id": "abc",
            "client_secret": "canary-secret",
            "auth_url": "https://idp.example.test/authorize",
            "token_url": "https://idp.example.test/token",
            "certs_url": "https://idp.example.test/keys",
            "scopes": ["openid", "email", "groups"],
            "pkce_enabled": True,
        },
    }

    response = api.send("POST", f"{base}/identity_providers", body)

    assert response.status_code == 200
    assert b"canary-secret" not in response.content
    created = response.json()["result"]
    assert created["config"]["client_id"] == "abc"
    assert last_event(api).name == "accounts.identity_provider.created"
    path = f"{base}/identity_providers/{created['id']}"
    assert api.ok("GET", path) == created
    changed = api.ok("PUT", path, {**body, "name": "Okta 2", "config": {**body["config"], "client_secret": ""}})
    assert changed["name"] == "Okta 2"
    assert IdentityProvider.objects.get(pk=created["id"]).client_secret_sealed != b""
    api.refused("PUT", path, {**body, "type": "okta"}, status=400)
    assert api.ok("DELETE", path) == {"id": created["id"]}
    assert created["id"] not in [provider["id"] for provider in api.ok("GET", f"{base}/identity_providers")]


def test_secrets_of_every_type_go_in_and_never_come_out(api: Api, base: str) -> None:
    okta = {"client_id": "abc", "client_secret": "canary-secret", "okta_account": "corp.okta.com"}
    body = {"name": "Okta", "type": "okta", "config": {**okta, "api_token": "canary-token"}}
    response = api.send("POST", f"{base}/identity_providers", body)
    assert response.status_code == 200 and b"canary" not in response.content
    created = response.json()["result"]
    assert created["config"]["redirect_url"] == "https://widgetcorp.access.example.test/cdn-cgi/access/callback"
    row = IdentityProvider.objects.get(pk=created["id"])
    assert named_secrets(row) == {"api_token": "canary-token"} and "canary" not in str(row.config)
    path = f"{base}/identity_providers/{created['id']}"
    api.ok("PUT", path, {**body, "config": {**created["config"], "claims": ["department"]}})
    assert named_secrets(IdentityProvider.objects.get(pk=created["id"])) == {"api_token": "canary-token"}
    api.refused("PUT", path, {**body, "config": {**okta, "api_token": 7}}, status=400)
    github = {
        "name": "Hub",
        "type": "github",
        "config": {"client_id": "abc", "client_secret": "canary", "api_token": "x"},
    }
    made = api.ok("POST", f"{base}/identity_providers", github)
    assert set(made["config"]) == {"client_id", "redirect_url"}
    assert made["config"]["redirect_url"].endswith("/cdn-cgi/access/callback/github")


# --- Organization ----------------------------------------------------------------------------------------------
def test_the_organization_is_read_and_changed(api: Api, base: str) -> None:
    shown = api.ok("GET", f"{base}/organizations")

    assert shown["auth_domain"] == "widgetcorp.access.example.test"
    assert shown["session_duration"] == "24h"
    assert shown["login_design"] is None
    design = {"background_color": "#ffffff", "header_text": "Hello"}
    changed = api.ok(
        "PUT", f"{base}/organizations", {"name": "Widgets", "session_duration": "30m", "login_design": design}
    )
    assert (changed["name"], changed["session_duration"], changed["login_design"]) == ("Widgets", "30m", design)
    assert last_event(api).name == "accounts.organization.updated"
    assert api.ok("PUT", f"{base}/organizations", {"auth_domain": shown["auth_domain"]})["login_design"] == design
    api.refused("PUT", f"{base}/organizations", {"auth_domain": "other.access.example.test"}, status=400)
    api.refused("POST", f"{base}/organizations", {"name": "Second"}, status=409)


def test_revoking_a_user_ends_every_session(api: Api, base: str, widgetcorp: Tenant) -> None:
    assert api.ok("POST", f"{base}/organizations/revoke_user", {"email": "ALICE@example.test"}) is True

    assert AccessSession.objects.get(nonce=widgetcorp.ids["nonce"]).revoked_at is not None
    assert last_event(api).name == "accounts.session.all_revoked"
    api.refused("POST", f"{base}/organizations/revoke_user", {"email": "nobody@example.test"}, status=404)


# --- Users, logs, keys -----------------------------------------------------------------------------------------
def test_users_and_their_sessions(api: Api, widgetcorp: Tenant) -> None:
    users = f"{api.account}/access/users"
    path = widgetcorp.path(f"{users}/{{user_id}}")

    (user,) = api.ok("GET", users)

    assert (user["email"], user["name"], user["access_seat"]) == ("alice@example.test", "Alice", True)
    assert api.ok("GET", path) == user
    assert api.ok("GET", f"{users}?search=ali") == [user]
    assert api.ok("GET", f"{users}?email=bob@example.test") == []
    (session,) = api.ok("GET", f"{path}/active_sessions")
    assert session["metadata"]["nonce"] == widgetcorp.ids["nonce"]
    assert session["metadata"]["ttl"] == 24 * 3600
    full = api.ok("GET", f"{path}/active_sessions/{widgetcorp.ids['nonce']}")
    assert full["isActive"] is True
    assert full["groups"] == ["Engineering"]
    assert full["idp"] == {"id": widgetcorp.ids["provider_id"], "type": "oidc"}
    assert api.ok("GET", f"{path}/last_seen_identity")["geo"] == {"country": "PT"}
    (failed,) = api.ok("GET", f"{path}/failed_logins")
    assert failed["metadata"]["reason"] == "no_match"


def test_the_access_log_is_filtered(api: Api, widgetcorp: Tenant) -> None:
    log = f"{api.account}/access/logs/access_requests"
    session = AccessSession.objects.select_related("identity").get(nonce=widgetcorp.ids["nonce"])
    application = Application.objects.get(pk=widgetcorp.ids["app_id"])
    allowed = make_access_request(session.identity, application, allowed=True)

    entries = api.ok("GET", log)

    assert [entry["allowed"] for entry in entries] == [True, False]
    assert entries[0]["ray_id"] == allowed.ray_id
    assert entries[0]["app_domain"] == "ssh.widgetcorp.example"
    assert entries[0]["app_uid"] == str(application.pk)
    assert entries[0]["user_email"] == "alice@example.test"
    assert [e["allowed"] for e in api.ok("GET", f"{log}?direction=asc")] == [False, True]
    assert len(api.ok("GET", f"{log}?limit=1")) == 1
    assert len(api.ok("GET", f"{log}?email=alice@example.test&allowed=true")) == 1
    assert api.ok("GET", f"{log}?email=alice") == []
    assert len(api.ok("GET", f"{log}?email=alice&email_exact=false")) == 2
    assert api.ok("GET", f"{log}?since=2100-01-01T00:00:00Z") == []
    assert len(api.ok("GET", f"{log}?until=2100-01-01T00:00:00Z&app_uid={application.pk}&country_code=pt")) == 2
    assert api.ok("GET", f"{log}?fields=action,allowed&limit=1") == [{"action": "login", "allowed": True}]
    api.refused("GET", f"{log}?fields=trace", status=400)
    api.refused("GET", f"{log}?since=2026-01-01T00:00:00", status=400)


def test_token_keys_rotate(api: Api) -> None:
    keys = f"{api.account}/access/keys"

    before = api.ok("GET", keys)["last_key_rotation_at"]
    rotated = api.ok("POST", f"{keys}/rotate")

    assert rotated["last_key_rotation_at"] not in {None, before}
    assert rotated["key_rotation_interval_days"] == 42
    assert last_event(api).name.startswith("access.token_keys")
    assert api.ok("PUT", keys, {"key_rotation_interval_days": 42}) == api.ok("GET", keys)
    api.refused("PUT", keys, {"key_rotation_interval_days": 30}, status=400)


# --- Bad input changes nothing ---------------------------------------------------------------------------------
POLICY = {"name": "P", "decision": "allow", "include": EVERYONE}
APP = {"name": "A", "domain": "a.widgetcorp.example", "type": "self_hosted"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "groups", {"name": "no rules"}),
        ("POST", "groups", {"name": "", "include": EVERYONE}),
        ("POST", "groups", {"name": "x" * 351, "include": EVERYONE}),
        ("POST", "groups", {"name": "empty", "include": []}),
        ("POST", "groups", {"name": "unknown", "include": [{"martian": {}}]}),
        ("POST", "groups", {"name": "two", "include": [{"everyone": {}, "email": {"email": "a@b.c"}}]}),
        ("POST", "groups", {"name": "text", "include": ["everyone"]}),
        ("PUT", "groups/{group_id}", {"name": "Loop", "include": [{"group": {"id": "{group_id}"}}]}),
        ("POST", "policies", {**POLICY, "decision": "maybe"}),
        ("POST", "policies", {**POLICY, "approval_required": True}),
        ("POST", "policies", {**POLICY, "session_duration": "a day"}),
        ("POST", "policies", {**POLICY, "session_duration": "99999h"}),
        ("POST", "policies", {**POLICY, "decision": "bypass", "purpose_justification_required": True}),
        ("POST", "apps", {"name": "no domain"}),
        ("POST", "apps", {**APP, "domain": "https://a.widgetcorp.example/"}),
        ("POST", "apps", {**APP, "domain": "a.widgetcorp.example:8443"}),
        ("POST", "apps", {**APP, "domain": "a.evilcorp.example"}),
        ("POST", "apps", {**APP, "type": "saas"}),
        ("POST", "apps", {**APP, "session_duration": "-1h"}),
        ("POST", "apps", {**APP, "mfa_config": {"allowed_authenticators": ["piv_key"]}}),
        ("POST", "apps", {**APP, "destinations": [{"type": "public", "uri": "b.widgetcorp.example"}]}),
        ("POST", "apps", {**APP, "destinations": [{"type": "private", "cidr": "10.0.0.0/8"}]}),
        ("POST", "apps", {**APP, "self_hosted_domains": ["a.widgetcorp.example", "b.widgetcorp.example"]}),
        ("POST", "apps", {**APP, "allowed_idps": ["not-a-uuid"]}),
        ("POST", "apps", {**APP, "auto_redirect_to_identity": True}),
        ("POST", "apps", {**APP, "policies": [{"precedence": 1}]}),
        ("POST", "apps", {**APP, "policies": [POLICY | {"precedence": 1}, POLICY | {"precedence": 1}]}),
        ("POST", "apps", {**APP, "ssh_profile": {"certificate_lifetime_seconds": 10**9}}),
        ("POST", "apps", {**APP, "ssh_profile": {"principal_overrides": {"a@b.c": "a,root"}}}),
        ("PATCH", "apps/{app_id}", {"ssh_profile": {"bastion_destinations": ["everywhere"]}}),
        ("POST", "apps/{app_id}/policies", {**POLICY, "precedence": 0}),
        ("POST", "service_tokens", {"name": "x", "duration": "1s"}),
        ("POST", "service_tokens", {"name": "", "duration": "24h"}),
        ("POST", "identity_providers", {"name": "x", "type": "saml", "config": {}}),
        ("POST", "identity_providers", {"name": "x", "type": "oidc", "config": {"client_id": "x"}}),
        ("POST", "identity_providers", {"name": "x", "type": "oidc", "config": {"client_secret": 7}}),
        ("PUT", "organizations", {"session_duration": "1s"}),
        ("PUT", "organizations", {"name": ""}),
        ("POST", "organizations/revoke_user", {}),
    ],
)
def test_bad_input_changes_nothing(api: Api, widgetcorp: Tenant, method: str, path: str, body: dict[str, Any]) -> None:
    before = event_count(), Group.objects.count(), Policy.objects.count(), Application.objects.count()
    filled = {**body}
    if "{group_id}" in str(body):
        filled["include"] = [{"group": {"id": widgetcorp.ids["group_id"]}}]

    response = api.send(method, widgetcorp.path(f"/accounts/{{account_id}}/access/{path}"), filled)

    assert response.status_code in (400, 403, 409), response.content
    assert response.json()["errors"][0]["message"]
    assert (event_count(), Group.objects.count(), Policy.objects.count(), Application.objects.count()) == before
