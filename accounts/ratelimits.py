"""Fixed-window counters in the cache: how often somebody may try something (AC-47).

Keys are real peer addresses (request.client_ip, which HostGuard vouches for) and accounts, never a forwarded header.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ClassVar

from django.core.cache import cache

from accounts.errors import DomainError


class TooManyAttempts(DomainError):
    status: ClassVar[int] = 429
    code = "too_many_attempts"


@dataclass(frozen=True, slots=True)
class Limit:
    name: str
    count: int
    window_seconds: int


LOGIN_START_BY_ADDRESS = Limit("login-start-ip", 120, 600)
PIN_SEND_BY_ADDRESS = Limit("pin-send-ip", 30, 600)
PIN_SEND_BY_ACCOUNT = Limit("pin-send-account", 5, 600)
PIN_TRY_BY_ADDRESS = Limit("pin-try-ip", 50, 600)
PIN_TRY_BY_ACCOUNT = Limit("pin-try-account", 15, 1800)
FACTOR_TRY_BY_ADDRESS = Limit("factor-try-ip", 60, 600)
FACTOR_TRY_BY_IDENTITY = Limit("factor-try-identity", 15, 1800)
# Wrong ones only: at three good codes out of a million, this keeps a year of guessing below one in fifteen.
FACTOR_WRONG_BY_IDENTITY = Limit("factor-wrong-identity", 60, 86400)
CALLBACK_BY_ADDRESS = Limit("callback-ip", 120, 600)
SCIM_WRONG_SECRET_BY_ADDRESS = Limit("scim-wrong-secret-ip", 60, 600)
SERVICE_TOKEN_FAILURE_BY_ADDRESS = Limit("service-token-ip", 100, 600)
INVITE_BY_ORGANIZATION = Limit("invite-organization", 100, 3600)
INVITE_BY_ADDRESS = Limit("invite-address", 5, 3600)
HAND_OVER_BY_SESSION = Limit("hand-over-session", 600, 600)


_uncounted: ContextVar[bool] = ContextVar("uncounted", default=False)


@contextmanager
def uncounted() -> Iterator[None]:
    """For what is acted upon and taken back: it is held to the limits, and uses none of them up."""
    mark = _uncounted.set(True)
    try:
        yield
    finally:
        _uncounted.reset(mark)


def spend(limit: Limit, *key: str) -> None:
    """Count one attempt under `key`. Raises TooManyAttempts when the window's count is used up."""
    if _uncounted.get():
        refuse_if_spent(limit, *key)
        return
    name = _cache_key(limit, key)
    cache.add(name, 0, limit.window_seconds)
    try:
        used = cache.incr(name)
    except ValueError:  # it expired between the two calls
        cache.set(name, 1, limit.window_seconds)
        return
    if used > limit.count:
        minutes = max(1, limit.window_seconds // 60)
        raise TooManyAttempts(f"Too many attempts. Wait {minutes} minutes and try again.")


def refuse_if_spent(limit: Limit, *key: str) -> None:
    """Raises TooManyAttempts without counting this one: for limits on failures only."""
    used = cache.get(_cache_key(limit, key))
    if isinstance(used, int) and used >= limit.count:
        minutes = max(1, limit.window_seconds // 60)
        raise TooManyAttempts(f"Too many attempts. Wait {minutes} minutes and try again.")


def forgive(limit: Limit, *key: str) -> None:
    """Start the count under `key` anew."""
    cache.delete(_cache_key(limit, key))


def _cache_key(limit: Limit, key: tuple[str, ...]) -> str:
    digest = hashlib.sha256("\0".join(key).encode()).hexdigest()
    return f"ratelimit:{limit.name}:{digest}"
