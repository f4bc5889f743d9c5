"""Store what the resolver said about a record. Tasks call this."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import F

from tunnels.backoff import CHECK_INTERVAL, retry_delay
from tunnels.models import DnsRecord
from tunnels.records import Verdict


@transaction.atomic
def store_record_check(record: DnsRecord, verdict: Verdict, *, now: datetime) -> bool:
    """False when the record changed or went while the resolver was asked: the verdict is about another record then.

    A fact, not a change of what anybody decided: no audit event. A record that was right and cannot be asked about now
    stays right (fault 44: a resolver that is down changes nothing)."""
    is_right = verdict.verification == DnsRecord.Verification.OK
    failures = 0 if is_right else min(record.failed_checks + 1, 1000)
    same = DnsRecord.objects.all_organizations(reason="the task was given an id of any tenant").filter(
        pk=record.pk, type=record.type, name=record.name, content=record.content
    )
    values: dict[str, object] = {
        "last_answer": verdict.text,
        "resolver": verdict.resolver[:100],
        "last_checked_at": now,
        "failed_checks": failures,
        "next_check_at": now + (CHECK_INTERVAL if is_right else retry_delay(failures)),
    }
    keeps_ok = verdict.verification == DnsRecord.Verification.ERROR and record.verification == DnsRecord.Verification.OK
    if not keeps_ok:
        values["verification"] = verdict.verification
        values["verified_at"] = now if is_right else F("verified_at")
    return bool(same.update(**values))
