"""The numbers of Home's charts: by hour for a day, by day for thirty, in the viewer's time zone.

Hours that are over come from the table tunnels.actions.activity fills; the hour that runs is counted live.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo

from accounts.models import Organization
from tunnels.actions.activity import COUNTED_BACK, HOUR, hour_of, numbers_between
from tunnels.models import HourOfActivity

HOURS, DAYS = 24, 30
# So many hours are counted on the spot; when the job has fallen further behind, the page says so instead.
MAX_LIVE_HOURS = 3
_NUMBERS = ("logins_allowed", "logins_denied", "certificates", "tunnels_seen", "tunnels_up", "sessions_peak")


@dataclass
class Bucket:
    """An hour or a day. `up` is the share of tunnels that were connected, None when nobody looked."""

    start: datetime
    logins_allowed: int = 0
    logins_denied: int = 0
    certificates: int = 0
    sessions: int = 0
    tunnels_seen: int = 0
    tunnels_up: int = 0

    @property
    def up(self) -> float | None:
        return self.tunnels_up / self.tunnels_seen if self.tunnels_seen else None


@dataclass(frozen=True)
class Activity:
    """`counted_until`: set when the hours since then are not counted yet, and missing here."""

    unit: str
    buckets: list[Bucket]
    counted_until: datetime | None = None
    zone_name: str = field(default="UTC")

    def total(self, name: str) -> int:
        return sum(getattr(bucket, name) for bucket in self.buckets)


def read_activity(organization: Organization, *, unit: str, zone: tzinfo, zone_name: str, now: datetime) -> Activity:
    """`unit`: hour or day. A fixed, small number of queries."""
    starts = _starts(unit, zone, now)
    buckets = [Bucket(start) for start in starts]
    first = hour_of(starts[0])
    rows = HourOfActivity.objects.for_organization(organization).filter(hour__gte=first).order_by("hour")
    counted: datetime | None = None
    position = 0
    # Plain tuples and one walk along the buckets: thirty days are 720 rows.
    for hour, counted_at, *numbers in rows.values_list("hour", "counted_at", *_NUMBERS):
        if counted_at is not None:
            counted = hour
        while position + 1 < len(buckets) and buckets[position + 1].start <= hour:
            position += 1
        if buckets[position].start <= hour:
            _add(buckets[position], numbers)
    counted_until = _add_live(organization, buckets, counted, now)
    return Activity(unit, buckets, counted_until, zone_name)


def _starts(unit: str, zone: tzinfo, now: datetime) -> list[datetime]:
    """Beginnings of the buckets, oldest first, as instants in the viewer's zone."""
    if unit == "hour":
        this = hour_of(now)
        return [(this - number * HOUR).astimezone(zone) for number in range(HOURS - 1, -1, -1)]
    today = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    return [(today - timedelta(days=number)).replace(tzinfo=zone) for number in range(DAYS - 1, -1, -1)]


def _bucket_of(buckets: list[Bucket], instant: datetime) -> Bucket | None:
    return next((bucket for bucket in reversed(buckets) if bucket.start <= instant), None)


def _add(bucket: Bucket, numbers: list[int]) -> None:
    """`numbers`: the columns of _NUMBERS."""
    allowed, denied, certificates, seen, up, sessions = numbers
    bucket.logins_allowed += allowed
    bucket.logins_denied += denied
    bucket.certificates += certificates
    bucket.tunnels_seen += seen
    bucket.tunnels_up += up
    bucket.sessions = max(bucket.sessions, sessions)


def _add_live(
    organization: Organization, buckets: list[Bucket], counted: datetime | None, now: datetime
) -> datetime | None:
    """Count the hours since the last counted one. Returns since when hours are missing, if the job is far behind."""
    this_hour = hour_of(now)
    oldest = max(hour_of(organization.created_at), this_hour - COUNTED_BACK)
    start = counted + HOUR if counted else oldest
    behind = start if this_hour - start >= MAX_LIVE_HOURS * HOUR else None
    hour = max(start, this_hour - (MAX_LIVE_HOURS - 1) * HOUR) if behind is None else this_hour
    while hour <= this_hour:
        bucket = _bucket_of(buckets, hour)
        if bucket is not None:
            allowed, denied, certificates = numbers_between(organization.pk, hour, hour + HOUR)
            bucket.logins_allowed += allowed
            bucket.logins_denied += denied
            bucket.certificates += certificates
        hour += HOUR
    return behind
