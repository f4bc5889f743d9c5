"""Which hostname leads to which tunnel. Pure.

Only an active zone's CNAME to a live tunnel of the same organization makes a route. A record whose tunnel is deleted
leads nowhere, and its name stays closed to everybody else as long as the zone is somebody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Alias:
    """A CNAME record of an active zone; `tunnel_id` is what its target names, if that is a tunnel."""

    hostname: str
    organization_id: str
    tunnel_id: UUID | None


@dataclass(frozen=True, slots=True)
class Route:
    hostname: str
    tunnel_id: UUID
    organization_id: str


def build_routes(aliases: Iterable[Alias], tunnel_owners: Mapping[UUID, str]) -> list[Route]:
    """`tunnel_owners`: live tunnel -> organization. Two organizations at one hostname cannot be (zones are exclusive);
    should they be all the same, neither is served."""
    routes: dict[str, Route] = {}
    contested: set[str] = set()
    for alias in aliases:
        if alias.tunnel_id is None or tunnel_owners.get(alias.tunnel_id) != alias.organization_id:
            continue
        route = Route(alias.hostname, alias.tunnel_id, alias.organization_id)
        if routes.setdefault(alias.hostname, route).organization_id != alias.organization_id:
            contested.add(alias.hostname)
    return [routes[hostname] for hostname in sorted(routes) if hostname not in contested]
