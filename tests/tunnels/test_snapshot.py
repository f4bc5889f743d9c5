"""The snapshot: its document (golden), what is served and what is not, its cost, and the 304 path."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from access.models import Application, TokenKey
from accounts.actor import Actor
from accounts.audit import edge_version, raise_edge_version
from dataplane.edge.snapshot import parse_snapshot
from tests.factories import Cast
from tests.tunnels.helpers import CONFIG, EDGE_TOKEN, Agent, actor_of, make_alias, make_tunnel, make_zone
from tunnels.actions.configurations import publish_configuration
from tunnels.actions.records import create_record, route_hostname
from tunnels.actions.tunnels import delete_tunnel
from tunnels.actions.zones import create_zone
from tunnels.models import DnsRecord, Tunnel, Zone
from tunnels.routing import Alias
from tunnels.snapshots import (
    ApplicationFacts,
    OrganizationFacts,
    SnapshotFacts,
    TunnelFacts,
    build_snapshot,
    load_snapshot,
)

ORG, OTHER = "a" * 32, "b" * 32
TUNNEL, FOREIGN = uuid.UUID(int=1), uuid.UUID(int=2)
APP = uuid.UUID(int=3)


@pytest.fixture
def alice(cast: Cast) -> Actor:
    return actor_of(cast.alice)


@pytest.fixture
def zone(cast: Cast) -> Zone:
    return make_zone(cast.widgetcorp, cast.alice)


@pytest.fixture
def tunnel(cast: Cast) -> Tunnel:
    return make_tunnel(cast.widgetcorp, cast.alice)


def tunnel_facts(tunnel_id: uuid.UUID, organization: str, **changes: Any) -> TunnelFacts:
    values: dict[str, Any] = {
        "id": tunnel_id,
        "organization_id": organization,
        "name": "ssh-pool",
        "secret_hashes": ["00" * 32],
        "is_remote": False,
        "config_version": None,
        "config": None,
        "min_registered_at": 0.0,
        "connectors": {},
    }
    return TunnelFacts(**(values | changes))


def facts(**changes: Any) -> SnapshotFacts:
    values: dict[str, Any] = {
        "version": 7,
        "dashboard_hosts": ["localhost"],
        "transfer_hosts": ["login.access.localhost"],
        "organizations": [OrganizationFacts(ORG, "widgetcorp.access.localhost", "https://widgetcorp.access.localhost")],
        "zones": {"widgetcorp.localhost": ORG},
        "applications": [ApplicationFacts(APP, ORG, "SSH", "ssh.widgetcorp.localhost", "", "c" * 64)],
        "aliases": [Alias("ssh.widgetcorp.localhost", ORG, TUNNEL)],
        "tunnels": [tunnel_facts(TUNNEL, ORG)],
        "keys": {ORG: [{"kty": "RSA", "kid": "k"}]},
        "changes": {ORG: 6},
    }
    return SnapshotFacts(**(values | changes))


def test_golden_snapshot() -> None:
    client_id = str(uuid.UUID(int=9))
    remote = tunnel_facts(
        TUNNEL, ORG, is_remote=True, config_version=3, config=CONFIG, min_registered_at=5.5, connectors={client_id: 6.5}
    )
    assert build_snapshot(facts(tunnels=[remote])) == {
        "version": 7,
        "team_domains": {"widgetcorp.access.localhost": ORG},
        "dashboard_hosts": ["localhost"],
        "transfer_hosts": ["login.access.localhost"],
        "applications": [
            {
                "id": "00000000-0000-0000-0000-000000000003",
                "organization_id": ORG,
                "name": "SSH",
                "hostname": "ssh.widgetcorp.localhost",
                "path": "",
                "aud": "c" * 64,
                "issuer": "https://widgetcorp.access.localhost",
                "team_domain": "widgetcorp.access.localhost",
            }
        ],
        "routes": [
            {
                "hostname": "ssh.widgetcorp.localhost",
                "tunnel_id": "00000000-0000-0000-0000-000000000001",
                "organization_id": ORG,
            }
        ],
        "tunnels": [
            {
                "id": "00000000-0000-0000-0000-000000000001",
                "organization_id": ORG,
                "name": "ssh-pool",
                "secret_sha256": ["00" * 32],
                "remote": True,
                "config_version": 3,
                "config": CONFIG,
                "min_registered_at": 5.5,
                "connectors": {client_id: 6.5},
            }
        ],
        "jwks": {ORG: {"keys": [{"kty": "RSA", "kid": "k"}]}},
        "client_roots": {},
        "certificate_forwarding": [],
        "changes": {ORG: 6},
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"aliases": [Alias("ssh.widgetcorp.localhost", ORG, None)]},
        {"aliases": [Alias("ssh.widgetcorp.localhost", ORG, FOREIGN)]},
        {"aliases": [Alias("ssh.widgetcorp.localhost", OTHER, TUNNEL)]},
        {"tunnels": []},
        {"tunnels": [tunnel_facts(TUNNEL, OTHER)]},
        {
            "aliases": [Alias("x.y", ORG, TUNNEL), Alias("x.y", OTHER, FOREIGN)],
            "tunnels": [tunnel_facts(TUNNEL, ORG), tunnel_facts(FOREIGN, OTHER)],
        },
    ],
)
def test_what_makes_no_route(changes: dict[str, Any]) -> None:
    assert build_snapshot(facts(**changes))["routes"] == []


@pytest.mark.parametrize(
    ("hostname", "zones", "is_served"),
    [
        ("ssh.widgetcorp.localhost", {"widgetcorp.localhost": ORG}, True),
        ("widgetcorp.localhost", {"widgetcorp.localhost": ORG}, True),
        ("*.widgetcorp.localhost", {"widgetcorp.localhost": ORG}, True),
        ("ssh.widgetcorp.localhost", {"widgetcorp.localhost": OTHER}, False),
        ("ssh.widgetcorp.localhost", {"corp.localhost": ORG}, False),
        ("ssh.widgetcorp.localhost", {}, False),
    ],
)
def test_applications_are_served_below_their_own_active_zones(
    hostname: str, zones: dict[str, str], is_served: bool
) -> None:
    application = ApplicationFacts(APP, ORG, "SSH", hostname, "", "c" * 64)
    found = build_snapshot(facts(applications=[application], zones=zones))["applications"]
    assert bool(found) is is_served


def test_the_edge_reads_what_the_database_holds(cast: Cast, zone: Zone, tunnel: Tunnel, alice: Actor) -> None:
    make_alias(zone, tunnel, cast.alice)
    make_alias(zone, tunnel, cast.alice, "*")
    application = Application.objects.create(
        organization=cast.widgetcorp, name="SSH", hostname="ssh.widgetcorp.localhost"
    )
    publish_configuration(tunnel, config=CONFIG, actor=alice)
    configuration = publish_configuration(tunnel, config=CONFIG, actor=alice)
    parsed = parse_snapshot(load_snapshot())
    assert parsed.version == edge_version()
    assert parsed.team_domains["widgetcorp.access.example.test"] == cast.widgetcorp.pk
    found = parsed.find_application("ssh.widgetcorp.localhost", "/x?y")
    assert found is not None
    assert (found.id, found.aud, found.issuer) == (str(application.pk), application.aud, cast.widgetcorp.team_url)
    for hostname in ("ssh.widgetcorp.localhost", "other.widgetcorp.localhost"):
        route = parsed.find_route(hostname)
        assert route is not None
        assert (route.tunnel_id, route.organization_id) == (str(tunnel.pk), cast.widgetcorp.pk)
    served = parsed.tunnels[str(tunnel.pk)]
    assert (served.is_remote, served.config_version, served.config) == (True, configuration.version, CONFIG)


def test_token_keys_are_published_from_next_to_retiring(cast: Cast) -> None:
    for state in TokenKey.State.values:
        TokenKey.objects.create(
            organization=cast.widgetcorp, kid=state, public_jwk={"kid": state}, private_sealed=b"", state=state
        )
    jwks = load_snapshot()["jwks"]
    assert {key["kid"] for key in jwks[cast.widgetcorp.pk]["keys"]} == {"next", "active", "retiring"}
    assert cast.evilcorp.pk not in jwks


def routes() -> set[str]:
    return {route["hostname"] for route in load_snapshot()["routes"]}


def test_a_dangling_alias_is_not_served_and_nobody_else_can_have_its_name(
    cast: Cast, zone: Zone, tunnel: Tunnel, alice: Actor
) -> None:
    make_alias(zone, tunnel, cast.alice)
    assert routes() == {"ssh.widgetcorp.localhost"}
    delete_tunnel(tunnel, cascade=True, actor=alice)
    assert DnsRecord.objects.count() == 1
    assert routes() == set()
    foreign = make_tunnel(cast.evilcorp, cast.mallory)
    for action in (
        lambda: create_zone(cast.evilcorp, name="ssh.widgetcorp.localhost", actor=actor_of(cast.mallory)),
        lambda: route_hostname(zone, foreign, hostname="ssh", overwrite=True, actor=actor_of(cast.mallory)),
    ):
        with pytest.raises(Exception, match=r"belongs to another|names no live tunnel"):
            action()
    assert routes() == set()


def test_a_zone_that_is_not_active_serves_nothing(cast: Cast, zone: Zone, tunnel: Tunnel, alice: Actor) -> None:
    make_alias(zone, tunnel, cast.alice)
    Application.objects.create(organization=cast.widgetcorp, name="SSH", hostname="ssh.widgetcorp.localhost")
    pending = create_zone(cast.widgetcorp, name="acme.com", actor=alice)
    make_alias(pending, tunnel, cast.alice)
    assert routes() == {"ssh.widgetcorp.localhost"}
    Zone.objects.filter(pk=zone.pk).update(status="moved")
    document = load_snapshot()
    assert (document["routes"], document["applications"]) == ([], [])


def test_records_that_are_no_aliases_of_tunnels_make_no_routes(zone: Zone, alice: Actor) -> None:
    create_record(zone, type="CNAME", name="a", content="x.example.com", actor=alice)
    create_record(zone, type="TXT", name="b", content=f"{uuid.uuid4()}.tunnel.example.test", actor=alice)
    assert routes() == set()


def test_the_cost_does_not_grow_with_the_tenants(
    cast: Cast, zone: Zone, tunnel: Tunnel, alice: Actor, django_assert_num_queries: Any
) -> None:
    make_alias(zone, tunnel, cast.alice)
    publish_configuration(tunnel, config=CONFIG, actor=alice)
    with django_assert_num_queries(13):
        load_snapshot()
    for number in range(10):
        other = make_tunnel(cast.widgetcorp, cast.alice, f"t{number}")
        make_alias(zone, other, cast.alice, f"t{number}")
        publish_configuration(other, config=CONFIG, actor=alice)
        name = f"t{number}.widgetcorp.localhost"
        Application.objects.create(organization=cast.widgetcorp, name=name, hostname=name)
    with django_assert_num_queries(13):
        document = load_snapshot()
    assert len(document["routes"]) == len(document["tunnels"]) == 11


# --- over HTTP --------------------------------------------------------------------------------------------------


def test_snapshot_over_http_then_304_with_one_query(cast: Cast, tunnel: Tunnel, django_assert_num_queries: Any) -> None:
    agent = Agent()
    first = agent.get("snapshot")
    assert (first.status_code, first.headers["content-type"]) == (200, "application/json")
    assert json.loads(first.content) == load_snapshot()
    assert first.headers["etag"] == f'"{edge_version()}"'
    with django_assert_num_queries(1):
        same = agent.get("snapshot", **{"if-none-match": first.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    with django_assert_num_queries(1):
        assert agent.get("snapshot").content == first.content, "the encoded document is cached"

    raise_edge_version(cast.widgetcorp)
    changed = agent.get("snapshot", **{"if-none-match": first.headers["etag"]})
    assert changed.status_code == 200
    assert json.loads(changed.content)["version"] == json.loads(first.content)["version"] + 1


@pytest.mark.parametrize("token", [None, "", "wrong", EDGE_TOKEN + "x", EDGE_TOKEN[:-1], "é"])
@pytest.mark.parametrize("path", ["snapshot", "report", "transfers/x"])
def test_only_edges_may_call(cast: Cast, token: str | None, path: str) -> None:
    agent = Agent(token)
    response = agent.post(path, {}) if path == "report" else agent.get(path)
    assert response.status_code == 401
    assert response.json()["reason"] == "authentication_failed"
    assert EDGE_TOKEN not in response.content.decode()


def test_the_scheme_is_bearer(cast: Cast) -> None:
    agent = Agent()
    agent.headers = {"authorization": f"Basic {EDGE_TOKEN}"}
    assert agent.get("snapshot").status_code == 401


def test_wrong_methods_and_paths(cast: Cast) -> None:
    agent = Agent()
    response = agent.post("snapshot", {})
    assert (response.status_code, response.headers["allow"]) == (405, "GET")
    assert agent.get("report").status_code == 405
    assert agent.get("nothing").status_code == 404


def test_bodies_are_bounded(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunnels.agent_api.MAX_REPORT_BYTES", 1000)
    response = Agent().post("report", b'{"x": "' + b"y" * 1000 + b'"}')
    assert (response.status_code, response.json()["reason"]) == (413, "too_large")


def test_transfer_that_is_not_there(cast: Cast) -> None:
    response = Agent().get(f"transfers/{'A' * 43}=?client_ip=192.0.2.1")
    assert (response.status_code, response.json()["reason"]) == (404, "not_found")
