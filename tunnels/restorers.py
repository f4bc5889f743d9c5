"""Undoing deletions of DNS: records, and zones with theirs."""

from __future__ import annotations

from accounts.actor import Actor
from accounts.errors import Conflict
from accounts.models import DeletedObject
from accounts.permissions import Permission
from accounts.restoring import Kind, register
from tunnels.actions.records import create_record
from tunnels.actions.zones import create_zone
from tunnels.models import DnsRecord, Zone


def _record(kept: DeletedObject, actor: Actor) -> DnsRecord:
    values = dict(kept.document)
    zones = Zone.objects.for_organization(kept.organization).select_related("organization")
    zone = zones.filter(pk=values.pop("zone")).first()
    if zone is None:
        raise Conflict("The zone it belonged to is deleted. Restore that first.", code="zone_gone")
    return create_record(zone, actor=actor, key=kept.object_id, **values)


def _zone(kept: DeletedObject, actor: Actor) -> Zone:
    """Proved anew: the TXT record that it asks for is the old one, which may be there still."""
    values = kept.document
    restored = {"id": kept.object_id, "verification_token": values["verification_token"]}
    zone = create_zone(kept.organization, name=values["name"], actor=actor, restored=restored)
    for record in values["records"]:
        columns = {name: value for name, value in record.items() if name != "id"}
        create_record(zone, actor=actor, key=record["id"], **columns)
    return zone


def register_kinds() -> None:
    edit = Permission.DNS_EDIT
    register(Kind("dns_record", "DNS record", edit, _record, lambda row: ("zone_detail", (row.zone_id,))))
    register(Kind("zone", "Zone", edit, _zone, lambda row: ("zone_detail", (row.pk,))))
