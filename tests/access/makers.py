"""Rows and requests for tests of access: people with sessions, applications with policies and an SSH authority."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from access import tokens
from access.actions.authorities import create_authority
from access.models import Application, ApplicationPolicy, Policy
from accounts.actor import Actor, ActorKind
from accounts.models import AccessSession, Identity, IdentityProvider, Organization

HOSTNAME = "ssh-bastion.widgetcorp.test"
CLIENT_IP = "203.0.113.7"
ACTOR = Actor(ActorKind.USER, "1", "alice@widgetcorp.test", CLIENT_IP)
EVERYONE: dict[str, Any] = {"everyone": {}}


def email_rule(address: str) -> dict[str, Any]:
    return {"email": {"email": address}}


def make_provider(organization: Organization, name: str = "Okta") -> IdentityProvider:
    provider, _ = IdentityProvider.objects.get_or_create(
        organization=organization, name=name, defaults={"type": IdentityProvider.Type.OKTA}
    )
    return provider


def make_session(
    organization: Organization,
    email: str = "alice@widgetcorp.test",
    *,
    provider: IdentityProvider | None = None,
    lifetime: timedelta = timedelta(hours=1),
    **identity_fields: Any,
) -> AccessSession:
    """A live session of a new identity; `subject` defaults to the e-mail address."""
    provider = provider or make_provider(organization)
    subject = identity_fields.pop("subject", email)
    identity, _ = Identity.objects.get_or_create(
        organization=organization,
        provider=provider,
        subject=subject,
        defaults={"email": email, "email_verified": True, **identity_fields},
    )
    return AccessSession.objects.create(
        organization=organization, identity=identity, expires_at=timezone.now() + lifetime, ip_address=CLIENT_IP
    )


def make_application(
    organization: Organization,
    *,
    hostname: str = HOSTNAME,
    include: list[dict[str, Any]] | None = None,
    decision: str = "allow",
    authority: bool = True,
    **fields: Any,
) -> Application:
    application = Application.objects.create(
        organization=organization, name=fields.pop("name", "SSH bastion"), hostname=hostname, **fields
    )
    add_policy(application, include=[EVERYONE] if include is None else include, decision=decision)
    if authority:
        create_authority(application, actor=ACTOR)
    return application


def add_policy(application: Application, *, include: list[Any], decision: str = "allow", **lists: Any) -> Policy:
    policy = Policy.objects.create(
        organization=application.organization, name=f"{decision} policy", decision=decision, include=include, **lists
    )
    precedence = 1 + application.policy_links.count()
    ApplicationPolicy.objects.create(application=application, policy=policy, precedence=precedence)
    return policy


def app_token(application: Application, session: AccessSession, *, now: datetime | None = None) -> str:
    return tokens.mint_application_token(
        application, session, now=now or timezone.now(), lifetime_seconds=3600, country=""
    )


def public_key_line(key: Any = None) -> str:
    key = key or ed25519.Ed25519PrivateKey.generate()
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def p256_line() -> str:
    return public_key_line(ec.generate_private_key(ec.SECP256R1()))


def post_cert_sign(
    organization: Organization,
    body: Any,
    *,
    client: Client | None = None,
    ip: str = CLIENT_IP,
    raw: bytes | None = None,
) -> HttpResponse:
    """As the edge passes it on."""
    return (client or Client()).post(
        "/cdn-cgi/access/cert_sign",
        raw if raw is not None else json.dumps(body),
        content_type="application/json",
        HTTP_HOST=organization.team_domain,
        HTTP_SALLYPORT_EDGE_TOKEN=settings.EDGE_TOKEN,
        HTTP_SALLYPORT_CLIENT_IP=ip,
        HTTP_SALLYPORT_RAY="ray-1",
    )


def sign(application: Application, session: AccessSession, public_key: str | None = None, **extra: Any) -> HttpResponse:
    body = {
        "public_key": (public_key or public_key_line()) + "\n",
        "jwt": app_token(application, session),
        "issuer": application.organization.team_url,
        **extra,
    }
    return post_cert_sign(application.organization, body)
