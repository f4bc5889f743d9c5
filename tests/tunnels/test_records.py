"""DNS records: what may be stored, how it is verified, and routing a hostname to a tunnel (AC-51, AC-77)."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.utils import timezone

from accounts.actor import Actor
from accounts.errors import Conflict, DomainError, InvalidInput, NotFound
from accounts.models import AuditEvent
from tests.dns_server import DnsServer
from tests.factories import Cast
from tests.tunnels.helpers import actor_of, events_of, make_alias, make_tunnel, make_zone
from tunnels import tasks
from tunnels.actions.records import create_record, delete_record, route_hostname, update_record, verify_record
from tunnels.actions.tunnels import delete_tunnel
from tunnels.actions.zones import create_zone
from tunnels.models import DnsRecord, Tunnel, Zone


@pytest.fixture
def alice(cast: Cast) -> Actor:
    return actor_of(cast.alice)


@pytest.fixture
def zone(cast: Cast) -> Zone:
    return make_zone(cast.widgetcorp, cast.alice)


@pytest.fixture
def tunnel(cast: Cast) -> Tunnel:
    return make_tunnel(cast.widgetcorp, cast.alice)


def record_values(**changes: Any) -> dict[str, Any]:
    return {"type": "A", "name": "www", "content": "192.0.2.1", **changes}


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        ({}, ("www.widgetcorp.localhost", "192.0.2.1")),
        ({"name": "@"}, ("widgetcorp.localhost", "192.0.2.1")),
        ({"name": "WWW.Widgetcorp.localhost."}, ("www.widgetcorp.localhost", "192.0.2.1")),
        ({"name": "*"}, ("*.widgetcorp.localhost", "192.0.2.1")),
        ({"name": "*.a.widgetcorp.localhost"}, ("*.a.widgetcorp.localhost", "192.0.2.1")),
        ({"type": "AAAA", "content": "2001:DB8:0::1"}, ("www.widgetcorp.localhost", "2001:db8::1")),
        ({"type": "CNAME", "content": "Other.Example.com."}, ("www.widgetcorp.localhost", "other.example.com")),
        ({"type": "TXT", "content": 'v=spf1 "x" -all'}, ("www.widgetcorp.localhost", 'v=spf1 "x" -all')),
        ({"ttl": 60}, ("www.widgetcorp.localhost", "192.0.2.1")),
        ({"ttl": 86400}, ("www.widgetcorp.localhost", "192.0.2.1")),
    ],
)
def test_create_record(zone: Zone, alice: Actor, values: dict[str, Any], stored: tuple[str, str]) -> None:
    record = create_record(zone, **record_values(**values), actor=alice)
    assert (record.name, record.content) == stored
    event = AuditEvent.objects.get(name="tunnels.record.created")
    assert (event.target_id, event.new["content"], event.actor_label) == (record.pk, stored[1], "alice@widgetcorp.test")


@pytest.mark.parametrize(
    "values",
    [
        {"name": "www.example.com"},
        {"name": "xwidgetcorp.localhost"},
        {"name": "a..b"},
        {"name": "-a"},
        {"name": "www\n"[:3] + "\x00"},
        {"type": "MX", "content": "mail.example.com"},
        {"content": "192.0.2.256"},
        {"content": "2001:db8::1"},
        {"type": "AAAA", "content": "192.0.2.1"},
        {"type": "AAAA", "content": "fe80::1%eth0"},
        {"content": "0x7f.1"},
        {"content": "010.0.0.1"},
        {"type": "CNAME", "content": "192.0.2.1"},
        {"type": "CNAME", "content": "www.widgetcorp.localhost"},
        {"type": "CNAME", "content": "*.example.com"},
        {"type": "TXT", "content": ""},
        {"type": "TXT", "content": "x" * 2049},
        {"type": "TXT", "content": "a\nb"},
        {"ttl": 0},
        {"ttl": 59},
        {"ttl": 86401},
        {"ttl": -1},
        {"comment": "x" * 101},
    ],
)
def test_what_cannot_be_stored(zone: Zone, alice: Actor, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        create_record(zone, **record_values(**values), actor=alice)
    assert not DnsRecord.objects.for_organization(zone.organization).exists()
    assert not AuditEvent.objects.filter(name="tunnels.record.created").exists()


def test_a_cname_shares_its_name_with_nothing(zone: Zone, alice: Actor) -> None:
    create_record(zone, **record_values(), actor=alice)
    create_record(zone, **record_values(content="192.0.2.2"), actor=alice)
    create_record(zone, **record_values(type="TXT", content="x"), actor=alice)
    alias = create_record(zone, type="CNAME", name="alias", content="a.example.com", actor=alice)
    for values in (
        record_values(),  # identical
        record_values(type="CNAME", content="a.example.com"),
        record_values(name="alias"),
        record_values(type="CNAME", name="alias", content="b.example.com"),
    ):
        with pytest.raises(Conflict) as refused:
            create_record(zone, **values, actor=alice)
        assert refused.value.code == "record_exists"
    with pytest.raises(Conflict):
        update_record(alias, name="www", actor=alice)
    assert DnsRecord.objects.for_organization(zone.organization).count() == 4


def test_update_record(zone: Zone, alice: Actor) -> None:
    record = create_record(zone, **record_values(content="127.0.0.1"), actor=alice)
    record.refresh_from_db()
    assert record.verification == "ok"
    update_record(record, comment="only a comment", actor=alice)
    record.refresh_from_db()
    assert (record.verification, record.comment) == ("ok", "only a comment")
    update_record(record, content="192.0.2.9", ttl=300, actor=alice)
    record.refresh_from_db()
    assert (record.content, record.ttl, record.verification) == ("192.0.2.9", 300, "mismatch")
    event = AuditEvent.objects.filter(name="tunnels.record.updated").latest("id")
    assert (event.old["content"], event.new["content"]) == ("127.0.0.1", "192.0.2.9")
    with pytest.raises(InvalidInput):
        update_record(record, type="AAAA", actor=alice)


def test_delete_record(zone: Zone, alice: Actor) -> None:
    record = create_record(zone, **record_values(), actor=alice)
    stale = DnsRecord.objects.get(pk=record.pk)
    delete_record(record, actor=alice)
    assert events_of(zone.organization)[-1] == "tunnels.record.deleted"
    for action in (lambda: delete_record(stale, actor=alice), lambda: update_record(stale, ttl=60, actor=alice)):
        with pytest.raises(NotFound):
            action()


def test_a_cname_to_a_tunnel_needs_a_live_tunnel_of_the_same_organization(
    cast: Cast, zone: Zone, tunnel: Tunnel, alice: Actor
) -> None:
    assert make_alias(zone, tunnel, cast.alice).content == tunnel.target
    foreign = make_tunnel(cast.evilcorp, cast.mallory)
    deleted = make_tunnel(cast.widgetcorp, cast.alice, "gone")
    delete_tunnel(deleted, cascade=False, actor=alice)
    messages = set()
    for target in (
        foreign.target,
        deleted.target,
        f"{uuid.uuid4()}.tunnel.example.test",
        "ssh-pool.tunnel.example.test",
        f"{tunnel.pk.hex}.tunnel.example.test",
        "tunnel.example.test",
    ):
        with pytest.raises(InvalidInput) as refused:
            create_record(zone, type="CNAME", name="x", content=target, actor=alice)
        assert refused.value.code == "tunnel_not_found"
        messages.add(refused.value.message.removeprefix(target))
    assert len(messages) == 1, "a foreign tunnel must look like a missing one"


def test_route_hostname(cast: Cast, zone: Zone, tunnel: Tunnel, alice: Actor) -> None:
    def route(hostname: str, to: Tunnel = tunnel, *, overwrite: bool = False) -> str:
        return route_hostname(zone, to, hostname=hostname, overwrite=overwrite, actor=alice)

    other = make_tunnel(cast.widgetcorp, cast.alice, "other")
    assert route("ssh") == "new"
    events = len(events_of(cast.widgetcorp))
    assert route("ssh.widgetcorp.localhost") == "unchanged"
    assert len(events_of(cast.widgetcorp)) == events
    with pytest.raises(Conflict) as refused:
        route("ssh", other)
    assert refused.value.code == "record_exists"
    assert route("ssh", other, overwrite=True) == "updated"
    record = DnsRecord.objects.get(name="ssh.widgetcorp.localhost")
    assert (record.content, record.proxied) == (other.target, True)
    event = AuditEvent.objects.latest("id")
    assert (event.name, event.old["replaced"][0]["content"]) == ("tunnels.record.updated", tunnel.target)

    create_record(zone, **record_values(), actor=alice)
    create_record(zone, **record_values(type="TXT", content="x"), actor=alice)
    with pytest.raises(Conflict):
        route("www")
    assert route("www", overwrite=True) == "updated"
    assert DnsRecord.objects.filter(name="www.widgetcorp.localhost").count() == 1
    for hostname in ("ssh.example.com", "bad name"):
        with pytest.raises(InvalidInput):
            route(hostname)


def test_route_hostname_refuses_another_organizations_tunnel(cast: Cast, zone: Zone, alice: Actor) -> None:
    foreign = make_tunnel(cast.evilcorp, cast.mallory)
    with pytest.raises(DomainError):
        route_hostname(zone, foreign, hostname="ssh", overwrite=True, actor=alice)
    assert not DnsRecord.objects.exists()


@pytest.mark.parametrize(
    ("values", "verification"),
    [
        ({"type": "CNAME", "content": "edge.localhost"}, "ok"),
        ({"type": "CNAME", "content": "edge.example.com"}, "mismatch"),
        ({"content": "127.0.0.5"}, "ok"),
        ({"content": "192.0.2.1"}, "mismatch"),
        ({"type": "AAAA", "content": "::1"}, "ok"),
        ({"type": "TXT", "content": "x"}, "mismatch"),
    ],
)
def test_loopback_names_are_judged_without_a_resolver(
    zone: Zone, alice: Actor, dns_server: DnsServer, values: dict[str, Any], verification: str
) -> None:
    record = create_record(zone, **record_values(**values), actor=alice)
    record.refresh_from_db()
    assert record.verification == verification
    assert "RFC 6761" in record.last_answer
    assert dns_server.questions == []


@pytest.fixture
def public_zone(cast: Cast, alice: Actor) -> Zone:
    return create_zone(cast.widgetcorp, name="acme.com", actor=alice)


@pytest.mark.parametrize(
    ("values", "published", "verification", "answer"),
    [
        ({}, [("A", "192.0.2.1")], "ok", "A 192.0.2.1"),
        ({}, [("A", "192.0.2.1"), ("A", "192.0.2.2")], "ok", "A 192.0.2.1, 192.0.2.2"),
        ({}, [("A", "192.0.2.2")], "mismatch", "A 192.0.2.2"),
        ({}, [], "mismatch", "www.acme.com does not exist."),
        ({}, [("TXT", "x")], "mismatch", "www.acme.com exists, but has no A record."),
        ({"type": "AAAA", "content": "2001:db8::1"}, [("AAAA", "2001:db8:0::1")], "ok", "AAAA 2001:db8::1"),
        ({"type": "TXT", "content": "x" * 300}, [("TXT", "x" * 300)], "ok", "TXT xxx"),
        ({"type": "CNAME", "content": "t.example.com"}, [("CNAME", "T.example.com.")], "ok", "CNAME t.example.com"),
        ({"type": "CNAME", "content": "t.example.com"}, [("CNAME", "u.example.com.")], "mismatch", "u.example.com"),
    ],
)
def test_verification_keeps_what_the_resolver_said(
    public_zone: Zone,
    alice: Actor,
    dns_server: DnsServer,
    values: dict[str, Any],
    published: list[tuple[str, str]],
    verification: str,
    answer: str,
) -> None:
    for record_type, value in published:
        dns_server.add("www.acme.com", record_type, value)
    record = create_record(public_zone, **record_values(**values), actor=alice)
    record.refresh_from_db()
    assert record.verification == verification
    assert answer in record.last_answer
    assert (record.verified_at is not None) == (verification == "ok")


def test_a_flattened_alias_resolves_to_its_targets_addresses(
    public_zone: Zone, alice: Actor, dns_server: DnsServer
) -> None:
    dns_server.add("acme.com", "A", "192.0.2.7")
    dns_server.add("edge.example.com", "A", "192.0.2.7", "192.0.2.8")
    record = create_record(public_zone, type="CNAME", name="@", content="edge.example.com", actor=alice)
    record.refresh_from_db()
    assert record.verification == "ok"
    dns_server.records["acme.com", "A"] = ["192.0.2.99"]
    verify_record(record, actor=alice)
    record.refresh_from_db()
    assert record.verification == "mismatch"


def test_a_failing_resolver_leaves_a_good_record_good(public_zone: Zone, alice: Actor, dns_server: DnsServer) -> None:
    dns_server.add("www.acme.com", "A", "192.0.2.1")
    record = create_record(public_zone, **record_values(), actor=alice)
    dns_server.failing.add("www.acme.com")
    verify_record(record, actor=alice)
    record.refresh_from_db()
    assert (record.verification, record.failed_checks) == ("ok", 1)
    fresh = create_record(public_zone, **record_values(content="192.0.2.2"), actor=alice)
    fresh.refresh_from_db()
    assert fresh.verification == "error"
    assert events_of(public_zone.organization).count("tunnels.record.check_requested") == 1


def test_a_silent_resolver_costs_a_bounded_wait(
    public_zone: Zone, alice: Actor, dns_server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunnels.dns.LOOKUP_SECONDS", 0.3)
    dns_server.silent.add("www.acme.com")
    started = timezone.now()
    record = create_record(public_zone, **record_values(), actor=alice)
    assert (timezone.now() - started).total_seconds() < 20
    record.refresh_from_db()
    assert record.verification == "error"


def test_due_records_are_checked_once_per_round(public_zone: Zone, alice: Actor, dns_server: DnsServer) -> None:
    record = create_record(public_zone, **record_values(), actor=alice)
    dns_server.add("www.acme.com", "A", "192.0.2.1")
    assert tasks.verify_records.delay().get() == 0
    DnsRecord.objects.filter(pk=record.pk).update(next_check_at=timezone.now())
    assert tasks.verify_records.delay().get() == 1
    record.refresh_from_db()
    assert record.verification == "ok"
    assert tasks.verify_records.delay().get() == 0
