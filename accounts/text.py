"""Comparing text that decides who somebody is; codes as people read them. Pure."""

from __future__ import annotations

import string

_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def ascii_lower(text: str) -> str:
    """Lower case of A-Z only: str.lower() would fold U+212A (Kelvin sign) into "k" (security.md AC-05)."""
    return text.translate(_ASCII_LOWER)


_SPELLED = {"api": "API", "ssh": "SSH", "dns": "DNS", "scim": "SCIM", "mfa": "MFA", "id": "id", "url": "URL"}


def in_words(code: str) -> str:
    """ "api_token" -> "API token"."""
    return " ".join(_SPELLED.get(word, word) for word in code.split("_"))
