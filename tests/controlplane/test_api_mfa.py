"""mfa_config of organization, application and policy in /client/v4: the public shapes, there and back."""

from __future__ import annotations

from typing import Any

import pytest

from access.models import Policy
from tests.controlplane.api_kit import Api, Tenant

SHARED_TENANTS = True

SENT = {"allowed_authenticators": ["totp", "biometrics"], "mfa_disabled": False, "session_duration": "12h"}


@pytest.fixture
def api(widgetcorp: Tenant) -> Api:
    return widgetcorp.api


def test_an_application_keeps_its_mfa_config(api: Api, widgetcorp: Tenant) -> None:
    path = widgetcorp.path(f"/accounts/{{account_id}}/access/apps/{widgetcorp.ids['app_id']}")
    assert api.ok("GET", path)["mfa_config"] is None
    assert api.ok("PATCH", path, {"mfa_config": SENT})["mfa_config"] == SENT
    assert api.ok("PATCH", path, {"name": "Renamed"})["mfa_config"] == SENT
    assert api.ok("PATCH", path, {"mfa_config": None})["mfa_config"] is None


def test_a_policy_keeps_its_mfa_config(api: Api, widgetcorp: Tenant) -> None:
    path = widgetcorp.path("/accounts/{account_id}/access/policies")
    body: dict[str, Any] = {"name": "MFA", "decision": "allow", "include": [{"everyone": {}}], "mfa_config": SENT}
    made = api.ok("POST", path, body)
    assert made["mfa_config"] == SENT
    assert Policy.objects.get(pk=made["id"]).mfa_config["session_duration_seconds"] == 12 * 3600
    body["decision"] = "deny"
    assert api.send("POST", path, {**body, "name": "Other"}).status_code == 400


def test_the_organization_keeps_its_mfa_config(api: Api, widgetcorp: Tenant) -> None:
    path = widgetcorp.path("/accounts/{account_id}/access/organizations")
    before = api.ok("GET", path)
    assert (before["mfa_config"], before["mfa_required_for_all_apps"]) == (None, False)
    config = {
        "allowed_authenticators": ["security_key"],
        "session_duration": "0m",
        "amr_matching_session_duration": "8h",
    }
    after = api.ok("PUT", path, {"mfa_config": config, "mfa_required_for_all_apps": True})
    assert after["mfa_config"] == {**config, "required_aaguids": None}
    assert after["mfa_required_for_all_apps"] is True
    assert api.ok("PUT", path, {"name": "Renamed"})["mfa_config"] == after["mfa_config"]
    assert api.ok("PUT", path, {"mfa_config": None})["mfa_config"] is None


@pytest.mark.parametrize(
    "body",
    [
        {"mfa_config": {"required_aaguids": "fbfc3007-154e-4ecc-8c0b-6e020557d7bd"}},
        {"mfa_config": {"session_duration": "1000h"}},
        {"mfa_piv_key_requirements": {"pin_policy": "always"}},
    ],
)
def test_what_is_not_enforced_is_refused(api: Api, widgetcorp: Tenant, body: dict[str, Any]) -> None:
    path = widgetcorp.path("/accounts/{account_id}/access/organizations")
    assert api.send("PUT", path, body).status_code == 400
