"""Until when a yes counts for a stream: what is known beforehand of its end, and the reason when it is over.

An approval, a policy's own session duration and a service token's end (or that of its replaced secret) end live
streams too. The application's session duration and the natural end of a login do not: they limit new connections.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from access.evaluation import Decision, Policy
from access.facts import as_document
from access.models import ServiceToken
from access.tokens import MIN_LIFETIME_SECONDS


@dataclass(frozen=True, slots=True)
class Opened:
    """How a stream was opened: kept by the edge within its evidence, since nothing else remembers."""

    token_issued_at: int | None = None
    secret_version: int | None = None

    def noted_in(self, evidence: str) -> str:
        """The evidence document with this added."""
        noted = {"issued": self.token_issued_at, "secret": self.secret_version}
        known = {key: value for key, value in noted.items() if value is not None}
        if not known:
            return evidence
        return as_document({**(json.loads(evidence) if evidence else {}), "opened": known})


def read_opened(evidence: str) -> Opened:
    """Nothing for streams of older edges, and for what is not ours."""
    try:
        noted = json.loads(evidence)["opened"] if evidence else {}
        return Opened(_number(noted.get("issued")), _number(noted.get("secret")))
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return Opened()


def why_over(service_token: ServiceToken, opened: Opened, now: datetime) -> tuple[str, str]:
    """("", "") while the machine's credentials count."""
    end = service_token.expires_at
    if end is not None and end <= now:
        return "service_token_expired", "The service token has expired."
    if _is_replaced(service_token, opened) and not service_token.has_previous_secret(now):
        return "service_token_rotated", "The service token's secret was replaced. Connect with the new one."
    return "", ""


def ends_at(
    decision: Decision,
    policies: Sequence[Policy],
    *,
    service_token: ServiceToken | None,
    opened: Opened,
    now: datetime,
) -> datetime | None:
    """None: until something changes. Never a time of which `why_over`, or the policies, would say it is over."""
    ends: list[datetime | None] = [_session_end(decision, policies, opened)]
    if decision.approved_seconds is not None:
        ends.append(now + timedelta(seconds=decision.approved_seconds))
    if service_token is not None:
        ends.append(service_token.expires_at)
        if _is_replaced(service_token, opened):
            ends.append(service_token.previous_secret_expires_at)
    return min((end for end in ends if end is not None), default=None)


def is_session_over(decision: Decision, policies: Sequence[Policy], opened: Opened, now: datetime) -> bool:
    """The deciding policy names a session duration of its own, and the stream's token is older."""
    end = _session_end(decision, policies, opened)
    return end is not None and end <= now


def seconds_until(end: datetime | None, now: datetime) -> float | None:
    return None if end is None else max(0.0, (end - now).total_seconds())


def _session_end(decision: Decision, policies: Sequence[Policy], opened: Opened) -> datetime | None:
    """The value "immediate" sets no end: it says that each connection needs a fresh token, not that none may last."""
    chosen = next((policy for policy in policies if policy.id == decision.policy_id), None)
    seconds = chosen.session_duration_seconds if chosen is not None else None
    if not seconds or opened.token_issued_at is None:
        return None
    return datetime.fromtimestamp(opened.token_issued_at + max(seconds, MIN_LIFETIME_SECONDS), UTC)


def _is_replaced(service_token: ServiceToken, opened: Opened) -> bool:
    return opened.secret_version is not None and opened.secret_version < service_token.secret_version


def _number(value: Any) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value < 10**11 else None
