"""Durations of the public API: Go's text form ("24h", "1h30m", "300ms"), whole seconds inside (product.md 1.2)."""

from __future__ import annotations

import re
from fractions import Fraction

from accounts.errors import InvalidInput

FOREVER = "forever"
_UNITS = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "μs": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
}
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ns|us|µs|μs|ms|s|m|h)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_LONGEST_TEXT = 64


def parse_duration(text: str, *, field: str) -> int:
    """Seconds of a Go duration; fractions of a second are dropped. Raises InvalidInput naming `field`."""
    if text == "0":
        return 0
    if len(text) > _LONGEST_TEXT or not _WHOLE.fullmatch(text):
        raise InvalidInput(
            f'{field} must be a duration such as "30m", "24h" or "1h30m".', fields={field: "Not a duration."}
        )
    return int(sum(Fraction(number) * _UNITS[unit] for number, unit in _PART.findall(text)))


def format_duration(seconds: int) -> str:
    """The shortest Go text of whole seconds: 86400 -> "24h", 5400 -> "1h30m", 0 -> "0s"."""
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    text = f"{hours}h" * bool(hours) + f"{minutes}m" * bool(minutes) + f"{left}s" * bool(left)
    return text or "0s"
