"""policy-tests and user_policy_checks, by hand and through the unmodified `cloudflare` package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cloudflare import Cloudflare

from access.models import Application, Simulation
from accounts.models import Identity, IdentityProvider, Organization
from tests.controlplane.api_kit import Tenant, event_names, make_api, make_session
from tests.factories import Cast, make_cast

ALICE, BOB = "alice@example.test", "bob@example.test"


def policy(*emails: str, decision: str = "allow", **lists: Any) -> dict[str, Any]:
    return {"name": "P", "decision": decision, "include": [{"email": {"email": email}} for email in emails], **lists}


@pytest.fixture
def tests_path(widgetcorp: Tenant) -> str:
    make_session(IdentityProvider.objects.get(pk=widgetcorp.ids["provider_id"]), BOB)
    return f"{widgetcorp.api.account}/access/policy-tests"


def test_a_policy_test_counts_everybody(widgetcorp: Tenant, tests_path: str) -> None:
    api = widgetcorp.api
    started = api.ok("POST", tests_path, {"policies": [policy(ALICE)]})
    assert started["status"] == "success"
    assert event_names(api.organization)[-1] == "access.simulation.started"
    found = api.ok("GET", f"{tests_path}/{started['id']}")
    assert found == {
        "id": started["id"],
        "status": "complete",
        "percent_approved": 50,
        "percent_blocked": 50,
        "percent_errored": 0,
        "percent_users_processed": 100,
        "total_users": 2,
        "users_approved": 1,
        "users_blocked": 1,
        "users_errored": 0,
    }
    users = f"{tests_path}/{started['id']}/users"
    assert {row["email"]: row["status"] for row in api.ok("GET", users)} == {ALICE: "approved", BOB: "blocked"}
    for status, emails in (("success", [ALICE]), ("fail", [BOB]), ("error", [])):
        assert [row["email"] for row in api.ok("GET", f"{users}?status={status}")] == emails
    api.refused("GET", f"{users}?status=perhaps", status=400)
    assert len(api.ok("GET", f"{users}?per_page=1&page=2")) == 1


def test_order_and_stored_policies_count(widgetcorp: Tenant, tests_path: str) -> None:
    api, stored = widgetcorp.api, widgetcorp.ids["app_policy_id"]
    for policies, approved in (
        ([stored], 1),
        ([policy(ALICE, decision="deny"), stored], 0),
        ([stored, policy(BOB)], 2),
    ):
        started = api.ok("POST", tests_path, {"policies": policies})
        assert api.ok("GET", f"{tests_path}/{started['id']}")["users_approved"] == approved, policies


def test_rules_that_cannot_be_decided_are_errors(widgetcorp: Tenant, tests_path: str) -> None:
    """There is no country database in the tests."""
    started = widgetcorp.api.ok(
        "POST", tests_path, {"policies": [policy(ALICE, require=[{"geo": {"country_code": "PT"}}])]}
    )
    assert widgetcorp.api.ok("GET", f"{tests_path}/{started['id']}")["users_errored"] == 2


def test_bad_policies_are_refused(widgetcorp: Tenant, evilcorp: Tenant, tests_path: str) -> None:
    api = widgetcorp.api
    before = Simulation.objects.count()
    for policies, status in [
        ([], 400),
        ([policy()], 400),
        ([policy("no address")], 400),
        ([policy(ALICE, decision="maybe")], 400),
        ([evilcorp.ids["app_policy_id"]], 404),
        (["nonsense"], 404),
        ([policy(ALICE)] * 101, 400),
    ]:
        api.refused("POST", tests_path, {"policies": policies}, status=status)
    assert Simulation.objects.count() == before


def test_one_person_at_one_application(widgetcorp: Tenant, tests_path: str) -> None:
    api = widgetcorp.api
    path = f"{api.account}/access/apps/{widgetcorp.ids['app_id']}/user_policy_checks"
    alice = api.ok("GET", f"{path}?email={ALICE}")
    assert alice["app_state"]["status"] == "approved"
    assert [row["verdict"] for row in alice["app_state"]["policies"]] == ["match"]
    assert alice["user_identity"]["email"] == ALICE
    bob = Identity.objects.get(email=BOB, organization=api.organization)
    assert api.ok("GET", f"{path}?user_id={bob.pk}")["app_state"]["status"] == "blocked"
    assert api.ok("GET", path)["user_identity"] is None
    api.refused("GET", f"{path}?email=nobody@example.test", status=400)


@pytest.fixture
def server_cast(transactional_db: None, settings: Any) -> Cast:
    settings.UNVERIFIED_ZONE_SUFFIX = "example"
    return make_cast()


@pytest.fixture
def client(server_cast: Cast, live_server: Any) -> Iterator[Cloudflare]:
    token = make_api(server_cast.widgetcorp).token
    url = f"{live_server.url}/client/v4"
    with Cloudflare(
        api_token=token, base_url=url, max_retries=0, timeout=20, _strict_response_validation=True
    ) as client:
        yield client


def test_through_the_sdk(client: Cloudflare, server_cast: Cast) -> None:
    organization: Organization = server_cast.widgetcorp
    provider = IdentityProvider.objects.create(organization=organization, type="oidc", name="Login", config={})
    make_session(provider)
    tests = client.zero_trust.access.applications.policy_tests
    started = tests.create(
        account_id=organization.id,
        policies=[{"name": "P", "decision": "allow", "include": [{"email": {"email": ALICE}}]}],
    )
    assert started is not None and started.id is not None
    assert started.status == "success"
    found = tests.get(started.id, account_id=organization.id)
    assert found is not None
    assert (found.status, found.total_users, found.users_approved) == ("complete", 1, 1)
    users = list(tests.users.list(started.id, account_id=organization.id, status="success"))
    assert [(user.email, user.status) for user in users] == [(ALICE, "approved")]
    application = Application.objects.create(organization=organization, name="SSH", hostname="ssh.widgetcorp.example")
    checks = client.zero_trust.access.applications.user_policy_checks.list(
        str(application.pk), account_id=organization.id, extra_query={"email": ALICE}
    )
    assert checks is not None and checks.app_state is not None and checks.user_identity is not None
    assert (checks.app_state.status, checks.user_identity.email) == ("blocked", ALICE)
