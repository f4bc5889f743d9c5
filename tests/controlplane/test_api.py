"""The frame of /client/v4: envelope, content type, tokens, scopes, limits, errors, paging, documentation."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.actions.api_tokens import create_api_token, revoke_api_token
from accounts.models import ApiToken
from controlplane.api import api
from tests.controlplane.api_kit import ACTOR, ALL_SCOPES, MAIN, Api, Tenant, event_count, make_api
from tests.factories import Cast
from tunnels.models import Tunnel


def client() -> Client:
    return Client(headers={"Host": "testserver"})


@pytest.fixture
def widget(cast: Cast) -> Api:
    return make_api(cast.widgetcorp)


# --- Envelope and content type ---------------------------------------------------------------------------------
def test_success_has_the_public_envelope(widget: Api) -> None:
    response = widget.send("GET", widget.account)

    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert response.json() == {
        "success": True,
        "errors": [],
        "messages": [],
        "result": {
            "id": widget.organization.id,
            "name": "Widget Corp",
            "type": "standard",
            "settings": {"enforce_twofactor": False},
            "created_on": widget.organization.created_at.isoformat().replace("+00:00", "Z"),
        },
    }


@pytest.mark.parametrize("path", ["/nothing", "/accounts/x/y/z", "", "/zones/"])
def test_unknown_routes_answer_the_envelope(widget: Api, path: str) -> None:
    error = widget.refused("GET", path or "/", status=404)

    assert error["code"] == 7003


def test_wrong_method_answers_the_envelope_and_names_the_right_ones(widget: Api) -> None:
    response = widget.send("DELETE", "/user")

    assert response.status_code == 405
    assert response["Allow"] == "GET"
    assert response["Content-Type"] == "application/json"
    assert response.json()["success"] is False


def test_an_unknown_error_tells_nothing(widget: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the database password is hunter2")

    monkeypatch.setattr("tunnels.api.create_tunnel", explode)

    error = widget.refused("POST", f"{widget.account}/cfd_tunnel", {"name": "x"}, status=500)

    assert "hunter2" not in json.dumps(error)
    assert error["code"] == 10013


# --- Tokens and scopes -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_the_bearer_scheme_is_read_in_any_case(widget: Api, scheme: str) -> None:
    response = client().get(f"{MAIN}/user/tokens/verify", headers={"authorization": f"{scheme} {widget.token}"})

    assert response.status_code == 200
    assert response.json()["result"]["status"] == "active"


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        (None, 401, 10000),
        ("Bearer " + "x" * 40, 401, 10000),
        ("Bearer short", 400, 6003),
        ("Basic dXNlcjpwYXNz", 400, 6003),
        ("Bearer " + "x" * 30 + "\u00e9" * 20, 400, 6003),
        ("Bearer " + "x" * 5000, 400, 6003),
    ],
)
def test_without_a_good_token_nothing_is_told(db: None, header: str | None, status: int, code: int) -> None:
    headers = {} if header is None else {"authorization": header}
    response = client().get(f"{MAIN}/accounts", headers=headers)

    assert response.status_code == status
    assert response["Content-Type"] == "application/json"
    assert response.json()["errors"][0]["code"] == code
    assert status != 401 or response["WWW-Authenticate"].startswith("Bearer")


def test_revoked_and_expired_tokens_are_refused_alike(cast: Cast) -> None:
    token, value = create_api_token(
        cast.widgetcorp, name="t", scopes=["tunnels.read"], expires_at=None, user=None, actor=ACTOR
    )
    revoked = Api(cast.widgetcorp, value)
    assert revoked.send("GET", "/accounts").status_code == 200
    revoke_api_token(token, actor=ACTOR)
    expired = make_api(cast.widgetcorp, ["tunnels.read"])
    ApiToken.objects.exclude(pk=token.pk).update(expires_at=timezone.now() - timedelta(seconds=1))

    first = revoked.refused("GET", "/accounts", status=401)
    second = expired.refused("GET", "/accounts", status=401)

    assert first == second


def test_a_dashboard_session_is_no_token(cast: Cast) -> None:
    browser = client()
    browser.force_login(cast.alice)

    assert browser.get(f"{MAIN}/accounts").status_code == 401


def test_each_operation_needs_its_scope(widgetcorp: Tenant) -> None:
    """Every operation, with a token that holds all scopes but the one it needs: 403 and nothing changed."""
    before = event_count()
    for operation in api.operations():
        if operation.permission.value not in ALL_SCOPES:
            continue
        others = [scope for scope in ALL_SCOPES if scope != operation.permission.value]
        poor = _without_event(widgetcorp, others)
        error = poor.refused(operation.method, widgetcorp.path(operation.path), {}, status=403)
        assert operation.permission.value in error["message"], operation
    assert event_count() == before


def test_every_operation_declares_a_permission_that_tokens_can_hold(db: None) -> None:
    operations = list(api.operations())

    assert len(operations) > 80
    assert {operation.permission.value for operation in operations} <= {*ALL_SCOPES, "signed_in"}
    writing = [o for o in operations if o.method != "GET" and not o.permission.value.endswith(".edit")]
    assert writing == []


def _without_event(tenant: Tenant, scopes: list[str]) -> Api:
    """Change the tenant's token in place, so that the number of events stays the same."""
    ApiToken.objects.for_organization(tenant.api.organization).update(scopes=scopes)
    return tenant.api


# --- Limits and malformed input --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"text"',
        b'{"name": NaN}',
        b'{"name": "a\\u0000b"}',
        b'{"name": "\\ud800"}',
        b'{"name": 1e999}',
        b"[" * 5000 + b"]" * 5000,
        b"\xff\xfe",
        b'{"name": ["x"]}',
        b"",
    ],
)
def test_malformed_bodies_change_nothing(widget: Api, body: bytes) -> None:
    before = event_count()

    widget.refused("POST", f"{widget.account}/cfd_tunnel", body, status=400)

    assert event_count() == before
    assert not Tunnel.objects.for_organization(widget.organization).exists()


def test_an_escaped_backslash_before_u0000_is_no_nul(widget: Api) -> None:
    created = widget.ok("POST", f"{widget.account}/cfd_tunnel", b'{"name": "a\\\\u0000\\u00e9"}')

    assert created["name"] == "a\\u0000\u00e9"


@pytest.mark.parametrize("method", ["POST", "PUT", "GET", "DELETE"])
def test_bodies_above_one_mebibyte_are_refused_before_the_token_is_read(db: None, method: str) -> None:
    body = b'{"name": "' + b"x" * (1024 * 1024) + b'"}'

    response = client().generic(method, f"{MAIN}/zones", body, content_type="application/json")

    assert response.status_code in (413, 405)
    assert response["Content-Type"] == "application/json"
    assert method not in ("POST", "GET") or response.status_code == 413


def test_a_body_without_length_is_refused_clearly(widget: Api) -> None:
    headers = {"authorization": f"Bearer {widget.token}", "transfer-encoding": "chunked"}

    response = client().post(f"{MAIN}/zones", headers=headers, CONTENT_LENGTH="")

    assert response.status_code == 411
    assert "Content-Length" in response.json()["errors"][0]["message"]


@pytest.mark.parametrize("path", ["/zones?name=%00", "/accounts/%00", "/zones/a%00b/dns_records"])
def test_nul_in_addresses_is_refused(widget: Api, path: str) -> None:
    widget.refused("GET", path, status=400)


def test_validation_errors_name_their_field(widget: Api) -> None:
    response = widget.send("POST", f"{widget.account}/cfd_tunnel", {"config_src": 5})

    assert response.status_code == 400
    pointers = {error["source"]["pointer"] for error in response.json()["errors"]}
    assert pointers == {"/name", "/config_src"}


# --- Paging ----------------------------------------------------------------------------------------------------
def test_pages_count_and_end_with_an_empty_list(widget: Api) -> None:
    for number in range(5):
        widget.ok("POST", f"{widget.account}/cfd_tunnel", {"name": f"pool-{number}"})

    pages = [
        widget.send("GET", f"{widget.account}/cfd_tunnel?per_page=2&page={number}").json()
        for number in (1, 2, 3, 4, 99)
    ]

    assert [[tunnel["name"] for tunnel in page["result"]] for page in pages] == [
        ["pool-0", "pool-1"],
        ["pool-2", "pool-3"],
        ["pool-4"],
        [],
        [],
    ]
    assert pages[2]["result_info"] == {
        "page": 3,
        "per_page": 2,
        "count": 1,
        "total_count": 5,
        "total_pages": 3,
    }


@pytest.mark.parametrize("query", ["page=0", "page=-1", "page=x", "per_page=0", "per_page=", "page=1e9"])
def test_bad_paging_is_refused(widget: Api, query: str) -> None:
    widget.refused("GET", f"{widget.account}/cfd_tunnel?{query}", status=400)


def test_per_page_is_lowered_to_the_maximum(widget: Api) -> None:
    info = widget.send("GET", f"{widget.account}/cfd_tunnel?per_page=100000").json()["result_info"]

    assert info["per_page"] == 1000


@pytest.mark.parametrize(
    "path",
    [
        "{account}/cfd_tunnel",
        "{account}/access/apps",
        "{account}/access/apps/ca",
        "{account}/access/groups",
        "{account}/access/policies",
        "{account}/access/users",
        "{account}/access/logs/access_requests",
        "{account}/access/service_tokens",
        "{account}/access/identity_providers",
        "/zones",
    ],
)
def test_lists_need_few_queries(widgetcorp: Tenant, path: str) -> None:
    with CaptureQueriesContext(connection) as queries:
        widgetcorp.api.ok("GET", path.format(account=widgetcorp.api.account))

    assert len(queries) <= 7


# --- Documentation ---------------------------------------------------------------------------------------------
def test_the_schema_lists_every_operation_with_its_scope(db: None) -> None:
    response = client().get(f"{MAIN}/openapi.json")
    schema = response.json()

    described = {
        (method.upper(), path.removeprefix(MAIN)): operation["x-permission"]
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }
    assert described == {(o.method, o.path): o.permission.value for o in api.operations()}
    identifiers = [operation["operationId"] for methods in schema["paths"].values() for operation in methods.values()]
    assert len(set(identifiers)) == len(identifiers)
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            named = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}


def test_the_documentation_page_fits_the_content_security_policy(db: None) -> None:
    response = client().get(f"{MAIN}/docs")
    page = response.content.decode()

    assert response.status_code == 200
    assert "script-src 'self'" in response["Content-Security-Policy"]
    assert "<script>" not in page
    assert "https://" not in page
    assert "style=" not in page
    assert "POST /accounts/{account_id}/cfd_tunnel" in page.replace("<wbr>", "")
    assert "tunnels.edit" in page
