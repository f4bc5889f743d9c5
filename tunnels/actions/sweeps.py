"""Closing what no edge vouches for any more, and forgetting what is long past. Tasks call this."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef

from tunnels.models import Connection, Connector
from tunnels.status import REPORT_TIMEOUT

CLOSED_CONNECTIONS_KEPT = timedelta(days=1)
CONNECTORS_KEPT = timedelta(days=30)
_REASON = "a sweep over every tenant"


@transaction.atomic
def close_silent_connections(*, now: datetime) -> int:
    """An edge silent for longer than REPORT_TIMEOUT is gone, and its connections with it."""
    silent = Connection.objects.all_organizations(reason=_REASON).filter(
        closed_at=None, last_seen_at__lte=now - REPORT_TIMEOUT
    )
    return silent.update(closed_at=now)


@transaction.atomic
def forget_old_connections(*, now: datetime) -> int:
    """Closed connections after a day; connectors after a month, but never a tunnel's last one: it is what tells
    "down" from "never connected"."""
    closed = Connection.objects.all_organizations(reason=_REASON).filter(closed_at__lt=now - CLOSED_CONNECTIONS_KEPT)
    deleted, _ = closed.delete()
    newer = Connector.objects.filter(tunnel=OuterRef("tunnel"), last_seen_at__gt=OuterRef("last_seen_at"))
    connectors = Connector.objects.all_organizations(reason=_REASON).filter(
        Exists(newer), last_seen_at__lt=now - CONNECTORS_KEPT
    )
    connectors.delete()
    return deleted
