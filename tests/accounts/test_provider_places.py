"""Where a provider is: a stored secret never goes to a new place, and the places that may be chosen. And how far it is
trusted: what an administrator no longer believes counts no longer, not even in sessions of before."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from accounts.actions.identity_providers import create_provider, update_provider
from accounts.actor import system
from accounts.audit import edge_version
from accounts.errors import Conflict, InvalidInput
from accounts.models import IdentityProvider
from accounts.providers.entra import EntraId
from accounts.providers.github import GitHub, api_url
from accounts.providers.secrets import client_secret, named_secrets
from tests.access.makers import email_rule, make_application, make_session
from tests.access.saml_idp import ENTITY_ID, SamlIdp
from tests.access.test_authorize import reasons, stream
from tests.controlplane.api_kit import make_api
from tests.factories import Cast
from tests.pages_kit import last_event, login, text_of

ACTOR = system("tests")
DIRECTORY = "11111111-2222-3333-4444-555555555555"
OIDC = {
    "client_id": "c",
    "issuer": "https://idp.example.test",
    "auth_url": "https://idp.example.test/auth",
    "token_url": "https://idp.example.test/token",
    "certs_url": "https://idp.example.test/keys",
}
EVIL = "https://evil.example.test/collect"
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("oidc", OIDC, {"token_url": EVIL}),
    ("oidc", OIDC, {"token_url": "https://idp.example.test/other/token"}),
    ("oidc", OIDC, {"issuer": EVIL}),
    ("oidc", OIDC, {"auth_url": EVIL}),
    ("oidc", OIDC, {"certs_url": EVIL}),
    ("oidc", OIDC, {"userinfo_url": EVIL}),
    ("okta", {"client_id": "c", "okta_account": "corp.okta.com"}, {"okta_account": "evil.okta.com"}),
    ("azureAD", {"client_id": "c", "directory_id": DIRECTORY}, {"directory_id": DIRECTORY.replace("1", "9")}),
    ("azureAD", {"client_id": "c", "directory_id": DIRECTORY}, {"cloud": "china"}),
    ("github", {"client_id": "c"}, {"github_host": "evil.example.test"}),
]


def make(cast: Cast, kind: str, config: dict[str, Any], **secrets: str) -> IdentityProvider:
    return create_provider(
        cast.widgetcorp, type=kind, name="Corp", config=config, client_secret="s3cret", secrets=secrets, actor=ACTOR
    )


@pytest.mark.parametrize("lost", [{"email_trusted_domains": []}, {"email_verified_trusted": False}])
def test_ac11_trust_in_addresses_ends_when_it_is_withdrawn(cast: Cast, lost: dict[str, Any]) -> None:
    trust = {"email_trusted_domains": ["widgetcorp.test", "other.test"], "email_verified_trusted": True}
    provider = make(cast, "oidc", {**OIDC, **trust})
    session = make_session(cast.widgetcorp, "zoe@widgetcorp.test", provider=provider)
    elsewhere = make_session(cast.widgetcorp, "zoe@widgetcorp.test")
    application = make_application(cast.widgetcorp, include=[email_rule("zoe@widgetcorp.test")])
    live = [stream(application, session), stream(application, elsewhere)]
    update_provider(provider, actor=ACTOR, config={**OIDC, **trust, "email_trusted_domains": ["widgetcorp.test"]})
    assert reasons(*live) == [], "the domain that went is not hers"
    version = edge_version()
    update_provider(provider, actor=ACTOR, config={**OIDC, **trust, **lost}, client_secret="s3cret")
    assert edge_version() > version, "edges ask about live streams at once"
    assert len(reasons(*live)) == 1, "the other login method's word still counts"
    assert (last_event(cast.widgetcorp).new or {})["addresses_no_longer_trusted"] == 1
    version = edge_version()
    update_provider(provider, actor=ACTOR, name="Renamed")
    assert edge_version() == version


@pytest.mark.parametrize(("kind", "config", "changes"), CASES)
def test_a_new_place_needs_the_secret_again(
    cast: Cast, kind: str, config: dict[str, Any], changes: dict[str, Any]
) -> None:
    provider = make(cast, kind, config)
    before = IdentityProvider.objects.get().config
    with pytest.raises(InvalidInput) as refused:
        update_provider(provider, actor=ACTOR, config={**config, **changes})
    assert (refused.value.code, set(refused.value.fields)) == ("secret_needed_again", {"client_secret"})
    provider = IdentityProvider.objects.get()
    assert (provider.config, client_secret(provider)) == (before, "s3cret")
    update_provider(provider, actor=ACTOR, config={**config, **changes}, client_secret="of the new place")
    provider = IdentityProvider.objects.get()
    assert client_secret(provider) == "of the new place"
    assert provider.config != before
    # What does not say where the provider is changes without it.
    update_provider(provider, actor=ACTOR, config={**provider.config, "client_id": "other"})


@pytest.mark.parametrize(
    ("kind", "config", "changes"),
    [case for case in CASES if set(case[2]) & {"issuer", "okta_account", "directory_id", "cloud", "github_host"}],
)
def test_ac_13_people_of_one_issuer_never_become_those_of_another(
    cast: Cast, kind: str, config: dict[str, Any], changes: dict[str, Any]
) -> None:
    provider = make(cast, kind, config)
    make_session(cast.widgetcorp, "zoe@widgetcorp.test", provider=provider)
    before = IdentityProvider.objects.get(pk=provider.pk).config
    with pytest.raises(Conflict) as refused:
        update_provider(provider, actor=ACTOR, config={**config, **changes}, client_secret="of the new place")
    assert (refused.value.code, set(refused.value.fields)) == ("provider_has_people", set(changes))
    provider = IdentityProvider.objects.get(pk=provider.pk)
    assert provider.config == before
    update_provider(provider, actor=ACTOR, name="Renamed", config=config)


def test_every_secret_of_the_old_place_is_asked_for(cast: Cast) -> None:
    config = {"client_id": "c", "okta_account": "corp.okta.com"}
    provider = make(cast, "okta", config, api_token="t0ken")
    moved = {**config, "okta_account": "evil.okta.com"}
    with pytest.raises(InvalidInput) as refused:
        update_provider(provider, actor=ACTOR, config=moved, client_secret="new")
    assert set(refused.value.fields) == {"api_token"}
    provider = IdentityProvider.objects.get()
    update_provider(provider, actor=ACTOR, config=moved, client_secret="new", secrets={"api_token": "new too"})
    assert named_secrets(IdentityProvider.objects.get()) == {"api_token": "new too"}


def test_by_form_and_api(cast: Cast) -> None:
    provider = make(cast, "oidc", OIDC)
    sent = {"name": "Corp", **OIDC, "token_url": EVIL, "client_secret": ""}
    answer = login(cast.alice).post(f"/o/widgetcorp/settings/login-methods/{provider.pk}/edit/", sent)
    assert answer.status_code == 422
    assert "must be entered again" in text_of(answer)
    api = make_api(cast.widgetcorp)
    path = f"{api.account}/access/identity_providers/{provider.pk}"
    body = {"name": "Corp", "type": "oidc", "config": {**OIDC, "token_url": EVIL}}
    assert api.refused("PUT", path, body, status=400)["reason"] == "secret_needed_again"
    assert IdentityProvider.objects.get().config["token_url"] == OIDC["token_url"]
    body["config"]["client_secret"] = "new"  # type: ignore[index]
    api.ok("PUT", path, body)


def test_github_enterprise_hosts(cast: Cast) -> None:
    provider = make(cast, "github", {"client_id": "c", "github_host": "https://GitHub.Widgetcorp.test/"})
    assert provider.config["github_host"] == "github.widgetcorp.test"
    assert GitHub().endpoints(provider).token_url == "https://github.widgetcorp.test/login/oauth/access_token"
    assert api_url(provider) == "https://github.widgetcorp.test/api/v3"
    provider.config["github_host"] = "widgetcorp.ghe.com"
    assert api_url(provider) == "https://api.widgetcorp.ghe.com"
    del provider.config["github_host"]
    assert api_url(provider) == "https://api.github.com"
    assert GitHub().endpoints(provider).auth_url == "https://github.com/login/oauth/authorize"
    for host in ("169.254.169.254", "github.test/path", "user@github.test", "github.test?x=1", "a b"):
        with pytest.raises(InvalidInput):
            update_provider(provider, actor=ACTOR, config={"client_id": "c", "github_host": host}, client_secret="x")


@pytest.mark.parametrize(
    ("cloud", "login_host", "graph_host"),
    [
        (None, "login.microsoftonline.com", "graph.microsoft.com"),
        ("us_government", "login.microsoftonline.us", "graph.microsoft.us"),
        ("china", "login.partner.microsoftonline.cn", "microsoftgraph.chinacloudapi.cn"),
    ],
)
def test_national_clouds(cast: Cast, cloud: str | None, login_host: str, graph_host: str) -> None:
    config = {"client_id": "c", "directory_id": DIRECTORY, "support_groups": True, "cloud": cloud}
    provider = make(cast, "azureAD", config)
    places = EntraId().endpoints(provider)
    assert places.issuer == f"https://{login_host}/{DIRECTORY}/v2.0"
    assert {url.split("/")[2] for url in (places.auth_url, places.token_url, places.certs_url)} == {login_host}
    assert f"https://{graph_host}/GroupMember.Read.All" in EntraId().default_scopes(provider)


def test_saml_metadata_is_read_from_its_address(cast: Cast, tmp_path: Any, settings: Any) -> None:
    document = SamlIdp(tmp_path).metadata()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metadata" else 404)
            self.end_headers()
            self.wfile.write(document.encode() if self.path == "/metadata" else b"no")

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        place = f"http://127.0.0.1:{server.server_port}"
        settings.FETCH_ALLOWED_PRIVATE_HOSTS = [f"127.0.0.1:{server.server_port}"]
        client = login(cast.alice)
        add = "/o/widgetcorp/settings/login-methods/add/saml/"
        refused = client.post(add, {"name": "SAML", "metadata_url": f"{place}/other"})
        assert refused.status_code == 422
        assert "HTTP 404" in text_of(refused)
        assert client.post(add, {"name": "SAML", "metadata_url": f"{place}/metadata"}).status_code == 302
    finally:
        server.shutdown()
        server.server_close()
    provider = IdentityProvider.objects.get()
    assert provider.config["issuer_url"] == ENTITY_ID
    assert "metadata_url" not in json.dumps(provider.config)
