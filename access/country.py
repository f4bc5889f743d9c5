"""The country of an address, from the MaxMind database file only: never from a header (security.md AC-83)."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import maxminddb
from django.conf import settings

log = logging.getLogger(__name__)
# A replaced file is noticed within this many seconds.
_RECHECK_SECONDS = 30.0


class _Database:
    """The open file. `reader` is None while there is no readable database: country rules then refuse."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.reader: Any = None
        self._stamp: tuple[int, int] | None = None
        self._checked_at = float("-inf")
        self._lock = threading.Lock()

    def refresh(self, now: float) -> None:
        if now - self._checked_at < _RECHECK_SECONDS:
            return
        with self._lock:
            self._checked_at = now
            try:
                status = Path(self.path).stat()
                stamp = (status.st_mtime_ns, status.st_size)
                if stamp != self._stamp:
                    # In memory: a file replaced in place must not change under a running look-up.
                    self.reader = maxminddb.open_database(self.path, maxminddb.MODE_MEMORY)
                    self._stamp = stamp
            except (OSError, ValueError, maxminddb.InvalidDatabaseError):
                self.reader, self._stamp = None, None
                log.exception("the country database cannot be read", extra={"path": self.path})


@dataclass(slots=True)
class _Holder:
    database: _Database | None = None


_holder = _Holder()


def resolve(ip: str) -> str | None:
    """Two-letter code, "" for an address in no country we know, None when the database cannot answer."""
    path = settings.GEOIP_DATABASE
    if not path:
        return None
    database = _holder.database
    if database is None or database.path != path:
        database = _holder.database = _Database(path)
    database.refresh(time.monotonic())
    if database.reader is None:
        return None
    try:
        found = database.reader.get(ip)
    except ValueError:
        return None  # not an address: nothing is known about it, which is not the same as "no country"
    except maxminddb.InvalidDatabaseError:
        log.exception("the country database is damaged", extra={"path": path})
        return None
    return _code(found)


def lookup(ip: str) -> str:
    """For logs and pages: the two-letter code, or "" when unknown for whatever reason."""
    return resolve(ip) or ""


def _code(found: Any) -> str:
    country = found.get("country") or found.get("registered_country") if isinstance(found, dict) else None
    code = country.get("iso_code") if isinstance(country, dict) else None
    return code if isinstance(code, str) and len(code) == 2 else ""
