"""POST /Bulk (RFC 7644 section 3.7)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from accounts.actions import scim as scim_actions
from accounts.actions.audit_chains import verify_chain
from accounts.audit import edge_version
from accounts.models import AccessSession, AuditChain, AuditEvent, Identity, ScimGroup, ScimUpdate, ScimUser
from accounts.scim import bulk as bulk_module
from accounts.scim.bulk import MAX_OPERATIONS, Operation, in_order, read_bulk
from accounts.scim.errors import ScimError
from accounts.views import scim_bulk
from tests.access.makers import make_session
from tests.accounts.scim_kit import Scim, make_scim
from tests.factories import Cast

BULK = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
RESPONSE = "urn:ietf:params:scim:api:messages:2.0:BulkResponse"


@pytest.fixture
def scim(cast: Cast) -> Scim:
    return make_scim(cast.widgetcorp)


def bulk(scim: Scim, *operations: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    answer = scim.ok("POST", "/Bulk", {"schemas": [BULK], "Operations": list(operations), **more})
    assert answer["schemas"] == [RESPONSE]
    found: list[dict[str, Any]] = answer["Operations"]
    return found


def new_user(name: str, **data: Any) -> dict[str, Any]:
    return {"method": "POST", "path": "/Users", "bulkId": name, "data": {"userName": f"{name}@widgetcorp.test", **data}}


def new_group(name: str, *members: str) -> dict[str, Any]:
    data = {"displayName": name, "members": [{"value": f"bulkId:{member}"} for member in members]}
    return {"method": "POST", "path": "/Groups", "bulkId": name, "data": data}


def deactivate(identifier: str, **more: Any) -> dict[str, Any]:
    data = {"Operations": [{"op": "replace", "path": "active", "value": False}]}
    return {"method": "PATCH", "path": f"/Users/{identifier}", "data": data, **more}


def statuses(outcomes: list[dict[str, Any]]) -> list[str]:
    return [outcome["status"] for outcome in outcomes]


def test_the_service_says_what_a_bulk_request_may_be(scim: Scim) -> None:
    said = scim.ok("GET", "/ServiceProviderConfig")["bulk"]
    assert said == {"supported": True, "maxOperations": MAX_OPERATIONS, "maxPayloadSize": 1024 * 1024}


def test_many_are_deactivated_and_each_change_is_in_both_logs(scim: Scim, cast: Cast) -> None:
    ids = []
    for number in range(5):
        email = f"u{number}@widgetcorp.test"
        make_session(cast.widgetcorp, email, provider=scim.provider)
        ids.append(scim.user(email, externalId=email)["id"])
    AuditEvent.objects.all().delete()
    ScimUpdate.objects.all().delete()
    chain = AuditChain.objects.get(pk=cast.widgetcorp.pk)
    before, sequence = edge_version(), chain.sequence

    outcomes = bulk(scim, *(deactivate(identifier) for identifier in ids))

    assert statuses(outcomes) == ["200"] * 5
    assert outcomes[0]["location"].endswith(f"/Users/{ids[0]}")
    assert outcomes[0]["version"] == 'W/"2"'
    assert not Identity.objects.filter(disabled_at=None).exists()
    assert not AccessSession.objects.filter(revoked_at=None).exists()
    events = AuditEvent.objects.filter(name="accounts.scim.user_changed")
    assert {event.target_id for event in events} == set(ids)
    updates = ScimUpdate.objects.values_list("method", "resource_id", "status")
    assert sorted(updates) == sorted(("PATCH", identifier, 200) for identifier in ids)
    assert edge_version() == before + 1, "edges check again once for the whole chunk"
    chain.refresh_from_db()
    assert chain.sequence == sequence + 5


def test_bulk_ids_stand_for_what_the_same_request_makes_in_any_order(scim: Scim) -> None:
    outcomes = bulk(scim, new_group("admins", "ann", "ben"), new_user("ann"), new_user("ben"))
    assert statuses(outcomes) == ["201"] * 3
    assert [outcome["bulkId"] for outcome in outcomes] == ["admins", "ann", "ben"], "answered in the order they came"
    group = ScimGroup.objects.get()
    assert set(group.members.values_list("user_name", flat=True)) == {"ann@widgetcorp.test", "ben@widgetcorp.test"}
    assert outcomes[0]["location"].endswith(f"/Groups/{group.pk}")
    changed = bulk(
        scim,
        new_user("cleo"),
        {
            "method": "PATCH",
            "path": f"/Groups/{group.pk}",
            "data": {"Operations": [{"op": "add", "path": "members", "value": [{"value": "bulkId:cleo"}]}]},
        },
        {"method": "PUT", "path": "/Users/bulkId:cleo", "data": {"userName": "cleopatra@widgetcorp.test"}},
    )
    assert statuses(changed) == ["201", "200", "200"]
    assert group.members.filter(user_name="cleopatra@widgetcorp.test").exists()


def test_a_refused_change_leaves_no_trace_but_its_line_and_the_others_stay(scim: Scim, cast: Cast) -> None:
    taken = scim.user("ann@widgetcorp.test")
    outcomes = bulk(
        scim,
        new_user("ben"),
        new_user("ann"),
        deactivate(taken["id"], version='W/"9"'),
        deactivate(str(cast.widgetcorp.pk)),
        new_group("lost", "nobody"),
        {"method": "DELETE", "path": f"/Users/{taken['id']}"},
    )
    assert statuses(outcomes) == ["201", "409", "412", "404", "409", "204"]
    assert outcomes[1]["response"]["scimType"] == "uniqueness"
    assert "location" not in outcomes[1]
    assert ScimUser.objects.get().user_name == "ben@widgetcorp.test"
    assert not ScimGroup.objects.exists()
    assert AuditEvent.objects.filter(name__startswith="accounts.scim").count() == 3
    refused = ScimUpdate.objects.exclude(error="").values_list("status", flat=True)
    assert sorted(refused) == [404, 409, 409, 412]
    problem = verify_chain(AuditChain.objects.get(pk=cast.widgetcorp.pk), now=timezone.now()).problem
    assert problem == ""


def test_an_event_of_an_undone_change_is_not_kept(scim: Scim, monkeypatch: pytest.MonkeyPatch) -> None:
    real = scim_actions.delete_user.__wrapped__

    def refused_late(*args: Any, **options: Any) -> None:

        with transaction.atomic():
            real(*args, **options)
            raise ScimError(409, "It cannot be deleted.")

    first, second = scim.user("ann@widgetcorp.test"), scim.user("ben@widgetcorp.test")
    monkeypatch.setattr(scim_actions, "delete_user", refused_late)
    outcomes = bulk(scim, {"method": "DELETE", "path": f"/Users/{first['id']}"}, deactivate(second["id"]))
    assert statuses(outcomes) == ["409", "200"]
    assert ScimUser.objects.count() == 2
    assert not AuditEvent.objects.filter(name="accounts.scim.user_deleted").exists()
    assert AuditEvent.objects.filter(name="accounts.scim.user_changed").count() == 1


@pytest.mark.parametrize(
    ("limit", "expected"), [(1, ["404"]), (2, ["404", "201", "404"]), (0, ["404", "201", "404", "201"])]
)
def test_fail_on_errors(scim: Scim, monkeypatch: pytest.MonkeyPatch, limit: int, expected: list[str]) -> None:
    monkeypatch.setattr(scim_bulk, "_CHUNK", 2)
    nobody = deactivate("00000000-0000-4000-8000-000000000000")
    outcomes = bulk(scim, nobody, new_user("ann"), nobody, new_user("ben"), failOnErrors=limit)
    assert statuses(outcomes) == expected
    assert ScimUser.objects.count() == expected.count("201")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"Operations": []}, 400),
        ({"Operations": ["x"]}, 400),
        ({"Operations": [{"method": "GET", "path": "/Users/x"}]}, 400),
        ({"Operations": [{"method": "POST", "path": "/Users", "data": {}}]}, 400),
        ({"Operations": [{"method": "POST", "path": "/Bulk", "bulkId": "a", "data": {}}]}, 400),
        ({"Operations": [{"method": "PATCH", "path": "/Users", "data": {}}]}, 400),
        ({"Operations": [{"method": "PATCH", "path": "/Users/x", "data": []}]}, 400),
        ({"Operations": [new_user("a"), new_user("a")]}, 400),
        ({"Operations": [new_user("a")], "failOnErrors": "many"}, 400),
        ({"Operations": [new_user(f"u{n}") for n in range(MAX_OPERATIONS + 1)]}, 413),
    ],
)
def test_a_request_that_is_no_bulk_request_changes_nothing(scim: Scim, body: dict[str, Any], status: int) -> None:
    scim.refused("POST", "/Bulk", body, status=status)
    assert not ScimUser.objects.exists()


def test_only_post_and_only_with_the_secret(scim: Scim) -> None:
    scim.refused("GET", "/Bulk", status=405)
    scim.refused("POST", "/Bulk", {"Operations": [new_user("ann")]}, status=401, secret="wrong")
    assert not ScimUser.objects.exists()


def test_another_tenants_user_is_not_found(scim: Scim, cast: Cast) -> None:
    other = make_scim(cast.evilcorp).user("mallory@evilcorp.test")
    assert statuses(bulk(scim, deactivate(other["id"]))) == ["404"]
    assert ScimUser.objects.get(pk=other["id"]).active


def test_passwords_are_not_logged(scim: Scim) -> None:
    bulk(scim, new_user("ann", password="hunter2-hunter2"))
    assert "hunter2" not in json.dumps(list(ScimUpdate.objects.values_list("request_body", flat=True)))


def test_circles_are_refused_and_long_chains_are_not_followed_by_recursion(scim: Scim) -> None:
    circle = [new_group("a", "b"), new_group("b", "a")]
    assert statuses(bulk(scim, *circle)) == ["409", "409"]
    chain = [new_group(f"g{n}", f"g{n + 1}") for n in range(MAX_OPERATIONS - 1)] + [new_group(f"g{MAX_OPERATIONS - 1}")]
    operations, _ = read_bulk({"Operations": chain})
    assert [operation.index for operation in in_order(operations)] == list(reversed(range(MAX_OPERATIONS)))


def test_an_operation_that_refers_to_many_others_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real, read = bulk_module._references, []

    def counted(operation: Operation, *known: Any) -> list[str]:
        read.append(operation.index)
        return real(operation, *known)

    monkeypatch.setattr(bulk_module, "_references", counted)
    names = [f"u{n}" for n in range(MAX_OPERATIONS - 1)]
    operations, _ = read_bulk({"Operations": [new_group("all", *names), *(new_user(name) for name in names)]})
    assert [operation.index for operation in in_order(operations)][-1] == 0
    assert len(read) == MAX_OPERATIONS


@pytest.mark.parametrize(
    "odd",
    [
        {"method": "DELETE", "path": "/Users/\0"},
        {"method": "DELETE", "path": "/Users/\ud800"},
        {**new_user("odd"), "data": {"userName": "\ud800"}},
        {**new_user("odd"), "data": {"userName": "odd", "x": json.loads("[" * 400 + "]" * 400)}},
    ],
)
def test_what_cannot_be_stored_or_gone_through_is_refused_before_anything_is_done(
    scim: Scim, odd: dict[str, Any]
) -> None:
    scim.refused("POST", "/Bulk", {"Operations": [new_user("ann"), odd]}, status=400)
    assert not ScimUser.objects.exists()
