"""What a page costs to fetch: compressed stylesheets and scripts, and the whole first page within 100 kB."""

from __future__ import annotations

import gzip
import re
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from accounts.models import User
from tests.factories import Cast
from tests.pages_kit import browser, login, text_of

MOST_BYTES = 100_000


def fetched(client: Client, address: str) -> Any:
    return client.get(address, headers={"accept-encoding": "gzip"})


def body_of(response: Any) -> bytes:
    return b"".join(response.streaming_content) if response.streaming else response.content


def weight(client: Client, address: str) -> int:
    """Bytes of a page with everything it asks for, as a browser with an empty cache fetches it."""
    page = fetched(client, address)
    assert page.status_code == 200, address
    assert "Content-Encoding" not in page.headers
    text = text_of(page)
    files = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', text))
    assert any(file.endswith(".css") for file in files)
    assert any(file.endswith(".js") for file in files)
    return len(text.encode()) + sum(len(body_of(fetched(client, file))) for file in files)


@pytest.fixture
def owner(db: None) -> Client:
    call_command("seed_load", applications=60, groups=10, identities=30, log_rows=300, verbosity=0)
    client = browser()
    client.force_login(User.objects.get(email="owner@load.test"))
    return client


@pytest.mark.parametrize("path", ["", "access/applications/", "access/log/", "team/users/", "tunnels/", "search/?q=o"])
def test_first_pages_are_light(owner: Client, path: str) -> None:
    assert weight(owner, f"/o/loadcorp/{path}") < MOST_BYTES


def test_the_sign_in_page_is_light(cast: Cast) -> None:
    assert weight(browser(), "/accounts/login/") < MOST_BYTES


def test_scripts_and_styles_are_compressed_and_whole(cast: Cast) -> None:
    client = browser()
    plain = client.get("/static/base.css")
    packed = fetched(client, "/static/base.css")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.headers["Vary"] == "Accept-Encoding"
    assert packed.headers["Content-Type"] == plain.headers["Content-Type"]
    assert gzip.decompress(body_of(packed)) == body_of(plain)
    assert body_of(fetched(client, "/static/base.css")) == packed.content


def test_pages_with_secrets_are_never_compressed(cast: Cast) -> None:
    """Text a stranger chose beside a CSRF token must not decide the length of an answer."""
    assert "Content-Encoding" not in fetched(login(cast.alice), "/o/widgetcorp/").headers


def test_an_unchanged_file_is_not_sent_again(cast: Cast) -> None:
    first = fetched(browser(), "/static/htmx.min.js")
    headers = {"accept-encoding": "gzip", "if-modified-since": first.headers["Last-Modified"]}
    assert browser().get("/static/htmx.min.js", headers=headers).status_code == 304
