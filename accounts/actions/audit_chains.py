"""Verifying that the audit log is what was written (AC-100)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from django.conf import settings

from accounts.audit_chain import CONTENT, START, Verified, walk
from accounts.models import AuditChain, AuditEvent

log = logging.getLogger(__name__)
_CHUNK = 2000
_REASON = "a chain is verified whole, whatever became of its organization"


def verify_chain(chain: AuditChain, *, now: datetime, whole: bool = True) -> Verified:
    """From the first event, or with `whole` false from the last one verified. The result is kept and logged: the log
    of the installation holds heads that nobody can take back by changing the database."""
    chain = AuditChain.objects.get(pk=chain.pk)
    found = _verified(chain, _start(chain, whole=whole))
    AuditChain.objects.filter(pk=chain.pk).update(
        verified_sequence=found.sequence, verified_at=now, problem=found.problem[:200]
    )
    level = logging.ERROR if found.problem else logging.INFO
    facts = {"chain": chain.pk, "sequence": found.sequence, "digest": found.digest, "problem": found.problem}
    log.log(level, "audit chain verified" if not found.problem else "audit chain is broken", extra=facts)
    return found


def verify_all(*, now: datetime, whole: bool = True) -> dict[str, Verified]:
    """By chain. Events that belong to no chain are a problem of the installation's own chain."""
    return {chain.pk: verify_chain(chain, now=now, whole=whole) for chain in AuditChain.objects.order_by("pk")}


def holds_anchor(chain: AuditChain, sequence: int, digest: str) -> bool:
    """Whether the event that was number `sequence` when somebody noted its digest is still there, unchanged."""
    events = AuditEvent.objects.all_organizations(reason=_REASON)
    return events.filter(chain=chain.pk, sequence=sequence, digest=digest).exists()


def _verified(chain: AuditChain, start: Verified | None) -> Verified:
    if start is None:
        return Verified(0, START, f"event {chain.verified_sequence} is missing")
    found = walk(
        _rows(chain, start.sequence), start=start, secrets=[settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    )
    if found.problem:
        return found
    if found.sequence < chain.sequence:
        return Verified(found.sequence, found.digest, f"events {found.sequence + 1} to {chain.sequence} are missing")
    if found.digest != chain.digest:
        return Verified(found.sequence, found.digest, "the last event is not the one that was written last")
    events = AuditEvent.objects.all_organizations(reason=_REASON)
    strangers = events.filter(organization_id=chain.pk).exclude(chain=chain.pk, sequence__isnull=False)
    outside = events.filter(chain="", sequence__isnull=True) if chain.pk == "" else strangers
    count = outside.count()
    if count:
        return Verified(found.sequence, found.digest, f"{count} events were never written by this product")
    later = AuditChain.objects.get(pk=chain.pk).sequence
    if events.filter(chain=chain.pk, sequence__gt=later).exists():
        return Verified(found.sequence, found.digest, f"the chain was set back to event {later}")
    return found


def _start(chain: AuditChain, *, whole: bool) -> Verified | None:
    """None when the event to start from is gone."""
    if whole or not chain.verified_sequence:
        return Verified(0, START)
    events = AuditEvent.objects.all_organizations(reason=_REASON)
    row = events.filter(chain=chain.pk, sequence=chain.verified_sequence).values_list("digest", flat=True).first()
    return None if row is None else Verified(chain.verified_sequence, row)


def _rows(chain: AuditChain, after: int) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Up to the head that was read before: later events come while this runs."""
    events = AuditEvent.objects.all_organizations(reason=_REASON)
    rows = events.filter(chain=chain.pk, sequence__gt=after, sequence__lte=chain.sequence).order_by("sequence")
    for row in rows.values(*CONTENT, "digest").iterator(chunk_size=_CHUNK):
        yield row, row["digest"]
