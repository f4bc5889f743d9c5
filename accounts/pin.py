"""One-time PINs: six digits, kept only as a keyed hash bound to their login attempt."""

from __future__ import annotations

import hmac
import secrets
import uuid

from django.utils.crypto import salted_hmac

DIGITS = 6
LIFETIME_SECONDS = 600
MAX_TRIES = 5


def new_pin() -> str:
    return f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}"


def hash_pin(attempt_id: uuid.UUID, pin: str) -> str:
    """Keyed with SECRET_KEY: a database dump alone does not give a six-digit PIN away."""
    return salted_hmac("accounts.pin", f"{attempt_id}:{pin}", algorithm="sha256").hexdigest()


def clean_pin(text: str) -> str | None:
    """The digits as typed or pasted ("123 456"); None when it can not be a PIN. Only ASCII digits are digits."""
    digits = "".join(text[:64].split())
    return digits if len(digits) == DIGITS and digits.isascii() and digits.isdigit() else None


def is_pin(attempt_id: uuid.UUID, pin: str, pin_hash: str) -> bool:
    return bool(pin_hash) and hmac.compare_digest(hash_pin(attempt_id, pin), pin_hash)
