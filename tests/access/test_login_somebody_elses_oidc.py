"""Login at an OpenID Connect provider that others wrote (oidc-provider-mock on Authlib), found by discovery."""

from __future__ import annotations

import http.client
import warnings
from urllib.parse import urlencode, urlsplit

import pytest
from django.test import override_settings

from accounts.actions.identity_providers import create_provider
from accounts.actor import system
from accounts.errors import InvalidInput
from accounts.models import AccessSession, Identity
from accounts.providers.discovery import discovered
from tests.access.edge_client import EdgeBrowser
from tests.access.idp_flows import running_idp, team_url, to_provider

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import oidc_provider_mock

PERSON = oidc_provider_mock.User(
    sub="u-7",
    claims={"email": "alice@widgetcorp.test", "email_verified": True, "name": "Alice", "groups": ["engineering"]},
)


@pytest.fixture
def server(settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with oidc_provider_mock.run_server_in_thread(user_claims=[PERSON]) as running:
            settings.FETCH_ALLOWED_PRIVATE_HOSTS = [f"localhost:{running.server_port}"]
            yield f"http://localhost:{running.server_port}"


def authorize(url: str, subject: str) -> str:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    try:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", f"{parts.path}?{parts.query}", urlencode({"sub": subject}), headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 302
        return answer.headers["Location"]
    finally:
        connection.close()


def test_an_issuer_is_enough_to_log_in(cast, server):
    config = discovered("oidc", {"client_id": "sallyport", "issuer": server, "claims": ["email"]})
    assert config["token_url"].startswith(server) and config["certs_url"].startswith(server)
    provider = create_provider(
        cast.widgetcorp, type="oidc", name="Mock", config=config, client_secret="x", actor=system("tests")
    )
    browser = EdgeBrowser()
    answer = browser.get(authorize(to_provider(browser, team_url(), provider), "u-7"))
    assert answer.status_code == 302, answer.content.decode()
    identity = Identity.objects.get()
    assert (identity.subject, identity.email, identity.email_verified) == ("u-7", "alice@widgetcorp.test", True)
    assert identity.groups == ["engineering"]
    session = AccessSession.objects.get()
    assert session.authenticated_at is not None and session.authenticated_at <= session.created_at


def test_discovery_refuses_a_document_of_another_issuer_and_no_document(cast):
    with running_idp() as idp:
        found = discovered("oidc", {"client_id": "a", "issuer": idp.issuer})
        assert found["requires_iss"] is True and found["userinfo_url"] == f"{idp.issuer}/userinfo"
        by_hand = discovered("oidc", {"issuer": idp.issuer, "auth_url": "https://typed.test/a"})
        assert by_hand["auth_url"] == "https://typed.test/a"
        hosts = [f"127.0.0.1:{idp.port}", f"localhost:{idp.port}"]
        said = "not what its discovery document says"
        with override_settings(FETCH_ALLOWED_PRIVATE_HOSTS=hosts), pytest.raises(InvalidInput, match=said):
            discovered("oidc", {"issuer": f"http://localhost:{idp.port}"})
        with pytest.raises(InvalidInput, match="no discovery document"):
            discovered("oidc", {"issuer": f"{idp.issuer}/realms/none"})


def test_ac66_discovery_asks_no_private_address(cast):
    with pytest.raises(InvalidInput, match="private address"):
        discovered("oidc", {"issuer": "https://127.0.0.1:1"})
    with pytest.raises(InvalidInput, match="https"):
        discovered("oidc", {"issuer": "http://idp.example.test"})


def test_ac44_a_provider_that_promised_iss_must_send_it(cast):
    with running_idp() as idp:
        config = discovered("oidc", {"client_id": idp.client_id, "issuer": idp.issuer})
        provider = create_provider(
            cast.widgetcorp, type="oidc", name="Corp", config=config, client_secret="x", actor=system("tests")
        )
        browser = EdgeBrowser()
        state = to_provider(browser, team_url(), provider).split("state=")[1].split("&")[0]
        answer = browser.get(team_url(f"/cdn-cgi/access/callback?state={state}&code=abc"))
        assert answer.status_code == 401 and "another issuer" in answer.content.decode()
        assert "/token" not in idp.requests
