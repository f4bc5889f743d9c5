"""AC-100: the audit log is a chain, and the verifier notices every way of changing it behind our back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from accounts import audit
from accounts.actions.audit_chains import verify_all, verify_chain
from accounts.actor import system
from accounts.models import AuditChain, AuditEvent, Organization
from accounts.tasks import verify_audit_chains
from tests.factories import Cast, make_cast
from tests.pages_kit import login, shown

ACTOR = system("tests")
VALUES = {"name": "Ä", "n": 1e2, "list": [1.5, None, {"b": 1, "a": True}], "by": {7: "key"}}


def write(organization: Organization | None, count: int = 1) -> None:
    for number in range(count):
        with transaction.atomic():
            audit.record(
                "accounts.login.started",
                organization=organization,
                actor=ACTOR,
                target_label=f"group {number}",
                new={**VALUES, "number": number},
            )


def chain_of(organization: Organization) -> AuditChain:
    return AuditChain.objects.get(pk=organization.pk)


def problem_of(organization: Organization, *, whole: bool = True) -> str:
    return verify_chain(chain_of(organization), now=timezone.now(), whole=whole).problem


def events(organization: Organization) -> Any:
    return AuditEvent.objects.for_organization(organization)


def test_ac_100_events_are_chained_per_organization(cast: Cast) -> None:
    write(cast.widgetcorp, 3)
    write(cast.evilcorp, 2)
    write(None)
    assert list(events(cast.widgetcorp).order_by("id").values_list("sequence", flat=True)) == [1, 2, 3]
    assert len(set(AuditEvent.objects.values_list("digest", flat=True))) == 6
    found = verify_all(now=timezone.now())
    assert {key: (one.sequence, one.problem) for key, one in found.items()} == {
        cast.widgetcorp.pk: (3, ""),
        cast.evilcorp.pk: (2, ""),
        "": (1, ""),
    }
    with transaction.atomic():
        audit.record("access.group.created", organization=cast.widgetcorp, actor=ACTOR)
        transaction.set_rollback(True)
    write(cast.widgetcorp)
    assert chain_of(cast.widgetcorp).sequence == 4, "a rolled back event leaves no gap"
    assert problem_of(cast.widgetcorp) == ""


def swap(first: AuditEvent, second: AuditEvent) -> None:
    """Two events change places, digests and all."""
    places = [(row.sequence, row.digest) for row in (second, first)]
    AuditEvent.objects.filter(pk=second.pk).update(sequence=None)
    for row, (sequence, digest) in zip((first, second), places, strict=True):
        AuditEvent.objects.filter(pk=row.pk).update(sequence=sequence, digest=digest)


TAMPERING: dict[str, tuple[Callable[[list[AuditEvent]], Any], str]] = {
    "edit of the actor": (
        lambda rows: AuditEvent.objects.filter(pk=rows[1].pk).update(actor_label="somebody else"),
        "event 2 is not what was written",
    ),
    "edit of new values": (
        lambda rows: AuditEvent.objects.filter(pk=rows[4].pk).update(new={}),
        "event 5 is not what was written",
    ),
    "edit of the time": (
        lambda rows: AuditEvent.objects.filter(pk=rows[0].pk).update(created_at=datetime(2020, 1, 1, tzinfo=UTC)),
        "event 1 is not what was written",
    ),
    "edit of the address": (
        lambda rows: AuditEvent.objects.filter(pk=rows[2].pk).update(ip_address="192.0.2.1"),
        "event 3 is not what was written",
    ),
    "deletion": (lambda rows: rows[1].delete(), "event 2 is missing"),
    "deletion of the first": (lambda rows: rows[0].delete(), "event 1 is missing"),
    "truncation": (
        lambda rows: AuditEvent.objects.filter(pk__in=[rows[3].pk, rows[4].pk]).delete(),
        "events 4 to 5 are missing",
    ),
    "reordering": (lambda rows: swap(rows[1], rows[2]), "event 2 is not what was written"),
    "an event slipped in": (
        lambda rows: AuditEvent.objects.create(organization_id=rows[0].organization_id, name="x", actor_kind="user"),
        "1 events were never written by this product",
    ),
    "an event appended with a made-up digest": (
        lambda rows: AuditEvent.objects.create(
            organization_id=rows[0].organization_id,
            chain=rows[0].chain,
            sequence=6,
            digest="0" * 64,
            name="x",
            actor_kind="user",
        ),
        "the chain was set back to event 5",
    ),
    "the head set back": (
        lambda rows: AuditChain.objects.filter(pk=rows[0].chain).update(sequence=4, digest=rows[3].digest),
        "the chain was set back to event 4",
    ),
    "a head with another digest": (
        lambda rows: AuditChain.objects.filter(pk=rows[0].chain).update(digest="0" * 64),
        "the last event is not the one that was written last",
    ),
}


@pytest.mark.parametrize("way", TAMPERING)
def test_ac_100_tampering_is_detected(cast: Cast, way: str) -> None:
    write(cast.widgetcorp, 5)
    assert problem_of(cast.widgetcorp) == ""
    tamper, problem = TAMPERING[way]
    tamper(list(events(cast.widgetcorp).order_by("sequence")))
    assert problem_of(cast.widgetcorp) == problem
    with pytest.raises(CommandError):
        call_command("verify_audit", stdout=StringIO())
    page = shown(login(cast.alice), "/o/widgetcorp/logs/audit/")
    assert "This log is not what was written" in page


def test_ac_100_whoever_lacks_the_secret_cannot_make_a_fitting_chain(cast: Cast, settings: Any) -> None:
    """Rewritten as a whole, digests and head included, by somebody who knows how but not SECRET_KEY."""
    write(cast.widgetcorp, 3)
    known, settings.SECRET_KEY = settings.SECRET_KEY, "a guess"
    events(cast.widgetcorp).delete()
    AuditChain.objects.all().delete()
    write(cast.widgetcorp, 3)
    settings.SECRET_KEY = known
    assert problem_of(cast.widgetcorp) == "event 1 is not what was written"


def test_ac_100_a_rotated_secret_still_verifies(cast: Cast, settings: Any) -> None:
    write(cast.widgetcorp, 2)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the new one"
    write(cast.widgetcorp, 2)
    assert problem_of(cast.widgetcorp) == ""


def test_ac_100_the_hourly_check_goes_on_where_the_last_one_ended(cast: Cast) -> None:
    write(cast.widgetcorp, 3)
    assert verify_audit_chains() == 0
    write(cast.widgetcorp, 3)
    events(cast.widgetcorp).filter(sequence=5).update(name="x")
    assert problem_of(cast.widgetcorp, whole=False) == "event 5 is not what was written"
    events(cast.widgetcorp).filter(sequence=4).delete()
    assert problem_of(cast.widgetcorp, whole=False) == "event 4 is missing"
    assert verify_audit_chains(whole=True) == 1


def test_ac_100_an_anchor_kept_elsewhere_outlives_a_change_of_everything(cast: Cast) -> None:
    write(cast.widgetcorp, 3)
    out = StringIO()
    call_command("verify_audit", team="widgetcorp", stdout=out)
    anchor = out.getvalue().split("head ")[1].strip()
    assert out.getvalue().startswith("widgetcorp: 3 events verified")
    write(cast.widgetcorp, 2)
    call_command("verify_audit", team="widgetcorp", anchor=anchor, stdout=StringIO())
    # Somebody with SECRET_KEY and the database makes another history.
    events(cast.widgetcorp).delete()
    AuditChain.objects.filter(pk=cast.widgetcorp.pk).delete()
    write(cast.widgetcorp, 5)
    assert problem_of(cast.widgetcorp) == ""
    with pytest.raises(CommandError):
        call_command("verify_audit", team="widgetcorp", anchor=anchor, stdout=StringIO())
    for wrong in ({"team": "nobody"}, {"anchor": anchor}):
        with pytest.raises(CommandError):
            call_command("verify_audit", stdout=StringIO(), **wrong)


def test_ac_100_the_audit_page_says_how_far(cast: Cast) -> None:
    write(cast.widgetcorp, 3)
    client = login(cast.alice)
    assert "The first check of all" in shown(client, "/o/widgetcorp/logs/audit/")
    verify_all(now=timezone.now())
    assert "nothing was changed, removed or slipped in" in shown(client, "/o/widgetcorp/logs/audit/")


@pytest.mark.django_db(transaction=True)
def test_ac_100_events_written_at_once_get_places_one_after_the_other() -> None:
    cast = make_cast()
    failures: list[DatabaseError] = []

    def work() -> None:
        try:
            write(cast.widgetcorp, 5)
        except DatabaseError as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    found = verify_chain(chain_of(cast.widgetcorp), now=timezone.now())
    assert (found.sequence, found.problem) == (30, "")
