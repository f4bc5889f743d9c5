"""Time-based one-time passwords (RFC 6238) as every app reads them: SHA-1, six digits, 30 seconds. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from urllib.parse import quote, urlencode

DIGITS = 6
STEP_SECONDS = 30
# Clocks of phones: one step to either side.
WINDOW_STEPS = 1
SECRET_BYTES = 20


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def code_at(secret: bytes, step: int) -> str:
    """RFC 4226 section 5.3."""
    digest = hmac.new(secret, step.to_bytes(8, "big"), hashlib.sha1).digest()
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}d}"


def matching_step(secret: bytes, code: str, *, now: int) -> int | None:
    """The time step this code belongs to, or None. Compares every step of the window, in constant time each."""
    current = now // STEP_SECONDS
    found = None
    for step in range(current - WINDOW_STEPS, current + WINDOW_STEPS + 1):
        if hmac.compare_digest(code_at(secret, step), code):
            found = step
    return found


def clean_code(text: str) -> str | None:
    """The digits as typed ("123 456"); None when it cannot be a code. Only ASCII digits are digits."""
    digits = "".join(text[:64].split())
    return digits if len(digits) == DIGITS and digits.isascii() and digits.isdigit() else None


def secret_text(secret: bytes) -> str:
    """For people who type it: base32 in groups of four."""
    text = base64.b32encode(secret).decode().rstrip("=")
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def setup_uri(secret: bytes, *, issuer: str, account: str) -> str:
    """What the QR code says (the apps' common key URI format)."""
    label = quote(f"{issuer}:{account}", safe="")
    query = urlencode({"secret": base64.b32encode(secret).decode().rstrip("="), "issuer": issuer}, quote_via=quote)
    return f"otpauth://totp/{label}?{query}"
