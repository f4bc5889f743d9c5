""" "Copy as API request": the request shown for a form makes, through the API, what the form itself makes."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from access.models import Application, ApplicationDraft, ClientAuthority, Policy, SshAuthority
from accounts.models import AuditEvent, IdentityProvider
from tests.access.makers import make_application
from tests.controlplane.api_kit import CLIENT_ROOT, MAIN, Api, make_api
from tests.factories import Cast
from tests.pages_kit import form_id, login, rows_of, shown, text_of
from tests.world import World, make_world

CHANGING = {"id", "aud", "uid", "created_at", "updated_at", "created_on", "modified_on", "client_id", "client_secret"}
CHANGING |= {"expires_at", "token", "credentials_file", "verification", "last_answer", "redirect_url", "version"}
RULES = {
    "rule-0-list": "include",
    "rule-0-selector": "email",
    "rule-0-value": "alice@people.test",
    "rule-1-list": "require",
    "rule-1-selector": "geo",
    "rule-1-value": "Portugal",
}
POLICY = {"name": "Engineers", "decision": "allow", "session_duration_seconds": "3600", **RULES}
TERMS = {
    "purpose_justification_required": "on",
    "purpose_justification_prompt": "What for?",
    "ssh_own": "on",
    "ssh_usernames": "deploy",
    "ssh_username_pattern": "{}",
    "ssh_certificate_lifetime_seconds": "120",
}
SETTINGS = {
    "name": "SSH bastion",
    "domain": "ssh-bastion.widgetcorp.tech",
    "session_duration_seconds": "900",
    "tags": "production",
    "logo_url": "https://example.com/logo.png",
    "same_site_cookie_attribute": "strict",
    "cors": "answer",
    "cors_origins": "https://app.example.com",
    "cors_all_methods": "on",
}


@pytest.fixture
def world(cast: Cast) -> World:
    made = make_world(cast.widgetcorp, domain="widgetcorp.tech")
    ClientAuthority.objects.filter(pk=made.client_authority.pk).update(certificate=CLIENT_ROOT)
    return made


@pytest.fixture
def alice(cast: Cast) -> Client:
    return login(cast.alice)


@pytest.fixture
def api(cast: Cast) -> Api:
    return make_api(cast.widgetcorp)


def url(name: str, *args: object) -> str:
    return reverse(name, args=["widgetcorp", *args])


def request_of(client: Client, address: str, fields: dict[str, Any]) -> tuple[str, str, Any]:
    """Method, path and body of the request that the form shows."""
    answer = client.post(address, {**fields, "step": "api-request"}, headers={"HX-Request": "true"})
    page = text_of(answer)
    found = re.search(r'<pre id="api-command"[^>]*>(.*?)</pre>', page, re.DOTALL)
    assert found is not None, page
    command = html.unescape(found.group(1))
    head = re.match(r"curl --fail-with-body -X ([A-Z]+) '([^']+)' \\\n", command)
    assert head is not None, command
    assert '"Authorization: Bearer $SALLYPORT_API_TOKEN"' in command
    body = command.partition("<<'JSON'\n")[2].removesuffix("\nJSON")
    return head.group(1), head.group(2).partition(MAIN)[2], json.loads(body) if body else None


def same(one: Any, other: Any) -> bool:
    return bool(_lasting(one) == _lasting(other))


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(item) for key, item in value.items() if key not in CHANGING}
    return [_lasting(item) for item in value] if isinstance(value, list) else value


def forms(world: World) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name of the route -> address and what is filled in."""
    app = world.application.pk
    return {
        "group_add": (url("group_add"), {"name": "Night shift", "is_default": "on", **RULES}),
        "group_edit": (url("group_edit", world.group.pk), {"name": "Renamed", **RULES}),
        "policy_add": (url("policy_add"), {**POLICY, **TERMS}),
        "policy_edit": (url("policy_edit", world.reusable.pk), {**POLICY, **TERMS}),
        "application_policy_add": (url("application_policy_add", app), {**POLICY, "name": "Second"}),
        "application_policy_edit": (url("application_policy_edit", app, world.policy.pk), POLICY),
        "list_add": (url("list_add"), {"name": "Office", "type": "IP", "items": "192.0.2.0/24 Lisbon\n198.51.100.7"}),
        "list_edit": (url("list_edit", world.access_list.pk), {"name": "People", "items": "x@people.test"}),
        "service_token_create": (url("service_token_create"), {"name": "ansible", "duration_seconds": "7776000"}),
        "service_token_edit": (
            url("service_token_edit", world.service_token.pk),
            {"name": "renamed", "duration_seconds": ""},
        ),
        "tag_add": (url("tag_add"), {"name": "staging"}),
        "tunnel_create": (url("tunnel_create"), {"name": "second", "config_source": "cloudflare"}),
        "tunnel_rename": (url("tunnel_rename", world.tunnel.pk), {"name": "renamed"}),
        "record_add": (
            url("record_add", world.zone.pk),
            {"type": "CNAME", "name": "two", "content": world.tunnel.target, "ttl": "300", "comment": "second"},
        ),
        "record_edit": (
            url("record_edit", world.dns_record.pk),
            {
                "type": "CNAME",
                "name": world.dns_record.name,
                "content": world.tunnel.target,
                "ttl": "300",
                "comment": "changed",
            },
        ),
        "application_settings_edit": (url("application_settings_edit", app), SETTINGS),
        "application_authentication_edit": (
            url("application_authentication_edit", app),
            {"allowed_provider_ids": [str(world.oidc.pk)], "auto_redirect_to_identity": "on"},
        ),
        "application_ssh_edit": (
            url("application_ssh_edit", app),
            {
                "certificate_lifetime_seconds": "300",
                "certificate_extensions": ["permit-pty"],
                "bastion_destinations": "10.0.0.0/8:22",
                "principal_overrides": "alice@people.test = deploy",
            },
        ),
        "application_denial_edit": (
            url("application_denial_edit", app),
            {"custom_deny_message": "Ask the platform team.", "custom_deny_url": "https://example.com/help"},
        ),
        "client_authority_edit": (
            url("client_authority_edit", world.client_authority.pk),
            {"name": "Renamed", "associated_hostnames": "ssh-bastion.widgetcorp.tech"},
        ),
        "tunnel_hostnames": (
            url("tunnel_hostnames", world.tunnel.pk),
            {
                "base_version": "1",
                "host-0-hostname": "ssh-bastion.widgetcorp.tech",
                "host-0-kind": "ssh",
                "host-0-target": "10.0.0.9:22",
            },
        ),
        "application_duplicate": (
            url("application_duplicate", app),
            {"name": "Copy", "subdomain": "copy", "domain": "widgetcorp.tech"},
        ),
        "organization_settings_edit": (
            url("organization_settings_edit"),
            {"name": "Renamed", "session_duration_seconds": "3600", "auto_redirect_to_identity": "on"},
        ),
        "organization_settings_mfa_edit": (
            url("organization_settings_mfa_edit"),
            {"mfa_allowed": ["totp"], "mfa_session_seconds": "3600", "mfa_required_for_all_apps": "on"},
        ),
        "login_page_edit": (url("login_page_edit"), {"header_text": "Hello", "button_color": "#1d4ed8"}),
        "custom_page_add": (
            url("custom_page_add"),
            {"name": "Ask us", "type": "forbidden", "custom_html": "<p>Call 17.</p>"},
        ),
        "custom_page_edit": (
            url("custom_page_edit", world.custom_page.pk),
            {"name": "Other", "type": world.custom_page.type, "custom_html": "<p>Call 18.</p>"},
        ),
        "custom_pages_choose": (
            url("custom_pages_choose"),
            {world.custom_page.type: str(world.custom_page.pk)},
        ),
    }


NAMES = [
    *("group_add", "group_edit", "policy_add", "policy_edit", "application_policy_add", "application_policy_edit"),
    *("list_add", "list_edit", "service_token_create", "service_token_edit", "tag_add", "tunnel_create"),
    *("tunnel_rename", "record_add", "record_edit", "application_settings_edit", "application_authentication_edit"),
    *("application_ssh_edit", "application_duplicate", "application_denial_edit", "client_authority_edit"),
    *("tunnel_hostnames", "organization_settings_edit", "organization_settings_mfa_edit", "login_page_edit"),
    *("custom_page_add", "custom_page_edit", "custom_pages_choose"),
]


# Routes that only take what a form on another page sends.
ELSEWHERE = {
    "organization_settings_edit": "organization_settings",
    "organization_settings_mfa_edit": "organization_settings",
    "login_page_edit": "login_page",
    "custom_pages_choose": "custom_pages",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_shown_request_does_what_the_form_does(alice: Client, api: Api, world: World, name: str) -> None:
    address, fields = forms(world)[name]
    before, events = rows_of(world.organization), AuditEvent.objects.count()
    method, path, body = request_of(alice, address, fields)
    assert rows_of(world.organization) == before and AuditEvent.objects.count() == events
    # The form first; its object through the API; then the same place again by the request.
    answer = alice.post(address, fields)
    assert answer.status_code in {200, 302}, text_of(answer)
    if method == "POST":
        made = newest(api, path)
        key = made.get("id") or made.get("uid") or made["name"]
        api.ok("DELETE", f"{path}/{key}")
        again = api.ok("POST", path, body)
        assert same(full(api, path, again), made)
    else:
        by_form = full(api, path, None)
        api.ok(method, path, body)
        assert same(full(api, path, None), by_form)


def test_generating_a_certificate_authority(alice: Client, api: Api, world: World) -> None:
    other = make_application(world.organization, hostname="other.widgetcorp.tech", authority=False)
    address = url("ssh_authority_generate")
    before = rows_of(world.organization)
    chosen = {"application": str(other.pk), "algorithm": "ed25519"}
    method, path, body = request_of(alice, address, chosen)
    assert rows_of(world.organization) == before
    assert (method, path, body) == ("POST", f"/accounts/{world.organization.pk}/access/apps/{other.pk}/ca", {})
    api.ok(method, path, body)
    assert SshAuthority.objects.get(application=other).algorithm == "ed25519"
    third = make_application(world.organization, hostname="third.widgetcorp.tech", authority=False)
    sent = {"application": str(third.pk), "algorithm": "ecdsa-p256", "step": "api-request"}
    assert "The API makes Ed25519 keys" in text_of(alice.post(address, sent, headers={"HX-Request": "true"}))


@pytest.mark.parametrize(
    ("page", "count"),
    [
        ("organization_settings", 3),
        ("login_page", 1),
        ("custom_pages", 1),
        ("custom_page_add", 1),
        ("ssh_authorities", 1),
    ],
)
def test_the_button_is_on_the_page(alice: Client, world: World, page: str, count: int) -> None:
    make_application(world.organization, hostname="other.widgetcorp.tech", authority=False)
    assert shown(alice, url(page)).count(">Copy as API request<") == count


def newest(api: Api, path: str) -> Any:
    rows = api.ok("GET", f"{path}?per_page=1000")
    row = max(rows, key=lambda item: item.get("created_at") or item.get("created_on") or "")
    return full(api, path, row)


def full(api: Api, path: str, row: Any) -> Any:
    """An object as its own address answers."""
    return api.ok("GET", path if row is None else f"{path}/{row.get('id') or row.get('uid') or row['name']}")


def test_the_wizards_last_step_shows_the_whole_application(alice: Client, api: Api, world: World) -> None:
    configure = {
        "name": "Jump host",
        "subdomain": "jump",
        "domain": "widgetcorp.tech",
        "session_duration_seconds": "3600",
        "app_launcher_visible": "on",
        "custom_deny_message": "Ask the platform team.",
    }
    alice.post(url("application_add"), configure)
    draft = ApplicationDraft.objects.order_by("-created_at")[0]
    alice.post(url("application_draft_policies", draft.pk), {**POLICY, **TERMS, "step": "save"})
    alice.post(url("application_draft_attach", draft.pk), {"policy": str(world.reusable.pk)})
    setup = url("application_draft_setup", draft.pk)
    fields = {"certificate_lifetime_seconds": "300", "certificate_extensions": ["permit-pty"]}
    method, path, body = request_of(alice, setup, fields)
    assert ApplicationDraft.objects.filter(pk=draft.pk).exists()
    assert alice.post(setup, fields).status_code == 302
    made = newest(api, path)
    api.ok("DELETE", f"{path}/{made['id']}")
    again = api.ok(method, path, body)
    assert same(full(api, path, again), made)
    assert [policy["name"] for policy in again["policies"]] == ["Engineers", "Everybody of the company"]
    assert again["policies"][0]["connection_rules"]["ssh"]["usernames"] == ["deploy"]


def test_secrets_are_placeholders(alice: Client, world: World) -> None:
    fields = {
        "name": "Git forge",
        "client_id": "abc",
        "client_secret": "very-secret",
        "auth_url": "https://idp.example.test/auth",
        "token_url": "https://idp.example.test/token",
        "certs_url": "https://idp.example.test/certs",
        "pkce_enabled": "on",
    }
    method, _, body = request_of(alice, url("login_method_create", "oidc"), fields)
    assert (method, body["config"]["client_secret"]) == ("POST", "<client secret>")
    assert body["config"]["client_id"] == "abc" and "redirect_url" not in body["config"]
    assert not IdentityProvider.objects.filter(name="Git forge").exists()


def test_nothing_is_used_up_or_said(alice: Client, world: World) -> None:
    address, fields = forms(world)["policy_add"]
    sent = {**fields, "form_id": form_id(shown(alice, address))}
    request_of(alice, address, sent)
    request_of(alice, address, sent)
    alice.post(address, sent)
    assert Policy.objects.filter(name="Engineers").count() == 1
    assert shown(alice, url("policies")).count("can be attached to applications now") == 1


def test_a_form_that_is_not_complete_shows_no_request(alice: Client, world: World) -> None:
    address, fields = forms(world)["application_settings_edit"]
    answer = alice.post(address, {**fields, "name": "", "step": "api-request"}, headers={"HX-Request": "true"})
    assert "cannot be turned into a request yet" in text_of(answer)
    world.application.refresh_from_db()
    assert world.application.name == "SSH bastion"


def test_without_scripts_it_is_a_page(alice: Client, world: World) -> None:
    address, fields = forms(world)["group_add"]
    page = text_of(alice.post(address, {**fields, "step": "api-request"}))
    assert "<h1>The same as an API request</h1>" in page and "curl --fail-with-body" in page


def test_other_forms_do_nothing(alice: Client, world: World) -> None:
    """A step no form of theirs has, sent to buttons that act: nothing happens."""
    before = rows_of(world.organization)
    for name in ("application_revoke_tokens", "application_delete"):
        alice.post(url(name, world.application.pk), {"step": "api-request", "confirmation": "SSH bastion"})
    assert rows_of(world.organization) == before
    assert Application.objects.filter(pk=world.application.pk).exists()


def test_viewers_are_refused_as_ever(cast: Cast, world: World) -> None:
    address, fields = forms(world)["group_add"]
    assert login(cast.bob).post(address, {**fields, "step": "api-request"}).status_code == 403


def test_the_buttons_are_on_the_forms(alice: Client, world: World) -> None:
    for name, (address, _) in forms(world).items():
        if name in ELSEWHERE:
            assert "Copy as API request" in shown(alice, url(ELSEWHERE[name])), name
            continue
        is_tab = name.startswith("application_") and "policy" not in name
        page = shown(alice, address.replace("/edit/", "/") if is_tab else address)
        assert 'value="api-request"' in page, name
        assert "htmx.min.js" in page, name


def test_a_shell_passes_the_body_on_unchanged(alice: Client, world: World, tmp_path: Path) -> None:
    """Quotes, dollars and backslashes of a name reach the API as they are."""
    name = """It's "$HOME" `id` \\n <b> é"""
    address, fields = forms(world)["group_add"]
    answer = alice.post(address, {**fields, "name": name, "step": "api-request"}, headers={"HX-Request": "true"})
    found = re.search(r'<pre id="api-command"[^>]*>(.*?)</pre>', text_of(answer), re.DOTALL)
    assert found is not None
    (tmp_path / "curl").write_text("#!/bin/sh\ncat > body.json\n")
    (tmp_path / "curl").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SALLYPORT_API_TOKEN": "t"}
    script = html.unescape(found.group(1))
    subprocess.run(["/bin/sh", "-c", script], cwd=tmp_path, env=environment, check=True, timeout=20)
    assert json.loads((tmp_path / "body.json").read_text())["name"] == name
