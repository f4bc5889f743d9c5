"""A browser behind an edge: Django's test client with a host, the edge's headers, cookies per host, and redirects."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from django.conf import settings
from django.http import HttpResponse
from django.test import Client

TEAM = "widgetcorp.access.example.test"
HOST = "ssh.widgetcorp.test"


class EdgeBrowser:
    """Requests to any https URL of ours; foreign URLs are the test's own business."""

    def __init__(self, *, ip: str = "203.0.113.7", csrf: bool = True) -> None:
        self.ip = ip
        self._csrf = csrf
        self._clients: dict[str, Client] = {}

    def client(self, host: str) -> Client:
        if host not in self._clients:
            self._clients[host] = Client(enforce_csrf_checks=self._csrf)
        return self._clients[host]

    def request(self, method: str, url: str, data: dict[str, str] | None = None, **extra: Any) -> HttpResponse:
        parts = urlsplit(url)
        host = parts.netloc
        headers = {
            "HTTP_HOST": host,
            "HTTP_SALLYPORT_EDGE_TOKEN": settings.EDGE_TOKEN,
            "HTTP_SALLYPORT_CLIENT_IP": self.ip,
            "HTTP_SALLYPORT_RAY": "ray-of-test",
            "HTTP_X_FORWARDED_PROTO": "https",
            "HTTP_USER_AGENT": "test-browser",
            **extra,
        }
        target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        if method == "POST":
            headers.setdefault("HTTP_ORIGIN", f"https://{host}")
            body = urlencode(data or {})
            kind = "application/x-www-form-urlencoded"
            return self.client(host).post(target, body, content_type=kind, **headers)
        return self.client(host).generic(method, target, **headers)

    def get(self, url: str, **extra: Any) -> HttpResponse:
        return self.request("GET", url, **extra)

    def head(self, url: str, **extra: Any) -> HttpResponse:
        return self.request("HEAD", url, **extra)

    def submit(self, url: str, page: HttpResponse, *, containing: str = "", **values: str) -> HttpResponse:
        """Post the page's first form that has `containing` in it, with its hidden fields."""
        action, fields = form_of(page, containing)
        return self.request("POST", urljoin(url, action or url), {**fields, **values})

    def cookie(self, host: str, name: str) -> str:
        morsel = self.client(host).cookies.get(name)
        return morsel.value if morsel is not None else ""

    def set_cookie(self, host: str, name: str, value: str) -> None:
        self.client(host).cookies[name] = value


def form_of(page: HttpResponse, containing: str = "") -> tuple[str, dict[str, str]]:
    for form in re.findall(r"<form\b.*?</form>", page.content.decode(), re.S):
        if containing not in form:
            continue
        action = re.search(r'<form[^>]*\baction="([^"]*)"', form)
        fields = {
            html.unescape(name): html.unescape(value)
            for name, value in re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', form)
        }
        return html.unescape(action.group(1)) if action else "", fields
    raise AssertionError(f"no form with {containing!r} in {page.status_code} {page.content.decode()[:1500]}")


def links_of(page: HttpResponse) -> list[str]:
    return [html.unescape(link) for link in re.findall(r'href="([^"]*)"', page.content.decode())]
