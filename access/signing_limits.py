"""How often a person, a machine or an organization may ask for a certificate (security.md AC-102).

Windows of a minute by the clock, counted in the cache. One asker's flood is stopped at the asker and does not count
against the organization; the organization's own limit keeps it from slowing the signing of others.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import ClassVar

from django.conf import settings
from django.db import transaction

from access import events
from access.models import Application
from accounts import audit
from accounts.actor import Actor
from accounts.counters import count
from accounts.errors import DomainError

WINDOW_SECONDS = 60


class TooManyCertificates(DomainError):
    status: ClassVar[int] = 429
    code = "too_many_certificates"

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


def spend_signing(application: Application, *, asker: str, actor: Actor, now: datetime) -> None:
    """Count one request of `asker` (an identity's or service token's id). Raises TooManyCertificates."""
    organization = application.organization
    limits = (
        (f"asker:{asker}", settings.SIGNING_LIMIT_PER_IDENTITY, "you"),
        (f"organization:{organization.pk}", settings.SIGNING_LIMIT_PER_ORGANIZATION, organization.name),
    )
    # One asker's flood must not count against the organization, so they are counted one after the other.
    for key, limit, who in limits:
        over = _count(key, now) - limit if limit else 0
        if over > 0:
            if over == 1:  # the first of this window: an event for each would be a flood of its own
                _tell(application, key.partition(":")[0], limit, actor)
            left = WINDOW_SECONDS - int(now.timestamp()) % WINDOW_SECONDS
            message = f"Too many certificates were asked for by {who}: {limit} a minute. Try again in {left} seconds."
            raise TooManyCertificates(message, retry_after_seconds=left)


def _count(key: str, now: datetime) -> int:
    window = int(now.timestamp()) // WINDOW_SECONDS
    return count(f"signing:{hashlib.sha256(key.encode()).hexdigest()}:{window}", 2 * WINDOW_SECONDS)


@transaction.atomic
def _tell(application: Application, whose: str, limit: int, actor: Actor) -> None:
    audit.record(
        events.SIGNING_LIMIT_REACHED,
        organization=application.organization,
        actor=actor,
        target=application,
        new={"limit_of": whose, "per_minute": limit},
    )
