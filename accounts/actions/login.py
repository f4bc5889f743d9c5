"""Login attempts at the team domain: started once, claimed once, in the browser that started them.

start_oidc_login ──> browser goes to the provider ──> claim_attempt ──> identities.record_login
start_pin_login ──> accounts.tasks.send_pin ──> issue_pin ──> mail ──> try_pin ──> identities.record_login
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from kombu.exceptions import OperationalError

from accounts import audit, events, pin
from accounts.actor import Actor
from accounts.errors import InvalidInput, TemporarilyUnavailable
from accounts.models import IdentityProvider, LoginAttempt, Organization
from accounts.oidc import LoginFailed
from accounts.sealing import seal, unseal
from accounts.tasks import send_pin
from accounts.text import ascii_lower

OIDC_LIFETIME_SECONDS = 900
MAX_CODE_CHARACTERS = 4096


@dataclass(frozen=True, slots=True)
class StartedLogin:
    """What only the browser gets; the row keeps hashes and the sealed verifier."""

    attempt: LoginAttempt
    state: str = field(repr=False)
    code_verifier: str = field(repr=False)


class PinResult(StrEnum):
    ACCEPTED = "accepted"
    WRONG = "wrong"
    ENDED = "ended"  # expired, used, or too many tries


def hash_of(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


@transaction.atomic
def start_oidc_login(
    provider: IdentityProvider, *, browser: str, return_to: Mapping[str, str], actor: Actor
) -> StartedLogin:
    """`browser` is the pre-login cookie the answer must come back with."""
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    identifier = uuid.uuid4()
    attempt = LoginAttempt.objects.create(
        id=identifier,
        organization=provider.organization,
        provider=provider,
        state_sha256=hash_of(state),
        browser_sha256=hash_of(browser),
        nonce=secrets.token_urlsafe(32),
        code_verifier_sealed=seal(settings.SEAL_KEY, verifier.encode(), "login-attempt", str(identifier)),
        return_to=dict(return_to),
        ip_address=actor.ip,
        expires_at=timezone.now() + timedelta(seconds=OIDC_LIFETIME_SECONDS),
    )
    _record_start(attempt, actor)
    return StartedLogin(attempt, state, verifier)


@transaction.atomic
def start_pin_login(
    provider: IdentityProvider, *, email: str, browser: str, return_to: Mapping[str, str], actor: Actor
) -> StartedLogin:
    """The same for every address: whether it will be let in is decided after the PIN, never told before."""
    address = ascii_lower(email.strip())
    try:
        validate_email(address)
    except ValidationError as error:
        raise InvalidInput("Enter an e-mail address such as you@example.com.", code="email_invalid") from error
    state = secrets.token_urlsafe(32)
    attempt = LoginAttempt.objects.create(
        organization=provider.organization,
        provider=provider,
        state_sha256=hash_of(state),
        browser_sha256=hash_of(browser),
        email=address,
        return_to=dict(return_to),
        ip_address=actor.ip,
        expires_at=timezone.now() + timedelta(seconds=pin.LIFETIME_SECONDS),
    )
    _record_start(attempt, actor)
    transaction.on_commit(lambda: _send_pin(attempt))
    return StartedLogin(attempt, state, "")


def _send_pin(attempt: LoginAttempt) -> None:
    try:
        send_pin.delay(str(attempt.id))
    except (OperationalError, OSError) as error:
        raise TemporarilyUnavailable(
            "Mail cannot be sent at the moment. Try again in a few seconds.", code="mail_unavailable"
        ) from error


def _record_start(attempt: LoginAttempt, actor: Actor) -> None:
    audit.record(
        events.LOGIN_STARTED,
        organization=attempt.organization,
        actor=actor,
        target=attempt,
        target_label=attempt.email or attempt.provider.name,
        new={"provider": attempt.provider.name, "email": attempt.email},
    )


def find_attempt(organization: Organization, *, state: str, browser: str) -> LoginAttempt | None:
    """The attempt this very browser started, used or not. Another browser's or tenant's state finds nothing (AC-39)."""
    attempt = (
        LoginAttempt.objects.for_organization(organization)
        .select_related("provider", "organization")
        .filter(state_sha256=hash_of(state))
        .first()
    )
    if attempt is None or not hmac.compare_digest(attempt.browser_sha256, hash_of(browser)):
        return None
    return attempt


def claim_attempt(attempt: LoginAttempt, *, now: datetime) -> str:
    """Use the attempt up; returns its PKCE verifier. Raises LoginFailed the second time and after its end.

    Its outcome is what the audit log gets: record_login or record_failed_login.
    """
    claimed = LoginAttempt.objects.filter(pk=attempt.pk, used_at__isnull=True, expires_at__gt=now).update(used_at=now)
    if not claimed:
        raise LoginFailed("This login was used already or took too long. Start again.", code="state_used")
    return unseal(settings.SEAL_KEY, bytes(attempt.code_verifier_sealed), "login-attempt", str(attempt.id)).decode()


@transaction.atomic
def try_pin(attempt: LoginAttempt, *, value: str, now: datetime, actor: Actor) -> PinResult:
    """Count the try first, then compare: parallel guesses can not outrun the counter (AC-35, AC-48)."""
    open_attempts = LoginAttempt.objects.filter(pk=attempt.pk, used_at__isnull=True, expires_at__gt=now)
    if not open_attempts.filter(tries__lt=pin.MAX_TRIES).update(tries=F("tries") + 1):
        _record_failure(attempt, reason="pin_ended", actor=actor)
        return PinResult.ENDED
    attempt.refresh_from_db(fields=["pin_hash", "tries"])
    digits = pin.clean_pin(value)
    if digits is None or not pin.is_pin(attempt.id, digits, attempt.pin_hash):
        _record_failure(attempt, reason="pin_wrong", actor=actor)
        return PinResult.WRONG if attempt.tries < pin.MAX_TRIES else PinResult.ENDED
    if not open_attempts.update(used_at=now):
        _record_failure(attempt, reason="pin_ended", actor=actor)
        return PinResult.ENDED
    return PinResult.ACCEPTED


@transaction.atomic
def record_failed_login(attempt: LoginAttempt, *, reason: str, actor: Actor) -> None:
    _record_failure(attempt, reason=reason, actor=actor)


def _record_failure(attempt: LoginAttempt, *, reason: str, actor: Actor) -> None:
    audit.record(
        events.LOGIN_FAILED,
        organization=attempt.organization,
        actor=actor,
        target=attempt,
        target_label=attempt.email or attempt.provider.name,
        new={"reason": reason, "provider": attempt.provider.name},
    )
