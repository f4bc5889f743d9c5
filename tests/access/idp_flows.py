"""A real identity provider on loopback (demo.idp) as a login method, and a person who uses it."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from django.http import HttpResponse
from django.test import override_settings

from accounts.actions.identity_providers import create_provider
from accounts.actor import system
from accounts.models import IdentityProvider, Organization
from demo.idp import IdentityProviderServer
from tests.access.edge_client import TEAM, EdgeBrowser, links_of

TIMEOUT_SECONDS = 10


@contextmanager
def running_idp() -> Iterator[IdentityProviderServer]:
    server = IdentityProviderServer()
    server.start()
    try:
        with override_settings(FETCH_ALLOWED_PRIVATE_HOSTS=[f"127.0.0.1:{server.port}"]):
            yield server
    finally:
        server.stop()


@pytest.fixture
def idp() -> Iterator[IdentityProviderServer]:
    with running_idp() as server:
        yield server


def oidc_provider(organization: Organization, idp: IdentityProviderServer, **changes: object) -> IdentityProvider:
    name = str(changes.pop("name", "Corp login"))
    return create_provider(
        organization,
        type="oidc",
        name=name,
        config={**idp.provider_config(), **changes},
        client_secret=idp.client_secret,
        actor=system("tests"),
    )


def to_provider(browser: EdgeBrowser, url: str, provider: IdentityProvider) -> str:
    """From a login page to the provider's address."""
    link = next(link for link in links_of(browser.get(url)) if str(provider.id) in link)
    answer = browser.get(f"https://{urlsplit(url).netloc}{link}")
    assert answer.status_code == 302, answer.content.decode()
    return answer["Location"]


def at_provider(idp: IdentityProviderServer, url: str, username: str) -> str:
    """The person fills in the provider's form; where it sends the browser."""
    form = dict(parse_qsl(urlsplit(url).query)) | {"username": username}
    page = _send(idp, "GET", f"/authorize?{urlsplit(url).query}", None)
    assert page[0] == 200, page
    hidden = {unescape(k): unescape(v) for k, v in re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', page[1])}
    status, location = _send(idp, "POST", "/authorize", urlencode({**hidden, "username": form["username"]}))
    assert status == 302
    return location


def log_in_at(
    browser: EdgeBrowser, idp: IdentityProviderServer, url: str, provider: IdentityProvider, username: str
) -> HttpResponse:
    """The team domain's answer to the provider's."""
    return browser.get(at_provider(idp, to_provider(browser, url, provider), username))


def team_url(path: str = "/", team: str = TEAM) -> str:
    return f"https://{team}{path}"


def _send(idp: IdentityProviderServer, method: str, target: str, body: str | None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", idp.port, timeout=TIMEOUT_SECONDS)
    try:
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
        connection.request(method, target, body=body, headers=headers)
        response = connection.getresponse()
        text = response.read().decode()
        return response.status, response.headers.get("Location") or text
    finally:
        connection.close()
