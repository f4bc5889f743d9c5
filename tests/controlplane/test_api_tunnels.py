"""/client/v4 tunnels, zones and DNS records, as cloudflared and SDKs use them (tunnel-edge.md 1)."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.utils import timezone

from accounts.models import AuditEvent
from tests.controlplane.api_kit import INGRESS, SECRET, Api, Tenant, event_count, make_connector
from tunnels.models import DnsRecord, Tunnel, Zone
from tunnels.secrets import secret_hash

SHARED_TENANTS = True


@pytest.fixture
def api(widgetcorp: Tenant) -> Api:
    return widgetcorp.api


@pytest.fixture
def tunnels(api: Api) -> str:
    return f"{api.account}/cfd_tunnel"


@pytest.fixture
def zone(widgetcorp: Tenant) -> str:
    return f"/zones/{widgetcorp.ids['zone_id']}"


def last_event(api: Api) -> AuditEvent:
    event = AuditEvent.objects.for_organization(api.organization).order_by("-id").first()
    assert event is not None
    return event


# --- Tunnels ---------------------------------------------------------------------------------------------------
def test_create_as_cloudflared_does(api: Api, tunnels: str) -> None:
    created = api.ok("POST", tunnels, {"name": "demo", "tunnel_secret": SECRET})

    assert UUID(created["id"])
    assert created["account_tag"] == api.organization.id
    assert (created["name"], created["status"], created["tun_type"]) == ("demo", "inactive", "cfd_tunnel")
    assert (created["config_src"], created["remote_config"]) == ("local", False)
    assert created["deleted_at"] is None
    assert created["connections"] == []
    token = json.loads(base64.b64decode(created["token"]))
    assert (token["a"], token["t"]) == (api.organization.id, created["id"])
    assert len(base64.b64decode(token["s"])) == 32
    assert created["credentials_file"] == {
        "AccountTag": api.organization.id,
        "TunnelSecret": SECRET,
        "TunnelID": created["id"],
        "TunnelName": "demo",
        "Endpoint": "",
    }
    assert Tunnel.objects.get(pk=created["id"]).secret_sha256 == secret_hash(base64.b64decode(SECRET))
    assert last_event(api).name == "tunnels.tunnel.created"
    assert SECRET not in str(last_event(api).new)
    assert api.ok("GET", f"{tunnels}/{created['id']}/token") == created["token"]


def test_a_second_tunnel_of_the_name_is_a_conflict_with_readable_error(api: Api, tunnels: str) -> None:
    response = api.send("POST", tunnels, {"name": "pool"})

    assert response.status_code == 409
    assert response["Content-Type"] == "application/json"
    assert response.json()["errors"][0]["code"] == 1013


def test_lists_filter_and_stop(api: Api, tunnels: str, widgetcorp: Tenant) -> None:
    """`tunnel list` asks page after page and stops at count < per_page; a name is looked up with is_deleted=false."""
    for name in ("alpha", "alpine", "beta"):
        api.ok("POST", tunnels, {"name": name})
    gone = api.ok("POST", tunnels, {"name": "gone"})
    api.ok("DELETE", f"{tunnels}/{gone['id']}")

    def names(query: str) -> list[str]:
        return [tunnel["name"] for tunnel in api.ok("GET", f"{tunnels}?{query}")]

    assert names("is_deleted=false&page=1") == ["alpha", "alpine", "beta", "pool"]
    assert names("is_deleted=false&page=2") == []
    assert names("") == ["alpha", "alpine", "beta", "pool"]
    assert names("is_deleted=true") == ["gone"]
    assert names("is_deleted=false&name=beta&page=1") == ["beta"]
    assert names("name_prefix=al") == ["alpha", "alpine"]
    assert names("include_prefix=al&exclude_prefix=alpi") == ["alpha"]
    assert names(f"uuid={widgetcorp.ids['tunnel_id']}&page=1") == ["pool"]
    assert names(f"uuid={uuid4()}") == []
    assert names("uuid=nonsense") == []
    assert names("status=degraded") == ["pool"]
    assert names("status=inactive&per_page=2") == ["alpha", "alpine"]
    assert names("existed_at=2000-01-01T00:00:00Z") == []
    api.refused("GET", f"{tunnels}?existed_at=2000-01-01T00:00:00", status=400)
    info = api.send("GET", f"{tunnels}?per_page=4").json()["result_info"]
    assert (info["count"], info["per_page"], info["total_count"]) == (4, 4, 4)


def test_status_and_connections_as_tunnel_info_reads_them(api: Api, tunnels: str, widgetcorp: Tenant) -> None:
    path = f"{tunnels}/{widgetcorp.ids['tunnel_id']}"

    tunnel = api.ok("GET", path)

    assert tunnel["status"] == "degraded"
    assert tunnel["conns_active_at"] is not None
    assert tunnel["conns_inactive_at"] is None
    assert {connection["colo_name"] for connection in tunnel["connections"]} == {"lis01"}
    assert all(UUID(connection["id"]) for connection in tunnel["connections"])
    (client,) = api.ok("GET", f"{path}/connections")
    assert client["id"] == widgetcorp.ids["connector_id"]
    assert (client["version"], client["arch"]) == ("2026.8.2", "linux_amd64")
    assert client["config_version"] == 3
    assert len(client["conns"]) == 2
    assert client["conns"] == tunnel["connections"]
    assert api.ok("GET", f"{path}/connectors/{client['id']}") == client
    api.refused("GET", f"{path}/connectors/{uuid4()}", status=404)


def test_connections_are_cleaned_up(api: Api, tunnels: str, widgetcorp: Tenant) -> None:
    path = f"{tunnels}/{widgetcorp.ids['tunnel_id']}/connections"

    assert api.ok("DELETE", f"{path}?client_id={widgetcorp.ids['connector_id']}") == {}
    assert last_event(api).name == "tunnels.connectors.disconnected"
    assert api.ok("DELETE", path) == {}
    assert Tunnel.objects.get(pk=widgetcorp.ids["tunnel_id"]).reconnect_after is not None
    api.refused("DELETE", f"{path}?client_id={uuid4()}", status=404)
    api.refused("DELETE", f"{path}?client_id=x", status=404)


def test_deleting_a_connected_tunnel_needs_cascade(api: Api, tunnels: str, widgetcorp: Tenant) -> None:
    path = f"{tunnels}/{widgetcorp.ids['tunnel_id']}"
    before = event_count()

    api.refused("DELETE", path, status=409)

    assert event_count() == before
    deleted = api.ok("DELETE", f"{path}?cascade=true")
    assert deleted["deleted_at"] is not None
    assert last_event(api).name == "tunnels.tunnel.deleted"
    assert api.ok("GET", path)["deleted_at"] is not None
    for method, tail in [("DELETE", ""), ("GET", "/token"), ("GET", "/configurations")]:
        api.refused(method, path + tail, status=404)


def test_a_tunnel_is_renamed_and_its_secret_replaced(api: Api, tunnels: str, widgetcorp: Tenant) -> None:
    path = f"{tunnels}/{widgetcorp.ids['tunnel_id']}"
    token = api.ok("GET", f"{path}/token")
    secret = base64.b64encode(b"n" * 40).decode()

    changed = api.ok("PATCH", path, {"name": "renamed", "tunnel_secret": secret})

    assert changed["name"] == "renamed"
    assert changed["credentials_file"]["TunnelSecret"] == secret
    assert changed["token"] != token
    assert Tunnel.objects.get(pk=widgetcorp.ids["tunnel_id"]).secret_sha256 == secret_hash(b"n" * 40)
    assert last_event(api).name == "tunnels.tunnel.secret_replaced"


def test_configuration_versions(api: Api, tunnels: str, widgetcorp: Tenant) -> None:
    path = f"{tunnels}/{widgetcorp.ids['tunnel_id']}/configurations"
    empty = api.ok("GET", path)
    assert (empty["version"], empty["config"], empty["source"]) == (0, None, "local")

    first = api.ok("PUT", path, {"config": INGRESS})
    second = api.ok("PUT", path, {"config": {**INGRESS, "originRequest": {"connectTimeout": 10}}})

    assert second["version"] == first["version"] + 1
    assert first["config"] == INGRESS
    assert second["source"] == "cloudflare"
    assert last_event(api).name == "tunnels.configuration.published"
    assert api.ok("GET", path) == second
    assert api.ok("GET", f"{tunnels}/{widgetcorp.ids['tunnel_id']}")["remote_config"] is True


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", {"name": ""}),
        ("", {"name": "x" * 200}),
        ("", {"name": "2f829629-ce7f-4d14-8569-cee157f20ebc"}),
        ("", {"name": "short", "tunnel_secret": base64.b64encode(b"short").decode()}),
        ("", {"name": "bad", "tunnel_secret": "***"}),
        ("", {"name": "source", "config_src": "elsewhere"}),
        ("/{tunnel_id}/configurations", {"config": {"ingress": [{"hostname": "a.test", "service": "ssh://h:22"}]}}),
        ("/{tunnel_id}/configurations", {"config": {"ingress": [{"service": "gopher://h"}]}}),
        ("/{tunnel_id}/configurations", {"config": []}),
        ("/{tunnel_id}/configurations", {}),
    ],
)
def test_bad_tunnel_input_changes_nothing(
    api: Api, tunnels: str, widgetcorp: Tenant, path: str, body: dict[str, Any]
) -> None:
    before = event_count(), Tunnel.objects.count()

    api.refused("PUT" if path else "POST", tunnels + widgetcorp.path(path), body, status=400)

    assert (event_count(), Tunnel.objects.count()) == before


def test_a_secret_in_a_refused_body_is_not_repeated(api: Api, tunnels: str) -> None:
    canary = base64.b64encode(b"canary" * 2).decode()

    response = api.send("POST", tunnels, {"name": 5, "tunnel_secret": canary})

    assert response.status_code == 400
    assert canary.encode() not in response.content


def test_old_connectors_are_not_connected(api: Api, tunnels: str) -> None:
    created = api.ok("POST", tunnels, {"name": "old"})
    connector = make_connector(Tunnel.objects.get(pk=created["id"]))
    connector.connections.update(last_seen_at=timezone.now() - timedelta(minutes=5))

    tunnel = api.ok("GET", f"{tunnels}/{created['id']}")

    assert tunnel["status"] == "down"
    assert tunnel["conns_inactive_at"] is not None
    assert api.ok("GET", f"{tunnels}/{created['id']}/connections") == []


# --- Zones -----------------------------------------------------------------------------------------------------
def test_zones(api: Api, widgetcorp: Tenant, settings: Any) -> None:
    settings.UNVERIFIED_ZONE_SUFFIX = ""

    created = api.ok("POST", "/zones", {"name": "New-Zone.org", "account": {"id": api.organization.id}, "type": "full"})

    assert (created["name"], created["status"], created["paused"]) == ("new-zone.org", "pending", False)
    assert created["account"] == {"id": api.organization.id, "name": "Widget Corp"}
    assert created["verification"]["name"] == "_sallyport-challenge.new-zone.org"
    assert created["verification"]["value"].startswith("sallyport-verification=")
    path = f"/zones/{created['id']}"
    assert api.ok("GET", path)["id"] == created["id"]
    assert [z["name"] for z in api.ok("GET", "/zones")] == ["new-zone.org", "widgetcorp.example"]
    assert [z["name"] for z in api.ok("GET", "/zones?direction=desc")] == ["widgetcorp.example", "new-zone.org"]
    assert [z["name"] for z in api.ok("GET", "/zones?name=NEW-zone.org.")] == ["new-zone.org"]
    assert [z["name"] for z in api.ok("GET", "/zones?status=active")] == ["widgetcorp.example"]
    assert len(api.ok("GET", f"/zones?account.id={api.organization.id}")) == 2
    assert api.ok("GET", "/zones?account.id=" + "0" * 32) == []
    assert api.ok("PUT", f"{path}/activation_check") == {"id": created["id"]}
    assert last_event(api).name == "tunnels.zone.check_requested"
    assert api.ok("PATCH", path, {"paused": False})["id"] == created["id"]
    api.refused("PATCH", path, {"paused": True}, status=400)
    assert api.ok("DELETE", path) == {"id": created["id"]}
    assert last_event(api).name == "tunnels.zone.deleted"
    api.refused("GET", path, status=404)


def test_zone_refusals(api: Api, zone: str, cast: Any) -> None:
    before = event_count(), Zone.objects.count()

    api.refused("POST", "/zones", {"name": "localhost"}, status=400)
    api.refused("POST", "/zones", {"name": "widgetcorp.example"}, status=409)
    api.refused("POST", "/zones", {"name": "a.example", "account": {"id": cast.evilcorp.id}}, status=404)
    api.refused("POST", "/zones", {"name": "a.example", "account": {"id": "0" * 32}}, status=404)
    api.refused("DELETE", zone, status=409)

    assert (event_count(), Zone.objects.count()) == before


# --- DNS records -----------------------------------------------------------------------------------------------
def test_dns_records(api: Api, zone: str, widgetcorp: Tenant) -> None:
    records = f"{zone}/dns_records"
    target = f"{widgetcorp.ids['tunnel_id']}.tunnel.example.test"

    created = api.ok(
        "POST",
        records,
        {"type": "CNAME", "name": "ssh-bastion", "content": target, "ttl": 1, "proxied": True, "comment": "bastion"},
    )

    assert created["name"] == "ssh-bastion.widgetcorp.example"
    assert (created["content"], created["proxied"], created["ttl"]) == (target, True, 1)
    assert (created["comment"], created["tags"], created["settings"]) == ("bastion", [], {})
    assert created["zone_name"] == "widgetcorp.example"
    assert last_event(api).name == "tunnels.record.created"
    path = f"{records}/{created['id']}"
    assert api.ok("GET", path)["name"] == created["name"]
    api.ok("POST", records, {"type": "TXT", "name": "@", "content": "hello", "ttl": 300})

    def names(query: str) -> list[str]:
        return [record["name"] for record in api.ok("GET", f"{records}?{query}")]

    both = ["ssh-bastion.widgetcorp.example", "ssh.widgetcorp.example"]
    assert names("type=CNAME") == both
    assert names("type=CNAME&direction=desc") == both[::-1]
    assert names("name=ssh.widgetcorp.example") == both[1:]
    assert names("name.exact=SSH.widgetcorp.example") == both[1:]
    assert names("name.contains=bastion") == both[:1]
    assert names("name.startswith=ssh-") == both[:1]
    assert names(f"content={target}") == both
    assert names("content.contains=hell") == ["widgetcorp.example"]
    assert names("comment.exact=bastion") == both[:1]
    assert names("proxied=false") == ["widgetcorp.example"]
    assert names("search=hello") == ["widgetcorp.example"]
    assert names("type=TXT&name.contains=bastion") == []
    assert len(names("type=TXT&name.contains=bastion&match=any")) == 2
    api.refused("GET", f"{records}?order=zone__organization__name", status=400)

    patched = api.ok("PATCH", path, {"comment": "", "proxied": False})
    assert (patched["comment"], patched["proxied"], patched["content"]) == (None, False, target)
    replaced = api.ok("PUT", path, {"type": "A", "name": "ssh-bastion", "content": "192.0.2.1", "ttl": 120})
    assert (replaced["type"], replaced["content"], replaced["ttl"]) == ("A", "192.0.2.1", 120)
    assert last_event(api).name == "tunnels.record.updated"
    assert api.ok("DELETE", path) == {"id": created["id"]}
    assert last_event(api).name == "tunnels.record.deleted"
    api.refused("GET", path, status=404)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"type": "CNAME", "name": "ssh", "content": "elsewhere.example"}, 409),
        ({"type": "A", "name": "ssh.evilcorp.example", "content": "192.0.2.1"}, 400),
        ({"type": "A", "name": "a", "content": "not an address"}, 400),
        ({"type": "MX", "name": "a", "content": "mail"}, 400),
        ({"type": "A", "name": "a", "content": "192.0.2.1", "ttl": 5}, 400),
        ({"type": "A", "name": "a", "content": "192.0.2.1", "tags": ["x"]}, 400),
        ({"type": "A", "name": "a"}, 400),
        ({"type": None, "name": "a", "content": "192.0.2.1"}, 400),
        ({"type": "CNAME", "name": "a", "content": "00000000-0000-4000-8000-000000000000.tunnel.example.test"}, 400),
        ({"type": "A", "name": "a", "content": "192.0.2.1", "comment": "x" * 200}, 400),
    ],
)
def test_bad_records_change_nothing(api: Api, zone: str, body: dict[str, Any], status: int) -> None:
    before = event_count(), DnsRecord.objects.count()

    error = api.refused("POST", f"{zone}/dns_records", body, status=status)

    assert status != 409 or error["code"] == 81053
    assert (event_count(), DnsRecord.objects.count()) == before


def test_route_dns(api: Api, zone: str, widgetcorp: Tenant) -> None:
    route = f"{zone}/tunnels/{widgetcorp.ids['tunnel_id']}/routes"
    body = {"type": "dns", "user_hostname": "new.widgetcorp.example", "overwrite_existing": False}

    assert api.ok("PUT", route, body) == {"cname": "new", "name": "new.widgetcorp.example"}
    assert last_event(api).name == "tunnels.record.created"
    before = event_count()
    assert api.ok("PUT", route, body)["cname"] == "unchanged"
    assert event_count() == before
    api.ok("POST", f"{zone}/dns_records", {"type": "A", "name": "taken", "content": "192.0.2.1"})
    taken = {**body, "user_hostname": "taken.widgetcorp.example"}
    assert api.refused("PUT", route, taken, status=409)["code"] == 81053
    assert api.ok("PUT", route, {**taken, "overwrite_existing": True})["cname"] == "updated"
    api.refused("PUT", route, {"type": "lb", "lb_name": "x", "lb_pool": "y"}, status=400)
    api.refused("PUT", route, {**body, "user_hostname": "x.evilcorp.example"}, status=400)
