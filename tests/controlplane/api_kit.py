"""What API tests share: a client with a token, and two tenants that hold one of everything under the same names."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from access.models import AccessRequest, Application, ApprovalRequest, Certificate, Policy, PrincipalClaim
from accounts.actions.api_tokens import create_api_token
from accounts.actor import Actor, ActorKind
from accounts.models import (
    AccessSession,
    ApiToken,
    AuditEvent,
    DeletedObject,
    Identity,
    IdentityProvider,
    Organization,
    SupportSession,
)
from accounts.permissions import SCOPES
from tests.client_roots import Root
from tunnels.models import Connection, Connector, Edge, Tunnel

ACTOR = Actor(ActorKind.USER, "1", "tests", "127.0.0.1")
ALL_SCOPES = [scope.value for scope in SCOPES]
MAIN = "/client/v4"
SECRET = base64.b64encode(b"s" * 32).decode()
INGRESS = {
    "ingress": [{"hostname": "ssh.example.test", "service": "ssh://localhost:22"}, {"service": "http_status:404"}]
}
CLIENT_ROOT = Root("Machines").pem()


@dataclass
class Api:
    """Speaks to /client/v4 with one token, like a program would: JSON in, envelope out."""

    organization: Organization
    token: str

    @property
    def account(self) -> str:
        return f"/accounts/{self.organization.id}"

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
        request = getattr(Client(), method.lower())
        extra = {"headers": {"Host": "testserver", "Authorization": f"Bearer {self.token}"} | headers}
        if body is None:
            return request(MAIN + path, **({} if method == "GET" else {"content_type": "application/json"}), **extra)
        return request(MAIN + path, data=body, content_type="application/json", **extra)

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        """The result of a request that must succeed."""
        response = self.send(method, path, body)
        assert response.status_code == 200, (method, path, response.status_code, response.content)
        assert response["Content-Type"] == "application/json"
        envelope = response.json()
        assert envelope["success"] is True
        assert envelope["errors"] == []
        assert envelope["messages"] == []
        return envelope["result"]

    def refused(self, method: str, path: str, body: Any = None, *, status: int) -> dict[str, Any]:
        """The first error of a request that must fail."""
        response = self.send(method, path, body)
        assert response.status_code == status, (method, path, response.status_code, response.content)
        assert response["Content-Type"] == "application/json"
        envelope = response.json()
        assert envelope["success"] is False
        assert envelope["messages"] == []
        assert envelope["result"] is None
        error: dict[str, Any] = envelope["errors"][0]
        assert isinstance(error["code"], int)
        assert error["message"]
        return error


def make_api(organization: Organization, scopes: Iterable[str] = tuple(ALL_SCOPES)) -> Api:
    _, value = create_api_token(organization, name="tests", scopes=scopes, expires_at=None, user=None, actor=ACTOR)
    return Api(organization, value)


def event_names(organization: Organization) -> list[str]:
    return list(AuditEvent.objects.for_organization(organization).order_by("id").values_list("name", flat=True))


def event_count() -> int:
    return AuditEvent.objects.all_organizations(reason="tests").count()


@dataclass
class Tenant:
    """An organization with one of everything. `ids` fills the {parameters} of operation paths."""

    api: Api
    domain: str
    ids: dict[str, str] = field(default_factory=dict)

    def path(self, template: str) -> str:
        return template.format(**self.ids)


def make_tenant(organization: Organization, domain: str) -> Tenant:
    """Made through the API itself, except what only logins and edges make."""
    api = make_api(organization)
    tenant = Tenant(api, domain)
    account = api.account
    zone = api.ok("POST", "/zones", {"name": domain, "account": {"id": organization.id}})
    group = api.ok("POST", f"{account}/access/groups", {"name": "Engineers", "include": [{"everyone": {}}]})
    reusable = api.ok(
        "POST",
        f"{account}/access/policies",
        {"name": "Staff", "decision": "allow", "include": [{"group": {"id": group["id"]}}]},
    )
    app = api.ok("POST", f"{account}/access/apps", {"name": "SSH", "domain": f"ssh.{domain}", "type": "self_hosted"})
    own_policy = api.ok(
        "POST",
        f"{account}/access/apps/{app['id']}/policies",
        {"name": "Own", "decision": "allow", "include": [{"email": {"email": "alice@example.test"}}]},
    )
    api.ok("POST", f"{account}/access/apps/{app['id']}/ca")
    service_token = api.ok("POST", f"{account}/access/service_tokens", {"name": "ci"})
    tunnel = api.ok("POST", f"{account}/cfd_tunnel", {"name": "pool", "tunnel_secret": SECRET})
    record = api.ok(
        "POST",
        f"/zones/{zone['id']}/dns_records",
        {"type": "CNAME", "name": f"ssh.{domain}", "content": f"{tunnel['id']}.tunnel.example.test", "proxied": True},
    )
    provider = IdentityProvider.objects.create(organization=organization, type="oidc", name="Login", config={})
    session = make_session(provider)
    make_access_request(session.identity, Application.objects.get(pk=app["id"]))
    policy_test = api.ok("POST", f"{account}/access/policy-tests", {"policies": [reusable["id"]]})
    members = api.ok("POST", f"{account}/gateway/lists", {"name": "Ops", "type": "EMAIL"})
    root = {"name": "Machines", "certificate": CLIENT_ROOT, "associated_hostnames": []}
    certificate = api.ok("POST", f"{account}/access/certificates", root)
    tag = api.ok("POST", f"{account}/access/tags", {"name": f"at {domain}"})
    test = {"name": "Nobody", "question": {"who": "nobody"}, "expected": "deny"}
    saved_test = api.ok("POST", f"{account}/access/apps/{app['id']}/saved_tests", test)
    approval = make_approval(session.identity, Application.objects.get(pk=app["id"]))
    claim = PrincipalClaim.objects.create(
        organization=organization, application_id=app["id"], principal="alice", identity=session.identity
    )
    support = SupportSession.objects.create(
        organization=organization, staff_label="x@operator.test", reason="Ticket 1: nothing works", duration_seconds=60
    )
    deleted = DeletedObject.objects.create(
        organization=organization,
        kind="tag",
        object_id=str(uuid.uuid4()),
        name="legacy",
        document={"name": "legacy", "applications": []},
        deleted_by="alice",
        expires_at=timezone.now() + timedelta(days=6),
    )
    member = organization.memberships.order_by("pk").first()
    assert member is not None
    sorry = {"name": "Sorry", "type": "forbidden", "custom_html": "<p>Sorry.</p>"}
    page = api.ok("POST", f"{account}/access/custom_pages", sorry)
    tenant.ids = {
        "page_id": page["uid"],
        "test_id": saved_test["id"],
        "approval_id": str(approval.pk),
        "principal_id": str(claim.pk),
        "ssh_certificate_id": str(make_certificate(claim).pk),
        "support_session_id": str(support.pk),
        "deleted_id": str(deleted.pk),
        "member_id": str(member.pk),
        "api_token_id": ApiToken.objects.for_organization(organization).get(name="tests").pk,
        "tag_name": tag["name"],
        "policy_test_id": policy_test["id"],
        "list_id": members["id"],
        "certificate_id": certificate["id"],
        "account_id": organization.id,
        "zone_id": zone["id"],
        "group_id": group["id"],
        "app_id": app["id"],
        "policy_id": reusable["id"],
        "app_policy_id": own_policy["id"],
        "token_id": service_token["id"],
        "tunnel_id": tunnel["id"],
        "record_id": record["id"],
        "provider_id": str(provider.pk),
        "user_id": str(session.identity_id),
        "nonce": session.nonce,
        "connector_id": str(make_connector(Tunnel.objects.get(pk=tunnel["id"])).client_id),
    }
    return tenant


def make_session(provider: IdentityProvider, email: str = "alice@example.test") -> AccessSession:
    now = timezone.now()
    identity = Identity.objects.create(
        organization=provider.organization,
        provider=provider,
        subject=f"subject-{email}",
        email=email,
        email_verified=True,
        name="Alice",
        groups=["Engineering"],
        last_login_at=now,
    )
    return AccessSession.objects.create(
        organization=provider.organization,
        identity=identity,
        expires_at=now + timedelta(hours=24),
        ip_address="192.0.2.7",
        country="PT",
        authentication_methods=["pwd", "mfa"],
    )


def make_approval(identity: Identity, application: Application) -> ApprovalRequest:
    policy = Policy.objects.for_organization(application.organization).filter(reusable=False).first()
    assert policy is not None
    return ApprovalRequest.objects.create(
        organization=application.organization,
        application=application,
        policy=policy,
        identity=identity,
        reason="Replace the disk",
        duration_seconds=600,
    )


def make_certificate(claim: PrincipalClaim) -> Certificate:
    now = timezone.now()
    return Certificate.objects.create(
        organization=claim.organization,
        application=claim.application,
        authority=claim.application.ssh_authorities.get(),
        identity=claim.identity,
        serial=str(uuid.uuid4().int >> 65),
        key_id=f"{claim.organization.team_name}/ssh/{claim.principal}",
        principals=[claim.principal],
        extensions=[],
        public_key="ssh-ed25519 AAAA",
        public_key_fingerprint=uuid.uuid4().hex,
        request_sha256="0" * 64,
        valid_after=now,
        valid_before=now + timedelta(minutes=4),
        status="issued",
    )


def make_access_request(identity: Identity, application: Application, *, allowed: bool = False) -> AccessRequest:
    return AccessRequest.objects.create(
        organization=identity.organization,
        application=application,
        application_label=application.name,
        identity=identity,
        email=identity.email,
        action="login",
        allowed=allowed,
        reason="allowed" if allowed else "no_match",
        connection="oidc",
        ray_id=uuid.uuid4().hex[:16],
        ip_address="192.0.2.7",
        country="PT",
    )


def make_connector(tunnel: Tunnel, connections: int = 2) -> Connector:
    """A connector as an edge would have reported it just now."""
    now = timezone.now()
    edge, _ = Edge.objects.get_or_create(
        id="edge-1", defaults={"name": "edge-1", "location": "lis01", "last_seen_at": now}
    )
    connector = Connector.objects.create(
        organization=tunnel.organization,
        tunnel=tunnel,
        client_id=uuid.uuid4(),
        version="2026.8.2",
        arch="linux_amd64",
        features=["serialized_headers"],
        origin_ip="192.0.2.9",
        last_seen_at=now,
    )
    for index in range(connections):
        Connection.objects.create(
            id=uuid.uuid4(),
            organization=tunnel.organization,
            connector=connector,
            edge=edge,
            index=index,
            origin_ip="192.0.2.9",
            opened_at=now - timedelta(minutes=5 - index),
            last_seen_at=now,
            applied_version=3,
        )
    return connector
