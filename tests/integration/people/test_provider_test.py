"""The Test button in a real browser: dashboard, team domain, provider and back, with SAML's cross-site POST."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from demo.browser import Browser as DemoBrowser
from demo.installation import Installation
from tests.access.saml_idp import SSO_URL, SamlIdp
from tests.shared_browser import PATIENCE_MS

pytestmark = pytest.mark.integration
PICTURES = os.environ.get("PICTURES", "")


@pytest.fixture
def admin(chromium: Browser, here: Installation) -> Iterator[Page]:
    context = chromium.new_context(ignore_https_errors=True)
    context.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    context.on("console", lambda message: complaints.append(message.text))
    page = context.new_page()
    page.goto(f"{here.facts['dashboard_url']}/accounts/login/")
    page.get_by_label("E-mail").fill(here.facts["admin_email"])
    page.get_by_label("Password", exact=True).fill(here.facts["admin_password"])
    page.get_by_role("button", name="Sign in").or_(page.get_by_role("button", name="Log in")).first.click()
    page.wait_for_url("**/o/**")
    yield page
    context.close()
    assert not [text for text in complaints if "Content Security Policy" in text]


def _login_methods(here: Installation, page: Page) -> None:
    team = urlsplit(page.url).path.split("/")[2]
    page.goto(f"{here.facts['dashboard_url']}/o/{team}/settings/login-methods/")


def _test_window(page: Page, name: str) -> Page:
    row = page.get_by_role("row").filter(has_text=name)
    with page.context.expect_page() as opened:
        row.get_by_role("button", name="Test").click()
    window = opened.value
    expect(window.get_by_role("heading", name=f"Test {name}")).to_be_visible()
    window.get_by_role("link", name=f"Continue to {name}").click()
    return window


def _picture(page: Page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)


def test_an_openid_connect_provider_is_added_and_tested(here: Installation, admin: Page) -> None:
    _login_methods(here, admin)
    admin.get_by_role("link", name="Add a login method").click()
    _picture(admin, "add")
    admin.get_by_role("link", name="OpenID Connect").click()
    admin.get_by_label("Name", exact=True).fill("Test IdP")
    admin.get_by_label("Issuer").fill((here.state / "issuer").read_text())
    admin.get_by_label("Client ID").fill("sallyport")
    admin.get_by_label("Client secret").fill("demo-secret")
    _picture(admin, "oidc-form")
    admin.get_by_role("button", name="Save").click()
    window = _test_window(admin, "Test IdP")
    window.get_by_label("User name").fill("alice")
    window.get_by_role("button", name="Log in").first.click()
    expect(window.get_by_role("heading", name="What policies see")).to_be_visible()
    expect(window.get_by_text("alice@widgetcorp.test").first).to_be_visible()
    expect(window.get_by_text("engineering").first).to_be_visible()
    _picture(window, "oidc-result")


def test_a_saml_provider_is_added_and_tested(here: Installation, admin: Page, tmp_path: Path) -> None:
    idp = SamlIdp(tmp_path)
    _login_methods(here, admin)
    admin.get_by_role("link", name="Add a login method").click()
    admin.get_by_role("link", name="SAML 2.0").click()
    admin.get_by_label("Name", exact=True).fill("Corp SAML")
    document = tmp_path / "idp.xml"
    document.write_text(idp.metadata())
    admin.get_by_label("or as a file").set_input_files(document)
    admin.get_by_label("Trusted e-mail domains").fill("widgetcorp.test")
    admin.get_by_role("button", name="Save").click()
    row = admin.get_by_role("row").filter(has_text="Corp SAML")
    row.get_by_role("link", name="Edit").click()
    _picture(admin, "saml-form")
    address = admin.locator("#metadata-url").inner_text()
    host, _, port = here.facts["edge_address"].rpartition(":")
    idp.trust(DemoBrowser(edge=(host, int(port)), ca_file=here.facts["edge_ca"]).get(address).text)
    _serve(idp, admin.context)
    _login_methods(here, admin)
    window = _test_window(admin, "Corp SAML")
    window.get_by_role("button", name="Send to the service").click()
    expect(window.get_by_role("heading", name="What policies see")).to_be_visible()
    expect(window.get_by_text("saml-person@widgetcorp.test").first).to_be_visible()
    _picture(window, "saml-result")


def _serve(idp: SamlIdp, context: BrowserContext) -> None:
    """The provider's page: a form that posts its answer to us from another site."""

    def answer(route: Route) -> None:
        request, relay_state = idp.read_request(route.request.url)
        response = idp.respond(request, {"email": "saml-person@widgetcorp.test", "groups": ["engineering"]})
        body = (
            f'<form method="post" action="{request.assertion_consumer_service_url}">'
            f'<input type="hidden" name="SAMLResponse" value="{response}">'
            f'<input type="hidden" name="RelayState" value="{relay_state}"><button>Send to the service</button></form>'
        )
        route.fulfill(status=200, content_type="text/html", body=body)

    context.route(f"{SSO_URL}?**", answer)
