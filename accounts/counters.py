"""Counting in windows of time, across all processes, in one round trip to Redis."""

from __future__ import annotations

from typing import cast

from django.core.cache import cache

from accounts.shared_redis import shared_redis


def count(name: str, window_seconds: int) -> int:
    """Add one to the counter; the new value. A counter that is new is forgotten `window_seconds` after this."""
    server = shared_redis()
    if server is None:
        return _count_here(name, window_seconds)
    with server.pipeline(transaction=False) as pipeline:
        pipeline.set(name, 0, ex=window_seconds, nx=True)
        pipeline.incr(name)
        return cast(int, pipeline.execute()[1])


def _count_here(name: str, window_seconds: int) -> int:
    cache.add(name, 0, window_seconds)
    try:
        return cache.incr(name)
    except ValueError:  # pushed out of the cache between the two calls
        cache.set(name, 1, window_seconds)
        return 1
