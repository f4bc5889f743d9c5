"""Cross-origin settings of web applications: what they may say, and the answer to a browser's preflight. Pure.

A preflight is an OPTIONS request without cookies, so nobody is logged in for it: either it is answered for the
application, by what `cors_headers` says, or it is passed on to the application (`options_preflight_bypass`). Headers of
all other answers are the application's own business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MAX_ENTRIES = 100
MAX_AGE_SECONDS = 86400
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_ORIGIN = re.compile(r"https?://(?:\*\.)?[a-z0-9.-]{1,253}(?::\d{1,5})?|null")
_FLAGS = ("allow_all_origins", "allow_all_methods", "allow_all_headers", "allow_credentials")
_LISTS = ("allowed_origins", "allowed_methods", "allowed_headers")
# Browsers send three; more is no preflight of theirs.
_MAX_REQUESTED = 2000


class CorsError(ValueError):
    """`field` of the document is wrong; the message is for people."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field, self.message = field, message


def check_cors(document: Mapping[str, Any]) -> None:
    """Raises CorsError for settings no browser would get a usable answer from."""
    for name in _FLAGS:
        if not isinstance(document.get(name) or False, bool):
            raise CorsError(name, f"{name} must be true or false.")
    for name in _LISTS:
        values = document.get(name) or []
        if not isinstance(values, list) or len(values) > MAX_ENTRIES or not all(isinstance(v, str) for v in values):
            raise CorsError(name, f"{name} must be a list of at most {MAX_ENTRIES} texts.")
    for what in ("origins", "methods"):
        everything, named = bool(document.get(f"allow_all_{what}")), bool(document.get(f"allowed_{what}"))
        if everything == named:
            raise CorsError(f"allowed_{what}", f"Either all {what}, or a list of the allowed ones.")
    if document.get("allow_all_origins") and document.get("allow_credentials"):
        message = "Every site together with cookies would let any page act for the person. List the origins."
        raise CorsError("allow_credentials", message)
    _check_entries(document)


def _check_entries(document: Mapping[str, Any]) -> None:
    for origin in document.get("allowed_origins") or []:
        if not _ORIGIN.fullmatch(origin.lower()):
            raise CorsError("allowed_origins", f"{origin[:80]!r} is no origin such as https://app.example.com.")
    for name in ("allowed_methods", "allowed_headers"):
        wrong = [value for value in document.get(name) or [] if not _TOKEN.fullmatch(value)]
        if wrong:
            raise CorsError(name, f"{wrong[0][:80]!r} cannot stand in {name}.")
    age = document.get("max_age")
    is_number = isinstance(age, int | float) and not isinstance(age, bool)
    if age is not None and not (is_number and -1 <= age <= MAX_AGE_SECONDS):
        raise CorsError("max_age", f"max_age must be from -1 to {MAX_AGE_SECONDS} seconds.")


def preflight_headers(document: Mapping[str, Any], *, origin: str, method: str, headers: str) -> list[tuple[str, str]]:
    """What to answer a preflight with. Without Access-Control-Allow-Origin the browser refuses by itself."""
    found = [("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")]
    if document.get("allow_all_origins"):
        found.append(("access-control-allow-origin", "*"))
    elif any(_fits(origin.lower(), allowed.lower()) for allowed in document.get("allowed_origins") or []):
        found.append(("access-control-allow-origin", origin))
    else:
        return found
    # "*" does not count for requests with credentials: what was asked for is named instead.
    methods = [method] if document.get("allow_all_methods") else document.get("allowed_methods") or []
    allowed = [method for method in methods if _TOKEN.fullmatch(method)]
    if allowed:
        found.append(("access-control-allow-methods", ", ".join(allowed)))
    wanted = _requested(headers) if document.get("allow_all_headers") else document.get("allowed_headers") or []
    if wanted:
        found.append(("access-control-allow-headers", ", ".join(wanted)))
    if document.get("allow_credentials"):
        found.append(("access-control-allow-credentials", "true"))
    if document.get("max_age") is not None:
        found.append(("access-control-max-age", str(int(document["max_age"]))))
    return found


def _fits(origin: str, allowed: str) -> bool:
    scheme, star, suffix = allowed.partition("://*.")
    if not star:
        return origin == allowed
    return origin.startswith(f"{scheme}://") and origin.endswith(f".{suffix}")


def _requested(headers: str) -> list[str]:
    names = [name.strip() for name in headers[:_MAX_REQUESTED].split(",")]
    return [name for name in names if _TOKEN.fullmatch(name)]
