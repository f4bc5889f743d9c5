"""Second factors in a real browser, through a real edge: an app without JavaScript, a passkey with a virtual key."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from accounts import totp
from demo.first_login import wait_until
from demo.installation import Installation
from tests.axe import violations
from tests.integration.kit import until_served
from tests.shared_browser import PATIENCE_MS

pytestmark = pytest.mark.integration
KEY = {
    "protocol": "ctap2",
    "transport": "usb",
    "hasResidentKey": False,
    "hasUserVerification": True,
    "isUserVerified": True,
}
DEVICE = {**KEY, "transport": "internal"}


@pytest.fixture
def new_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    contexts = []
    complaints: list[str] = []

    def make(**options: Any) -> Page:
        context = chromium.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        return page

    yield make
    for context in contexts:
        context.close()
    # Answers that are no 200 are meant: a wrong code, and an application that is served by nobody.
    assert [text for text in complaints if "the server responded with a status of" not in text] == []


def make_application(here: Installation, name: str, email: str, mfa: dict[str, Any]) -> str:
    """Its URL."""
    hostname = f"{name}.widgetcorp.localhost"
    policy = {"name": name, "decision": "allow", "include": [{"email": {"email": email}}], "precedence": 1}
    body = {"type": "self_hosted", "name": name.title(), "domain": hostname, "policies": [policy], "mfa_config": mfa}
    here.api("POST", "/accounts/{account}/access/apps", body)
    until_served(here, hostname)
    return f"https://{hostname}:{urlsplit(here.facts['edge_url']).port or 443}/"


def log_in(here: Installation, page: Page, url: str, email: str) -> None:
    """As far as the login method goes."""
    page.goto(url)
    mails = Path(here.facts["mail_dir"])
    before = set(mails.glob("*"))
    page.get_by_label("E-mail address").fill(email)
    page.get_by_role("button", name="Send me a code").click()
    found: list[str] = []

    def code() -> list[str]:
        for mail in set(mails.glob("*")) - before:
            found.extend(re.findall(r"^ {4}([0-9]{6})$", mail.read_text(), re.M))
        return found

    wait_until(code, "the code")
    page.get_by_label("Code").fill(found[0])
    page.get_by_role("button", name="Log in").click()


def virtual_key(page: Page, options: dict[str, Any] = KEY) -> tuple[Any, str]:
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    made = session.send(
        "WebAuthn.addVirtualAuthenticator", {"options": {**options, "automaticPresenceSimulation": True}}
    )
    return session, str(made["authenticatorId"])


def move_keys(source: tuple[Any, str], target: tuple[Any, str]) -> None:
    """The same key, plugged into another browser."""
    held = source[0].send("WebAuthn.getCredentials", {"authenticatorId": source[1]})["credentials"]
    for credential in held:
        target[0].send("WebAuthn.addCredential", {"authenticatorId": target[1], "credential": credential})


def test_a_security_key_is_added_and_confirms_the_next_login(here: Installation, new_page: Callable[..., Page]) -> None:
    url = make_application(here, "strongroom", "vera@widgetcorp.test", {"allowed_authenticators": ["security_key"]})
    first = new_page()
    key = virtual_key(first)
    log_in(here, first, url, "vera@widgetcorp.test")
    expect(first.get_by_role("heading", name="Add a second factor")).to_be_visible()
    assert violations(first) == []
    first.get_by_role("button", name="Add a security key or a phone").click()
    expect(first.get_by_role("heading", name="Keep these recovery codes")).to_be_visible()
    assert violations(first) == []
    first.get_by_role("link", name="I have kept them: go on").click()
    first.wait_for_url(url)

    second = new_page()
    plugged = virtual_key(second)
    log_in(here, second, url, "vera@widgetcorp.test")
    expect(second.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    assert violations(second) == []
    second.get_by_role("button", name="Use a passkey").click()
    expect(second.get_by_role("status")).to_contain_text("Nothing was confirmed")
    move_keys(key, plugged)
    second.get_by_role("button", name="Use a passkey").click()
    second.wait_for_url(url)
    second.goto(f"https://{here.facts['team_domain']}:{urlsplit(url).port}/cdn-cgi/access/account")
    expect(second.get_by_text("Security key", exact=True).first).to_be_visible()
    assert violations(second) == []
    second.get_by_role("link", name="Remove Security key").click()
    second.get_by_role("button", name="Remove").click()
    expect(second.get_by_text("You have none yet.")).to_be_visible()


def test_a_device_confirms_only_when_it_verifies_its_user(here: Installation, new_page: Callable[..., Page]) -> None:
    url = make_application(here, "safe", "sid@widgetcorp.test", {"allowed_authenticators": ["biometrics"]})
    page = new_page()
    session, authenticator = virtual_key(page, DEVICE)
    log_in(here, page, url, "sid@widgetcorp.test")
    session.send("WebAuthn.setUserVerified", {"authenticatorId": authenticator, "isUserVerified": False})
    page.get_by_role("button", name="Add this device").click()
    expect(page.get_by_role("status").first).to_contain_text("Nothing was confirmed")
    session.send("WebAuthn.setUserVerified", {"authenticatorId": authenticator, "isUserVerified": True})
    page.get_by_role("button", name="Add this device").click()
    page.get_by_role("link", name="I have kept them: go on").click()
    page.wait_for_url(url)


def test_an_authenticator_app_needs_no_script(here: Installation, new_page: Callable[..., Page]) -> None:
    url = make_application(here, "plain", "paula@widgetcorp.test", {"allowed_authenticators": ["totp"]})
    page = new_page(java_script_enabled=False)
    log_in(here, page, url, "paula@widgetcorp.test")
    page.get_by_role("button", name="Add an authenticator app").click()
    link = page.get_by_role("link", name="open it on this device").get_attribute("href") or ""
    encoded = parse_qs(urlsplit(link).query)["secret"][0]
    secret = base64.b32decode(encoded)
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("not right")
    page.get_by_label("Code").fill(totp.code_at(secret, int(time.time()) // totp.STEP_SECONDS))
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("link", name="I have kept them: go on").click()
    page.wait_for_url(url)
