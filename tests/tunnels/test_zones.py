"""Zones: proof by TXT, one owner per name among all tenants, grace and loss (AC-76, AC-77, AC-80, fault 44)."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection as db_connection
from django.utils import timezone

from access import hostnames
from access.models import Application
from accounts.actor import Actor
from accounts.audit import edge_version
from accounts.errors import Conflict, DomainError, InvalidInput
from accounts.models import AuditEvent, Organization
from tests.dns_server import DnsServer
from tests.factories import Cast, make_cast
from tests.tunnels.helpers import actor_of, events_of, make_zone
from tunnels import tasks
from tunnels.actions.zone_checks import PROOF_GRACE
from tunnels.actions.zones import create_zone, delete_zone, verify_zone
from tunnels.backoff import CHECK_INTERVAL, retry_delay
from tunnels.models import Zone
from tunnels.zones import challenge_name, challenge_value


@pytest.fixture
def alice(cast: Cast) -> Actor:
    return actor_of(cast.alice)


@pytest.fixture
def mallory(cast: Cast) -> Actor:
    return actor_of(cast.mallory)


def publish_proof(dns_server: DnsServer, zone: Zone) -> None:
    dns_server.add(challenge_name(zone), "TXT", "something else", challenge_value(zone))


def make_active(dns_server: DnsServer, organization: Organization, actor: Actor, name: str = "acme.com") -> Zone:
    zone = create_zone(organization, name=name, actor=actor)
    publish_proof(dns_server, zone)
    tasks.verify_zone.delay(zone.pk)
    zone.refresh_from_db()
    assert zone.status == "active"
    return zone


def test_a_zone_is_pending_until_its_txt_record_is_found(cast: Cast, alice: Actor, dns_server: DnsServer) -> None:
    zone = create_zone(cast.widgetcorp, name="ACME.com.", actor=alice)
    zone.refresh_from_db()
    assert (zone.name, zone.status, zone.failed_checks) == ("acme.com", "pending", 1)
    assert dns_server.questions == [("_sallyport-challenge.acme.com", "TXT")]
    assert "does not exist" in zone.last_answer
    assert zone.next_check_at is not None
    assert timedelta(0) < zone.next_check_at - timezone.now() <= timedelta(seconds=15)

    publish_proof(dns_server, zone)
    before = edge_version()
    verify_zone(zone, actor=alice)
    zone.refresh_from_db()
    assert zone.status == "active"
    assert zone.verified_at is not None
    assert edge_version() > before
    assert events_of(cast.widgetcorp) == [
        "tunnels.zone.created", "tunnels.zone.check_requested", "tunnels.zone.activated",
    ]  # fmt: skip


def test_the_challenge_of_another_organization_proves_nothing(
    cast: Cast, alice: Actor, mallory: Actor, dns_server: DnsServer
) -> None:
    theirs = create_zone(cast.widgetcorp, name="acme.com", actor=alice)
    copied = create_zone(cast.evilcorp, name="acme.com", actor=mallory)
    publish_proof(dns_server, theirs)
    tasks.verify_zone.delay(copied.pk)
    copied.refresh_from_db()
    assert copied.status == "pending"
    # The value depends on the organization even where everything else is equal.
    copied.verification_token = theirs.verification_token
    assert challenge_value(copied) != challenge_value(theirs)


def test_a_zone_below_the_unverified_suffix_is_active_at_once(cast: Cast, alice: Actor, dns_server: DnsServer) -> None:
    zone = create_zone(cast.widgetcorp, name="widgetcorp.localhost", actor=alice)
    assert zone.status == "active"
    assert dns_server.questions == []
    tasks.verify_zone.delay(zone.pk)
    zone.refresh_from_db()
    assert zone.status == "active"


@pytest.mark.parametrize(
    "claim",
    [
        "acme.com", "ACME.COM", "acme.com.", "ssh.acme.com", "a.b.acme.com", "аcme.com", "ssh.acmе.com", "ａcme.com",
    ],
)  # fmt: skip
def test_a_proved_name_its_children_and_lookalikes_are_closed_to_others(
    cast: Cast, alice: Actor, mallory: Actor, dns_server: DnsServer, claim: str
) -> None:
    make_active(dns_server, cast.widgetcorp, alice)
    with pytest.raises(Conflict) as refused:
        create_zone(cast.evilcorp, name=claim, actor=mallory)
    assert refused.value.code == "zone_taken"
    assert "Widget" not in refused.value.message
    assert not Zone.objects.for_organization(cast.evilcorp).exists()
    assert events_of(cast.evilcorp) == []


def test_the_parent_of_a_proved_name_is_closed_to_others(
    cast: Cast, alice: Actor, mallory: Actor, dns_server: DnsServer
) -> None:
    make_active(dns_server, cast.widgetcorp, alice, "team.acme.com")
    for claim in ("acme.com", "аcme.com"):
        with pytest.raises(Conflict):
            create_zone(cast.evilcorp, name=claim, actor=mallory)
    assert create_zone(cast.evilcorp, name="other.acme.com", actor=mallory).status == "pending"


def test_a_pending_zone_squats_nothing_and_the_first_proof_wins(
    cast: Cast, alice: Actor, mallory: Actor, dns_server: DnsServer
) -> None:
    squatted = create_zone(cast.evilcorp, name="com.acme.com", actor=mallory)
    make_active(dns_server, cast.widgetcorp, alice)
    publish_proof(dns_server, squatted)
    tasks.verify_zone.delay(squatted.pk)
    squatted.refresh_from_db()
    assert squatted.status == "pending"
    assert "belongs to another organization" in squatted.last_answer


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("com", "invalid_name"),
        ("localhost", "invalid_name"),
        ("*.acme.com", "invalid_name"),
        ("acme..com", "invalid_name"),
        ("_x.acme.com", "invalid_name"),
        ("192.0.2.1", "invalid_name"),
        ("access.example.test", "name_reserved"),
        ("evil.access.example.test", "name_reserved"),
        ("аccess.example.test", "name_reserved"),
        ("x.tunnel.example.test", "name_reserved"),
    ],
)
def test_names_that_cannot_be_zones(cast: Cast, alice: Actor, name: str, code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        create_zone(cast.widgetcorp, name=name, actor=alice)
    assert refused.value.code == code
    assert not Zone.objects.for_organization(cast.widgetcorp).exists()


def test_zones_of_one_organization_do_not_nest(cast: Cast, alice: Actor) -> None:
    make_zone(cast.widgetcorp, cast.alice)
    for name, code in [("widgetcorp.localhost", "zone_exists"), ("a.widgetcorp.localhost", "zone_overlaps")]:
        with pytest.raises(Conflict) as refused:
            create_zone(cast.widgetcorp, name=name, actor=alice)
        assert refused.value.code == code


def test_lost_proof_grace_then_moved_then_proved_again(cast: Cast, alice: Actor, dns_server: DnsServer) -> None:
    zone = make_active(dns_server, cast.widgetcorp, alice)
    dns_server.clear()
    tasks.verify_zone.delay(zone.pk)
    zone.refresh_from_db()
    assert (zone.status, zone.proof_lost_at is not None) == ("active", True)
    assert [message.to for message in mail.outbox] == [["alice@widgetcorp.test"]]
    assert challenge_value(zone) in mail.outbox[0].body

    tasks.verify_zone.delay(zone.pk)
    zone.refresh_from_db()
    assert zone.status == "active"
    assert len(mail.outbox) == 1

    Zone.objects.filter(pk=zone.pk).update(proof_lost_at=timezone.now() - PROOF_GRACE)
    before = edge_version()
    tasks.verify_zone.delay(zone.pk)
    zone.refresh_from_db()
    assert zone.status == "moved"
    assert edge_version() > before
    assert len(mail.outbox) == 2

    publish_proof(dns_server, zone)
    tasks.verify_zone.delay(zone.pk)
    zone.refresh_from_db()
    assert (zone.status, zone.proof_lost_at) == ("active", None)
    assert events_of(cast.widgetcorp)[-3:] == [
        "tunnels.zone.proof_lost", "tunnels.zone.moved", "tunnels.zone.activated",
    ]  # fmt: skip


def test_a_zone_in_its_grace_period_is_not_transferable_a_moved_one_needs_fresh_proof(
    cast: Cast, alice: Actor, mallory: Actor, dns_server: DnsServer
) -> None:
    zone = make_active(dns_server, cast.widgetcorp, alice)
    dns_server.clear()
    tasks.verify_zone.delay(zone.pk)
    with pytest.raises(Conflict):
        create_zone(cast.evilcorp, name="acme.com", actor=mallory)

    Zone.objects.filter(pk=zone.pk).update(status="moved")
    claimed = create_zone(cast.evilcorp, name="acme.com", actor=mallory)
    assert claimed.status == "pending"
    with pytest.raises(InvalidInput):
        hostnames.assert_owned(cast.evilcorp, "ssh.acme.com")
    publish_proof(dns_server, claimed)
    tasks.verify_zone.delay(claimed.pk)
    hostnames.assert_owned(cast.evilcorp, "ssh.acme.com")
    with pytest.raises(InvalidInput):
        hostnames.assert_owned(cast.widgetcorp, "ssh.acme.com")


def test_a_failing_resolver_changes_no_status(cast: Cast, alice: Actor, dns_server: DnsServer) -> None:
    zone = make_active(dns_server, cast.widgetcorp, alice)
    dns_server.failing.add(challenge_name(zone))
    for _ in range(3):
        tasks.verify_zone.delay(zone.pk)
    zone.refresh_from_db()
    assert (zone.status, zone.proof_lost_at) == ("active", None)
    assert "SERVFAIL" in zone.last_answer
    assert zone.failed_checks == 3
    dns_server.failing.clear()
    tasks.verify_zone.delay(zone.pk)
    zone.refresh_from_db()
    assert zone.failed_checks == 0


def test_due_zones_are_checked_once_per_round(cast: Cast, alice: Actor, dns_server: DnsServer) -> None:
    zone = create_zone(cast.widgetcorp, name="acme.com", actor=alice)
    assert tasks.verify_zones.delay().get() == 0
    Zone.objects.filter(pk=zone.pk).update(next_check_at=timezone.now())
    assert tasks.verify_zones.delay().get() == 1
    assert tasks.verify_zones.delay().get() == 0


def test_retries_back_off_up_to_an_hour() -> None:
    assert [retry_delay(n).total_seconds() for n in (1, 2, 3, 8, 9, 10_000)] == [15, 30, 60, 1920, 3600, 3600]
    assert retry_delay(0) < CHECK_INTERVAL


def test_hostnames_are_owned_through_active_zones_only(cast: Cast, alice: Actor, dns_server: DnsServer) -> None:
    make_zone(cast.widgetcorp, cast.alice)
    for hostname in ("widgetcorp.localhost", "SSH.widgetcorp.localhost", "a.b.widgetcorp.localhost",
                     "*.widgetcorp.localhost"):  # fmt: skip
        hostnames.assert_owned(cast.widgetcorp, hostname)
        with pytest.raises(InvalidInput) as refused:
            hostnames.assert_owned(cast.evilcorp, hostname)
        assert refused.value.code == "hostname_not_owned"
    for hostname in ("xwidgetcorp.localhost", "localhost", "*.localhost", "example.com"):
        with pytest.raises(InvalidInput):
            hostnames.assert_owned(cast.widgetcorp, hostname)
    create_zone(cast.widgetcorp, name="acme.com", actor=alice)
    with pytest.raises(InvalidInput) as refused:
        hostnames.assert_owned(cast.widgetcorp, "ssh.acme.com")
    assert refused.value.code == "zone_not_active"


def test_names_of_the_installation_are_nobodys_even_inside_an_own_zone(
    cast: Cast, alice: Actor, dns_server: DnsServer
) -> None:
    make_active(dns_server, cast.widgetcorp, alice, "example.test")
    hostnames.assert_owned(cast.widgetcorp, "ssh.example.test")
    for hostname in ("access.example.test", "evilcorp.access.example.test", "*.access.example.test",
                     "x.tunnel.example.test"):  # fmt: skip
        with pytest.raises(InvalidInput) as refused:
            hostnames.assert_owned(cast.widgetcorp, hostname)
        assert refused.value.code == "name_reserved"


def test_delete_zone(cast: Cast, alice: Actor) -> None:
    zone = make_zone(cast.widgetcorp, cast.alice)
    application = Application.objects.create(
        organization=cast.widgetcorp, name="SSH", hostname="ssh.widgetcorp.localhost"
    )
    with pytest.raises(Conflict) as refused:
        delete_zone(zone, actor=alice)
    assert refused.value.code == "zone_in_use"
    application.delete()
    before = edge_version()
    delete_zone(zone, actor=alice)
    assert not Zone.objects.for_organization(cast.widgetcorp).exists()
    assert edge_version() > before
    event = AuditEvent.objects.get(name="tunnels.zone.deleted")
    assert (event.actor_label, event.old["name"]) == ("alice@widgetcorp.test", "widgetcorp.localhost")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("names", [("race.localhost", "race.localhost"), ("race.localhost", "a.race.localhost")])
def test_two_organizations_claim_a_name_in_parallel_and_one_wins(names: tuple[str, str]) -> None:
    cast = make_cast()
    barrier = threading.Barrier(2)
    outcomes: list[str] = []

    def claim(organization: Organization, name: str, actor: Actor) -> None:
        try:
            barrier.wait(timeout=10)
            create_zone(organization, name=name, actor=actor)
            outcomes.append("won")
        except DomainError as error:
            outcomes.append(error.code)
        finally:
            db_connection.close()

    claims = [(cast.widgetcorp, names[0], actor_of(cast.alice)), (cast.evilcorp, names[1], actor_of(cast.mallory))]
    threads = [threading.Thread(target=claim, args=arguments) for arguments in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(outcomes) == ["won", "zone_taken"]
    assert Zone.objects.count() == 1
    assert AuditEvent.objects.filter(name="tunnels.zone.created").count() == 1
