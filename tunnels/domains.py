"""The active zones of an organization, as application forms offer them (installed into access by TunnelsConfig)."""

from __future__ import annotations

from accounts.models import Organization
from tunnels.models import Zone

_MAX_CHOICES = 500


def active_domains(organization: Organization) -> list[str]:
    zones = Zone.objects.for_organization(organization).filter(status=Zone.Status.ACTIVE)
    return list(zones.order_by("name").values_list("name", flat=True)[:_MAX_CHOICES])
