"""Comparing text that decides who somebody is. Pure."""

from __future__ import annotations

import string

_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def ascii_lower(text: str) -> str:
    """Lower case of A-Z only: str.lower() would fold U+212A (Kelvin sign) into "k" (security.md AC-05)."""
    return text.translate(_ASCII_LOWER)
