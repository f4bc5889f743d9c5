"""Which zones and records are to be checked now. A claim pushes the next check ahead, so that a slow worker does not
find the same name in its queue twice."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from tunnels.models import DnsRecord, Zone

CLAIMED_FOR = timedelta(minutes=5)
_REASON = "a periodic check over every tenant"


@transaction.atomic
def claim_due_records(*, now: datetime, limit: int) -> list[str]:
    due = DnsRecord.objects.all_organizations(reason=_REASON).filter(next_check_at__lte=now)
    ids = list(due.order_by("next_check_at").values_list("pk", flat=True)[:limit])
    DnsRecord.objects.all_organizations(reason=_REASON).filter(pk__in=ids).update(next_check_at=now + CLAIMED_FOR)
    return ids


@transaction.atomic
def claim_due_zones(*, now: datetime, limit: int) -> list[str]:
    due = Zone.objects.all_organizations(reason=_REASON).filter(next_check_at__lte=now)
    ids = list(due.order_by("next_check_at").values_list("pk", flat=True)[:limit])
    Zone.objects.all_organizations(reason=_REASON).filter(pk__in=ids).update(next_check_at=now + CLAIMED_FOR)
    return ids
