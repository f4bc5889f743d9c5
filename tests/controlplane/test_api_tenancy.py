"""Every operation with another tenant's ids: the answer of a missing id, byte for byte, and nothing changed (AC-50)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from controlplane.api import ApiOperation, api
from tests.controlplane.api_kit import CLIENT_ROOT, INGRESS, Tenant, event_count

SHARED_TENANTS = True

_PARAMETER = re.compile(r"{([a-z_]+)}")
RULES = [{"everyone": {}}]
# A body that would succeed, so that only the id can be what is refused.
BODIES: dict[str, Any] = {
    "POST /gateway/lists": {"name": "L", "type": "EMAIL"},
    "PUT /gateway/lists/{list_id}": {"name": "L"},
    "PATCH /gateway/lists/{list_id}": {"append": [{"value": "a@x.example"}]},
    "POST /tags": {"name": "T"},
    "PUT /tags/{tag_name}": {"name": "T"},
    "POST /custom_pages": {"name": "P", "type": "forbidden", "custom_html": "x"},
    "PUT /custom_pages/{page_id}": {"name": "P", "type": "forbidden", "custom_html": "x"},
    "POST /certificates": {"name": "C", "certificate": CLIENT_ROOT},
    "PUT /certificates/settings": {"settings": []},
    "PUT /certificates/{certificate_id}/revocation_lists": {"crl": ""},
    "PUT /certificates/{certificate_id}": {"associated_hostnames": []},
    "POST /zones": {"name": "another.example"},
    "PUT /organizations": {"name": "X"},
    "POST /organizations": {"name": "X"},
    "POST /organizations/revoke_user": {"email": "alice@example.test"},
    "POST /identity_providers": {"name": "P", "type": "onetimepin"},
    "PUT /identity_providers/{provider_id}": {"name": "P", "type": "oidc"},
    "POST /groups": {"name": "G", "include": RULES},
    "PUT /groups/{group_id}": {"name": "G", "include": RULES},
    "POST /policies": {"name": "P", "decision": "allow", "include": RULES},
    "PUT /policies/{policy_id}": {"name": "P", "decision": "allow", "include": RULES},
    "POST /apps": {"name": "A", "domain": "a.widgetcorp.example"},
    "PUT /apps/{app_id}": {"name": "A", "domain": "ssh.widgetcorp.example"},
    "PATCH /apps/{app_id}": {"name": "A"},
    "PUT /apps/{app_id}/settings": {"skip_interstitial": True},
    "PATCH /apps/{app_id}/settings": {"skip_interstitial": True},
    "POST /apps/{app_id}/policies": {"name": "P", "decision": "allow", "include": RULES},
    "PUT /apps/{app_id}/policies/{policy_id}": {"name": "P", "decision": "allow", "include": RULES},
    "POST /policy-tests": {"policies": [{"name": "P", "decision": "allow", "include": RULES}]},
    "POST /service_tokens": {"name": "S"},
    "PUT /service_tokens/{token_id}": {"name": "S"},
    "PUT /keys": {"key_rotation_interval_days": 42},
    "POST /cfd_tunnel": {"name": "T"},
    "PATCH /cfd_tunnel/{tunnel_id}": {"name": "T"},
    "PUT /cfd_tunnel/{tunnel_id}/configurations": {"config": INGRESS},
    "POST /members": {"email": "x@people.test", "roles": ["viewer"]},
    "PUT /members/{member_id}": {"roles": ["viewer"]},
    "POST /tokens": {"name": "T", "scopes": ["access.read"]},
    "POST /user/tokens": {"name": "T", "scopes": ["access.read"]},
    "POST /users": {"email": "x@people.test"},
    "PUT /users/{user_id}": {"disabled": True},
    "PUT /organizations/logo": {"content": "iVBORw0KGgo="},
    "POST /apps/{app_id}/saved_tests": {"name": "Q", "question": {"who": "nobody"}, "expected": "deny"},
    "PUT /apps/{app_id}/saved_tests/{test_id}": {"name": "Q", "question": {"who": "nobody"}, "expected": "deny"},
    "PATCH /zones/{zone_id}": {"paused": False},
    "POST /dns_records": {"type": "A", "name": "a", "content": "192.0.2.1"},
    "PUT /dns_records/{record_id}": {"type": "A", "name": "a", "content": "192.0.2.1"},
    "PATCH /dns_records/{record_id}": {"comment": "x"},
    "PUT /tunnels/{tunnel_id}/routes": {"type": "dns", "user_hostname": "a.widgetcorp.example"},
}


def body_of(operation: ApiOperation) -> Any:
    short = operation.path.removeprefix("/accounts/{account_id}").removeprefix("/access")
    if not short.startswith("/zones/{zone_id}") or short != "/zones/{zone_id}":
        short = short.removeprefix("/zones/{zone_id}").removeprefix("/access")
    return BODIES.get(f"{operation.method} {short}")


def ids_for(operation: ApiOperation, tenant: Tenant) -> dict[str, str]:
    """The policy below an application is another one than the account's."""
    ids = dict(tenant.ids)
    if "/apps/{app_id}/policies" in operation.path:
        ids["policy_id"] = ids["app_policy_id"]
    return ids


def random_id(example: str) -> str:
    return str(uuid4()) if "-" in example and len(example) == 36 else uuid4().hex


def cases(widgetcorp: Tenant, evilcorp: Tenant) -> Iterator[tuple[ApiOperation, str, str, str]]:
    """operation, path with one id of the other tenant, the same with a missing id, the name of that parameter."""
    for operation in api.operations():
        own, foreign = ids_for(operation, widgetcorp), ids_for(operation, evilcorp)
        for name in _PARAMETER.findall(operation.path):
            missing = {**own, name: random_id(own[name])}
            yield (
                operation,
                operation.path.format(**own | {name: foreign[name]}),
                operation.path.format(**missing),
                name,
            )


def test_another_tenants_ids_look_missing_everywhere(widgetcorp: Tenant, evilcorp: Tenant) -> None:
    before = event_count()
    checked = 0

    for operation, foreign, missing, name in cases(widgetcorp, evilcorp):
        body = body_of(operation)
        first = widgetcorp.api.send(operation.method, foreign, body)
        second = widgetcorp.api.send(operation.method, missing, body)
        where = (operation.method, operation.path, name, first.content)
        assert first.status_code == 404, where
        assert (first.status_code, first.content, first.headers) == (
            second.status_code,
            second.content,
            second.headers,
        ), where
        checked += 1

    assert checked > 150
    assert event_count() == before


def test_the_other_tenant_is_untouched_by_a_whole_path_of_its_ids(widgetcorp: Tenant, evilcorp: Tenant) -> None:
    before = event_count()

    for operation in api.operations():
        if "{" not in operation.path:
            continue
        path = operation.path.format(**ids_for(operation, evilcorp))
        response = widgetcorp.api.send(operation.method, path, body_of(operation))
        assert response.status_code == 404, (operation, response.content)
        assert b"Evil" not in response.content
        assert evilcorp.domain.encode() not in response.content

    assert event_count() == before


def test_own_ids_do_answer(widgetcorp: Tenant, evilcorp: Tenant) -> None:
    """The same paths with own ids are read without 404, so the walk above tests ids and not spelling mistakes."""
    for operation in api.operations():
        if operation.method == "GET":
            path = operation.path.format(**ids_for(operation, widgetcorp))
            response = widgetcorp.api.send("GET", path)
            assert response.status_code == 200, (operation, response.content)
            assert b"Evil" not in response.content
            assert evilcorp.domain.encode() not in response.content
            # Short ones are row numbers, which may stand anywhere.
            for value in (value for value in evilcorp.ids.values() if len(value) > 8):
                assert value.encode() not in response.content, operation


@pytest.mark.parametrize("key", ["group_id", "provider_id", "token_id"])
def test_rules_may_not_name_another_tenants_objects(widgetcorp: Tenant, evilcorp: Tenant, key: str) -> None:
    rules = {
        "group_id": lambda value: {"group": {"id": value}},
        "provider_id": lambda value: {"login_method": {"id": value}},
        "token_id": lambda value: {"service_token": {"token_id": value}},
    }
    before = event_count()
    answers = []

    for value in (evilcorp.ids[key], str(uuid4())):
        body = {"name": "Foreign", "include": [rules[key](value)]}
        error = widgetcorp.api.refused("POST", f"{widgetcorp.api.account}/access/groups", body, status=400)
        answers.append(str(error).replace(value, "ID"))

    assert answers[0] == answers[1]
    assert event_count() == before


def test_bodies_may_not_name_another_tenants_objects(widgetcorp: Tenant, evilcorp: Tenant) -> None:
    before = event_count()
    apps = f"{widgetcorp.api.account}/access/apps"
    app = f"{apps}/{widgetcorp.ids['app_id']}"
    records = f"/zones/{widgetcorp.ids['zone_id']}/dns_records"

    for method, path, body in [
        ("PATCH", app, {"policies": [evilcorp.ids["policy_id"]]}),
        ("PATCH", app, {"policies": [evilcorp.ids["app_policy_id"]]}),
        ("PATCH", app, {"allowed_idps": [evilcorp.ids["provider_id"]]}),
        ("PATCH", app, {"domain": "ssh.evilcorp.example"}),
        ("POST", apps, {"name": "Steal", "domain": "new.evilcorp.example"}),
        ("POST", "/zones", {"name": "evilcorp.example"}),
        ("POST", "/zones", {"name": "sub.evilcorp.example"}),
        (
            "POST",
            records,
            {"type": "CNAME", "name": "x", "content": f"{evilcorp.ids['tunnel_id']}.tunnel.example.test"},
        ),
    ]:
        response = widgetcorp.api.send(method, path, body)
        assert response.status_code in (400, 404, 409), (path, body, response.content)
        assert b"Evil" not in response.content

    assert event_count() == before


def test_same_names_in_two_tenants_stay_apart(widgetcorp: Tenant, evilcorp: Tenant) -> None:
    """Both tenants hold a group, application, tunnel and token of the same names (see make_tenant)."""
    for mine, other in ((widgetcorp, evilcorp), (evilcorp, widgetcorp)):
        account = mine.api.account
        assert [t["id"] for t in mine.api.ok("GET", f"{account}/cfd_tunnel?name=pool")] == [mine.ids["tunnel_id"]]
        assert [g["id"] for g in mine.api.ok("GET", f"{account}/access/groups?name=Engineers")] == [
            mine.ids["group_id"]
        ]
        assert [a["id"] for a in mine.api.ok("GET", f"{account}/access/apps?name=SSH")] == [mine.ids["app_id"]]
        assert [u["id"] for u in mine.api.ok("GET", f"{account}/access/users")] == [mine.ids["user_id"]]
        assert [a["id"] for a in mine.api.ok("GET", "/accounts")] == [mine.ids["account_id"]]
        assert mine.api.ok("GET", f"/accounts?name={other.api.organization.name}") == []
