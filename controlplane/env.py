"""Typed readers for the environment. A bad value refuses to start, with the variable's name and what it should be.

Every secret NAME may instead be given as NAME_FILE, a path whose content (stripped) is the value.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def text(name: str, default: str | None = None) -> str:
    """The variable as text; without a default it is required."""
    value = os.environ.get(name)
    if value is not None:
        return value
    if default is None:
        raise ImproperlyConfigured(f"{name} is not set. See docs/configuration.md.")
    return default


def secret(name: str, default: str | None = None) -> str:
    """A secret from NAME or from the file named by NAME_FILE."""
    path = os.environ.get(f"{name}_FILE")
    if path is None:
        return text(name, default)
    if name in os.environ:
        raise ImproperlyConfigured(f"Both {name} and {name}_FILE are set. Set one of them.")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{name}_FILE cannot be read: {error.strerror} ({path})") from error


def key_bytes(name: str, default: str | None = None) -> bytes:
    """A 32-byte key in hex, from NAME or NAME_FILE. Empty means: this process does not hold the key."""
    value = secret(name, default)
    if not value:
        return b""
    try:
        key = bytes.fromhex(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be 64 hex digits (32 bytes).") from error
    if len(key) != 32:
        raise ImproperlyConfigured(f"{name} must be 64 hex digits (32 bytes), it has {len(key)} bytes.")
    return key


def boolean(name: str, default: bool = False) -> bool:
    value = os.environ.get(name)
    if value is None:
        return default
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name} must be true or false, it is {value!r}.")


def integer(name: str, default: int, *, minimum: int = 0, maximum: int = 2**31) -> int:
    value = os.environ.get(name)
    if value is None:
        return default
    try:
        number = int(value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a whole number, it is {value!r}.") from error
    if not minimum <= number <= maximum:
        raise ImproperlyConfigured(f"{name} must be between {minimum} and {maximum}, it is {number}.")
    return number


def words(name: str, default: str = "") -> list[str]:
    """A comma-separated list; blanks are dropped."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def database(name: str, default: str) -> Mapping[str, object]:
    """A Django DATABASES entry from `sqlite:///path` or `postgres://user:pass@host:port/name`."""
    url = secret(name, default)
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return _sqlite(parts.path[1:] if parts.path.startswith("//") or not parts.netloc else parts.path, url)
    if parts.scheme in {"postgres", "postgresql"}:
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(parts.path.lstrip("/")),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": unquote(parts.hostname or ""),
            "PORT": str(parts.port or ""),
            "CONN_MAX_AGE": 600,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": {"connect_timeout": 5, "options": "-c statement_timeout=30000 -c lock_timeout=10000"},
        }
    raise ImproperlyConfigured(f"{name} must start with sqlite:/// or postgres://.")


def _sqlite(path: str, url: str) -> Mapping[str, object]:
    if not path:
        raise ImproperlyConfigured(f"The SQLite address {url!r} names no file. Write sqlite:////absolute/path.")
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "CONN_MAX_AGE": None,
        # IMMEDIATE: a transaction that will write takes the lock at its start and waits its turn, instead of
        # failing half-way with "database is locked" when it upgrades from read to write.
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=20000;",
        },
    }
