"""The end-user pages in a real browser, through a real edge: no script, strict CSP, redirects across hosts."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from nacl.public import PrivateKey
from playwright.sync_api import Browser, BrowserContext, Page, expect

from dataplane.wire.confirmation import confirmation_code
from demo.first_login import wait_until
from demo.installation import Installation
from tests.integration.kit import until_served
from tests.shared_browser import PATIENCE_MS

pytestmark = pytest.mark.integration
HOSTNAME = "pages.widgetcorp.localhost"
EMAIL = "paula@widgetcorp.test"


@pytest.fixture(scope="module")
def application(here: Installation) -> dict[str, Any]:
    """Lets Paula in. Nothing serves it: what the edge says after the login is not this test's business."""
    rule = {"email": {"email": EMAIL}}
    policy = {"name": "Paula", "decision": "allow", "include": [rule], "precedence": 1}
    body = {"type": "self_hosted", "name": "Pages", "domain": HOSTNAME, "policies": [policy]}
    created: dict[str, Any] = here.api("POST", "/accounts/{account}/access/apps", body)
    until_served(here, HOSTNAME)
    return created


@pytest.fixture
def person(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context(ignore_https_errors=True, java_script_enabled=False)
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def page(person: BrowserContext) -> Iterator[Page]:
    page = person.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    yield page
    assert not [text for text in complaints if "Content Security Policy" in text]


def _port(here: Installation) -> int:
    return urlsplit(here.facts["edge_url"]).port or 443


def _log_in(here: Installation, page: Page, *, expect_url: str) -> None:
    mails = Path(here.facts["mail_dir"])
    before = set(mails.glob("*"))
    page.get_by_label("E-mail address").fill(EMAIL)
    page.get_by_role("button", name="Send me a code").click()
    expect(page.get_by_role("heading", name="Enter your code")).to_be_visible()
    wait_until(lambda: set(mails.glob("*")) - before, "the mail")
    (mail,) = set(mails.glob("*")) - before
    found: list[str] = []
    wait_until(lambda: found.extend(re.findall(r"^ {4}([0-9]{6})$", mail.read_text(), re.M)) or found, "the code")
    page.get_by_label("Code").fill(found[0])
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(expect_url)


def test_a_login_ends_at_the_page_asked_for(here: Installation, application: dict[str, Any], page: Page) -> None:
    url = f"https://{HOSTNAME}:{_port(here)}/wiki?page=1"
    page.goto(url)
    expect(page.get_by_role("heading", name="Log in to Pages")).to_be_visible()
    assert urlsplit(page.url).hostname == here.facts["team_domain"]
    background = page.locator("main").evaluate("element => getComputedStyle(element).maxWidth")
    assert background == "464px", "the stylesheet is not applied"
    _log_in(here, page, expect_url=url)
    cookie = next(c for c in page.context.cookies(url) if c["name"] == "CF_Authorization")
    assert cookie["secure"]
    assert cookie["httpOnly"]


def test_a_command_line_login_is_approved(here: Installation, application: dict[str, Any], page: Page) -> None:
    public = base64.urlsafe_b64encode(bytes(PrivateKey.generate().public_key)).decode()
    query = urlencode({"aud": application["aud"], "send_org_token": "true", "token": public})
    page.goto(f"https://{HOSTNAME}:{_port(here)}/cdn-cgi/access/cli?{query}")
    _log_in(here, page, expect_url="**/cdn-cgi/access/cli?**")
    expect(page.get_by_text(confirmation_code(public))).to_be_visible()
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("heading", name="Done: your client is logged in")).to_be_visible()


def test_the_launcher_signs_out_everywhere(here: Installation, application: dict[str, Any], page: Page) -> None:
    home = f"https://{here.facts['team_domain']}:{_port(here)}/"
    page.goto(home)
    _log_in(here, page, expect_url=home)
    expect(page.get_by_role("link", name="Pages")).to_be_visible()
    page.get_by_role("navigation", name="Account").get_by_role("link").click()
    page.get_by_text("Sign out everywhere", exact=True).click()
    page.get_by_role("button", name="Yes, sign out everywhere").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    page.goto(home)
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
