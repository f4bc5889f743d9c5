"""Filling the table behind the charts of Home: counts of the logs by hour, and samples of what no log holds.

Counting the logs for every view would read a million rows; a table of hours reads thirty days in one query. Doing any
of this twice changes nothing: an hour's counts are written whole, a sample is taken once per slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Count, Exists, F, Max, OuterRef, Q
from django.db.models.functions import Greatest

from access.models import AccessRequest, Certificate
from accounts.models import AccessSession, Organization
from tunnels.models import Connection, HourOfActivity, Tunnel
from tunnels.status import open_connections

HOUR = timedelta(hours=1)
KEPT = timedelta(days=90)
COUNTED_BACK = timedelta(days=31)
# A row is dated when its transaction begins: the last ones of an hour may become visible a little after it.
SETTLED_AFTER = timedelta(minutes=2)
SAMPLE_EVERY = timedelta(minutes=5)
# One run of the task ends in reasonable time, also when a month has to be made up for; the next goes on.
MAX_HOURS_PER_RUN = 20_000
_REASON = "counting every tenant's hours"
_COUNTED = ["logins_allowed", "logins_denied", "certificates", "counted_at"]


def hour_of(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)


def count_hours(*, now: datetime) -> int:
    """Count every hour that is over and not counted yet, of every organization; how many hours that were."""
    end = hour_of(now - SETTLED_AFTER)
    rows = HourOfActivity.objects.all_organizations(reason=_REASON).exclude(counted_at=None)
    done: dict[str, datetime] = dict(rows.values_list("organization").annotate(Max("hour")).order_by())
    counted = 0
    for organization_id in Organization.objects.order_by("pk").values_list("pk", flat=True).iterator():
        start = _first_to_count(organization_id, done.get(organization_id), end)
        for hour in _hours(start, end) if start is not None else ():
            count_hour(organization_id, hour, now=now)
            counted += 1
            if counted >= MAX_HOURS_PER_RUN:
                return counted
    return counted


def count_hour(organization_id: str, hour: datetime, *, now: datetime) -> HourOfActivity:
    """One hour of one organization, written whole."""
    allowed, denied, certificates = numbers_between(organization_id, hour, hour + HOUR)
    row = HourOfActivity(
        organization_id=organization_id,
        hour=hour,
        logins_allowed=allowed,
        logins_denied=denied,
        certificates=certificates,
        counted_at=now,
    )
    HourOfActivity.objects.bulk_create(
        [row], update_conflicts=True, unique_fields=["organization", "hour"], update_fields=_COUNTED
    )
    return row


def numbers_between(organization_id: str, start: datetime, end: datetime) -> tuple[int, int, int]:
    """Logins let in, logins refused, certificates issued: what the indexes over (organization, created_at) find."""
    span = Q(organization_id=organization_id, created_at__gte=start, created_at__lt=end)
    logins = (
        AccessRequest.objects.all_organizations(reason=_REASON)
        .filter(span, action="login")
        .aggregate(let_in=Count("pk", filter=Q(allowed=True)), refused=Count("pk", filter=Q(allowed=False)))
    )
    certificates = Certificate.objects.all_organizations(reason=_REASON).filter(span, status=Certificate.Status.ISSUED)
    return logins["let_in"], logins["refused"], certificates.count()


@transaction.atomic
def sample_activity(*, now: datetime) -> int:
    """Tunnels up and sessions alive, once per slot of five minutes; how many organizations were sampled."""
    slot = now - (now - hour_of(now)) % SAMPLE_EVERY
    tunnels, sessions = _tunnels_up(now), _live_sessions(now)
    known = sorted(tunnels.keys() | sessions.keys())
    hour = hour_of(now)
    HourOfActivity.objects.bulk_create(
        [HourOfActivity(organization_id=pk, hour=hour) for pk in known], ignore_conflicts=True, batch_size=500
    )
    rows = HourOfActivity.objects.all_organizations(reason=_REASON).filter(hour=hour)
    sampled = 0
    for pk in known:
        seen, up = tunnels.get(pk, (0, 0))
        sampled += rows.filter(Q(sampled_at=None) | Q(sampled_at__lt=slot), organization_id=pk).update(
            samples=F("samples") + 1,
            tunnels_seen=F("tunnels_seen") + seen,
            tunnels_up=F("tunnels_up") + up,
            sessions_peak=Greatest(F("sessions_peak"), sessions.get(pk, 0)),
            sampled_at=slot,
        )
    return sampled


def forget_old_hours(*, now: datetime) -> int:
    rows = HourOfActivity.objects.all_organizations(reason=_REASON).filter(hour__lt=now - KEPT)
    deleted, _ = rows.delete()
    return deleted


def _first_to_count(organization_id: str, last: datetime | None, end: datetime) -> datetime | None:
    oldest = hour_of(end - COUNTED_BACK)
    if last is not None:
        return max(last + HOUR, oldest)
    requests = AccessRequest.objects.all_organizations(reason=_REASON).filter(organization_id=organization_id)
    first = requests.order_by("created_at").values_list("created_at", flat=True).first()
    return None if first is None else max(hour_of(first), oldest)


def _hours(start: datetime, end: datetime) -> Iterator[datetime]:
    while start < end:
        yield start
        start += HOUR


def _tunnels_up(now: datetime) -> dict[str, tuple[int, int]]:
    is_up = open_connections(Connection.objects.filter(connector__tunnel=OuterRef("pk")), now)
    rows = (
        Tunnel.objects.all_organizations(reason=_REASON)
        .filter(deleted_at=None)
        .annotate(is_up=Exists(is_up))
        .order_by()
        .values("organization")
        .annotate(seen=Count("pk"), up=Count("pk", filter=Q(is_up=True)))
        .values_list("organization", "seen", "up")
    )
    return {pk: (seen, up) for pk, seen, up in rows}


def _live_sessions(now: datetime) -> dict[str, int]:
    rows = AccessSession.objects.all_organizations(reason=_REASON).filter(revoked_at=None, expires_at__gt=now)
    return dict(rows.order_by().values_list("organization").annotate(Count("pk")))
