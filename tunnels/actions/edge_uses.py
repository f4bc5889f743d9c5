"""What edges tell about applications' streams: part of recording a report (tunnels.actions.edges)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from access.models import Application
from tunnels.models import Edge, EdgeUse
from tunnels.reports import WayReport

_REASON = "an edge carries the streams of every tenant"
_BATCH = 500
# A measurement that says the same is good enough when it is this young.
RENEWED_EVERY = timedelta(seconds=30)


def keep_ways(ways: Sequence[WayReport], edge: Edge, now: datetime) -> None:
    """The report names every application with a live stream; the others have none any more. Unknown ones are left
    out. The edge's row is locked by the caller, so its reports come one after another."""
    every = EdgeUse.objects.all_organizations(reason=_REASON).filter(edge=edge)
    told = {way.application_id: way for way in ways}
    every.filter(streams__gt=0).exclude(application_id__in=told).update(streams=0)
    if not told:
        return
    known = {use.application_id: use for use in every.filter(application_id__in=told)}
    changed = [use for use in known.values() if _take(use, told[use.application_id], now)]
    EdgeUse.objects.bulk_update(changed, ["streams", "rtt_ms", "measured_at"], batch_size=_BATCH)
    new = set(told) - set(known)
    if not new:
        return
    owners = Application.objects.all_organizations(reason=_REASON).filter(pk__in=new)
    rows = [
        EdgeUse(organization_id=owner, application_id=pk, edge=edge)
        for pk, owner in owners.values_list("pk", "organization_id")
    ]
    for row in rows:
        _take(row, told[row.application_id], now)
    EdgeUse.objects.bulk_create(rows, batch_size=_BATCH, ignore_conflicts=True)


def _take(use: EdgeUse, way: WayReport, now: datetime) -> bool:
    """False when the row says it already."""
    is_young = use.measured_at is not None and now - use.measured_at < RENEWED_EVERY
    if use.streams == way.streams and (way.rtt_ms is None or (is_young and _is_near(use.rtt_ms, way.rtt_ms))):
        return False
    use.streams = way.streams
    if way.rtt_ms is not None:
        use.rtt_ms, use.measured_at = way.rtt_ms, now
    return True


def _is_near(known_ms: float | None, measured_ms: float) -> bool:
    return known_ms is not None and abs(measured_ms - known_ms) <= max(1.0, known_ms / 4)
