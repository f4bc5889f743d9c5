"""The parsed snapshot: which application, which route, and what a broken one does."""

from typing import Any

import pytest

from dataplane.edge.routing import RouteKind, ServiceMap
from dataplane.edge.snapshot import SnapshotError, parse_snapshot
from tests.dataplane.edge.fakes import INGRESS, ORG, SSH_HOST, TUNNEL_ID, WEB_HOST, application, make_snapshot


def snapshot_with(**changes: Any) -> Any:
    return parse_snapshot({**make_snapshot(), **changes})


@pytest.mark.parametrize(
    ("hostname", "target", "name"),
    [
        ("a.example.com", "/", "exact"),
        ("b.example.com", "/", "wide"),
        ("c.b.example.com", "/", "wide"),
        ("c.deep.example.com", "/", "deep"),
        ("example.com", "/", None),
        ("a.example.com", "/admin", "admin"),
        ("a.example.com", "/admin/users?x=/..", "admin"),
        ("a.example.com", "/administrator", "exact"),
        ("a.example.com", "/admin/", "admin"),
        ("a.example.com", "/x/../admin", None),
        ("a.example.com", "/admin/../x", None),
        ("a.example.com", "/a%2Fb", "exact"),
        ("a.example.com", "/x/..;/admin", None),
        ("a.example.com", "/admin;x=1/users", None),
        ("a.example.com", "/x/%2e%2e/admin", None),
        ("a.example.com", "/x/%252e%252e/admin", None),
        ("a.example.com", "/x%5c..%5cadmin", None),
        ("a.example.com", "/%61dmin", None),
        ("a.example.com", "//admin", None),
        ("a.example.com", "/x;v=1/y;admin", "exact"),
        ("a.example.com", "/admin/x;v=1/y", "admin"),
    ],
)
def test_most_specific_application_wins(hostname: str, target: str, name: str | None) -> None:
    snapshot = snapshot_with(
        applications=[
            application("wide", "*.example.com"),
            application("deep", "*.deep.example.com"),
            application("exact", "a.example.com"),
            application("admin", "a.example.com", path="/admin"),
        ]
    )
    found = snapshot.find_application(hostname, target)
    assert (found.name if found else None) == name


def test_wildcard_routes_and_the_management_host() -> None:
    route = {"tunnel_id": TUNNEL_ID, "organization_id": ORG}
    snapshot = snapshot_with(
        routes=[{**route, "hostname": "*.example.com"}, {**route, "hostname": "management.argotunnel.com"}]
    )
    assert snapshot.find_route("x.example.com") is not None
    assert snapshot.find_route("example.com") is None
    assert snapshot.find_route("management.argotunnel.com") is None


@pytest.mark.parametrize(
    "document", [None, [], {}, {"version": 1}, {**make_snapshot(), "tunnels": [{}]}, {**make_snapshot(), "jwks": 3}]
)
def test_unexpected_shapes_are_refused_whole(document: Any) -> None:
    with pytest.raises(SnapshotError):
        parse_snapshot(document)


def test_secrets_do_not_show_in_repr() -> None:
    snapshot = parse_snapshot(make_snapshot())
    digest = make_snapshot()["tunnels"][0]["secret_sha256"][0]
    assert digest not in repr(snapshot)


def test_service_kinds_come_from_the_ingress_rules() -> None:
    services = ServiceMap()
    assert services.find(INGRESS, SSH_HOST, "/").kind is RouteKind.TCP
    assert services.find(INGRESS, WEB_HOST, "/").kind is RouteKind.HTTP
    assert services.find(INGRESS, "other", "/").no_rule_status == 404
    assert services.find(None, SSH_HOST, "/").kind is RouteKind.UNKNOWN
    assert services.find({"ingress": [{"service": "::"}]}, SSH_HOST, "/").kind is RouteKind.UNKNOWN
