"""Whether an application's hostname is vouched for by an active zone of its organization.

An organization that loses its proof keeps its applications, marked as not served: with a new proof they work again as
they were. Meanwhile their hostnames are closed to nobody who proves them (AC-80: never silently transferable, AC-77).
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.db.models import Q, QuerySet

from access.models import Application
from tunnels.models import Zone
from tunnels.names import parents

_REASON = "an edge asks about streams of every tenant"


def unserved_applications(application_ids: Iterable[str]) -> set[str]:
    """Those of the given applications that the snapshot leaves out for want of a zone. Unknown ids are not among them:
    that an application is gone is for access.recheck to say. Two queries."""
    ids = {text for text in application_ids if _is_uuid(text)}
    rows = list(
        Application.objects.all_organizations(reason=_REASON)
        .filter(pk__in=ids)
        .values_list("pk", "organization_id", "hostname")
    )
    owners = {organization_id for _, organization_id, _ in rows}
    active = set(
        Zone.objects.all_organizations(reason=_REASON)
        .filter(status=Zone.Status.ACTIVE, organization__in=owners)
        .values_list("organization_id", "name")
    )
    return {str(pk) for pk, organization_id, hostname in rows if not _is_covered(hostname, organization_id, active)}


def serve_names(zone: Zone) -> None:
    """The zone has become active: its organization's applications within it are served, and nobody else's. Call with
    zones.lock_zone_names held."""
    within = _applications_within(zone)
    within.exclude(organization=zone.organization).update(is_served=False)
    within.filter(organization=zone.organization).update(is_served=True)


def stop_serving_names(zone: Zone) -> None:
    """The zone is active no longer. Zones do not nest, so no other one vouches for these names."""
    _applications_within(zone).filter(organization=zone.organization).update(is_served=False)


def _applications_within(zone: Zone) -> QuerySet[Application]:
    return Application.objects.all_organizations(reason="a name has one owner among all tenants").filter(
        Q(hostname__in=[zone.name, f"*.{zone.name}"]) | Q(hostname__endswith=f".{zone.name}")
    )


def _is_covered(hostname: str, organization_id: str, active: set[tuple[str, str]]) -> bool:
    name = hostname.removeprefix("*.")
    return any((organization_id, candidate) in active for candidate in [name, *parents(name)])


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
