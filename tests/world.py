"""One of everything in an organization, under the same names in every organization: for tests that walk all routes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.db import transaction
from django.utils import timezone

from access.models import (
    AccessList,
    AccessRequest,
    Application,
    ApplicationDraft,
    ApplicationPolicy,
    ApprovalRequest,
    Certificate,
    ClientAuthority,
    CustomPage,
    Group,
    Policy,
    PrincipalClaim,
    SavedTest,
    ServiceToken,
    Simulation,
    SimulationResult,
    SshAuthority,
    Tag,
    TokenKey,
)
from accounts.actor import system
from accounts.audit import record
from accounts.models import (
    AccessSession,
    ApiToken,
    DeletedObject,
    Identity,
    IdentityProvider,
    Invitation,
    Membership,
    Organization,
    OrganizationLogo,
    ProviderTest,
    SavedLogView,
    SupportSession,
)
from tunnels.models import Connection, Connector, DnsRecord, Edge, Tunnel, TunnelConfiguration, Zone

# One pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGnOtAReAlKeYbUtLoNgEnOuGhFoRtEsTsOnLy00000 widgetcorp/SSH bastion"

# Parts of sealed values and hashes below: none of them may ever be on a page.
CANARIES = ("sealed-client-secret", "sealed-authority-key", "sealed-token-key", "c2VhbGVk")


@dataclass(frozen=True)
class World:
    organization: Organization
    pin: IdentityProvider
    oidc: IdentityProvider
    identity: Identity
    session: AccessSession
    api_token: ApiToken
    zone: Zone
    application: Application
    policy: Policy
    reusable: Policy
    group: Group
    access_list: AccessList
    tag: Tag
    custom_page: CustomPage
    client_authority: ClientAuthority
    service_token: ServiceToken
    authority: SshAuthority
    claim: PrincipalClaim
    certificate: Certificate
    access_request: AccessRequest
    approval: ApprovalRequest
    saved_test: SavedTest
    simulation: Simulation
    token_key: TokenKey
    tunnel: Tunnel
    configuration: TunnelConfiguration
    connector: Connector
    dns_record: DnsRecord
    audit_event: Any
    membership: Membership
    invitation: Invitation
    saved_view: SavedLogView
    provider_test: ProviderTest
    support_session: SupportSession
    draft: ApplicationDraft
    deleted: DeletedObject

    def url_arguments(self) -> dict[str, Any]:
        """A value for every argument that dashboard URLs take."""
        return {
            "team": self.organization.team_name,
            "identity_id": self.identity.pk,
            "session_id": self.session.pk,
            "membership_id": self.membership.pk,
            "log": "access",
            "view_id": self.saved_view.pk,
            "invitation_id": self.invitation.pk,
            "kind": "oidc",
            "provider_id": self.oidc.pk,
            "provider_test_id": self.provider_test.pk,
            "token_id": self.service_token.pk,
            "event_id": self.audit_event.pk,
            "application_id": self.application.pk,
            "draft_id": self.draft.pk,
            "policy_id": self.policy.pk,
            "group_id": self.group.pk,
            "list_id": self.access_list.pk,
            "tag_id": self.tag.pk,
            "page_id": self.custom_page.pk,
            "root_id": self.client_authority.pk,
            "claim_id": self.claim.pk,
            "request_id": self.access_request.pk,
            "approval_id": self.approval.pk,
            "test_id": self.saved_test.pk,
            "simulation_id": self.simulation.pk,
            "certificate_id": self.certificate.pk,
            "tunnel_id": self.tunnel.pk,
            "client_id": self.connector.client_id,
            "version": self.configuration.version,
            "zone_id": self.zone.pk,
            "record_id": self.dns_record.pk,
            "support_session_id": self.support_session.pk,
            "deleted_id": self.deleted.pk,
        }


@transaction.atomic
def make_world(organization: Organization, *, domain: str) -> World:
    """`domain` is the only thing two worlds cannot share: a domain has one owner."""
    now = timezone.now()
    people = _people(organization)
    access = _access(organization, domain, people)
    network = _network(organization, domain)
    event = record(
        "access.group.created",
        organization=organization,
        actor=system("tests"),
        target=access["group"],
        new={"name": "Engineering", "is_default": False},
    )
    token = ApiToken.objects.create(
        organization=organization,
        name="terraform",
        token_sha256=uuid4().hex * 2,
        prefix="sp_abcde",
        scopes=["access.read", "tunnels.edit"],
        expires_at=now + timedelta(days=30),
    )
    OrganizationLogo.objects.create(organization=organization, content=PNG, media_type="image/png")
    membership = organization.memberships.order_by("pk").first()
    assert membership is not None
    return World(
        organization=organization,
        api_token=token,
        audit_event=event,
        membership=membership,
        saved_view=SavedLogView.objects.create(
            organization=organization, log="access", name="Denied", query="decision=denied", created_by_label="alice"
        ),
        support_session=SupportSession.objects.create(
            organization=organization,
            staff_label="somebody@operator.test",
            reason="Ticket 17: certificates fail",
            duration_seconds=1800,
        ),
        draft=ApplicationDraft.objects.create(
            organization=organization,
            user=membership.user,
            name="Second bastion",
            data={
                "configure": {
                    "name": ["Second bastion"],
                    "subdomain": ["bastion-2"],
                    "domain": [domain],
                    "session_duration_seconds": ["3600"],
                },
                "policies": [],
            },
            expires_at=now + timedelta(days=30),
        ),
        deleted=DeletedObject.objects.create(
            organization=organization,
            kind="tag",
            object_id=str(uuid4()),
            name="legacy",
            document={"name": "legacy", "applications": []},
            deleted_by="alice@widgetcorp.test",
            expires_at=now + timedelta(days=6),
        ),
        invitation=Invitation.objects.create(
            organization=organization,
            email="nina@people.test",
            role="viewer",
            invited_by=membership.user,
            invited_by_label=membership.user.email,
            expires_at=now + timedelta(days=7),
        ),
        provider_test=ProviderTest.objects.create(
            organization=organization,
            provider=people["oidc"],
            started_by=membership.user,
            ticket_sha256=uuid4().hex * 2,
            expires_at=now + timedelta(minutes=10),
            result={"subject": "subject-1", "email": "carol@people.test", "groups": ["engineers"], "claims": {}},
        ),
        **people,
        **access,
        **network,
    )


def _people(organization: Organization) -> dict[str, Any]:
    now = timezone.now()
    pin = IdentityProvider.objects.create(organization=organization, type="onetimepin", name="One-time PIN")
    oidc = IdentityProvider.objects.create(
        organization=organization,
        type="oidc",
        name="Keycloak",
        config={
            "client_id": "sallyport",
            "auth_url": "https://idp.example.test/auth",
            "token_url": "https://idp.example.test/token",
            "certs_url": "https://idp.example.test/certs",
        },
        client_secret_sealed=b"sealed-client-secret",
    )
    identity = Identity.objects.create(
        organization=organization,
        provider=oidc,
        subject="subject-1",
        email="carol@people.test",
        email_verified=True,
        name="Carol Danvers",
        groups=["engineers", "on-call"],
        last_login_at=now,
    )
    session = AccessSession.objects.create(
        organization=organization,
        identity=identity,
        expires_at=now + timedelta(hours=8),
        ip_address="192.0.2.7",
        country="PT",
        user_agent="Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0",
    )
    return {"pin": pin, "oidc": oidc, "identity": identity, "session": session}


def _access(organization: Organization, domain: str, people: dict[str, Any]) -> dict[str, Any]:
    now = timezone.now()
    group = Group.objects.create(
        organization=organization,
        name="Engineering",
        include=[{"okta": {"name": "engineers", "identity_provider_id": str(people["oidc"].pk)}}],
        require=[{"geo": {"country_code": "PT"}}],
    )
    access_list = AccessList.objects.create(
        organization=organization, name="Contractors", type="EMAIL", items=[{"value": "dora@people.test"}]
    )
    client_authority = ClientAuthority.objects.create(
        organization=organization,
        name="Machines",
        certificate="-----BEGIN CERTIFICATE-----",
        subject="CN=Machines",
        fingerprint="ab" * 32,
        associated_hostnames=[f"ssh-bastion.{domain}"],
        expires_at=now + timedelta(days=365),
    )
    application = Application.objects.create(
        organization=organization, name="SSH bastion", hostname=f"ssh-bastion.{domain}"
    )
    tag = Tag.objects.create(organization=organization, name="production")
    application.tags.add(tag)
    custom_page = CustomPage.objects.create(
        organization=organization,
        name="Ask the help desk",
        type="identity_denied",
        custom_html="<h1>No entry</h1><p>Call 4711.</p>",
    )
    policy = Policy.objects.create(
        organization=organization,
        name="Engineers get in",
        decision="allow",
        include=[{"group": {"id": str(group.pk)}}],
    )
    reusable = Policy.objects.create(
        organization=organization,
        name="Everybody of the company",
        decision="allow",
        include=[{"email_domain": {"domain": "people.test"}}],
        reusable=True,
    )
    ApplicationPolicy.objects.create(application=application, policy=policy, precedence=1)
    service_token = ServiceToken.objects.create(
        organization=organization,
        name="ansible",
        client_id=f"{uuid4().hex}.access",
        secret_sha256=uuid4().hex * 2,
        duration_seconds=365 * 86400,
        expires_at=now + timedelta(days=365),
    )
    authority = SshAuthority.objects.create(
        organization=organization,
        application=application,
        state="active",
        public_key=PUBLIC_KEY,
        fingerprint="SHA256:uDlYc8zGkTt5u0AbM1nQZ2vLpHq1wRr0Jv2bGkXo9s8",
        private_sealed=b"sealed-authority-key",
        activated_at=now,
    )
    common = {"organization": organization, "application": application, "identity": people["identity"]}
    claim = PrincipalClaim.objects.create(principal="carol", **common)
    certificate = Certificate.objects.create(
        **common,
        authority=authority,
        session=people["session"],
        serial=str(uuid4().int >> 65),
        key_id=f"{organization.team_name}/ssh-bastion/carol@people.test",
        principals=["carol"],
        extensions=["permit-pty"],
        public_key=PUBLIC_KEY,
        public_key_fingerprint="SHA256:Zx1yWv2uTs3rQp4oNm5lKj6iHg7fEd8cBa9ZyXwVuTs",
        request_sha256="0" * 64,
        valid_after=now - timedelta(seconds=60),
        valid_before=now + timedelta(seconds=240),
        status="issued",
        certificate="ssh-ed25519-cert-v01@openssh.com AAAA",
        ip_address="192.0.2.7",
        issued_at=now,
    )
    access_request = AccessRequest.objects.create(
        **common,
        application_label=application.name,
        email="carol@people.test",
        action="login",
        allowed=True,
        reason="allow",
        connection="oidc",
        ray_id=uuid4().hex[:16],
        ip_address="192.0.2.7",
        country="PT",
        trace=[{"policy": "Engineers get in", "decision": "allow", "verdict": "match"}],
    )
    saved_test = SavedTest.objects.create(
        organization=organization,
        application=application,
        name="Nobody without a login",
        question={"who": "nobody", "ip": "192.0.2.9", "country": "PT"},
        expected="deny",
    )
    approval = ApprovalRequest.objects.create(
        organization=organization,
        application=application,
        policy=policy,
        identity=people["identity"],
        reason="Replace the disk",
        duration_seconds=3600,
        groups=[{"approvals_needed": 1, "emails": ["dora@people.test"]}],
        ip_address="192.0.2.7",
    )
    simulation = Simulation.objects.create(
        organization=organization,
        kind="identities",
        title="Edit of Engineers get in",
        rules={"targets": [], "groups": {}, "groups_changed": {}},
        status="complete",
        total=1,
        processed=1,
        approved=1,
        gained=1,
        started_by="alice@widgetcorp.test",
    )
    SimulationResult.objects.create(
        simulation=simulation,
        identity=people["identity"],
        who="carol@people.test",
        application_label=application.name,
        before="blocked",
        status="approved",
        change="gained",
        reason="allowed",
    )
    token_key = TokenKey.objects.create(
        organization=organization,
        kid=uuid4().hex,
        public_jwk={"kty": "RSA"},
        private_sealed=b"sealed-token-key",
        state="active",
        activated_at=now,
    )
    return {
        "group": group,
        "access_list": access_list,
        "tag": tag,
        "custom_page": custom_page,
        "client_authority": client_authority,
        "application": application,
        "policy": policy,
        "reusable": reusable,
        "service_token": service_token,
        "authority": authority,
        "claim": claim,
        "certificate": certificate,
        "access_request": access_request,
        "approval": approval,
        "saved_test": saved_test,
        "simulation": simulation,
        "token_key": token_key,
    }


def _network(organization: Organization, domain: str) -> dict[str, Any]:
    now = timezone.now()
    zone = Zone.objects.create(
        organization=organization,
        name=domain,
        skeleton=domain,
        status="active",
        verification_token=uuid4().hex,
        verified_at=now,
    )
    tunnel = Tunnel.objects.create(organization=organization, name="ssh-pool", config_source="cloudflare")
    configuration = TunnelConfiguration.objects.create(
        organization=organization,
        tunnel=tunnel,
        version=1,
        config={
            "ingress": [
                {"hostname": f"ssh-bastion.{domain}", "service": "ssh://localhost:22"},
                {"service": "http_status:404"},
            ]
        },
        source="cloudflare",
        created_by="alice@widgetcorp.test",
    )
    edge, _ = Edge.objects.get_or_create(
        id="edge-1", defaults={"name": "edge-1", "location": "LIS", "last_seen_at": now}
    )
    connector = Connector.objects.create(
        organization=organization,
        tunnel=tunnel,
        client_id=uuid4(),
        version="0.1.0",
        arch="linux_amd64",
        origin_ip="198.51.100.4",
        last_seen_at=now,
    )
    for index in range(4):
        Connection.objects.create(
            id=uuid4(),
            organization=organization,
            connector=connector,
            edge=edge,
            index=index,
            opened_at=now,
            last_seen_at=now,
            applied_version=1,
        )
    dns_record = DnsRecord.objects.create(
        organization=organization,
        zone=zone,
        type="CNAME",
        name=f"ssh-bastion.{domain}",
        content=tunnel.target,
        proxied=True,
        verification="ok",
    )
    return {
        "zone": zone,
        "tunnel": tunnel,
        "configuration": configuration,
        "connector": connector,
        "dns_record": dns_record,
    }
