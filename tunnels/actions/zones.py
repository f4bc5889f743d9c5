"""Adding, checking and deleting zones. What a check found is written by tunnels.actions.zone_checks."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from access.models import Application
from accounts import audit
from accounts.actions.deletions import keep_deleted
from accounts.actor import Actor
from accounts.errors import Conflict, NotFound
from accounts.models import DeletedObject, Organization
from tunnels import events, tasks, zones
from tunnels.models import Zone
from tunnels.names import skeleton
from tunnels.serving import serve_names


@transaction.atomic
def create_zone(
    organization: Organization, *, name: str, actor: Actor, restored: Mapping[str, str] | None = None
) -> Zone:
    """A pending zone, or an active one below settings.UNVERIFIED_ZONE_SUFFIX. `restored`: the id and the token of the
    proof it had, when its deletion is undone; the proof itself is asked for again."""
    domain = zones.normalize_zone_name(name)
    zones.lock_zone_names()
    zones.assert_free_of_others(organization, domain)
    _assert_fits(organization, domain)
    now = timezone.now()
    pending = zones.needs_proof(domain)
    kept = {"verification_token": secrets.token_hex(16), **(restored or {})}
    zone = Zone.objects.create(
        organization=organization,
        name=domain,
        skeleton=skeleton(domain),
        status=Zone.Status.PENDING if pending else Zone.Status.ACTIVE,
        **kept,
        verified_at=None if pending else now,
        next_check_at=now if pending else None,
        last_answer="" if pending else "No proof is needed for names of this installation's own suffix.",
    )
    if not pending:
        serve_names(zone)
    audit.record(
        events.ZONE_CREATED,
        organization=organization,
        actor=actor,
        target=zone,
        new={"name": zone.name, "status": zone.status},
    )
    if pending:
        transaction.on_commit(lambda: tasks.verify_zone.delay(zone.pk))
    return zone


@transaction.atomic
def verify_zone(zone: Zone, *, actor: Actor) -> Zone:
    """Look for the proof now; the answer arrives in the zone's row."""
    audit.record(events.ZONE_CHECK_REQUESTED, organization=zone.organization, actor=actor, target=zone)
    transaction.on_commit(lambda: tasks.verify_zone.delay(zone.pk))
    return zone


@transaction.atomic
def delete_zone(zone: Zone, *, actor: Actor) -> DeletedObject:
    """Delete a zone with its records. Refused while applications use its names."""
    zones.lock_zone_names()
    used = Application.objects.for_organization(zone.organization).filter(
        Q(hostname=zone.name) | Q(hostname__endswith=f".{zone.name}")
    )
    names = list(used.values_list("name", flat=True)[:3])
    if names:
        raise Conflict(
            f"Applications use names of {zone.name}: {', '.join(names)}. Delete or move them first.", code="zone_in_use"
        )
    # As changes of its records do, before them.
    if not Zone.objects.for_organization(zone.organization).select_for_update(no_key=True).filter(pk=zone.pk).exists():
        raise NotFound("The zone has been deleted.")
    columns = ("id", "type", "name", "content", "ttl", "proxied", "comment")
    document: dict[str, Any] = {
        "name": zone.name,
        "verification_token": zone.verification_token,
        "records": list(zone.records.order_by("name", "pk").values(*columns)),
    }
    kept = keep_deleted("zone", zone.organization, key=zone.pk, name=zone.name, document=document, actor=actor)
    audit.delete(zone)
    audit.record(
        events.ZONE_DELETED,
        organization=zone.organization,
        actor=actor,
        target=zone,
        old={"name": zone.name, "status": zone.status, "records": len(document["records"])},
    )
    return kept


def _assert_fits(organization: Organization, domain: str) -> None:
    """Within one organization zones do not nest either, so that every name has one zone and one place to look."""
    own = Zone.objects.for_organization(organization)
    other = zones.overlapping(domain).filter(organization=organization).first()
    if other is not None and other.name == domain:
        raise Conflict(f"The zone {domain} exists already.", code="zone_exists")
    if other is not None:
        raise Conflict(
            f"{domain} overlaps your zone {other.name}. Add the names as records there, or delete that zone first.",
            code="zone_overlaps",
        )
    if own.count() >= zones.MAX_ZONES_PER_ORGANIZATION:
        raise Conflict(f"An organization has at most {zones.MAX_ZONES_PER_ORGANIZATION} zones.", code="limit_reached")
