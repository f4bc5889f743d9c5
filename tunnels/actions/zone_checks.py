"""What a look at a zone's proof means for the zone. Tasks call this with what the resolver said."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from django.db import transaction

from accounts import audit
from accounts.actor import system
from accounts.errors import Conflict
from tunnels import events, zones
from tunnels.backoff import CHECK_INTERVAL, retry_delay
from tunnels.dns import MAX_ANSWER_CHARACTERS, Lookup, Outcome
from tunnels.models import Zone
from tunnels.serving import serve_names, stop_serving_names

# An active zone whose proof has gone is served this long, so that a slip in somebody's DNS is no outage.
PROOF_GRACE = timedelta(hours=72)
_ACTOR = system("tunnels.tasks.verify_zone")


class Change(StrEnum):
    NONE = "none"
    ACTIVATED = "activated"
    PROOF_LOST = "proof_lost"
    PROOF_FOUND = "proof_found"
    MOVED = "moved"


_CHECKED = [
    *("status", "verified_at", "proof_lost_at", "failed_checks"),
    *("last_answer", "resolver", "last_checked_at", "next_check_at", "updated_at"),
]
_EVENTS = {
    Change.ACTIVATED: events.ZONE_ACTIVATED,
    Change.PROOF_LOST: events.ZONE_PROOF_LOST,
    Change.PROOF_FOUND: events.ZONE_PROOF_FOUND,
    Change.MOVED: events.ZONE_MOVED,
}


@transaction.atomic
def store_zone_check(zone_id: str, answer: Lookup, *, now: datetime) -> Change:
    """Store the answer and move the zone's status; one audit event when it moves, none when nothing changed.

    A resolver that fails (time-out, SERVFAIL) proves nothing and costs nothing: pending stays pending, active active.
    """
    zones.lock_zone_names()
    zone = (
        Zone.objects.all_organizations(reason="the task was given an id of any tenant")
        .select_related("organization")
        .select_for_update(of=("self",), no_key=True)
        .filter(pk=zone_id)
        .first()
    )
    if zone is None or not zones.needs_proof(zone.name):
        return Change.NONE
    old_status = zone.status
    change = _apply(zone, answer, now)
    zone.last_checked_at = now
    zone.next_check_at = now + (retry_delay(zone.failed_checks) if zone.failed_checks else CHECK_INTERVAL)
    zone.save(update_fields=_CHECKED)
    if change is Change.ACTIVATED:
        serve_names(zone)
    elif change is Change.MOVED:
        stop_serving_names(zone)
    if change is not Change.NONE:
        audit.record(
            _EVENTS[change],
            organization=zone.organization,
            actor=_ACTOR,
            target=zone,
            old={"status": old_status},
            new={"status": zone.status, "answer": zone.last_answer},
        )
    return change


def _apply(zone: Zone, answer: Lookup, now: datetime) -> Change:
    zone.last_answer, zone.resolver = answer.text[:MAX_ANSWER_CHARACTERS], answer.resolver[:100]
    if answer.outcome is Outcome.FOUND and zones.challenge_value(zone) in answer.values:
        return _proved(zone, now)
    zone.failed_checks = min(zone.failed_checks + 1, 1000)
    if answer.outcome is Outcome.FAILED or zone.status != Zone.Status.ACTIVE:
        return Change.NONE
    if zone.proof_lost_at is None:
        zone.proof_lost_at = now
        return Change.PROOF_LOST
    if now - zone.proof_lost_at >= PROOF_GRACE:
        zone.status = Zone.Status.MOVED
        return Change.MOVED
    return Change.NONE


def _proved(zone: Zone, now: datetime) -> Change:
    if zone.status == Zone.Status.ACTIVE:
        was_lost = zone.proof_lost_at is not None
        zone.proof_lost_at, zone.failed_checks = None, 0
        return Change.PROOF_FOUND if was_lost else Change.NONE
    try:
        zones.assert_free_of_others(zone.organization, zone.name)
    except Conflict as error:
        zone.last_answer = f"The proof was found, but: {error.message}"
        zone.failed_checks = min(zone.failed_checks + 1, 1000)
        return Change.NONE
    zone.status, zone.verified_at = Zone.Status.ACTIVE, now
    zone.proof_lost_at, zone.failed_checks = None, 0
    return Change.ACTIVATED
