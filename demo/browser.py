"""A browser without a screen: cookies per host, redirects, forms. Dials the edge for every https name under test.

It plays the person in `make demo` and the integration tests: `python -m demo.browser --person alice URL` is given to
the command-line client as $BROWSER. It follows the login, signs in at the demo identity provider, approves the
command-line request and writes what it saw (confirmation code, final page) to the file named by DEMO_BROWSER_LOG.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import socket
import ssl
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

_TIMEOUT_SECONDS = 20.0
_MAX_REDIRECTS = 20
_REDIRECTS = {301, 302, 303, 307, 308}


@dataclass
class Form:
    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Page:
    url: str
    status: int
    headers: http.client.HTTPMessage
    text: str
    forms: list[Form]
    links: list[tuple[str, str]]  # (address, text)

    def form(self, *, containing: str) -> Form:
        """The form that has a field, a button or an action with this word."""
        for form in self.forms:
            words = [form.action, *form.fields, *(value for pair in form.buttons for value in pair)]
            if any(containing in word for word in words):
                return form
        raise LookupError(f"No form with {containing!r} on {self.url} ({self.status}): {self.plain()[:400]}")

    def plain(self) -> str:
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", self.text)).strip()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[tuple[str, str]] = []
        self._open: Form | None = None
        self._address: str | None = None
        self._words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._open = Form(values.get("action", ""), values.get("method", "get").lower())
            self.forms.append(self._open)
        elif tag == "a":
            self._address, self._words = values.get("href"), []
        elif self._open is not None and tag in {"input", "button", "textarea", "select"}:
            self._field(tag, values)

    def _field(self, tag: str, values: dict[str, str]) -> None:
        name, kind = values.get("name", ""), values.get("type", "submit" if tag == "button" else "text")
        if self._open is None or not name:
            return
        if kind == "submit":
            self._open.buttons.append((name, values.get("value", "")))
        elif kind not in {"checkbox", "radio"} or "checked" in values:
            self._open.fields[name] = values.get("value", "")

    def handle_data(self, data: str) -> None:
        if self._address is not None:
            self._words.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        elif tag == "a" and self._address is not None:
            self.links.append((self._address, " ".join(self._words).strip()))
            self._address = None


class Browser:
    """`edge` is where every https name is dialled; http names are dialled as they are (the identity provider)."""

    def __init__(self, *, edge: tuple[str, int], ca_file: str) -> None:
        self._edge = edge
        self._tls = ssl.create_default_context(cafile=ca_file)
        self._cookies: dict[str, dict[str, str]] = {}

    def get(self, url: str) -> Page:
        return self._follow("GET", url, None)

    def submit(self, page: Page, form: Form, **values: str) -> Page:
        url = urljoin(page.url, form.action or page.url)
        fields = {**form.fields, **values}
        if form.method == "get":
            return self._follow("GET", f"{url}?{urlencode(fields)}", None, referer=page.url)
        return self._follow("POST", url, urlencode(fields), referer=page.url)

    def cookie(self, host: str, name: str) -> str | None:
        return self._cookies.get(host, {}).get(name)

    def _follow(self, method: str, url: str, body: str | None, referer: str = "") -> Page:
        for _ in range(_MAX_REDIRECTS):
            page = self._request(method, url, body, referer)
            if page.status not in _REDIRECTS:
                return page
            referer, url = url, urljoin(url, page.headers["Location"])
            method, body = ("GET", None) if page.status not in {307, 308} else (method, body)
        raise RuntimeError(f"More than {_MAX_REDIRECTS} redirects, the last to {url}")

    def _request(self, method: str, url: str, body: str | None, referer: str) -> Page:
        parts = urlsplit(url)
        host = parts.hostname or ""
        connection = self._connect(parts.scheme, host, parts.port)
        headers = {"Host": parts.netloc, "Accept": "text/html", "User-Agent": "demo-browser"}
        if self._cookies.get(host):
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies[host].items())
        if referer:
            headers["Referer"] = referer
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            headers["Origin"] = f"{parts.scheme}://{parts.netloc}"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request(method, target, body=body, headers=headers)
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
        finally:
            connection.close()
        self._remember(host, response.headers)
        reader = _Reader()
        reader.feed(text)
        return Page(url, response.status, response.headers, text, reader.forms, reader.links)

    def _connect(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme == "http":
            address = "127.0.0.1" if host.endswith("localhost") else host
            return http.client.HTTPConnection(address, port or 80, timeout=_TIMEOUT_SECONDS)
        connection = http.client.HTTPSConnection(host, port or 443, timeout=_TIMEOUT_SECONDS, context=self._tls)
        plain = socket.create_connection(self._edge, _TIMEOUT_SECONDS)
        connection.sock = self._tls.wrap_socket(plain, server_hostname=host)
        return connection

    def _remember(self, host: str, headers: http.client.HTTPMessage) -> None:
        jar = self._cookies.setdefault(host, {})
        for line in headers.get_all("Set-Cookie", []):
            pair, *attributes = [word.strip() for word in line.split(";")]
            name, _, value = pair.partition("=")
            gone = any(word.lower() == "max-age=0" for word in attributes) or not value.strip('"')
            if gone:
                jar.pop(name, None)
            else:
                jar[name] = value


def sign_in(browser: Browser, page: Page, person: str) -> Page:
    """From a team domain's login page (or straight from the provider's) back to where the login started."""
    provider = next((address for address, text in page.links if text.startswith("Log in with")), None)
    if provider is not None:
        page = browser.get(urljoin(page.url, provider))
    return browser.submit(page, page.form(containing="username"), username=person)


def approve(browser: Browser, page: Page) -> Page:
    form = page.form(containing="approve")
    name, value = next(button for button in form.buttons if "approve" in " ".join(button))
    return browser.submit(page, form, **{name: value})


def confirmation_code(page: Page) -> str:
    found = re.search(r"\b[A-Z2-7]{4}-[A-Z2-7]{4}\b", page.plain())
    return found.group() if found else ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Play a person's browser for one login.")
    parser.add_argument("--person", required=True)
    parser.add_argument("--edge", required=True, help="host:port")
    parser.add_argument("--cacert", required=True)
    parser.add_argument("url")
    options = parser.parse_args()
    host, _, port = options.edge.rpartition(":")
    browser = Browser(edge=(host, int(port)), ca_file=options.cacert)
    page = browser.get(options.url)
    if "Log in with" in page.text or any("username" in form.fields for form in page.forms):
        page = sign_in(browser, page, options.person)
    code = confirmation_code(page)
    if code:
        page = approve(browser, page)
    seen = {"status": page.status, "url": page.url, "code": code, "text": page.plain()}
    log = os.environ.get("DEMO_BROWSER_LOG")
    if log:
        with open(log, "w", encoding="utf-8") as file:
            json.dump(seen, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
