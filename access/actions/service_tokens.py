"""Service tokens: client id and secret for machines. The secret is returned once and stored as its SHA-256 only."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from access import events
from access.actions.groups import checked_name
from access.models import EXPIRY_WARNING, Group, Policy, ServiceToken
from access.rule_search import mentioning
from accounts import audit
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput, NotFound
from accounts.models import Organization

DEFAULT_DURATION_SECONDS = 8760 * 3600
MIN_DURATION_SECONDS, MAX_DURATION_SECONDS = 3600, 100 * 8760 * 3600
MAX_SERVICE_TOKENS = 500
# How long a rotated secret may go on beside the new one.
MAX_OVERLAP = timedelta(days=30)
_LAST_USED_STEP = timedelta(minutes=1)
_CLIENT_ID = re.compile(r"[0-9a-f]{32}\.access")


@transaction.atomic
def create_service_token(
    organization: Organization,
    *,
    actor: Actor,
    name: str,
    duration_seconds: int | None = DEFAULT_DURATION_SECONDS,
    enabled: bool = True,
) -> tuple[ServiceToken, str]:
    """The token and its secret. `duration_seconds` None: it does not expire."""
    if ServiceToken.objects.for_organization(organization).count() >= MAX_SERVICE_TOKENS:
        raise Conflict(
            f"An organization has at most {MAX_SERVICE_TOKENS} service tokens.", code="too_many_service_tokens"
        )
    duration = _checked_duration(duration_seconds)
    secret = _new_secret()
    token = ServiceToken.objects.create(
        organization=organization,
        name=checked_name(name),
        client_id=f"{secrets.token_hex(16)}.access",
        secret_sha256=_hash(secret),
        duration_seconds=duration,
        expires_at=_end(duration),
        enabled=enabled,
    )
    _record(events.SERVICE_TOKEN_CREATED, token, actor, new=_facts(token))
    return token, secret


@transaction.atomic
def update_service_token(
    token: ServiceToken, *, actor: Actor, name: str, duration_seconds: int | None, enabled: bool | None = None
) -> ServiceToken:
    """A changed duration counts from now. `enabled` None keeps it."""
    token = _locked(token)
    old = _facts(token)
    token.name = checked_name(name)
    duration = _checked_duration(duration_seconds)
    if duration != token.duration_seconds:
        token.duration_seconds, token.expires_at = duration, _end(duration)
    if enabled is not None:
        token.enabled = enabled
    token.save()
    _record(events.SERVICE_TOKEN_UPDATED, token, actor, old=old, new=_facts(token))
    return token


@transaction.atomic
def rotate_service_token(token: ServiceToken, *, actor: Actor, previous_expires_at: datetime | None = None) -> str:
    """The new secret. The old one works until `previous_expires_at` (at most 30 days ahead), without it stops at once;
    one that was on overlap from an earlier rotation stops at once in any case."""
    token = _locked(token)
    now = timezone.now()
    overlaps = previous_expires_at is not None and previous_expires_at > now
    if previous_expires_at is not None and previous_expires_at > now + MAX_OVERLAP:
        message = "The previous secret can stay valid for at most 30 days."
        raise InvalidInput(message, code="invalid_overlap", fields={"previous_client_secret_expires_at": message})
    secret = _new_secret()
    token.previous_secret_sha256 = token.secret_sha256 if overlaps else ""
    token.previous_secret_expires_at = previous_expires_at if overlaps else None
    token.secret_sha256 = _hash(secret)
    token.secret_version += 1
    token.save(
        update_fields=[
            "secret_sha256",
            "secret_version",
            "previous_secret_sha256",
            "previous_secret_expires_at",
            "updated_at",
        ]
    )
    _record(
        events.SERVICE_TOKEN_ROTATED,
        token,
        actor,
        new={"version": token.secret_version, "previous_valid_until": _iso(token.previous_secret_expires_at)},
    )
    return secret


@transaction.atomic
def refresh_service_token(token: ServiceToken, *, actor: Actor) -> ServiceToken:
    """Starts the duration anew from now."""
    token = _locked(token)
    old = _facts(token)
    token.expires_at = _end(token.duration_seconds)
    token.save(update_fields=["expires_at", "updated_at"])
    _record(events.SERVICE_TOKEN_REFRESHED, token, actor, old=old, new=_facts(token))
    return token


@transaction.atomic
def delete_service_token(token: ServiceToken, *, actor: Actor) -> None:
    """Refused while a rule names it: that rule would become an error."""
    token = _locked(token)
    users = _users_of(token)
    if users:
        raise Conflict(f"The service token is used by {', '.join(users[:5])}.", code="service_token_in_use")
    old = _facts(token)
    # Kept as a row: certificates and revocation lists name it.
    token.deleted_at = timezone.now()
    token.enabled = False
    token.secret_sha256 = token.previous_secret_sha256 = ""
    token.previous_secret_expires_at = None
    token.save()
    _record(events.SERVICE_TOKEN_DELETED, token, actor, old=old)


@transaction.atomic
def set_service_token_enabled(token: ServiceToken, *, enabled: bool, actor: Actor) -> ServiceToken:
    """Disabling ends its running connections too; neither secret works until it is enabled again."""
    token = _locked(token)
    old = _facts(token)
    if token.enabled is enabled:
        raise Conflict(f"{token.name} is {'enabled' if enabled else 'disabled'} already.", code="nothing_to_change")
    token.enabled = enabled
    token.save(update_fields=["enabled", "updated_at"])
    _record(events.SERVICE_TOKEN_UPDATED, token, actor, old=old, new=_facts(token))
    return token


def tokens_to_warn_of(*, now: datetime) -> list[ServiceToken]:
    """Enabled tokens that end within a week and whose present end nobody was warned of."""
    rows = ServiceToken.objects.all_organizations(reason="a daily warning").filter(
        Q(warned_expires_at=None) | ~Q(warned_expires_at=F("expires_at")),
        enabled=True,
        deleted_at=None,
        expires_at__gt=now,
        expires_at__lte=now + EXPIRY_WARNING,
    )
    return list(rows.select_related("organization").order_by("organization_id", "expires_at", "id"))


@transaction.atomic
def claim_expiry_warning(token: ServiceToken, *, actor: Actor) -> bool:
    """True for the one caller who is to send the warning about the token's present end (fault 47)."""
    fresh = ServiceToken.objects.filter(
        Q(warned_expires_at=None) | ~Q(warned_expires_at=token.expires_at), pk=token.pk, expires_at=token.expires_at
    )
    if not fresh.update(warned_expires_at=token.expires_at):
        return False
    _record(events.SERVICE_TOKEN_EXPIRY_WARNED, token, actor, new={"expires_at": _iso(token.expires_at)})
    return True


@transaction.atomic
def withdraw_expiry_warning(token: ServiceToken) -> None:
    """The mail could not be sent: the next run tries again."""
    ServiceToken.objects.filter(pk=token.pk).update(warned_expires_at=None)


def authenticate_service_token(
    organization: Organization, client_id: str, secret: str, *, now: datetime
) -> ServiceToken | None:
    """The active token these credentials belong to. The secret is compared in constant time (AC-36)."""
    if not _CLIENT_ID.fullmatch(client_id) or len(secret) > 256:
        return None
    token = ServiceToken.objects.for_organization(organization).filter(client_id=client_id).first()
    shown = _hash(secret)
    matches = hmac.compare_digest(shown, token.secret_sha256 if token is not None else _hash(""))
    previous = token.previous_secret_sha256 if token is not None and token.has_previous_secret(now) else _hash("")
    matches_previous = hmac.compare_digest(shown, previous)
    if not secret or token is None or not (matches or matches_previous) or not token.is_active(now):
        return None
    if token.last_used_at is None or now - token.last_used_at >= _LAST_USED_STEP:
        stale = Q(last_used_at=None) | Q(last_used_at__lt=now)
        ServiceToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)
    return token


def shown_version(token: ServiceToken, secret: str) -> int:
    """Which of the token's secrets was shown: the present one, or the one before it that authenticated during an
    overlap."""
    is_present = hmac.compare_digest(_hash(secret), token.secret_sha256)
    return token.secret_version if is_present else token.secret_version - 1


def _new_secret() -> str:
    return secrets.token_hex(32)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _end(duration_seconds: int | None) -> datetime | None:
    return None if duration_seconds is None else timezone.now() + timedelta(seconds=duration_seconds)


def _checked_duration(seconds: int | None) -> int | None:
    if seconds is not None and not MIN_DURATION_SECONDS <= seconds <= MAX_DURATION_SECONDS:
        message = "A service token lives from one hour to 100 years, or forever."
        raise InvalidInput(message, code="invalid_duration", fields={"duration": message})
    return seconds


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _locked(token: ServiceToken) -> ServiceToken:
    locked = (
        ServiceToken.objects.for_organization(token.organization)
        .select_for_update(of=("self",), no_key=True)
        .select_related("organization")
        .filter(pk=token.pk)
        .first()
    )
    if locked is None:
        raise NotFound("There is no such service token.")
    return locked


def _users_of(token: ServiceToken) -> list[str]:
    wanted = {"service_token": {"token_id": str(token.pk)}}
    policies = mentioning(Policy.objects.for_organization(token.organization), str(token.pk))
    groups = mentioning(Group.objects.for_organization(token.organization), str(token.pk))
    return [
        *(f'policy "{row.name}"' for row in policies if wanted in [*row.include, *row.require, *row.exclude]),
        *(f'group "{row.name}"' for row in groups if wanted in [*row.include, *row.require, *row.exclude]),
    ]


def _facts(token: ServiceToken) -> dict[str, Any]:
    return {
        "name": token.name,
        "client_id": token.client_id,
        "duration_seconds": token.duration_seconds,
        "expires_at": _iso(token.expires_at),
        "enabled": token.enabled,
    }


def _record(
    name: str,
    token: ServiceToken,
    actor: Actor,
    *,
    old: dict[str, Any] | None = None,
    new: dict[str, Any] | None = None,
) -> None:
    audit.record(name, organization=token.organization, actor=actor, target=token, old=old, new=new)
