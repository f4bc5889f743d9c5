"""Trial logins: an admin sees what policies would see, and nobody is logged in by it.

dashboard: start_provider_test ──ticket──> team domain: claim_provider_test ──> real login ──> finish_provider_test

The ticket works once; the browser that used it is the only one whose login counts, and only the admin who started the
test reads its result.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts import audit, events
from accounts.actor import Actor
from accounts.errors import NotFound
from accounts.models import IdentityProvider, LoginAttempt, Organization, ProviderTest, User
from accounts.providers.base import LoginFailed, Person

LIFETIME = timedelta(minutes=20)
_ENDED = "This test was used already, belongs to another browser, or took too long. Start it again in the dashboard."


def hash_of(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


@transaction.atomic
def start_provider_test(provider: IdentityProvider, *, user: User, actor: Actor) -> tuple[ProviderTest, str]:
    """The test, and its ticket for the team domain."""
    ticket = secrets.token_urlsafe(32)
    test = ProviderTest.objects.create(
        organization=provider.organization,
        provider=provider,
        started_by=user,
        ticket_sha256=hash_of(ticket),
        expires_at=timezone.now() + LIFETIME,
    )
    audit.record(
        events.PROVIDER_TEST_STARTED,
        organization=provider.organization,
        actor=actor,
        target=provider,
        new={"type": provider.type, "test": str(test.id)},
    )
    return test, ticket


def claim_provider_test(organization: Organization, ticket: str, *, browser: str, now: datetime) -> ProviderTest:
    """Binds the test to this browser, once. Its outcome is what the audit log gets."""
    rows = ProviderTest.objects.for_organization(organization).filter(
        ticket_sha256=hash_of(ticket), finished_at__isnull=True, expires_at__gt=now, provider__deleted_at__isnull=True
    )
    rows.filter(browser_sha256="").update(browser_sha256=hash_of(browser))
    test = rows.filter(browser_sha256=hash_of(browser)).select_related("provider", "organization").first()
    if test is None:
        raise NotFound(_ENDED, code="test_ended")
    return test


def open_test_of(attempt: LoginAttempt) -> ProviderTest | None:
    """The test this login is for, if any. A login of another browser or provider is no answer to it."""
    identifier = attempt.return_to.get("test_id")
    if not identifier:
        return None
    test = ProviderTest.objects.filter(
        pk=identifier, organization=attempt.organization, provider=attempt.provider, finished_at__isnull=True
    ).first()
    if test is None or test.browser_sha256 != attempt.browser_sha256 or test.expires_at <= timezone.now():
        raise LoginFailed(_ENDED, code="test_ended")
    return test


@transaction.atomic
def finish_provider_test(test: ProviderTest, *, result: Mapping[str, Any], actor: Actor) -> None:
    """Keeps the result for the admin. The audit log says only whether it worked: claims are personal data."""
    finished = ProviderTest.objects.filter(pk=test.pk, finished_at__isnull=True).update(
        finished_at=timezone.now(), result=dict(result)
    )
    if not finished:
        raise LoginFailed(_ENDED, code="test_ended")
    audit.record(
        events.PROVIDER_TESTED,
        organization=test.organization,
        actor=actor,
        target=test.provider,
        new={"test": str(test.id), "outcome": result.get("error", {}).get("code", "worked")},
    )


def sweep_provider_tests(*, now: datetime) -> int:
    """Results hold what a provider says about a person; they go when the test has ended."""
    deleted, _ = ProviderTest.objects.filter(expires_at__lt=now).delete()
    return deleted


def person_document(person: Person) -> dict[str, Any]:
    return {
        "subject": person.subject,
        "email": person.email,
        "email_verified": person.email_verified,
        "name": person.name,
        "groups": person.groups,
        "claims": person.claims,
        "amr": person.authentication_methods,
        "authenticated_at": person.authenticated_at.isoformat() if person.authenticated_at else None,
    }


def error_document(error: LoginFailed) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": error.message}}
