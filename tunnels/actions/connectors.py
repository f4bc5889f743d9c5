"""Connectors as people manage them. What edges report about them: tunnels.actions.edges."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts import audit
from accounts.actor import Actor
from accounts.errors import NotFound
from accounts.tenancy import TenantQuerySet
from tunnels import events
from tunnels.actions.tunnels import lock_live_tunnel, next_mark
from tunnels.models import Connector, Tunnel
from tunnels.status import TunnelStatus, statuses


@transaction.atomic
def disconnect_connectors(tunnel: Tunnel, *, client_id: UUID | str | None = None, actor: Actor) -> None:
    """Edges close the connections registered until now, of one connector or of all; connectors whose secret is still
    good come back. To keep one out, rotate the tunnel's token too."""
    current = lock_live_tunnel(tunnel)
    # One connector's row is written under its tunnel's lock only.
    row = current if client_id is None else _connectors(current, client_id).first()
    if row is None:
        raise NotFound("This tunnel has no such connector.")
    row.reconnect_after = next_mark(row.reconnect_after)
    row.save(update_fields=["reconnect_after"])
    audit.record(
        events.CONNECTORS_DISCONNECTED,
        organization=current.organization,
        actor=actor,
        target=current,
        new={"connector": str(client_id) if client_id else "all"},
    )


@transaction.atomic
def view_connector_logs(connector: Connector, *, level: str, actor: Actor) -> None:
    """Somebody begins to watch what a connector logs: lines name hosts and people, so that is kept."""
    audit.record(
        events.CONNECTOR_LOGS_VIEWED,
        organization=connector.organization,
        actor=actor,
        target=connector.tunnel,
        new={"connector": str(connector.client_id), "level": level},
    )


def tunnel_status(tunnel: Tunnel, now: datetime) -> TunnelStatus:
    """For one tunnel; lists use tunnels.status.statuses."""
    return statuses([tunnel], now)[tunnel.pk]


def _connectors(tunnel: Tunnel, client_id: UUID | str) -> TenantQuerySet[Connector]:
    try:
        wanted = UUID(str(client_id))
    except ValueError as error:
        raise NotFound("This tunnel has no such connector.") from error
    return Connector.objects.for_organization(tunnel.organization).filter(tunnel=tunnel, client_id=wanted)
