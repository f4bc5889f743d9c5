"""The unmodified `cloudflare` Python package and a cloudflared-like client against a real server: steps 1 to 4 of
the tutorial (group, application, tunnel and configuration, DNS record, certificate authority)."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import cloudflare
import pytest
from cloudflare import Cloudflare

from access.models import Application
from accounts.models import IdentityProvider, Organization
from tests.controlplane.api_kit import ALL_SCOPES, SECRET, event_names, make_api, make_connector, make_session
from tests.factories import Cast, make_cast
from tunnels.models import Tunnel


@pytest.fixture
def server_cast(transactional_db: None, settings: Any) -> Cast:
    settings.UNVERIFIED_ZONE_SUFFIX = "example"
    return make_cast()


@pytest.fixture
def organization(server_cast: Cast) -> Organization:
    return server_cast.widgetcorp


@pytest.fixture
def base_url(live_server: Any) -> str:
    return f"{live_server.url}/client/v4"


@pytest.fixture
def client(organization: Organization, base_url: str) -> Iterator[Cloudflare]:
    """Checks every answer against the package's own types."""
    token = make_api(organization).token
    with Cloudflare(
        api_token=token, base_url=base_url, max_retries=0, timeout=20, _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture
def lenient(client: Cloudflare) -> Iterator[Cloudflare]:
    """As people use it. The package types a group's `is_default` as a list of rules (product.md 1.4), and wants a
    hostname in the catch-all ingress rule, which has none."""
    with Cloudflare(api_token=client.api_token, base_url=client.base_url, max_retries=0, timeout=20) as lenient:
        yield lenient


def make_zone(client: Cloudflare, account: str) -> str:
    zone = client.zones.create(account={"id": account}, name="widgetcorp.example", type="full")
    assert zone is not None
    assert zone.status == "active"
    return zone.id


def test_the_tutorial_through_the_sdk(client: Cloudflare, lenient: Cloudflare, organization: Organization) -> None:
    account = organization.id
    access = client.zero_trust.access
    zone_id = make_zone(client, account)
    provider = IdentityProvider.objects.create(organization=organization, type="oidc", name="Okta", config={})

    # Step 1: a group of Okta/OIDC membership and country, an application with a policy that uses it.
    group = lenient.zero_trust.access.groups.create(
        account_id=account,
        name="SSH users",
        include=[
            {"oidc": {"claim_name": "groups", "claim_value": "Engineering", "identity_provider_id": str(provider.pk)}}
        ],
        require=[{"geo": {"country_code": "PT"}}],
    )
    assert group.id
    policy = access.policies.create(
        account_id=account, name="Engineers", decision="allow", include=[{"group": {"id": group.id}}]
    )
    application = access.applications.create(
        account_id=account,
        type="self_hosted",
        name="SSH bastion",
        domain="ssh-bastion.widgetcorp.example",
        session_duration="24h",
        allowed_idps=[str(provider.pk)],
        auto_redirect_to_identity=True,
        policies=[{"id": policy.id, "precedence": 1}],
    )
    assert application.aud
    assert application.domain == "ssh-bastion.widgetcorp.example"
    assert application.session_duration == "24h"
    assert [item.id for item in application.policies or []] == [policy.id]

    # Step 2: a tunnel and its configuration.
    tunnel = client.zero_trust.tunnels.cloudflared.create(
        account_id=account, name="ssh-pool", config_src="cloudflare", tunnel_secret=SECRET
    )
    assert tunnel.status == "inactive"
    published = lenient.zero_trust.tunnels.cloudflared.configurations.update(
        tunnel.id or "",
        account_id=account,
        config={
            "ingress": [
                {"hostname": "ssh-bastion.widgetcorp.example", "service": "bastion"},
                {"service": "http_status:404"},
            ]  # type: ignore[typeddict-item]
        },
    )
    assert published.version == 1
    assert published.config.ingress[0].service == "bastion"
    token = client.zero_trust.tunnels.cloudflared.token.get(tunnel.id or "", account_id=account)
    assert json.loads(base64.b64decode(token))["t"] == tunnel.id

    # Step 3: the DNS record.
    record = client.dns.records.create(
        zone_id=zone_id,
        type="CNAME",
        name="ssh-bastion.widgetcorp.example",
        content=f"{tunnel.id}.tunnel.example.test",
        ttl=1,
        proxied=True,
    )
    assert record.name == "ssh-bastion.widgetcorp.example"
    assert [found.id for found in client.dns.records.list(zone_id=zone_id, name={"exact": record.name})] == [record.id]

    # Step 4: the certificate authority.
    authority = access.applications.cas.create(application.id or "", account_id=account)
    assert authority.aud == application.aud
    assert (authority.public_key or "").startswith("ssh-ed25519 ")
    assert access.applications.cas.get(application.id or "", account_id=account) == authority
    assert list(access.applications.cas.list(account_id=account)) == [authority]

    names = event_names(organization)
    for expected in (
        "tunnels.zone.created",
        "access.group.created",
        "access.policy.created",
        "access.application.created",
        "tunnels.tunnel.created",
        "tunnels.configuration.published",
        "tunnels.record.created",
        "access.ssh_authority.created",
    ):
        assert names.count(expected) == 1, expected


def test_policies_of_an_application_through_the_sdk(client: Cloudflare, organization: Organization) -> None:
    account = organization.id
    make_zone(client, account)
    application = client.zero_trust.access.applications.create(
        account_id=account, type="self_hosted", name="SSH", domain="ssh.widgetcorp.example"
    )
    policies = client.zero_trust.access.applications.policies
    # The typed parameters carry only extras; name, decision and include go through extra_body (product.md 3.3).
    created = policies.create(
        application.id or "",
        account_id=account,
        precedence=2,
        extra_body={"name": "Mail", "decision": "allow", "include": [{"email": {"email": "alice@example.test"}}]},
    )
    assert created.precedence == 2
    assert [item.id for item in policies.list(application.id or "", account_id=account)] == [created.id]
    deleted = policies.delete(created.id or "", account_id=account, app_id=application.id or "")
    assert deleted.id == created.id
    updated = client.zero_trust.access.applications.update(
        application.id or "", account_id=account, type="self_hosted", name="SSH 2", domain="ssh.widgetcorp.example"
    )
    assert updated.name == "SSH 2"
    client.zero_trust.access.applications.revoke_tokens(application.id or "", account_id=account)
    assert client.zero_trust.access.applications.delete(application.id or "", account_id=account).id == application.id
    with pytest.raises(cloudflare.NotFoundError):
        client.zero_trust.access.applications.get(application.id or "", account_id=account)


def test_service_tokens_tokens_and_accounts_through_the_sdk(client: Cloudflare, organization: Organization) -> None:
    account = organization.id
    tokens = client.zero_trust.access.service_tokens
    token = tokens.create(account_id=account, name="ci", duration="8760h")
    assert token.client_id
    assert token.client_secret
    rotated = tokens.rotate(token.id or "", account_id=account)
    assert rotated.client_secret != token.client_secret
    assert tokens.refresh(token.id or "", account_id=account).duration == "8760h"
    assert [item.name for item in tokens.list(account_id=account)] == ["ci"]
    assert tokens.delete(token.id or "", account_id=account).id == token.id
    verified = client.user.tokens.verify()
    assert verified is not None
    assert verified.status == "active"
    own = client.accounts.tokens.verify(account_id=account)
    assert own is not None
    assert own.id == verified.id
    assert [item.id for item in client.accounts.list()] == [account]
    user = client.user.get()
    assert user is not None
    with pytest.raises(cloudflare.NotFoundError):
        client.accounts.get(account_id="0" * 32)


def test_lists_page_to_their_end_through_the_sdk(client: Cloudflare, organization: Organization) -> None:
    account = organization.id
    for number in range(7):
        client.zero_trust.tunnels.cloudflared.create(account_id=account, name=f"pool-{number}")

    listed = client.zero_trust.tunnels.cloudflared.list(account_id=account, per_page=3)

    assert [tunnel.name for tunnel in listed] == [f"pool-{number}" for number in range(7)]
    named = client.zero_trust.tunnels.cloudflared.list(account_id=account, name="pool-3", is_deleted=False)
    assert [tunnel.name for tunnel in named] == ["pool-3"]
    zones = client.zones.list(account={"id": account}, status="active", per_page=5)
    assert [zone.name for zone in zones] == []


def test_people_logs_and_organization_through_the_sdk(client: Cloudflare, organization: Organization) -> None:
    account = organization.id
    provider = IdentityProvider.objects.create(organization=organization, type="oidc", name="Okta", config={})
    session = make_session(provider)
    (user,) = client.zero_trust.access.users.list(account_id=account)
    assert user.email == "alice@example.test"
    (active,) = client.zero_trust.access.users.active_sessions.list(user.id or "", account_id=account)
    assert active.metadata is not None
    assert active.metadata.nonce == session.nonce
    identity = client.zero_trust.access.users.last_seen_identity.get(user.id or "", account_id=account)
    assert identity is not None
    assert identity.email == "alice@example.test"
    assert list(client.zero_trust.access.users.failed_logins.list(user.id or "", account_id=account)) == []
    assert client.zero_trust.access.logs.access_requests.list(account_id=account) == []
    shown = client.zero_trust.organizations.list(account_id=account)
    assert shown is not None
    assert shown.auth_domain == "widgetcorp.access.example.test"
    changed = client.zero_trust.organizations.update(account_id=account, session_duration="12h")
    assert changed is not None
    assert changed.session_duration == "12h"
    assert client.zero_trust.organizations.revoke_users(account_id=account, email="alice@example.test") is True
    session.refresh_from_db()
    assert session.revoked_at is not None
    assert [item.name for item in client.zero_trust.identity_providers.list(account_id=account)] == ["Okta"]


def test_connectors_through_the_sdk(client: Cloudflare, organization: Organization) -> None:
    account = organization.id
    tunnel = client.zero_trust.tunnels.cloudflared.create(account_id=account, name="pool")
    connector = make_connector(Tunnel.objects.get(pk=tunnel.id), connections=4)
    assert client.zero_trust.tunnels.cloudflared.get(tunnel.id or "", account_id=account).status == "healthy"
    (found,) = client.zero_trust.tunnels.cloudflared.connections.get(tunnel.id or "", account_id=account)
    assert found.id == str(connector.client_id)
    same = client.zero_trust.tunnels.cloudflared.connectors.get(
        str(connector.client_id), account_id=account, tunnel_id=tunnel.id or ""
    )
    assert len(same.conns or []) == 4
    client.zero_trust.tunnels.cloudflared.connections.delete(tunnel.id or "", account_id=account)
    renamed = client.zero_trust.tunnels.cloudflared.edit(tunnel.id or "", account_id=account, name="pool 2")
    assert renamed.name == "pool 2"
    with pytest.raises(cloudflare.ConflictError):
        client.zero_trust.tunnels.cloudflared.delete(tunnel.id or "", account_id=account)


def test_the_sdk_sees_each_kind_of_error(
    client: Cloudflare, organization: Organization, server_cast: Cast, base_url: str
) -> None:
    account = organization.id
    with pytest.raises(cloudflare.BadRequestError) as bad:
        client.zero_trust.access.groups.create(account_id=account, name="x", include=[])
    assert bad.value.errors[0].message
    with pytest.raises(cloudflare.NotFoundError):
        client.zero_trust.access.groups.create(account_id=server_cast.evilcorp.id, name="x", include=[{"everyone": {}}])
    reader = make_api(organization, [scope for scope in ALL_SCOPES if scope.endswith(".read")]).token
    with (
        Cloudflare(api_token=reader, base_url=base_url, max_retries=0) as reading,
        pytest.raises(cloudflare.PermissionDeniedError),
    ):
        reading.zero_trust.tunnels.cloudflared.create(account_id=account, name="x")
    with (
        Cloudflare(api_token="x" * 40, base_url=base_url, max_retries=0) as stranger,
        pytest.raises(cloudflare.AuthenticationError),
    ):
        stranger.user.tokens.verify()
    assert Application.objects.count() == 0


# --- As cloudflared does: HTTP by hand, envelope and content type read strictly --------------------------------
class Cloudflared:
    """Sends what the CLI sends, and fails where the CLI would (tunnel-edge.md 1.1, 1.2)."""

    def __init__(self, base_url: str, token: str) -> None:
        parts = urlsplit(base_url)
        self.address, self.prefix, self.token = parts.netloc, parts.path, token

    def send(self, method: str, path: str, body: Any = None) -> tuple[int, str, dict[str, Any]]:
        connection = http.client.HTTPConnection(self.address, timeout=15)
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/json;version=1",
            "User-Agent": "cloudflared/2026.8.2",
            "Accept-Encoding": "gzip",
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, self.prefix + path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        document = json.loads(response.read())
        connection.close()
        assert all(isinstance(message, str) for message in document["messages"])
        return response.status, response.getheader("Content-Type") or "", document

    def list_all(self, path: str) -> list[Any]:
        found: list[Any] = []
        for page in range(1, 100):
            status, content_type, document = self.send("GET", f"{path}&page={page}")
            assert (status, content_type) == (200, "application/json")
            found += document["result"]
            info = document["result_info"]
            if info["count"] < info["per_page"] or len(found) >= info["total_count"]:
                return found
        raise AssertionError("the list never ends")


def test_requests_of_the_tunnel_command(organization: Organization, client: Cloudflare, base_url: str) -> None:
    account = organization.id
    zone_id = make_zone(client, account)
    cli = Cloudflared(base_url, make_api(organization).token)
    tunnels = f"/accounts/{account}/cfd_tunnel"

    status, content_type, created = cli.send("POST", tunnels, {"name": "demo", "tunnel_secret": SECRET})
    assert (status, content_type) == (200, "application/json")
    tunnel = created["result"]
    status, content_type, refused = cli.send("POST", tunnels, {"name": "demo", "tunnel_secret": SECRET})
    assert (status, content_type) == (409, "application/json")
    assert refused["errors"][0]["code"] == 1013
    for number in range(4):
        cli.send("POST", tunnels, {"name": f"more-{number}", "tunnel_secret": SECRET})
    assert len(cli.list_all(f"{tunnels}?is_deleted=false&per_page=2")) == 5
    assert len(cli.list_all(f"{tunnels}?is_deleted=false")) == 5
    assert [item["id"] for item in cli.list_all(f"{tunnels}?is_deleted=false&name=demo")] == [tunnel["id"]]

    route = f"/zones/{zone_id}/tunnels/{tunnel['id']}/routes"
    body = {"type": "dns", "user_hostname": "demo.widgetcorp.example", "overwrite_existing": False}
    assert cli.send("PUT", route, body)[2]["result"] == {"cname": "new", "name": "demo.widgetcorp.example"}
    assert cli.send("PUT", route, body)[2]["result"]["cname"] == "unchanged"
    status, _, document = cli.send("GET", f"{tunnels}/{tunnel['id']}/token")
    assert json.loads(base64.b64decode(document["result"]))["a"] == account
    assert cli.send("GET", f"{tunnels}/{tunnel['id']}/connections")[2]["result"] == []
    assert cli.send("DELETE", f"{tunnels}/{tunnel['id']}/connections")[0] == 200
    assert cli.send("DELETE", f"{tunnels}/{tunnel['id']}?cascade=true")[0] == 200
    assert cli.send("GET", f"{tunnels}/{tunnel['id']}")[2]["result"]["deleted_at"] is not None
    status, content_type, _ = cli.send("GET", f"{tunnels}/not-a-tunnel/token")
    assert (status, content_type) == (404, "application/json")


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 5 * 1024 * 1024])
def test_a_client_that_sends_too_much_reads_why(organization: Organization, base_url: str, size: int) -> None:
    cli = Cloudflared(base_url, make_api(organization).token)

    status, content_type, document = cli.send("POST", f"/accounts/{organization.id}/cfd_tunnel", {"name": "x" * size})

    assert (status, content_type) == (413, "application/json")
    assert document["errors"][0]["message"] == "The request body is larger than 1 MiB."
