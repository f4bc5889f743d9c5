"""The unmodified `cloudflare` package with machines' secrets, SCIM, people, their sessions, keys and settings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import cloudflare
import pytest
from cloudflare import Cloudflare
from django.conf import settings
from django.test import Client

from access.actions.service_tokens import authenticate_service_token
from access.models import Application, TokenKey
from accounts.models import IdentityProvider, Organization
from tests.controlplane.api_kit import event_names, make_access_request, make_session
from tests.controlplane.test_api_sdk import base_url, client, lenient, make_zone, organization, server_cast

__all__ = ["base_url", "client", "lenient", "organization", "server_cast"]
CONFIG = {
    "client_id": "sallyport",
    "client_secret": "s3cret",
    "auth_url": "https://idp.example/auth",
    "token_url": "https://idp.example/token",
    "certs_url": "https://idp.example/certs",
}


def works(organization: Organization, token: Any, secret: str | None) -> bool:
    found = authenticate_service_token(organization, token.client_id or "", secret or "", now=datetime.now(UTC))
    return found is not None


def test_rotation_with_overlap_refresh_and_switching_off(client: Cloudflare, organization: Organization) -> None:
    tokens, account = client.zero_trust.access.service_tokens, organization.id
    made = tokens.create(account_id=account, name="ci", duration="720h")
    until = datetime.now(UTC) + timedelta(hours=1)
    rotated = tokens.rotate(made.id or "", account_id=account, previous_client_secret_expires_at=until)
    assert rotated.client_id == made.client_id
    assert works(organization, made, made.client_secret)
    assert works(organization, made, rotated.client_secret)
    again = tokens.rotate(made.id or "", account_id=account)
    assert [works(organization, made, secret) for secret in (rotated.client_secret, again.client_secret)] == [
        False,
        True,
    ]
    raised = tokens.update(made.id or "", account_id=account, name="ci", client_secret_version=4)
    assert raised.name == "ci"
    assert not works(organization, made, again.client_secret)
    before = tokens.get(made.id or "", account_id=account).expires_at
    refreshed = tokens.refresh(made.id or "", account_id=account)
    assert before is not None
    assert refreshed.expires_at is not None
    assert refreshed.expires_at > before
    last = tokens.rotate(made.id or "", account_id=account)
    assert tokens.update(made.id or "", account_id=account, enabled=False, duration="forever").duration == "forever"
    assert not works(organization, made, last.client_secret)
    names = event_names(organization)
    assert names.count("access.service_token.rotated") == 4
    assert names.count("access.service_token.refreshed") == 1


def test_identity_providers_and_scim(client: Cloudflare, organization: Organization, base_url: str) -> None:
    account, providers = organization.id, client.zero_trust.identity_providers
    made = providers.create(
        account_id=account,
        name="Keycloak",
        type="oidc",
        config=CONFIG,  # type: ignore[arg-type]
        scim_config={"enabled": True, "user_deprovision": True},
    )
    assert made is not None
    assert made.id is not None
    assert made.scim_config is not None
    assert made.scim_config.secret
    first, base = made.scim_config.secret, made.scim_config.scim_base_url or ""
    shown = providers.get(made.id, account_id=account)
    assert shown is not None
    assert shown.scim_config is not None
    assert shown.scim_config.secret == "REDACTED"
    assert "s3cret" not in str(shown)
    # The package has no method for the secret, but takes a path.
    path = f"/accounts/{account}/access/identity_providers/{made.id}/refresh_scim_secret"
    secret = client.post(path, cast_to=dict[str, Any])["result"]["secret"]
    body = {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": "dora@x.example",
        "externalId": "d-1",
        "active": True,
        "emails": [{"value": "dora@x.example", "primary": True}],
    }
    assert scim(base, first, "Users", body) == 401
    assert scim(base, secret, "Users", body) == 201
    group = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "ops", "externalId": "g-1"}
    assert scim(base, secret, "Groups", group) == 201
    (user,) = providers.scim.users.list(made.id, account_id=account, username="dora@x.example")
    assert user.external_id == "d-1"
    assert user.active is True
    (found,) = providers.scim.groups.list(made.id, account_id=account)
    assert found.display_name == "ops"
    updates = list(client.zero_trust.access.logs.scim.updates.list(account_id=account, idp_id=[made.id]))
    assert {update.resource_type for update in updates} == {"USER", "GROUP"}
    assert secret not in str(updates)
    renamed = providers.update(made.id, account_id=account, name="Keycloak 2", type="oidc", config=CONFIG)  # type: ignore[arg-type]
    assert renamed is not None
    assert renamed.name == "Keycloak 2"
    providers.delete(made.id, account_id=account)
    with pytest.raises(cloudflare.NotFoundError):
        providers.get(made.id, account_id=account)


def scim(base: str, secret: str, kind: str, body: dict[str, Any]) -> int:
    """As an identity provider sends it, through an edge."""
    parts = urlsplit(base)
    answer = Client().post(
        f"{parts.path}/{kind}",
        body,
        content_type="application/scim+json",
        HTTP_HOST=parts.netloc,
        HTTP_AUTHORIZATION=f"Bearer {secret}",
        HTTP_SALLYPORT_EDGE_TOKEN=settings.EDGE_TOKEN,
        HTTP_SALLYPORT_CLIENT_IP="192.0.2.9",
    )
    return answer.status_code


def test_people_and_what_they_did(client: Cloudflare, organization: Organization) -> None:
    account, users = organization.id, client.zero_trust.access.users
    make_zone(client, account)
    app = client.zero_trust.access.applications.create(
        account_id=account, type="self_hosted", name="SSH", domain="ssh.widgetcorp.example"
    )
    provider = IdentityProvider.objects.create(organization=organization, type="oidc", name="Okta", config={})
    session = make_session(provider)
    refused = make_access_request(session.identity, Application.objects.get(pk=app.id))
    make_access_request(session.identity, Application.objects.get(pk=app.id), allowed=True)

    (user,) = users.list(account_id=account, email="ALICE@example.test")
    assert users.get(user.id or "", account_id=account).email == "alice@example.test"
    (active,) = users.active_sessions.list(user.id or "", account_id=account)
    assert active.metadata is not None
    detail = users.active_sessions.get(active.metadata.nonce or "", account_id=account, user_id=user.id or "")
    assert detail is not None
    assert detail.is_active is True
    assert detail.email == "alice@example.test"
    last = users.last_seen_identity.get(user.id or "", account_id=account)
    assert last is not None
    assert last.idp is not None
    assert last.idp.id == str(provider.pk)
    (failed,) = users.failed_logins.list(user.id or "", account_id=account)
    assert failed.metadata["ray_id"] == refused.ray_id  # type: ignore[index]
    logged = client.zero_trust.access.logs.access_requests.list(
        account_id=account, extra_query={"ray_id": refused.ray_id}
    )
    assert [entry.allowed for entry in logged or []] == [False]

    assert client.zero_trust.organizations.revoke_users(account_id=account, email="alice@example.test") is True
    assert list(users.active_sessions.list(user.id or "", account_id=account)) == []
    ended = users.active_sessions.get(session.nonce, account_id=account, user_id=user.id or "")
    assert ended is not None
    assert ended.is_active is False
    with pytest.raises(cloudflare.NotFoundError):
        client.zero_trust.organizations.revoke_users(account_id=account, email="nobody@example.test")
    client.zero_trust.access.applications.revoke_tokens(app.id or "", account_id=account)
    assert Application.objects.get(pk=app.id).tokens_revoked_at is not None


def test_policy_tests_and_user_policy_checks(client: Cloudflare, organization: Organization) -> None:
    account, applications = organization.id, client.zero_trust.access.applications
    make_zone(client, account)
    provider = IdentityProvider.objects.create(organization=organization, type="oidc", name="Okta", config={})
    make_session(provider)
    make_session(provider, "bob@example.test")
    rules = [{"email": {"email": "alice@example.test"}}]
    app = applications.create(
        account_id=account,
        type="self_hosted",
        name="SSH",
        domain="ssh.widgetcorp.example",
        policies=[{"name": "Own", "decision": "allow", "include": rules}],
    )
    started = applications.policy_tests.create(
        account_id=account,
        policies=[{"name": "Own", "decision": "allow", "include": rules}],  # type: ignore[list-item]
    )
    assert started is not None
    result = applications.policy_tests.get(started.id or "", account_id=account)
    assert result is not None
    assert (result.status, result.total_users, result.users_approved) == ("complete", 2, 1)
    people = applications.policy_tests.users.list(started.id or "", account_id=account, status="success")
    assert [person.email for person in people] == ["alice@example.test"]
    check = applications.user_policy_checks.list(
        app.id or "", account_id=account, extra_query={"email": "bob@example.test"}
    )
    assert check is not None


def test_keys_of_tokens(client: Cloudflare, organization: Organization) -> None:
    keys, account = client.zero_trust.access.keys, organization.id
    client.zero_trust.access.applications.list(account_id=account)
    shown = keys.get(account_id=account)
    assert shown is not None
    assert shown.key_rotation_interval_days
    rotated = keys.rotate(account_id=account)
    assert rotated is not None
    assert rotated.last_key_rotation_at is not None
    active = TokenKey.objects.get(organization=organization, state="active").kid
    keys.rotate(account_id=account)
    assert TokenKey.objects.get(organization=organization, state="active").kid != active
    interval = shown.key_rotation_interval_days
    assert keys.update(account_id=account, key_rotation_interval_days=interval) is not None
    with pytest.raises(cloudflare.BadRequestError):
        keys.update(account_id=account, key_rotation_interval_days=interval + 1)


def test_settings_of_an_application(client: Cloudflare, organization: Organization) -> None:
    access, account = client.zero_trust.access, organization.id
    make_zone(client, account)
    app = access.applications.create(
        account_id=account,
        type="self_hosted",
        name="SSH",
        domain="ssh.widgetcorp.example",
        logo_url="https://x.example/",
    )
    changed = access.applications.settings.edit(app.id or "", account_id=account, skip_interstitial=True)
    assert changed is not None
    assert (changed.skip_interstitial, changed.allow_iframe) == (True, False)
    replaced = access.applications.settings.update(app.id or "", account_id=account, allow_iframe=True)
    assert replaced is not None
    assert (replaced.skip_interstitial, replaced.allow_iframe) == (False, True)
    shown = access.applications.get(app.id or "", account_id=account)
    assert shown.logo_url == "https://x.example/"
