"""The viewer's time zone: the member's own choice, else what the browser said in a cookie, else UTC, which is said."""

from __future__ import annotations

import zoneinfo
from functools import lru_cache
from urllib.parse import unquote

from django.http import HttpRequest
from django.utils import timezone

COOKIE = "zone"  # written by static/app.js and static/public.js
_MAX_NAME = 64


def zone_named(name: str) -> zoneinfo.ZoneInfo | None:
    """The zone, or None for anything that is not exactly the name of one (names become file names in zoneinfo)."""
    return zoneinfo.ZoneInfo(name) if len(name) <= _MAX_NAME and name in zone_names() else None


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})


def viewer_zone(request: HttpRequest) -> zoneinfo.ZoneInfo:
    """Only pages of a signed-in person look at the session."""
    chosen = getattr(request.user, "time_zone", "") if hasattr(request, "user") and _has_session(request) else ""
    return zone_named(chosen or unquote(request.COOKIES.get(COOKIE, ""))) or zoneinfo.ZoneInfo("UTC")


def activate_zone(request: HttpRequest) -> None:
    """For this request's thread."""
    timezone.activate(viewer_zone(request))


def _has_session(request: HttpRequest) -> bool:
    return bool(getattr(request, "session", None) is not None and request.session.session_key)


def zone_label() -> str:
    """What a time without its own zone means on this page: "UTC" or "Europe/Lisbon"."""
    return timezone.get_current_timezone_name()


@lru_cache(maxsize=1)
def common_zones() -> list[str]:
    """For a drop-down: places, and UTC; not the historic aliases."""
    areas = ("Africa/", "America/", "Antarctica/", "Asia/", "Atlantic/", "Australia/", "Europe/", "Indian/", "Pacific/")
    return ["UTC", *sorted(name for name in zone_names() if name.startswith(areas))]
