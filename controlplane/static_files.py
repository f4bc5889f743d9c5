"""Stylesheets and scripts travel compressed: the first page has to arrive quickly over a bad line as well.

Only files below STATIC_URL are compressed. Pages are not: they hold CSRF tokens beside text a stranger may choose, and
the length of a compressed answer tells about both (BREACH).
"""

from __future__ import annotations

import gzip
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

_COMPRESSED = ("text/", "application/javascript", "image/svg+xml")
_SMALLEST = 512


class CompressedStatic:
    """Stands around WhiteNoise. Files do not change while the process runs, so each is compressed once."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self._known: dict[tuple[str, str], bytes] = {}

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if not request.path_info.startswith(settings.STATIC_URL) or not _wants(request, response):
            return response
        version = (request.path_info, response.headers.get("ETag") or response.headers.get("Last-Modified", ""))
        if version not in self._known:
            body = b"".join(getattr(response, "streaming_content", None) or [getattr(response, "content", b"")])
            self._known[version] = gzip.compress(body, compresslevel=9, mtime=0)
        compressed = HttpResponse(self._known[version], content_type=response.headers["Content-Type"])
        for name in ("Cache-Control", "Last-Modified"):
            if name in response.headers:
                compressed.headers[name] = response.headers[name]
        compressed.headers["Content-Encoding"] = "gzip"
        compressed.headers["Vary"] = "Accept-Encoding"
        response.close()
        return compressed


def _wants(request: HttpRequest, response: HttpResponseBase) -> bool:
    kind = response.headers.get("Content-Type", "")
    offered = {part.split(";")[0].strip() for part in request.headers.get("Accept-Encoding", "").split(",")}
    return (
        request.method == "GET"
        and response.status_code == 200
        and "gzip" in offered
        and kind.startswith(_COMPRESSED)
        and "Range" not in request.headers
        and int(response.headers.get("Content-Length", _SMALLEST)) >= _SMALLEST
    )
