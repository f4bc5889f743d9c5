"""What the pictures need that neither API nor clients make: people with long names, login methods of each type,
support staff, failed jobs, refusals of each kind.

`manage.py shell -c "from tools.screenshot_rows import add; add()"` with the environment of a running installation
(tools.screenshots does).
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from access.models import AccessRequest, Application, Certificate, SshAuthority
from accounts.mfa_models import IdentityAuthenticator
from accounts.models import (
    AccessSession,
    Identity,
    IdentityProvider,
    Invitation,
    JobFailure,
    Membership,
    Organization,
    ProviderTest,
    SavedLogView,
    SupportSession,
    User,
)

STAFF, EDITOR = "sam@operator.test", "erin@widgetcorp.localhost"
VIEWER = "bartholomew.montgomery-featherstonehaugh@subsidiary.widgetcorp.example"
LONG_NAME = "Wilhelmina-Konstantinopolitanska von Hohenzollern-Sigmaringen"
LONG_EMAIL = "wilhelmina.konstantinopolitanska.von.hohenzollern@engineering.widgetcorp.localhost"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
SAFARI = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15"
)


@dataclass
class _Made:
    organization: Any
    now: datetime
    password: str


_REFUSALS = (
    ("login", "country_not_allowed"),
    ("login", "group_not_allowed"),
    ("login", "mfa_required"),
    ("login", "email_not_verified"),
    ("connect", "destination_not_allowed"),
    ("connect", "session_expired"),
    ("cut", "session_revoked"),
    ("certificate", "principal_reserved"),
    ("login", "policy_error"),
    ("login", "identity_disabled"),
    ("connect", "service_token_invalid"),
    ("login", "no_policy_matches"),
)


def add() -> None:
    """Prints one JSON object: the password of all accounts made here, and ids for addresses."""

    with transaction.atomic():
        organization = Organization.objects.get(team_name="widgetcorp")
        made = _Made(organization, timezone.now(), secrets.token_urlsafe(15))
        provider = _login_methods(made)
        identity = _people(made, provider)
        _members(made)
        _logs(made, identity)
        _staff(made)
    tests = ProviderTest.objects.filter(provider=provider)
    good, bad = (tests.get(result__has_key=key).pk for key in ("subject", "error"))
    found = {"identity": identity.pk, "provider": provider.pk, "test_good": good, "test_bad": bad}
    ids = {name: str(key) for name, key in found.items()}
    print(json.dumps({"password": made.password, "staff": STAFF, "viewer": VIEWER, **ids}))


def _login_methods(made: _Made) -> Any:
    """One of each type, the first with a trial login that worked and one that did not."""

    address = "https://sso.widgetcorp.example"
    configs: dict[str, tuple[str, dict[str, Any]]] = {
        "okta": ("Okta of the whole Widget Corporation group", {"okta_account": "https://widgetcorp.okta.example"}),
        "azureAD": ("Entra ID", {"directory_id": "6f1c7d3a-3f43-4b9c-8a61-2b2f5f1f5c11", "support_groups": True}),
        "google": ("Google", {}),
        "google-apps": ("Google Workspace", {"apps_domain": "widgetcorp.example"}),
        "github": ("GitHub", {}),
        "saml": (
            "Keycloak (SAML)",
            {"issuer_url": address, "sso_target_url": f"{address}/saml", "attributes": ["team"]},
        ),
    }
    rows = {}
    for kind, (name, config) in configs.items():
        rows[kind] = IdentityProvider.objects.create(
            organization=made.organization,
            type=kind,
            name=name,
            config={"client_id": "sallyport-widgetcorp", **config},
            scim_enabled=kind == "okta",
        )
    owner = User.objects.get(memberships__organization=made.organization)
    seen = {"subject": "00u1wilhelmina", "email": LONG_EMAIL, "email_verified": True, "name": LONG_NAME}
    refused = {"error": {"code": "provider_refused", "message": "Okta answered: the client secret is not right."}}
    for result in ({**seen, "groups": ["engineering", "on-call"], "claims": {"department": "Platform"}}, refused):
        ProviderTest.objects.create(
            organization=made.organization,
            provider=rows["okta"],
            started_by=owner,
            ticket_sha256=secrets.token_hex(32),
            expires_at=made.now + timedelta(days=1),
            finished_at=made.now,
            result=result,
        )
    return rows["okta"]


def _people(made: _Made, provider: Any) -> Any:
    """Users in each state; the one with the long name has everything a user can have."""

    for number, (email, name, disabled) in enumerate(
        (("dora@people.test", "Dora Diaz", False), ("mallory@people.test", "", True), ("zoe@people.test", "", False))
    ):
        Identity.objects.create(
            organization=made.organization,
            provider=provider,
            subject=f"00u{number}",
            email=email,
            email_verified=number == 0,
            name=name,
            disabled_at=made.now - timedelta(days=2) if disabled else None,
            last_login_at=made.now - timedelta(days=number + 1),
        )
    identity = Identity.objects.create(
        organization=made.organization,
        provider=provider,
        subject="00u1wilhelmina",
        email=LONG_EMAIL,
        email_verified=True,
        name=LONG_NAME,
        groups=["engineering", "on-call", "a-group-with-a-rather-long-name-of-its-own-that-does-not-end-soon"],
        claims={"department": "Platform", "office": "Lisbon"},
        last_login_at=made.now - timedelta(hours=3),
    )
    sessions = ((FIREFOX, 3, 8, None), (SAFARI, 30, 2, made.now - timedelta(hours=1)), ("sallyport/0.1", 50, -4, None))
    for agent, started, ends, revoked in sessions:
        session = AccessSession.objects.create(
            organization=made.organization,
            identity=identity,
            expires_at=made.now + timedelta(hours=ends),
            revoked_at=revoked,
            last_seen_at=made.now - timedelta(minutes=started),
            ip_address="2001:db8:85a3:1234:5678:8a2e:370:7334",
            country="PT",
            user_agent=agent,
        )
        AccessSession.objects.filter(pk=session.pk).update(created_at=made.now - timedelta(hours=started))
    key = IdentityAuthenticator.Kind.SECURITY_KEY
    common = {"organization": made.organization, "identity": identity}
    IdentityAuthenticator.objects.create(kind="totp", name="My phone", last_used_at=made.now, **common)
    IdentityAuthenticator.objects.create(
        kind=key, name="Blue key on my key ring", credential_id=secrets.token_urlsafe(32), **common
    )
    return identity


def _members(made: _Made) -> None:

    for role, email in (
        ("editor", EDITOR),
        ("auditor", "ada@audit.example"),
        ("viewer", VIEWER),
    ):
        user = User.objects.create_user(email, made.password)
        Membership.objects.create(organization=made.organization, user=user, role=role)
    owner = User.objects.get(memberships__organization=made.organization, memberships__role="owner")
    for email, days in (("nina@people.test", 7), ("late@people.test", -3)):
        Invitation.objects.create(
            organization=made.organization,
            email=email,
            role="viewer",
            invited_by=owner,
            invited_by_label=owner.email,
            sent_at=made.now - timedelta(days=7 - days),
            expires_at=made.now + timedelta(days=days),
        )
    for log, name, query in (
        ("access", "Denied this week", "decision=denied&range=7d"),
        ("access", "Carol", "person=carol"),
        ("audit", "Policies", "event=access.policy.updated"),
    ):
        SavedLogView.objects.create(
            organization=made.organization, log=log, name=name, query=query, created_by_label=owner.email
        )


def _logs(made: _Made, identity: Any) -> None:
    """Refusals for each reason, and certificates in each state."""

    application = Application.objects.get(organization=made.organization, name="SSH bastion")
    people = [*Identity.objects.filter(organization=made.organization, email__endswith="@people.test"), identity]
    for number, (action, reason) in enumerate(_REFUSALS):
        person = people[number % len(people)]
        entry = AccessRequest.objects.create(
            organization=made.organization,
            application=application,
            identity=person,
            application_label=application.name,
            email=person.email,
            action=action,
            allowed=False,
            reason=reason,
            connection="okta",
            ray_id=secrets.token_hex(8),
            ip_address="2001:db8:85a3:1234:5678:8a2e:370:7334" if number % 2 else "192.0.2.7",
            country="DE",
            policy_label="Engineers" if reason == "policy_error" else "",
        )
        AccessRequest.objects.filter(pk=entry.pk).update(created_at=made.now - timedelta(hours=number * 5 + 1))
    authority = SshAuthority.objects.get(application=application)
    states = (("issued", None), ("issued", made.now), ("failed", None), ("issued", None))
    for number, (status, revoked) in enumerate(states):
        person = people[number % len(people)]
        Certificate.objects.create(
            organization=made.organization,
            application=application,
            identity=person,
            authority=authority,
            serial=str(secrets.randbits(63)),
            key_id=f"widgetcorp/ssh-bastion/{person.email}",
            principals=[person.email.partition("@")[0].partition(".")[0]],
            extensions=["permit-pty", "permit-port-forwarding"],
            public_key="ssh-ed25519 AAAA",
            public_key_fingerprint="SHA256:Zx1yWv2uTs3rQp4oNm5lKj6iHg7fEd8cBa9ZyXwVuTs",
            request_sha256=secrets.token_hex(32),
            valid_after=made.now - timedelta(days=number),
            valid_before=made.now + timedelta(hours=3 - number * 4),
            status=status,
            failure="The signing service did not answer in time." if status == "failed" else "",
            ip_address="192.0.2.7",
            revoked_at=revoked,
        )


def _staff(made: _Made) -> None:
    """A staff account, its support session under way, one that is over, and jobs that failed."""

    staff = User.objects.create_user(STAFF, made.password, is_staff=True, is_superuser=True)
    common = {"organization": made.organization, "staff_label": STAFF, "duration_seconds": 3600}
    SupportSession.objects.create(
        **common,
        staff=staff,
        reason="Ticket 4711: certificates fail since this morning",
        started_at=made.now,
        expires_at=made.now + timedelta(hours=4),
    )
    SupportSession.objects.create(
        **common,
        reason="Ticket 4242: a DNS record stays unverified",
        started_at=made.now - timedelta(days=9),
        expires_at=made.now - timedelta(days=8),
        ended_at=made.now - timedelta(days=8, hours=23),
        ended_by=STAFF,
    )
    Organization.objects.create(
        name="The Extraordinarily Long-Winded Widget Manufacturing and Trading Company of Lisbon and Porto",
        team_name="extraordinarily-long-winded-widget-manufacturing-and-trading",
    )
    JobFailure.objects.create(
        task="tunnels.tasks.verify_dns_record",
        exception="TimeoutError",
        place="tunnels.resolver.ask, line 81",
        worker="worker-1@host",
        arguments=["a0" * 16],
    )
    JobFailure.objects.create(
        task="accounts.tasks.send_invitation",
        exception="SMTPServerDisconnected",
        place="accounts.tasks.send_invitation, line 30",
        worker="worker-1@host",
        arguments=[1],
        requeued_at=made.now,
        requeued_by=STAFF,
    )
