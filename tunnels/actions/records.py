"""Creating, changing and deleting DNS records. What a check found is written by tunnels.actions.record_checks."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.actions.deletions import keep_deleted
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput, NotFound
from accounts.models import DeletedObject
from tunnels import events, records, tasks, zones
from tunnels.models import DnsRecord, Tunnel, Zone

MAX_RECORDS_PER_ZONE = 3500


@transaction.atomic
def create_record(
    zone: Zone,
    *,
    type: str,  # noqa: A002 - the field's public name
    name: str,
    content: str,
    ttl: int = records.AUTOMATIC_TTL,
    proxied: bool = False,
    comment: str = "",
    actor: Actor,
    key: str | None = None,
) -> DnsRecord:
    """`name` is full, or one label, or `@`. A CNAME to a tunnel needs a live tunnel of the zone's organization. `key`:
    the id it had, when its deletion is undone."""
    fields = records.check_fields(
        zone.name, type=type, name=name, content=content, ttl=ttl, proxied=proxied, comment=comment
    )
    _lock(zone)
    if zone.records.count() >= MAX_RECORDS_PER_ZONE:
        raise Conflict(f"A zone has at most {MAX_RECORDS_PER_ZONE} records.", code="limit_reached")
    record = _insert(zone, fields, key)
    audit.record(
        events.RECORD_CREATED, organization=zone.organization, actor=actor, target=record, new=_audited(record)
    )
    return record


@transaction.atomic
def update_record(
    record: DnsRecord,
    *,
    type: str | None = None,  # noqa: A002 - the field's public name
    name: str | None = None,
    content: str | None = None,
    ttl: int | None = None,
    proxied: bool | None = None,
    comment: str | None = None,
    actor: Actor,
) -> DnsRecord:
    """Change the given fields; None leaves a field as it is."""
    _lock(record.zone)
    current = _reload(record)
    fields = records.check_fields(
        current.zone.name,
        type=current.type if type is None else type,
        name=current.name if name is None else name,
        content=current.content if content is None else content,
        ttl=current.ttl if ttl is None else ttl,
        proxied=current.proxied if proxied is None else proxied,
        comment=current.comment if comment is None else comment,
    )
    old = _audited(current)
    _assert_allowed(current.zone, fields, replaced=current)
    _store(current, fields)
    audit.record(
        events.RECORD_UPDATED,
        organization=current.organization,
        actor=actor,
        target=current,
        old=old,
        new=_audited(current),
    )
    return current


@transaction.atomic
def delete_record(record: DnsRecord, *, actor: Actor) -> DeletedObject:
    _lock(record.zone)
    current = _reload(record)
    kept = keep_deleted(
        "dns_record",
        current.organization,
        key=current.pk,
        name=f"{current.type} {current.name}",
        document={"zone": current.zone_id, **_audited(current)},
        actor=actor,
    )
    audit.delete(current)
    audit.record(
        events.RECORD_DELETED, organization=current.organization, actor=actor, target=current, old=_audited(current)
    )
    return kept


@transaction.atomic
def verify_record(record: DnsRecord, *, actor: Actor) -> DnsRecord:
    """Ask the resolver now; the answer arrives in the record's row."""
    audit.record(events.RECORD_CHECK_REQUESTED, organization=record.organization, actor=actor, target=record)
    transaction.on_commit(lambda: tasks.verify_record.delay(record.pk))
    return record


@transaction.atomic
def route_hostname(
    zone: Zone, tunnel: Tunnel, *, hostname: str, overwrite: bool, actor: Actor
) -> Literal["new", "updated", "unchanged"]:
    """Point a hostname at a tunnel. A name that holds other records is refused unless `overwrite`, which replaces them
    (product.md 3.4). "unchanged" writes nothing and no event."""
    fields = records.check_fields(
        zone.name, type="CNAME", name=hostname, content=tunnel.target, ttl=1, proxied=True, comment=""
    )
    _lock(zone)
    existing = list(zone.records.filter(name=fields.name).order_by("created_at", "pk"))
    if [(record.type, record.content) for record in existing] == [(fields.type, fields.content)]:
        return "unchanged"
    if existing and not overwrite:
        raise Conflict(
            f"{fields.name} already has a {existing[0].type} record. Delete it, or allow it to be overwritten.",
            code="record_exists",
        )
    old = {"replaced": [_audited(record) for record in existing]} if existing else None
    zone.records.filter(name=fields.name).delete()
    record = _insert(zone, fields)
    audit.record(
        events.RECORD_UPDATED if existing else events.RECORD_CREATED,
        organization=zone.organization,
        actor=actor,
        target=record,
        old=old,
        new=_audited(record),
    )
    return "updated" if existing else "new"


def _lock(zone: Zone) -> None:
    """One change of a zone's records at a time: exclusivity of CNAMEs is a rule over several rows."""
    if not Zone.objects.for_organization(zone.organization).select_for_update(no_key=True).filter(pk=zone.pk).exists():
        raise NotFound("The zone has been deleted.")


def _reload(record: DnsRecord) -> DnsRecord:
    found = DnsRecord.objects.for_organization(record.organization).select_related("zone").filter(pk=record.pk).first()
    if found is None:
        raise NotFound("The record has been deleted.")
    return found


def _insert(zone: Zone, fields: records.RecordFields, key: str | None = None) -> DnsRecord:
    record = DnsRecord(organization=zone.organization, zone=zone, **({"pk": key} if key else {}))
    _assert_allowed(zone, fields, replaced=None)
    _store(record, fields)
    return record


def _store(record: DnsRecord, fields: records.RecordFields) -> None:
    needs_check = (record.type, record.name, record.content) != (fields.type, fields.name, fields.content)
    for key, value in asdict(fields).items():
        setattr(record, key, value)
    if needs_check:
        record.verification, record.verified_at, record.last_answer = DnsRecord.Verification.PENDING, None, ""
        record.resolver, record.last_checked_at = "", None
        record.failed_checks, record.next_check_at = 0, timezone.now()
        transaction.on_commit(lambda: tasks.verify_record.delay(record.pk))
    record.save()


def _assert_allowed(zone: Zone, fields: records.RecordFields, *, replaced: DnsRecord | None) -> None:
    if records.is_tunnel_target(fields.content) and fields.type == DnsRecord.Type.CNAME:
        _assert_tunnel_target(zone, fields)
    others = zone.records.filter(name=fields.name).exclude(pk=replaced.pk if replaced else None)
    for type_, content in others.values_list("type", "content"):
        if (type_, content) == (fields.type, fields.content):
            raise Conflict(f"An identical {type_} record exists at {fields.name}.", code="record_exists")
        if DnsRecord.Type.CNAME in (type_, fields.type):
            raise Conflict(
                f"{fields.name} has a {type_} record already, and a CNAME can share its name with no other record.",
                code="record_exists",
            )


def _assert_tunnel_target(zone: Zone, fields: records.RecordFields) -> None:
    """A missing tunnel and another tenant's look the same (AC-51)."""
    zones.assert_not_reserved(fields.name.removeprefix("*."))
    tunnel_id = records.tunnel_of(fields.content)
    live = Tunnel.objects.for_organization(zone.organization).filter(deleted_at=None)
    if tunnel_id is None or not live.filter(pk=tunnel_id).exists():
        message = f"{fields.content} names no live tunnel of this organization."
        raise InvalidInput(message, code="tunnel_not_found", fields={"content": message})


def _audited(record: DnsRecord) -> dict[str, Any]:
    return {key: getattr(record, key) for key in ("type", "name", "content", "ttl", "proxied", "comment")}
