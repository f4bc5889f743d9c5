"""Who owns a name: zones, their proof, and the check that every hostname of an organization passes.

A zone is proved by a TXT record whose value only this organization's row yields, so the same record can not prove the
name for anybody else. While a zone is active (grace period included) its name, every name above and below it and every
look-alike are closed to other organizations; pending zones close nothing, or anybody could squat a name by typing it.
"""

from __future__ import annotations

import hashlib

from django.conf import settings
from django.db import connection
from django.db.models import Q, QuerySet

from accounts.errors import Conflict, InvalidInput
from accounts.models import Organization
from dataplane.wire.names import MANAGEMENT_HOST, SNI_PROBE, SNI_QUIC, SNI_TUNNEL
from tunnels.models import Zone
from tunnels.names import is_within, normalize_domain, normalize_hostname, parents, skeleton

CHALLENGE_LABEL = "_sallyport-challenge"
MAX_ZONES_PER_ORGANIZATION = 500
# Any number, the same in all processes of the installation.
_NAMES_LOCK = 0x5A11_0001
_PROTOCOL_NAMES = frozenset({MANAGEMENT_HOST, SNI_TUNNEL, SNI_QUIC, SNI_PROBE})


def challenge_name(zone: Zone) -> str:
    """Where the proof is published."""
    return f"{CHALLENGE_LABEL}.{zone.name}"


def challenge_value(zone: Zone) -> str:
    """The TXT value that proves this zone for this organization, and for no other."""
    words = "\0".join((zone.verification_token, zone.organization_id, zone.name))
    return f"sallyport-verification={hashlib.sha256(words.encode()).hexdigest()}"


def needs_proof(name: str) -> bool:
    """False below settings.UNVERIFIED_ZONE_SUFFIX: names that exist only on this machine or in this network."""
    suffix = settings.UNVERIFIED_ZONE_SUFFIX.strip(".")
    return not suffix or not name.endswith(f".{suffix}")


def assert_owned(organization: Organization, hostname: str) -> None:
    """Refuse (InvalidInput) a hostname, plain or `*.name`, outside the organization's active zones.

    Within a transaction the answer holds until its end: no zone changes hands before what follows is committed.
    """
    bare = normalize_hostname(hostname).removeprefix("*.")
    assert_not_reserved(bare)
    if connection.in_atomic_block:
        lock_zone_names()
    covering = Zone.objects.for_organization(organization).filter(name__in=[bare, *parents(bare)])
    zones = list(covering.only("name", "status"))
    if any(zone.status == Zone.Status.ACTIVE for zone in zones):
        return
    if zones:
        raise InvalidInput(
            f"The zone {zones[0].name} is {zones[0].get_status_display().lower()}: publish its TXT record, then use "
            f"{bare}.",
            code="zone_not_active",
        )
    raise InvalidInput(
        f"{bare} is in none of this organization's zones. Add its domain under DNS and prove that you own it.",
        code="hostname_not_owned",
    )


def assert_not_reserved(name: str) -> None:
    """Refuse names this installation answers itself: team domains, tunnel targets, the dashboard, protocol names."""
    seen = skeleton(name)
    for domain in (settings.ACCESS_DOMAIN, settings.TUNNEL_DOMAIN):
        if is_within(seen, skeleton(domain)):
            raise InvalidInput(f"Names below {domain} belong to this installation.", code="name_reserved")
    hosts = {host.partition(":")[0] for host in settings.DASHBOARD_HOSTS + settings.TRANSFER_HOSTS}
    if name in hosts | _PROTOCOL_NAMES:
        raise InvalidInput(f"{name} is used by this installation itself.", code="name_reserved")


def normalize_zone_name(name: str) -> str:
    """A name that can be a zone at all. Single labels (com, localhost) are nobody's."""
    domain = normalize_domain(name, strict=True)
    if "." not in domain:
        raise InvalidInput(
            f"{domain} is a top-level name and cannot be a zone; write for example mycompany.{domain}.",
            code="invalid_name",
        )
    assert_not_reserved(domain)
    return domain


def lock_zone_names() -> None:
    """Serialize changes of who owns a name, until the transaction ends: "not above, not below, not alike" is a rule
    over many rows that no unique constraint can hold. Before any row is locked but the organization's: a check
    of a zone changes rows of applications. SQLite's IMMEDIATE transactions are serial already."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_NAMES_LOCK])


def assert_free_of_others(organization: Organization, name: str) -> None:
    """Refuse (Conflict) a name that meets another organization's active zone. Call with lock_zone_names held."""
    taken = overlapping(name).filter(status=Zone.Status.ACTIVE).exclude(organization=organization)
    if taken.exists():
        raise Conflict(
            f"{name}, or a name above, below or very similar to it, belongs to another organization.",
            code="zone_taken",
        )


def overlapping(name: str) -> QuerySet[Zone]:
    """Zones of every tenant that are, hold, are held by, or look like `name`."""
    seen = skeleton(name)
    return Zone.objects.all_organizations(reason="a name has one owner among all tenants").filter(
        Q(skeleton__in=[seen, *parents(seen)]) | Q(skeleton__endswith=f".{seen}")
    )
