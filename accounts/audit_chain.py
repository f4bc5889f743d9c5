"""The audit log as a chain: each event carries a keyed digest of the event before it and of its own content (AC-100).

    digest[n] = HMAC-SHA256(key, digest[n-1] || canonical JSON of event n)

The key comes from SECRET_KEY, so whoever can only write to the database cannot make digests that fit. Pure.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

START = ""
CONTENT = (
    "chain",
    "sequence",
    "name",
    "actor_kind",
    "actor_id",
    "actor_label",
    "ip_address",
    "target_type",
    "target_id",
    "target_label",
    "old",
    "new",
    "created_at",
)


@dataclass(frozen=True, slots=True)
class Verified:
    """How far a chain holds. `problem` is empty, or says what is wrong after that."""

    sequence: int
    digest: str
    problem: str = ""


def digest_of(secret: str, previous: str, values: Mapping[str, Any]) -> str:
    """`values` has the keys of CONTENT."""
    message = f"{previous}\n{_canonical(values)}".encode()
    return hmac.new(_key(secret), message, hashlib.sha256).hexdigest()


def walk(rows: Iterable[tuple[Mapping[str, Any], str]], *, start: Verified, secrets: Sequence[str]) -> Verified:
    """Follow events (content, digest) in the order of their sequence, beginning after `start`."""
    sequence, previous = start.sequence, start.digest
    for values, digest in rows:
        if values["sequence"] != sequence + 1:
            return Verified(sequence, previous, f"event {sequence + 1} is missing")
        if not any(hmac.compare_digest(digest_of(secret, previous, values), digest) for secret in secrets):
            return Verified(sequence, previous, f"event {values['sequence']} is not what was written")
        sequence, previous = sequence + 1, digest
    return Verified(sequence, previous)


def _canonical(values: Mapping[str, Any]) -> str:
    """The same text before an event is stored and after it was read back from either database."""
    ip, created_at = values["ip_address"], values["created_at"]
    plain = {
        **{name: values[name] for name in CONTENT},
        "ip_address": str(ipaddress.ip_address(ip)) if ip else None,
        "created_at": _instant(created_at),
        "old": _stored(values["old"]),
        "new": _stored(values["new"]),
    }
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _stored(values: Any) -> Any:
    """What comes back from a JSON column: keys are text, and PostgreSQL writes 1e2 as 100."""
    return _numbers(json.loads(json.dumps(values))) if values is not None else None


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@lru_cache(maxsize=16)
def _key(secret: str) -> bytes:
    return hashlib.sha256(b"sallyport audit chain\0" + secret.encode()).digest()
