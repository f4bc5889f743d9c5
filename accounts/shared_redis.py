"""The Redis that all processes of an installation share, for what Django's cache has no words for."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import redis
from django.conf import settings

# Longer than anybody waits for a certificate (SIGNING_WAIT_SECONDS is at most 9).
_SOCKET_SECONDS = 15


@lru_cache(maxsize=1)
def shared_redis() -> redis.Redis | None:
    """The database the cache is in; None without REDIS_URL, where everything is one process."""
    if not settings.REDIS_URL:
        return None
    location: Any = settings.CACHES["default"]["LOCATION"]
    return redis.Redis.from_url(str(location), socket_timeout=_SOCKET_SECONDS, socket_connect_timeout=2)
