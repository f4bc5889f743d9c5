"""The viewer's time zone, as the browser names it in a cookie (static/app.js). Without scripts it is UTC."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo

from django.http import HttpRequest

COOKIE = "zone"
_UTC = ZoneInfo("UTC")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,40}(?:/[A-Za-z0-9_+-]{1,40}){0,2}\Z")


def viewer_zone(request: HttpRequest) -> ZoneInfo:
    name = request.COOKIES.get(COOKIE, "").replace("%2F", "/")
    if not _NAME.match(name):
        return _UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # no such zone here, or a directory of the zone database
        return _UTC
