"""Each way in, and each way to be kept out, by Chromium against a whole installation: pages, rows, audit, log.

The OpenID Connect provider and the SAML provider are other people's software (oidc-provider-mock, pysaml2). With
PICTURES=folder every page is photographed, light and dark, at 1280 and 360 pixels.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from demo.browser import Browser as PlainBrowser
from demo.first_login import wait_until
from demo.installation import Installation
from tests.access.saml_idp import ENTITY_ID, SSO_URL, SamlIdp
from tests.integration.kit import query, until_served
from tests.shared_browser import PATIENCE_MS
from tools.screenshots import sign_in

pytestmark = pytest.mark.integration
PICTURES = os.environ.get("PICTURES", "")
APPS = "/accounts/{account}/access/apps"
PROVIDERS = "/accounts/{account}/access/identity_providers"
ENGINEER, STRANGER, BOSS = "gina@widgetcorp.test", "carl@contractors.test", "boss@widgetcorp.test"
PEOPLE = [
    {"sub": "gina", "email": ENGINEER, "email_verified": True, "name": "Gina", "groups": ["engineering", "on-call"]},
    {"sub": "carl", "email": STRANGER, "email_verified": True, "name": "Carl", "groups": ["contractors"]},
]


# --- The house: an installation, somebody else's provider, people with browsers -----------------------------------
@pytest.fixture(scope="module")
def issuer(here: Installation, kept_port: socket.socket) -> Iterator[str]:
    """oidc-provider-mock, a process of its own, where the installation was told that it would be."""
    port = kept_port.getsockname()[1]
    kept_port.close()
    people = [part for person in PEOPLE for part in ("--user-claims", json.dumps(person))]
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "-p", str(port), *people]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = f"http://localhost:{port}"
    try:
        wait_until(lambda: _answers(found), "the provider", 60)
        yield found
    finally:
        process.terminate()
        process.wait(10)


def _answers(issuer: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{issuer}/.well-known/openid-configuration", timeout=5):
        return True
    return False


@pytest.fixture
def open_browser(chromium: Browser) -> Iterator[Any]:
    """Somebody with a browser of their own. No page may run into its content security policy."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def opened(*, scripts: bool = False) -> Page:
        context = chromium.new_context(ignore_https_errors=True, java_script_enabled=scripts)
        context.set_default_timeout(PATIENCE_MS)
        context.on("console", lambda message: complaints.append(message.text))
        # The mock's own pages ask a CDN for a stylesheet; there is no network here.
        context.route("https://cdn.jsdelivr.net/**", lambda route: route.abort())
        contexts.append(context)
        return context.new_page()

    yield opened
    for context in contexts:
        context.close()
    assert not [text for text in complaints if "Content Security Policy" in text]


def picture(page: Page, name: str) -> None:
    """Also: nothing scrolls sideways."""
    for scheme in ("light", "dark"):
        for width in (1280, 360):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.set_viewport_size({"width": width, "height": 900})
            # Scripts are off for people, not for the test.
            too_wide = page.locator("html").evaluate("html => html.scrollWidth > window.innerWidth + 1")
            assert not too_wide, f"{name} scrolls sideways at {width}"
            if PICTURES:
                page.screenshot(path=f"{PICTURES}/{name}-{scheme}-{width}.png", full_page=True)
    page.set_viewport_size({"width": 1280, "height": 900})


def address(here: Installation, hostname: str) -> str:
    return f"https://{hostname}:{urlsplit(here.facts['edge_url']).port}/"


def make_application(here: Installation, name: str, *policies: dict[str, Any], **fields: Any) -> dict[str, Any]:
    domain = f"{name.lower().replace(' ', '-')}.widgetcorp.localhost"
    numbered = [{"decision": "allow", "precedence": n, **policy} for n, policy in enumerate(policies, 1)]
    body = {"type": "self_hosted", "name": name, "domain": domain, "policies": numbered, **fields}
    made: dict[str, Any] = here.api("POST", APPS, body)
    until_served(here, domain)
    return made


def audited(here: Installation, name: str, label: str = "") -> list[tuple[Any, ...]]:
    where = f" AND actor_label LIKE '%{label}%'" if label else ""
    return query(here, f"SELECT name, actor_label FROM accounts_auditevent WHERE name = '{name}'{where}")


def logged(here: Installation, email: str, hostname: str) -> list[dict[str, Any]]:
    entries = here.api("GET", "/accounts/{account}/access/logs/access_requests?limit=100")
    return [entry for entry in entries if entry["user_email"] == email and hostname in json.dumps(entry)]


def mails_to(here: Installation, recipient: str) -> list[str]:
    folder = Path(here.facts["mail_dir"])
    texts = [path.read_text(errors="replace") for path in sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime)]
    return [text for text in texts if f"To: {recipient}" in text]


def log_in_by_pin(here: Installation, page: Page, email: str) -> None:
    before = len(mails_to(here, email))
    page.get_by_label("E-mail address").fill(email)
    page.get_by_role("button", name="Send me a code").click()
    expect(page.get_by_role("heading", name="Enter your code")).to_be_visible()
    wait_until(lambda: len(mails_to(here, email)) > before, "the mail with the code")
    (code,) = re.findall(r"^ {4}([0-9]{6})$", mails_to(here, email)[-1], re.M)
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Log in").click()


def cookie_of(page: Page, url: str) -> dict[str, Any] | None:
    return next((dict(c) for c in page.context.cookies(url) if c["name"] == "CF_Authorization"), None)


@pytest.fixture(scope="module")
def oidc(here: Installation, issuer: str) -> dict[str, Any]:
    config = {"client_id": "sallyport", "client_secret": "secret", "issuer": issuer, "claims": ["groups"]}
    made: dict[str, Any] = here.api("POST", PROVIDERS, {"name": "Corporate", "type": "oidc", "config": config})
    return made


# --- Journeys -----------------------------------------------------------------------------------------------------
def test_openid_connect_with_groups(here: Installation, oidc: dict[str, Any], open_browser: Any) -> None:
    claim = {"identity_provider_id": oidc["id"], "claim_name": "groups", "claim_value": "engineering"}
    made = make_application(here, "Wiki", {"name": "Engineers", "include": [{"oidc": claim}]})
    url = address(here, made["domain"])
    page = open_browser()
    page.goto(url)
    expect(page.get_by_role("heading", name="Log in to Wiki")).to_be_visible()
    picture(page, "oidc-login")
    page.get_by_role("link", name="Log in with Corporate", exact=True).click()
    page.get_by_role("button", name="gina").click()
    page.wait_for_url(f"{url}**")
    assert cookie_of(page, url), page.content()
    rows = query(here, f"SELECT subject, groups FROM accounts_identity WHERE email = '{ENGINEER}'")
    assert [(row[0], "on-call" in str(row[1])) for row in rows] == [("gina", True)]
    sessions = here.api("GET", "/accounts/{account}/access/users")
    assert ENGINEER in [user["email"] for user in sessions]
    assert audited(here, "accounts.login.succeeded", ENGINEER)
    assert [entry["allowed"] for entry in logged(here, ENGINEER, made["domain"])][:1] == [True]


def test_saml(here: Installation, open_browser: Any, tmp_path: Path) -> None:
    idp = SamlIdp(tmp_path)
    config = {
        "issuer_url": ENTITY_ID,
        "sso_target_url": SSO_URL,
        "idp_public_certs": [Path(idp.certificate_file).read_text()],
        "email_attribute_name": "email",
        "attributes": ["groups"],
        "sign_request": True,
        "email_trusted_domains": ["widgetcorp.test"],
    }
    provider = here.api("POST", PROVIDERS, {"name": "Corporate SAML", "type": "saml", "config": config})
    host, _, port = here.facts["edge_address"].rpartition(":")
    plain = PlainBrowser(edge=(host, int(port)), ca_file=here.facts["edge_ca"])
    metadata = f"{address(here, here.facts['team_domain'])}cdn-cgi/access/saml-metadata/{provider['id']}"
    idp.trust(plain.get(metadata).text)
    rule = {"saml": {"identity_provider_id": provider["id"], "attribute_name": "groups", "attribute_value": "ops"}}
    made = make_application(here, "Payroll", {"name": "Ops", "include": [rule]}, allowed_idps=[provider["id"]])
    url = address(here, made["domain"])
    page = open_browser()
    _play(idp, page.context)
    page.goto(url)
    page.get_by_role("link", name="Log in with Corporate SAML").click()
    page.get_by_role("button", name="Send to the service").click()
    page.wait_for_url(f"{url}**")
    assert cookie_of(page, url), page.content()
    email = "sam@widgetcorp.test"
    assert query(here, f"SELECT email_verified FROM accounts_identity WHERE email = '{email}'")[0][0]
    assert audited(here, "accounts.login.succeeded", email)
    assert [entry["allowed"] for entry in logged(here, email, made["domain"])][:1] == [True]


def _play(idp: SamlIdp, context: BrowserContext) -> None:
    """The provider's page: a form that posts its signed answer to us from another site."""

    def answer(route: Route) -> None:
        request, relay_state = idp.read_request(route.request.url)
        response = idp.respond(request, {"email": "sam@widgetcorp.test", "groups": ["ops"]})
        body = (
            f'<form method="post" action="{request.assertion_consumer_service_url}">'
            f'<input type="hidden" name="SAMLResponse" value="{response}">'
            f'<input type="hidden" name="RelayState" value="{relay_state}"><button>Send to the service</button></form>'
        )
        route.fulfill(status=200, content_type="text/html", body=body)

    context.route(f"{SSO_URL}?**", answer)


def test_one_time_pin(here: Installation, open_browser: Any) -> None:
    email = "pat@widgetcorp.test"
    made = make_application(here, "Notes", {"name": "Pat", "include": [{"email": {"email": email}}]})
    url = address(here, made["domain"])
    page = open_browser()
    page.goto(url)
    page.get_by_label("E-mail address").fill(email)
    page.get_by_role("button", name="Send me a code").click()
    picture(page, "pin-code")
    wait_until(lambda: mails_to(here, email), "the mail")
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Log in").click()
    assert cookie_of(page, url) is None
    picture(page, "pin-wrong")
    (code,) = re.findall(r"^ {4}([0-9]{6})$", mails_to(here, email)[-1], re.M)
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{url}**")
    assert cookie_of(page, url), page.content()
    assert audited(here, "accounts.login.pin_sent")
    assert audited(here, "accounts.login.succeeded", email)
    assert query(here, f"SELECT email_verified FROM accounts_identity WHERE email = '{email}'")[0][0]
    assert [entry["allowed"] for entry in logged(here, email, made["domain"])][:1] == [True]


def test_approval_from_the_request_to_its_early_end(here: Installation, open_browser: Any) -> None:
    email, name = "quinn@widgetcorp.test", "Vault"
    groups = [{"approvals_needed": 1, "email_addresses": [BOSS]}]
    policy = {"name": "With the boss's yes", "include": [{"email": {"email": email}}]}
    made = make_application(here, name, {**policy, "approval_required": True, "approval_groups": groups})
    url = address(here, made["domain"])
    person = open_browser()
    person.goto(url)
    log_in_by_pin(here, person, email)
    expect(person.get_by_role("heading", name="Ask for temporary access")).to_be_visible()
    picture(person, "approval-ask")
    person.get_by_label("Reason").fill("Change the combination")
    person.get_by_label("For how long").select_option("1800")
    person.get_by_role("button", name="Ask for access").click()
    expect(person.get_by_role("heading", name="Waiting for approval")).to_be_visible()
    picture(person, "approval-waiting")
    assert audited(here, "access.approval.requested", email)

    wait_until(lambda: mails_to(here, BOSS), "the mail to the approver")
    (link,) = re.findall(r"https://\S+/approvals/\S+", mails_to(here, BOSS)[-1].replace("=\n", ""))
    boss = open_browser()
    boss.goto(link)
    log_in_by_pin(here, boss, BOSS)
    expect(boss.get_by_role("heading", name=f"Let {email} in for 30 minutes?")).to_be_visible()
    picture(boss, "approval-answer")
    boss.get_by_role("button", name="Approve").click()
    expect(boss.get_by_text("Your answer is kept.")).to_be_visible()
    picture(boss, "approval-answered")
    assert audited(here, "access.approval.granted", BOSS)
    wait_until(lambda: any("was approved" in text for text in mails_to(here, email)), "the answer's mail")

    person.get_by_role("link", name="Check again").click()
    person.wait_for_url(f"{url}**")
    assert cookie_of(person, url), person.content()
    person.goto(address(here, here.facts["team_domain"]))
    expect(person.get_by_role("heading", name="Temporary access")).to_be_visible()
    picture(person, "launcher")

    admin = open_browser(scripts=True)
    sign_in(admin, here)
    admin.get_by_role("navigation", name="Main").get_by_role("link", name="Approvals", exact=True).click()
    row = admin.get_by_role("row").filter(has_text=email)
    expect(row.get_by_text("active")).to_be_visible()
    expect(row.get_by_text(f"{BOSS} approved")).to_be_visible()
    picture(admin, "approvals")
    row.get_by_role("link", name="Change the combination").click()
    picture(admin, "approval-detail")
    admin.get_by_role("link", name="End now").click()
    picture(admin, "approval-end")
    admin.get_by_role("button", name="End access now").click()
    expect(admin.get_by_text(f"The temporary access of {email} is ended.")).to_be_visible()
    expect(admin.get_by_role("row").filter(has_text=email).get_by_text("ended early")).to_be_visible()
    (status,) = query(here, "SELECT status FROM access_approvalrequest")
    assert status[0] == "ended"
    assert audited(here, "access.approval.ended", here.facts["admin_email"])
    person.goto(url)
    expect(person.get_by_role("heading", name="Ask for temporary access")).to_be_visible()
    entries = logged(here, email, made["domain"])
    assert {entry["allowed"] for entry in entries} == {True, False}


def test_a_denied_person_has_a_reference_and_the_admin_finds_the_trace(
    here: Installation, oidc: dict[str, Any], open_browser: Any
) -> None:
    claim = {"identity_provider_id": oidc["id"], "claim_name": "groups", "claim_value": "engineering"}
    made = make_application(here, "Servers", {"name": "Only engineers", "include": [{"oidc": claim}]})
    url = address(here, made["domain"])
    page = open_browser()
    page.goto(url)
    page.get_by_role("link", name="Log in with Corporate", exact=True).click()
    page.get_by_role("button", name="carl").click()
    expect(page.get_by_role("heading", name="You do not have access")).to_be_visible()
    assert cookie_of(page, url) is None
    picture(page, "denied")
    shown = page.get_by_role("main").inner_text()
    assert "engineering" not in shown, "what would let them in is not theirs to know"
    reference = page.locator("dt", has_text="Reference").locator("xpath=following-sibling::dd[1]").inner_text().strip()

    admin = open_browser(scripts=True)
    sign_in(admin, here)
    admin.get_by_role("navigation", name="Main").get_by_role("link", name="Access log").or_(
        admin.get_by_role("navigation", name="Main").get_by_role("link", name="Access", exact=True)
    ).last.click()
    box = admin.get_by_role("searchbox", name="Search", exact=True)
    expect(box).to_have_attribute("placeholder", re.compile("reference"))
    box.fill(reference)
    box.press("Enter")
    row = admin.get_by_role("row").filter(has_text=STRANGER)
    expect(row).to_have_count(1)
    row.get_by_role("link").first.click()
    expect(admin.get_by_text(reference)).to_be_visible()
    expect(admin.get_by_text("Only engineers").first).to_be_visible()
    trace = admin.get_by_role("main").inner_text()
    assert "engineering" in trace
    assert "contractors" in trace, "what the person had instead"
    picture(admin, "denied-trace")
    (entry,) = [item for item in logged(here, STRANGER, made["domain"]) if item["ray_id"] == reference]
    assert not entry["allowed"]
    assert audited(here, "accounts.login.succeeded", STRANGER)
