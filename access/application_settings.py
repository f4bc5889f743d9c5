"""The `settings` of an application: public API fields that are acted upon are checked, others kept as sent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from access.cors import CorsError, check_cors
from accounts.errors import InvalidInput

SAME_SITE = ("lax", "strict", "none")
_MAX_URL_CHARACTERS = 2000


def check_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy. Raises InvalidInput for a value that would not do what it says."""
    reserved = values.get("reserved_principals", [])
    if not isinstance(reserved, list) or not all(isinstance(name, str) for name in reserved):
        raise _invalid("settings", "reserved_principals must be a list of account names.")
    for name in ("logo_url", "custom_deny_url"):
        if values.get(name):
            _check_url(name, values[name])
    same_site = values.get("same_site_cookie_attribute")
    if same_site and str(same_site).lower() not in SAME_SITE:
        raise _invalid("same_site_cookie_attribute", "Same Site is lax, strict or none.")
    if values.get("cors_headers"):
        if values.get("options_preflight_bypass"):
            text = "Preflight requests are either answered (cors_headers) or passed on (options_preflight_bypass)."
            raise _invalid("cors_headers", text)
        try:
            check_cors(values["cors_headers"])
        except CorsError as error:
            raise _invalid(error.field, error.message) from error
    return dict(values)


def _check_url(name: str, text: Any) -> None:
    try:
        parts = urlsplit(text if isinstance(text, str) else "")
        is_fit = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_fit = False
    if not is_fit or len(text) > _MAX_URL_CHARACTERS or any(c <= " " or c in "\"'<>;," for c in text):
        raise _invalid(name, "Write a whole address that begins with https://")


def _invalid(field: str, message: str) -> InvalidInput:
    return InvalidInput(message, fields={field: message})
