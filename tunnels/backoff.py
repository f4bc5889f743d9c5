"""When to look again at something DNS should say."""

from __future__ import annotations

from datetime import timedelta

FIRST_RETRY = timedelta(seconds=15)
# Also the interval of routine re-checks.
CHECK_INTERVAL = timedelta(hours=1)


def retry_delay(failures: int) -> timedelta:
    """15 s after the first failure, doubling up to an hour."""
    doublings = min(max(failures, 1) - 1, 16)
    return min(FIRST_RETRY * (1 << doublings), CHECK_INTERVAL)
