"""Entra ID, Google, Google Workspace, GitHub and Okta's API: who gets in, as whom, in which groups."""

from __future__ import annotations

import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from django.test import override_settings

from accounts.actions.identity_providers import create_provider
from accounts.actor import system
from accounts.errors import InvalidInput
from accounts.models import AccessSession, Identity, IdentityProvider
from accounts.providers import entra, github, google
from tests.access.edge_client import TEAM, EdgeBrowser
from tests.access.idp_flows import team_url, to_provider
from tests.access.login_flows import query_of
from tests.access.provider_fakes import Asked, Cloud, running_cloud

DIRECTORY = "11111111-2222-3333-4444-555555555555"
GROUPS = ["aaaaaaaa-0000-0000-0000-000000000001", "aaaaaaaa-0000-0000-0000-000000000002"]


@pytest.fixture
def cloud(monkeypatch):
    with running_cloud() as running:
        monkeypatch.setattr(entra, "LOGIN_URL", running.url)
        monkeypatch.setattr(entra, "GRAPH_URL", running.url)
        monkeypatch.setattr(google, "AUTH_URL", f"{running.url}/auth")
        monkeypatch.setattr(google, "TOKEN_URL", f"{running.url}/token")
        monkeypatch.setattr(google, "CERTS_URL", f"{running.url}/keys")
        monkeypatch.setattr(google, "DIRECTORY_URL", f"{running.url}/directory/groups")
        monkeypatch.setattr(github, "AUTH_URL", f"{running.url}/authorize")
        monkeypatch.setattr(github, "TOKEN_URL", f"{running.url}/token")
        monkeypatch.setattr(github, "API_URL", running.url)
        yield running


def make(organization, kind: str, config: dict, **more) -> IdentityProvider:
    given = {"client_secret": "s3cret", "name": kind, **more}
    config = {"client_id": "client-1", **config}
    return create_provider(organization, type=kind, config=config, actor=system("tests"), **given)


def log_in(cloud: Cloud, provider: IdentityProvider, *, token_path: str, issuer: str = ""):
    """The whole round: our redirect, the provider's answer at the redirect URL we named, the exchange."""
    browser = EdgeBrowser()
    query = query_of(to_provider(browser, team_url(), provider))
    assert query["code_challenge_method"] == "S256"

    def token(asked: Asked):
        assert asked.form["code"] == "the-code" and asked.form["redirect_uri"] == query["redirect_uri"]
        assert asked.form["client_secret"] == "s3cret" and len(asked.form["code_verifier"]) >= 43
        return cloud.tokens(issuer=issuer, nonce=query.get("nonce", ""))

    cloud.routes.setdefault(token_path, token)
    return browser.get(f"{query['redirect_uri']}?code=the-code&state={query['state']}")


# --- Microsoft Entra ID -----------------------------------------------------------------------------------------


def entra_login(cloud: Cloud, provider: IdentityProvider, **claims):
    cloud.claims = {"sub": "pairwise", "oid": "oid-1", "tid": DIRECTORY, "email": "alice@widgetcorp.test", **claims}
    cloud.routes[f"/{DIRECTORY}/discovery/v2.0/keys"] = lambda asked: cloud.jwks()
    return log_in(cloud, provider, token_path=f"/{DIRECTORY}/oauth2/v2.0/token", issuer=f"{cloud.url}/{DIRECTORY}/v2.0")


def test_entra_keeps_the_object_id_and_group_ids(cast, cloud):
    provider = make(cast.widgetcorp, "azureAD", {"directory_id": DIRECTORY.upper(), "support_groups": True})
    assert entra_login(cloud, provider, groups=GROUPS, amr=["pwd", "mfa"]).status_code == 302
    identity = Identity.objects.get()
    assert (identity.subject, identity.groups) == ("oid-1", GROUPS)
    assert AccessSession.objects.get().authentication_methods == ["pwd", "mfa"]


@pytest.mark.parametrize(
    "overage",
    [
        {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "http://169.254.169.254/x"}}},
        {"hasgroups": True},
        {},
    ],
)
def test_entra_reads_groups_beyond_the_token_from_graph(cast, cloud, overage):
    """The address in `_claim_sources` is the token's word, never followed (AC-66); all pages are read."""

    def graph(asked: Asked):
        assert asked.headers["Authorization"].startswith("Bearer access-")
        if "$skiptoken" in asked.query:
            return {"value": [{"id": GROUPS[1]}]}
        return {"value": [{"id": GROUPS[0]}], "@odata.nextLink": f"{cloud.url}{asked.path}?$skiptoken=2"}

    cloud.routes["/v1.0/me/transitiveMemberOf/microsoft.graph.group"] = graph
    provider = make(cast.widgetcorp, "azureAD", {"directory_id": DIRECTORY, "support_groups": True})
    answer = entra_login(cloud, provider, **overage)
    assert answer.status_code == 302, answer.content.decode()
    assert Identity.objects.get().groups == GROUPS


@pytest.mark.parametrize("failure", ["forbidden", "elsewhere"])
def test_entra_groups_that_can_not_be_read_stop_the_login(cast, cloud, failure):
    """AC-81: a login without its groups could slip past a Block on one of them."""
    forbidden = (403, {"error": {"code": "Authorization_RequestDenied"}}, {})
    elsewhere = {"value": [{"id": GROUPS[0]}], "@odata.nextLink": "https://evil.test/next"}
    answer = forbidden if failure == "forbidden" else elsewhere
    cloud.routes["/v1.0/me/transitiveMemberOf/microsoft.graph.group"] = lambda asked: answer
    provider = make(cast.widgetcorp, "azureAD", {"directory_id": DIRECTORY, "support_groups": True})
    page = entra_login(cloud, provider)
    assert page.status_code == 401
    said = "GroupMember.Read.All" if failure == "forbidden" else "another host"
    assert said in page.content.decode() and not AccessSession.objects.exists()


@pytest.mark.parametrize(
    ("claims", "trusted", "verified"),
    [
        ({}, [], False),
        ({"email_verified": True}, [], False),
        ({"xms_edov": True}, [], True),
        ({"xms_edov": "1"}, [], True),
        ({"xms_edov": False}, ["widgetcorp.test"], False),
        ({}, ["widgetcorp.test"], True),
        ({"email": "alice@elsewhere.test"}, ["widgetcorp.test"], False),
        ({"email": "alice@evil.widgetcorp.test"}, ["widgetcorp.test"], False),
    ],
)
def test_ac11_ac12_entra_addresses_count_only_when_somebody_vouches(cast, cloud, claims, trusted, verified):
    config = {"directory_id": DIRECTORY, "email_trusted_domains": trusted}
    entra_login(cloud, make(cast.widgetcorp, "azureAD", config), **claims)
    assert Identity.objects.get().email_verified is verified


@pytest.mark.parametrize("claims", [{"tid": "99999999-2222-3333-4444-555555555555"}, {"tid": None}, {"oid": None}])
def test_entra_people_of_another_directory_are_refused(cast, cloud, claims):
    answer = entra_login(cloud, make(cast.widgetcorp, "azureAD", {"directory_id": DIRECTORY}), **claims)
    assert answer.status_code == 401 and not Identity.objects.exists()


@pytest.mark.parametrize("directory", ["common", "organizations", "widgetcorp.onmicrosoft.com", ""])
def test_ac12_entra_needs_one_directory(cast, directory):
    with pytest.raises(InvalidInput):
        make(cast.widgetcorp, "azureAD", {"directory_id": directory})


# --- Google ----------------------------------------------------------------------------------------------------


def google_login(cloud: Cloud, provider: IdentityProvider, **claims):
    cloud.claims = {"sub": "g-1", "email": "alice@widgetcorp.test", "email_verified": True, **claims}
    return log_in(cloud, provider, token_path="/token", issuer=google.ISSUER)


@pytest.mark.parametrize(
    ("claims", "verified"),
    [
        ({"email": "alice@gmail.com"}, True),
        ({"hd": "widgetcorp.test"}, True),
        ({}, False),
        ({"hd": "widgetcorp.test", "email_verified": False}, False),
    ],
)
def test_ac11_google_vouches_only_for_its_own_domains(cast, cloud, claims, verified):
    assert google_login(cloud, make(cast.widgetcorp, "google", {}), **claims).status_code == 302
    assert Identity.objects.get().email_verified is verified


@pytest.mark.parametrize("claims", [{}, {"hd": "evil.test"}, {"hd": None}, {"hd": ["widgetcorp.test"]}])
def test_google_workspace_wants_the_domain_claim_not_the_address(cast, cloud, claims):
    provider = make(cast.widgetcorp, "google-apps", {"apps_domain": "widgetcorp.test"})
    answer = google_login(cloud, provider, **claims)
    assert answer.status_code == 401 and "does not belong to widgetcorp.test" in answer.content.decode()
    assert not Identity.objects.exists()


def service_account(cloud: Cloud) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pem = cloud.key.private_bytes(encoding, form, serialization.NoEncryption()).decode()
    key = {"client_email": "reader@project.test", "private_key": pem, "private_key_id": "k"}
    return json.dumps({**key, "token_uri": "http://169.254.169.254/token", "type": "service_account"})


def test_google_workspace_reads_groups_as_the_administrator(cast, cloud):
    config = {"apps_domain": "WidgetCorp.test", "admin_email": "admin@widgetcorp.test"}
    key = service_account(cloud)
    provider = make(cast.widgetcorp, "google-apps", config, secrets={"service_account_key": key})
    browser = EdgeBrowser()
    query = query_of(to_provider(browser, team_url(), provider))
    assert query["hd"] == "widgetcorp.test"

    def token(asked: Asked):
        if "assertion" in asked.form:
            public = cloud.key.public_key()
            claims = jwt.decode(asked.form["assertion"], public, ["RS256"], audience=f"{cloud.url}/token")
            assert (claims["iss"], claims["sub"]) == ("reader@project.test", "admin@widgetcorp.test")
            assert claims["scope"] == google.GROUPS_SCOPE
            return {"access_token": "directory-token"}
        return cloud.tokens(issuer=google.ISSUER, nonce=query["nonce"])

    def groups(asked: Asked):
        assert asked.headers["Authorization"] == "Bearer directory-token" and asked.query["userKey"] == "g-1"
        if "pageToken" in asked.query:
            return {"groups": [{"email": "Staff@widgetcorp.test"}]}
        return {"groups": [{"email": "engineering@widgetcorp.test"}], "nextPageToken": "2"}

    cloud.claims = {"sub": "g-1", "email": "a@widgetcorp.test", "email_verified": True, "hd": "widgetcorp.test"}
    cloud.routes |= {"/token": token, "/directory/groups": groups}
    answer = browser.get(f"{query['redirect_uri']}?code=the-code&state={query['state']}")
    assert answer.status_code == 302, answer.content.decode()
    assert Identity.objects.get().groups == ["engineering@widgetcorp.test", "staff@widgetcorp.test"]
    assert "PRIVATE" not in str(IdentityProvider.objects.values().get())


def test_a_service_account_needs_an_administrator_and_a_real_key(cast, cloud):
    config = {"apps_domain": "widgetcorp.test"}
    with pytest.raises(InvalidInput, match="admin_email"):
        make(cast.widgetcorp, "google-apps", config, secrets={"service_account_key": service_account(cloud)})
    config["admin_email"] = "admin@widgetcorp.test"
    for wrong in ("{}", "no json", '{"client_email": "a@b.test", "private_key": "x"}'):
        with pytest.raises(InvalidInput, match="service_account_key"):
            make(cast.widgetcorp, "google-apps", config, secrets={"service_account_key": wrong})


# --- GitHub ----------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(cast, cloud):
    cloud.routes |= {
        "/user": lambda asked: {"id": 583231, "login": "alice", "name": "Alice"},
        "/user/emails": lambda asked: [
            {"email": "other@widgetcorp.test", "primary": False, "verified": True},
            {"email": "Alice@WidgetCorp.test", "primary": True, "verified": True},
        ],
        "/user/memberships/orgs": lambda asked: [{"organization": {"login": "WidgetCorp"}}],
        "/user/teams": lambda asked: [
            {"slug": "engineering", "organization": {"login": "WidgetCorp"}},
            {"slug": "owners", "organization": {"login": "only-invited"}},
        ],
    }
    return make(cast.widgetcorp, "github", {})


def test_github_gives_number_primary_address_organizations_and_teams(cast, cloud, hub):
    assert log_in(cloud, hub, token_path="/token").status_code == 302
    identity = Identity.objects.get()
    assert (identity.subject, identity.email, identity.email_verified) == ("583231", "alice@widgetcorp.test", True)
    assert identity.groups == ["WidgetCorp", "WidgetCorp/engineering"]
    assert next(asked for asked in cloud.asked if "memberships" in asked.path).query["state"] == "active"


def test_ac11_github_unverified_primary_address_does_not_count(cast, cloud, hub):
    rows = [
        {"email": "alice@widgetcorp.test", "primary": True, "verified": False},
        {"email": "boss@widgetcorp.test", "primary": False, "verified": True},
    ]
    cloud.routes["/user/emails"] = lambda asked: rows
    log_in(cloud, hub, token_path="/token")
    identity = Identity.objects.get()
    assert (identity.email, identity.email_verified) == ("alice@widgetcorp.test", False)


def test_github_reads_every_page(cast, cloud, hub):
    def teams(asked: Asked):
        count = {"1": github.PAGE_SIZE, "2": 3}[asked.query["page"]]
        return [{"slug": f"t{asked.query['page']}-{n}", "organization": {"login": "WidgetCorp"}} for n in range(count)]

    cloud.routes["/user/teams"] = teams
    log_in(cloud, hub, token_path="/token")
    assert len(Identity.objects.get().groups) == 1 + github.PAGE_SIZE + 3


def test_github_says_errors_with_status_200(cast, cloud, hub):
    cloud.routes["/token"] = lambda asked: {"error": "incorrect_client_credentials", "error_description": "secret text"}
    answer = log_in(cloud, hub, token_path="/token")
    text = answer.content.decode()
    assert answer.status_code == 401 and "client ID or secret is wrong" in text and "secret text" not in text


def test_github_refused_lists_stop_the_login(cast, cloud, hub):
    cloud.routes["/user/teams"] = lambda asked: (403, {}, {})
    answer = log_in(cloud, hub, token_path="/token")
    assert answer.status_code == 401 and "read:org" in answer.content.decode() and not Identity.objects.exists()


def test_ac44_an_answer_at_another_login_methods_address_is_refused(cast, cloud, hub):
    browser = EdgeBrowser()
    query = query_of(to_provider(browser, team_url(), hub))
    assert query["redirect_uri"] == f"https://{TEAM}/cdn-cgi/access/callback/github"
    answer = browser.get(team_url(f"/cdn-cgi/access/callback?code=the-code&state={query['state']}"))
    assert answer.status_code == 401 and "not the one of github" in answer.content.decode()
    assert cloud.paths() == []


# --- Okta beyond 100 groups ---------------------------------------------------------------------------------------


def test_okta_reads_all_groups_through_its_api(cast, cloud):
    config = {"okta_account": cloud.url}
    provider = make(cast.widgetcorp, "okta", config, secrets={"api_token": "okta-api-token"})

    def groups(asked: Asked):
        assert asked.headers["Authorization"] == "SSWS okta-api-token"
        start = int(asked.query.get("after", 0))
        following = f'<{cloud.url}{asked.path}?after={start + 100}>; rel="next"'
        link = {"Link": f'<{cloud.url}{asked.path}>; rel="self", {following}'} if start < 200 else {}
        return 200, [{"profile": {"name": f"group-{n}"}} for n in range(start, start + 100)], link

    cloud.routes |= {"/oauth2/v1/keys": lambda asked: cloud.jwks(), "/api/v1/users/00u1/groups": groups}
    cloud.claims = {"sub": "00u1", "email": "alice@widgetcorp.test", "email_verified": True, "groups": ["cut"]}
    assert "groups" not in query_of(to_provider(EdgeBrowser(), team_url(), provider))["scope"]
    assert log_in(cloud, provider, token_path="/oauth2/v1/token", issuer=cloud.url).status_code == 302
    assert Identity.objects.get().groups == [f"group-{n}" for n in range(300)]
    assert "okta-api-token" not in str(IdentityProvider.objects.values().get())


@pytest.mark.parametrize("failure", ["refused", "elsewhere"])
def test_okta_groups_that_can_not_be_read_stop_the_login(cast, cloud, failure):
    """The API token goes to no other host, whatever the paging link says."""
    provider = make(cast.widgetcorp, "okta", {"okta_account": cloud.url}, secrets={"api_token": "okta-api-token"})
    refused, elsewhere = (401, {}, {}), (200, [], {"Link": '<https://evil.test/next>; rel="next"'})
    cloud.routes |= {
        "/oauth2/v1/keys": lambda asked: cloud.jwks(),
        "/api/v1/users/00u1/groups": lambda asked: refused if failure == "refused" else elsewhere,
    }
    cloud.claims = {"sub": "00u1", "email": "alice@widgetcorp.test", "email_verified": True}
    answer = log_in(cloud, provider, token_path="/oauth2/v1/token", issuer=cloud.url)
    assert answer.status_code == 401 and not AccessSession.objects.exists()
    assert ("API token" if failure == "refused" else "another host") in answer.content.decode()


def test_ac66_provider_apis_on_private_addresses_are_not_asked(cast, cloud, hub):
    with override_settings(FETCH_ALLOWED_PRIVATE_HOSTS=[]):
        answer = log_in(cloud, hub, token_path="/token")
    assert answer.status_code == 401 and "could not be asked" in answer.content.decode() and cloud.paths() == []
