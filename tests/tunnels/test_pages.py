"""Tunnel and DNS pages: work, role, effect, audit, escaping, live parts, query budgets."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from dataplane.wire.credentials import TunnelCredentials
from tests.dns_server import DnsServer
from tests.factories import Cast
from tests.pages_kit import EVIL_NAME, last_event, login, rows_of, shown, text_of
from tests.world import World, make_world
from tunnels.models import Connection, DnsRecord, Tunnel, TunnelConfiguration, Zone
from tunnels.zones import challenge_value

ROWS = {
    "host-0-hostname": "ssh-bastion.widgetcorp.tech",
    "host-0-path": "",
    "host-0-kind": "ssh",
    "host-0-target": "localhost:2222",
    "host-0-extra": "{}",
    "fallback": "http_status:404",
    "base_version": "1",
    "step": "publish",
}


@pytest.fixture
def world(cast: Cast) -> World:
    return make_world(cast.widgetcorp, domain="widgetcorp.tech")


@pytest.fixture
def alice(cast: Cast) -> Client:
    return login(cast.alice)


def url(name: str, *args: object) -> str:
    return reverse(name, args=["widgetcorp", *args])


class TestTunnels:
    def test_create_leads_to_the_install_commands(self, alice: Client, cast: Cast) -> None:
        response = alice.post(url("tunnel_create"), {"name": "office"})
        tunnel = Tunnel.objects.get(name="office")
        assert response["Location"] == url("tunnel_install", tunnel.pk)
        assert last_event(cast.widgetcorp).name == "tunnels.tunnel.created"
        page = shown(alice, url("tunnel_install", tunnel.pk))
        token = page.split('<pre id="token"')[1].split(">", 1)[1].split("<")[0]
        credentials = TunnelCredentials.from_token(token)
        assert credentials.tunnel_id == tunnel.pk
        assert "sallyport tunnel run --edge tunnel.example.test:7844 --token-file tunnel-token" in page

    @pytest.mark.parametrize("system", ["try", "debian", "docker", "macos", "windows", "cloudflared", "nonsense"])
    def test_no_command_holds_the_token(self, alice: Client, world: World, system: str) -> None:
        page = shown(alice, url("tunnel_install", world.tunnel.pk) + f"?system={system}")
        token = page.split('<pre id="token"')[1].split(">", 1)[1].split("<")[0]
        assert page.count(token) == 1
        assert "--token " not in page
        assert '<pre id="run-command"' in page
        assert "tunnel.example.test:7844" in page.split('<pre id="run-command"')[1]

    def test_the_edge_authority_can_be_fetched(
        self, alice: Client, world: World, settings: Settings, tmp_path: Path
    ) -> None:
        assert alice.get(url("tunnel_edge_authority")).status_code == 404
        path = tmp_path / "edge-ca.pem"
        path.write_text("-----BEGIN CERTIFICATE-----\n")
        settings.EDGE_CA_FILE = str(path)
        assert alice.get(url("tunnel_edge_authority")).content.startswith(b"-----BEGIN CERTIFICATE-----")
        assert "--cacert edge-ca.pem" in shown(alice, url("tunnel_install", world.tunnel.pk))

    def test_token_is_for_editors_only(self, cast: Cast, world: World) -> None:
        bob = login(cast.bob)
        assert bob.get(url("tunnel_install", world.tunnel.pk)).status_code == 403
        assert "tunnel-token" not in shown(bob, url("tunnel_detail", world.tunnel.pk))
        assert login(cast.erin).get(url("tunnel_install", world.tunnel.pk)).status_code == 200

    def test_names(self, alice: Client, world: World) -> None:
        for wrong in ("", "ssh-pool", str(uuid4()), "x" * 101):
            assert alice.post(url("tunnel_create"), {"name": wrong}).status_code == 422
        assert alice.post(url("tunnel_rename", world.tunnel.pk), {"name": "pool-2"}).status_code == 302
        world.tunnel.refresh_from_db()
        assert world.tunnel.name == "pool-2"

    def test_status_and_connectors_are_what_edges_reported(self, alice: Client, world: World) -> None:
        assert '<span class="badge good">healthy</span>' in shown(alice, url("tunnels"))
        page = shown(alice, url("tunnel_detail", world.tunnel.pk))
        assert str(world.connector.client_id) in page
        assert "version 1" in page
        assert "4 connections" in page
        assert 'data-poll="2"' in page
        Connection.objects.filter(index__gt=0).update(closed_at=timezone.now())
        assert "degraded" in shown(alice, url("tunnel_detail", world.tunnel.pk))
        Connection.objects.update(closed_at=timezone.now())
        page = shown(alice, url("tunnel_detail", world.tunnel.pk))
        assert "down" in page
        assert "No connector is connected" in page

    def test_a_refused_configuration_is_shown(self, alice: Client, world: World) -> None:
        Connection.objects.update(config_error=f"cannot serve {EVIL_NAME}")
        page = shown(alice, url("tunnel_detail", world.tunnel.pk))
        assert "cannot serve &lt;script&gt;" in page

    def test_rotate_disconnect_delete(self, alice: Client, world: World) -> None:
        tunnel = world.tunnel
        alice.post(url("tunnel_rotate_token", tunnel.pk), {"cut": "on"})
        tunnel.refresh_from_db()
        assert tunnel.token_generation == 2
        assert "1 connector connected with the old token" in shown(alice, url("tunnel_detail", tunnel.pk))
        assert tunnel.reconnect_after is not None
        assert last_event(world.organization).name == "tunnels.tunnel.token_rotated"
        alice.post(url("tunnel_disconnect", tunnel.pk), {"client_id": str(world.connector.client_id)})
        assert last_event(world.organization).name == "tunnels.connectors.disconnected"
        delete = url("tunnel_delete", tunnel.pk)
        page = shown(alice, delete)
        assert "1 connected connector is cut off" in page
        assert "change them: ssh-bastion.widgetcorp.tech" in page
        assert alice.post(delete, {"confirmation": "ssh-pool"}).status_code == 422  # still connected
        assert alice.post(delete, {"confirmation": "wrong", "cascade": "on"}).status_code == 422
        assert alice.post(delete, {"confirmation": "ssh-pool", "cascade": "on"}).status_code == 302
        assert alice.get(url("tunnel_detail", tunnel.pk)).status_code == 404

    def test_unknown_connector_is_not_found(self, alice: Client, world: World) -> None:
        for client_id in (str(uuid4()), "nonsense"):
            assert alice.post(url("tunnel_disconnect", world.tunnel.pk), {"client_id": client_id}).status_code == 404

    def test_query_budgets(
        self, alice: Client, world: World, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        for number in range(30):
            Tunnel.objects.create(organization=world.organization, name=f"t{number:02}")
        with django_assert_max_num_queries(8):
            assert "1 to 25 of 31" in shown(alice, url("tunnels"))
        with django_assert_max_num_queries(10):
            shown(alice, url("tunnel_detail", world.tunnel.pk))


class TestHostnames:
    def test_publish_makes_a_version(self, alice: Client, world: World) -> None:
        edit = url("tunnel_hostnames", world.tunnel.pk)
        assert 'value="ssh-bastion.widgetcorp.tech"' in shown(alice, edit)
        more = {
            "host-1-hostname": "web.widgetcorp.tech",
            "host-1-path": "^/admin",
            "host-1-kind": "http",
            "host-1-target": "localhost:8080",
            "host-2-hostname": "jump.widgetcorp.tech",
            "host-2-kind": "bastion",
        }
        assert alice.post(edit, {**ROWS, **more}).status_code == 302
        published = TunnelConfiguration.objects.get(tunnel=world.tunnel, version=2)
        assert published.config["ingress"] == [
            {"hostname": "ssh-bastion.widgetcorp.tech", "service": "ssh://localhost:2222"},
            {"hostname": "web.widgetcorp.tech", "service": "http://localhost:8080", "path": "^/admin"},
            {"hostname": "jump.widgetcorp.tech", "service": "bastion"},
            {"service": "http_status:404"},
        ]
        assert last_event(world.organization).name == "tunnels.configuration.published"
        assert "version 1, pushing" in shown(alice, url("tunnel_detail", world.tunnel.pk))

    def test_an_error_stands_at_its_row(self, alice: Client, world: World) -> None:
        more = {"host-1-hostname": "web.widgetcorp.tech", "host-1-path": "(", "host-1-kind": "bastion"}
        page = text_of(alice.post(url("tunnel_hostnames", world.tunnel.pk), {**ROWS, **more}))
        assert "is not a regular expression" in page.split('id="host-1-error"')[1][:200]
        assert 'id="host-0-error"' not in page

    def test_rows_move_up(self, alice: Client, world: World) -> None:
        more = {"host-1-hostname": "web.widgetcorp.tech", "host-1-kind": "bastion", "step": "move-up-1"}
        page = text_of(alice.post(url("tunnel_hostnames", world.tunnel.pk), {**ROWS, **more}))
        first = page.split('id="host-0-hostname"')[1].split(">")[0]
        assert 'value="web.widgetcorp.tech"' in first
        assert TunnelConfiguration.objects.count() == 1

    def test_what_our_connector_refuses_is_not_published_to_it(self, alice: Client, world: World) -> None:
        edit = url("tunnel_hostnames", world.tunnel.pk)
        socks = {**ROWS, "host-0-kind": "other", "host-0-target": "socks-proxy"}
        access = {"originRequest": {"access": {"required": True, "teamName": "widgetcorp", "audTag": ["a"]}}}
        locked = {**ROWS, "host-0-extra": json.dumps(access)}
        world.connector.version = "sallyport/0.1.0"
        world.connector.save()
        for wrong, named in ((socks, "socks-proxy"), (locked, "access.required")):
            response = alice.post(edit, wrong)
            assert response.status_code == 422
            assert f"{named} is not offered by this connector" in text_of(response)
        world.connector.version = "2026.8.2"
        world.connector.save()
        assert alice.post(edit, socks).status_code == 302

    def test_rows_come_and_go_without_publishing(self, alice: Client, world: World) -> None:
        edit = url("tunnel_hostnames", world.tunnel.pk)
        page = text_of(alice.post(edit, {**ROWS, "step": "add-row"}))
        assert 'name="host-1-hostname"' in page
        assert 'value="localhost:2222"' in page
        page = text_of(alice.post(edit, {**ROWS, "step": "remove-row-0"}))
        assert 'name="host-0-hostname"' not in page
        assert TunnelConfiguration.objects.count() == 1

    def test_what_rows_do_not_show_is_kept(self, alice: Client, world: World) -> None:
        config = {
            "ingress": [
                {
                    "hostname": "ssh-bastion.widgetcorp.tech",
                    "service": "https://localhost:8443",
                    "originRequest": {"noTLSVerify": True},
                },
                {"service": "http_status:503"},
            ],
            "originRequest": {"connectTimeout": 10},
            "warp-routing": {"enabled": False},
        }
        TunnelConfiguration.objects.update(config=config)
        edit = url("tunnel_hostnames", world.tunnel.pk)
        page = shown(alice, edit)
        assert 'value="http_status:503"' in page
        sent = {
            **ROWS,
            "host-0-kind": "https",
            "host-0-target": "localhost:8443",
            "host-0-extra": '{"originRequest": {"noTLSVerify": true}}',
            "fallback": "http_status:503",
        }
        assert alice.post(edit, sent).status_code == 302
        assert TunnelConfiguration.objects.get(version=2).config == config

    @pytest.mark.parametrize(
        "wrong",
        [
            {"host-0-hostname": ""},
            {"host-0-target": ""},
            {"host-0-target": "not a target"},
            {"host-0-hostname": "https://x"},
            {"fallback": "nonsense"},
            {"host-0-path": "("},
            {"host-1-hostname": "ssh-bastion.widgetcorp.tech", "host-1-kind": "bastion"},
            {"host-0-kind": "http_status", "host-0-target": "9999"},
        ],
    )
    def test_refused_with_the_input_kept(self, alice: Client, world: World, wrong: dict[str, str]) -> None:
        response = alice.post(url("tunnel_hostnames", world.tunnel.pk), {**ROWS, **wrong})
        assert response.status_code == 422
        page = text_of(response)
        assert 'role="alert"' in page
        assert 'name="host-0-hostname"' in page
        assert TunnelConfiguration.objects.count() == 1

    def test_a_version_published_meanwhile_is_not_overwritten(self, alice: Client, world: World) -> None:
        alice.post(url("tunnel_hostnames", world.tunnel.pk), ROWS)
        response = alice.post(url("tunnel_hostnames", world.tunnel.pk), ROWS)
        assert response.status_code == 422
        assert "published version 2 while this page was open" in text_of(response)
        assert TunnelConfiguration.objects.count() == 2

    def test_versions_and_rollback(self, alice: Client, world: World) -> None:
        alice.post(url("tunnel_hostnames", world.tunnel.pk), ROWS)
        assert "Version 2" in shown(alice, url("tunnel_versions", world.tunnel.pk))
        page = shown(alice, url("tunnel_version", world.tunnel.pk, 2))
        assert "From version 1 to version 2" in page
        assert "<del>" in page
        assert "ssh://localhost:22&quot;</del>" in page
        assert "ssh://localhost:2222&quot;</ins>" in page
        assert "Roll back" not in page
        assert "same content" in shown(alice, url("tunnel_version", world.tunnel.pk, 2) + "?with=2")
        assert "Roll back to this version" in shown(alice, url("tunnel_version", world.tunnel.pk, 1))
        alice.post(url("tunnel_version_publish", world.tunnel.pk, 1))
        assert last_event(world.organization).new == {"version": 3, "rules": 2, "content_of": 1}
        versions = TunnelConfiguration.objects.filter(tunnel=world.tunnel).order_by("version")
        assert [row.version for row in versions] == [1, 2, 3]
        assert versions[2].config == versions[0].config
        assert alice.get(url("tunnel_version", world.tunnel.pk, 9)).status_code == 404

    def test_route_a_hostname(self, alice: Client, world: World) -> None:
        route = url("tunnel_route_hostname", world.tunnel.pk)
        alice.post(route, {"hostname": "new.widgetcorp.tech"})
        assert DnsRecord.objects.get(name="new.widgetcorp.tech").content == world.tunnel.target
        before = rows_of(world.organization)
        assert "None of your zones" in text_of(alice.post(route, {"hostname": "elsewhere.test"}, follow=True))
        assert "None of your zones" in text_of(alice.post(route, {}, follow=True))
        assert rows_of(world.organization) == before


class TestZones:
    def test_add_shows_the_proof(self, alice: Client, cast: Cast) -> None:
        response = alice.post(url("zone_add"), {"name": "New-Domain.TECH."})
        zone = Zone.objects.get(name="new-domain.tech")
        assert response["Location"] == url("zone_detail", zone.pk)
        page = shown(alice, url("zone_detail", zone.pk))
        assert "_sallyport-challenge.new-domain.tech" in page
        assert "sallyport-verification=" in page
        assert "Add record" not in page
        assert last_event(cast.widgetcorp).name == "tunnels.zone.created"

    def test_proofs_differ_by_organization(self, cast: Cast) -> None:
        values = []
        for user, team in ((cast.alice, "widgetcorp"), (cast.mallory, "evilcorp")):
            client = login(user)
            response = client.post(reverse("zone_add", args=[team]), {"name": "wanted.tech"})
            values.append(shown(client, response["Location"]).split("sallyport-verification=")[1][:64])
        assert values[0] != values[1]

    @pytest.mark.parametrize("name", ["", "localhost", "192.0.2.1", "bad name", "x.access.example.test", "a..b"])
    def test_refused_names_are_kept_in_the_form(self, alice: Client, cast: Cast, name: str) -> None:
        assert alice.post(url("zone_add"), {"name": name}).status_code == 422
        assert not Zone.objects.exists()

    def test_the_proof_activates_the_zone(self, alice: Client, cast: Cast, dns_server: DnsServer) -> None:
        alice.post(url("zone_add"), {"name": "wanted.tech"})
        zone = Zone.objects.get(name="wanted.tech")
        page = shown(alice, url("zone_detail", zone.pk))
        assert 'data-poll="4" hx-get' in page.split('id="proof"')[1][:60]
        dns_server.add("_sallyport-challenge.wanted.tech", "TXT", challenge_value(zone))
        alice.post(url("zone_verify", zone.pk))
        zone.refresh_from_db()
        assert zone.status == "active"
        page = shown(alice, url("zone_detail", zone.pk))
        assert "+ Add record" in page
        assert 'data-poll="4" hx-get' not in page.split('id="proof"')[1][:60]

    def test_delete_needs_the_name(self, alice: Client, world: World) -> None:
        delete = url("zone_delete", world.zone.pk)
        assert alice.post(delete, {"confirmation": "wrong"}).status_code == 422
        assert Zone.objects.filter(pk=world.zone.pk).exists()


class TestRecords:
    RECORD = {"type": "CNAME", "name": "ssh-2", "ttl": "1", "comment": "pool"}

    def test_add_edit_delete(self, alice: Client, world: World) -> None:
        add = url("record_add", world.zone.pk)
        assert world.tunnel.target in shown(alice, add)
        assert alice.post(add, {**self.RECORD, "content": world.tunnel.target}).status_code == 302
        record = DnsRecord.objects.get(name="ssh-2.widgetcorp.tech")
        assert (record.content, record.proxied, record.comment) == (world.tunnel.target, True, "pool")
        page = shown(alice, url("zone_detail", world.zone.pk))
        assert "ssh-2.widgetcorp.tech" in page
        changed = {**self.RECORD, "type": "TXT", "name": "ssh-2.widgetcorp.tech", "content": EVIL_NAME, "ttl": "300"}
        assert alice.post(url("record_edit", record.pk), changed).status_code == 302
        record.refresh_from_db()
        assert (record.type, record.ttl) == ("TXT", 300)
        assert "<script>alert" not in shown(alice, url("zone_detail", world.zone.pk))
        alice.post(url("record_delete", record.pk))
        assert not DnsRecord.objects.filter(pk=record.pk).exists()
        assert last_event(world.organization).name == "tunnels.record.deleted"

    @pytest.mark.parametrize(
        "wrong",
        [
            {"name": "x.elsewhere.test", "content": "a.example.com"},
            {"name": "ssh-bastion", "content": "a.example.com"},
            {"type": "A", "content": "not an address"},
            {"type": "MX", "content": "a.example.com"},
            {"content": f"{uuid4()}.tunnel.example.test"},
            {"content": ""},
        ],
    )
    def test_refused_with_the_input_kept(self, alice: Client, world: World, wrong: dict[str, str]) -> None:
        before = rows_of(world.organization)
        response = alice.post(url("record_add", world.zone.pk), {**self.RECORD, "content": "a.example.com", **wrong})
        assert response.status_code == 422
        assert 'value="pool"' in text_of(response)
        assert rows_of(world.organization) == before

    def test_another_tenants_tunnel_is_no_target(self, alice: Client, cast: Cast, world: World) -> None:
        theirs = make_world(cast.evilcorp, domain="evilcorp.tech")
        response = alice.post(url("record_add", world.zone.pk), {**self.RECORD, "content": theirs.tunnel.target})
        assert response.status_code == 422

    def test_what_the_resolver_said(self, alice: Client, world: World) -> None:
        DnsRecord.objects.update(verification="mismatch", last_answer=f"said {EVIL_NAME}")
        page = shown(alice, url("zone_detail", world.zone.pk))
        assert "Resolves differently" in page
        assert "said &lt;script&gt;" in page
        alice.post(url("record_check", world.dns_record.pk))
        assert last_event(world.organization).name == "tunnels.record.check_requested"

    def test_filter_and_budget(
        self, alice: Client, world: World, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        for number in range(40):
            DnsRecord.objects.create(
                organization=world.organization,
                zone=world.zone,
                type="A",
                name=f"h{number}.widgetcorp.tech",
                content=f"192.0.2.{number}",
            )
        with django_assert_max_num_queries(8):
            assert "1 to 25 of 41" in shown(alice, url("zone_detail", world.zone.pk))
        page = shown(alice, url("zone_detail", world.zone.pk) + "?type=CNAME")
        assert "h1.widgetcorp.tech" not in page

    def test_viewer_has_no_buttons(self, cast: Cast, world: World) -> None:
        page = shown(login(cast.bob), url("zone_detail", world.zone.pk))
        assert "Add record" not in page
        assert "Delete" not in page
