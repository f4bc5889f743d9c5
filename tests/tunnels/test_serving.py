"""Applications whose organization lost its name: kept, not served, and in nobody's way (AC-77, AC-80)."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from access.actions.applications import create_application, update_application
from access.authorize import AuthorizeRequest, Deny, authorize_request
from access.models import Application
from access.routing import find_application
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput
from accounts.models import Organization
from tests.dns_server import DnsServer
from tests.factories import Cast
from tests.tunnels.helpers import actor_of
from tunnels import tasks
from tunnels.actions.zone_checks import PROOF_GRACE
from tunnels.actions.zones import create_zone, delete_zone
from tunnels.models import Zone
from tunnels.snapshots import load_snapshot
from tunnels.zones import challenge_name, challenge_value

HOST = "ssh.acme.com"


def prove(dns_server: DnsServer, zone: Zone) -> None:
    dns_server.add(challenge_name(zone), "TXT", challenge_value(zone))
    tasks.verify_zone.delay(zone.pk)
    zone.refresh_from_db()


def lose(dns_server: DnsServer, zone: Zone) -> None:
    """The proof disappears, and the grace period passes."""
    dns_server.clear()
    tasks.verify_zone.delay(zone.pk)
    Zone.objects.filter(pk=zone.pk).update(proof_lost_at=timezone.now() - PROOF_GRACE)
    tasks.verify_zone.delay(zone.pk)
    zone.refresh_from_db()
    assert zone.status == "moved"


def add_application(organization: Organization, actor: Actor, domain: str = HOST) -> Application:
    return create_application(organization, actor=actor, name=f"app at {domain}", domain=domain)


def served() -> set[str]:
    return {item["id"] for item in load_snapshot()["applications"]}


@pytest.fixture
def alice(cast: Cast) -> Actor:
    return actor_of(cast.alice)


@pytest.fixture
def mallory(cast: Cast) -> Actor:
    return actor_of(cast.mallory)


def test_ac80_a_lost_name_can_be_used_by_its_new_owner_and_the_old_applications_stay_unserved(
    cast: Cast, alice: Actor, mallory: Actor, dns_server: DnsServer
) -> None:
    zone = create_zone(cast.widgetcorp, name="acme.com", actor=alice)
    prove(dns_server, zone)
    stale = [add_application(cast.widgetcorp, alice, domain) for domain in (HOST, f"{HOST}/admin", "*.acme.com")]
    other = create_zone(cast.widgetcorp, name="other.com", actor=alice)
    prove(dns_server, other)
    kept = add_application(cast.widgetcorp, alice, "ssh.other.com")
    Zone.objects.filter(pk=other.pk).update(next_check_at=None)
    lose(dns_server, zone)
    assert served() == {str(kept.pk)}
    assert find_application(HOST, "/") is None

    claimed = create_zone(cast.evilcorp, name="acme.com", actor=mallory)
    with pytest.raises(InvalidInput):
        add_application(cast.evilcorp, mallory)
    prove(dns_server, claimed)
    taken = add_application(cast.evilcorp, mallory)
    assert served() == {str(kept.pk), str(taken.pk)}
    # Neither a longer path, nor a wildcard, nor the audience tag of the old owner leads to its applications.
    for path in ("/", "/admin", "/admin/x", "/cdn-cgi/access/authorized"):
        for aud in (None, stale[0].aud, stale[1].aud):
            assert find_application(HOST, path, aud) == taken
    assert find_application("www.acme.com", "/") is None
    answer = authorize_request(AuthorizeRequest(ray_id="r", hostname="www.acme.com", path="/", client_ip="127.0.0.1"))
    assert isinstance(answer, Deny)
    assert answer.reason == "unknown_application"

    # The old owner keeps its rows and may work on them, but serves nothing.
    assert Application.objects.for_organization(cast.widgetcorp).filter(is_served=False).count() == 3
    update_application(stale[0], actor=alice, name="renamed", domain=HOST)
    assert served() == {str(kept.pk), str(taken.pk)}
    with pytest.raises(InvalidInput):
        add_application(cast.widgetcorp, alice, "new.acme.com")
    # Moved to a name it does own, an application is served again.
    update_application(stale[2], actor=alice, domain="*.other.com")
    assert served() == {str(kept.pk), str(taken.pk), str(stale[2].pk)}


def test_ac80_the_old_owner_comes_back_only_after_the_new_one_has_left(
    cast: Cast, alice: Actor, mallory: Actor, dns_server: DnsServer
) -> None:
    zone = create_zone(cast.widgetcorp, name="acme.com", actor=alice)
    prove(dns_server, zone)
    first = add_application(cast.widgetcorp, alice)
    lose(dns_server, zone)
    claimed = create_zone(cast.evilcorp, name="acme.com", actor=mallory)
    prove(dns_server, claimed)
    second = add_application(cast.evilcorp, mallory)

    prove(dns_server, zone)
    assert zone.status == "moved"
    assert served() == {str(second.pk)}

    second.delete()
    delete_zone(claimed, actor=mallory)
    prove(dns_server, zone)
    assert zone.status == "active"
    assert served() == {str(first.pk)}
    assert find_application(HOST, "/") == first


def test_ac80_within_the_grace_period_nothing_changes_hands(
    cast: Cast, alice: Actor, mallory: Actor, dns_server: DnsServer
) -> None:
    zone = create_zone(cast.widgetcorp, name="acme.com", actor=alice)
    prove(dns_server, zone)
    first = add_application(cast.widgetcorp, alice)
    dns_server.clear()
    tasks.verify_zone.delay(zone.pk)
    with pytest.raises(Conflict):
        create_zone(cast.evilcorp, name="acme.com", actor=mallory)
    with pytest.raises(InvalidInput):
        add_application(cast.evilcorp, mallory)
    assert served() == {str(first.pk)}
    with pytest.raises(Conflict):
        add_application(cast.widgetcorp, alice)


def test_an_application_that_is_not_served_says_so(cast: Cast, alice: Actor, dns_server: DnsServer) -> None:
    zone = create_zone(cast.widgetcorp, name="acme.com", actor=alice)
    prove(dns_server, zone)
    application = add_application(cast.widgetcorp, alice)
    browser = Client(headers={"host": settings.DASHBOARD_HOSTS[0]})
    browser.force_login(cast.alice)
    team = cast.widgetcorp.team_name
    pages = (reverse("applications", args=[team]), reverse("application_detail", args=[team, application.pk]))
    for page in pages:
        answer = browser.get(page)
        assert (answer.status_code, b"not served" in answer.content) == (200, False)
    lose(dns_server, zone)
    for page in pages:
        assert b"not served" in browser.get(page).content
