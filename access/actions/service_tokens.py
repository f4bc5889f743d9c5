"""Service tokens: client id and secret for machines. The secret is returned once and stored as its SHA-256 only."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from access import events
from access.actions.groups import checked_name
from access.models import Group, Policy, ServiceToken
from accounts import audit
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput, NotFound
from accounts.models import Organization

DEFAULT_DURATION_SECONDS = 8760 * 3600
MIN_DURATION_SECONDS, MAX_DURATION_SECONDS = 3600, 100 * 8760 * 3600
MAX_SERVICE_TOKENS = 500
_LAST_USED_STEP = timedelta(minutes=1)
_CLIENT_ID = re.compile(r"[0-9a-f]{32}\.access")


@transaction.atomic
def create_service_token(
    organization: Organization, *, actor: Actor, name: str, duration_seconds: int | None = DEFAULT_DURATION_SECONDS
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
def rotate_service_token(token: ServiceToken, *, actor: Actor) -> str:
    """The new secret; the old one stops working at once."""
    token = _locked(token)
    secret = _new_secret()
    token.secret_sha256 = _hash(secret)
    token.save(update_fields=["secret_sha256", "updated_at"])
    _record(events.SERVICE_TOKEN_ROTATED, token, actor)
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
    _record(events.SERVICE_TOKEN_DELETED, token, actor, old=_facts(token))
    token.delete()


def authenticate_service_token(
    organization: Organization, client_id: str, secret: str, *, now: datetime
) -> ServiceToken | None:
    """The active token these credentials belong to. The secret is compared in constant time (AC-36)."""
    if not _CLIENT_ID.fullmatch(client_id) or len(secret) > 256:
        return None
    token = ServiceToken.objects.for_organization(organization).filter(client_id=client_id).first()
    matches = hmac.compare_digest(_hash(secret), token.secret_sha256 if token is not None else _hash(""))
    if token is None or not matches or not token.is_active(now):
        return None
    if token.last_used_at is None or now - token.last_used_at >= _LAST_USED_STEP:
        stale = Q(last_used_at=None) | Q(last_used_at__lt=now)
        ServiceToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)
    return token


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


def _locked(token: ServiceToken) -> ServiceToken:
    locked = (
        ServiceToken.objects.for_organization(token.organization)
        .select_for_update(of=("self",))
        .select_related("organization")
        .filter(pk=token.pk)
        .first()
    )
    if locked is None:
        raise NotFound("There is no such service token.")
    return locked


def _users_of(token: ServiceToken) -> list[str]:
    wanted = {"service_token": {"token_id": str(token.pk)}}
    policies = Policy.objects.for_organization(token.organization)
    groups = Group.objects.for_organization(token.organization)
    return [
        *(f'policy "{row.name}"' for row in policies if wanted in [*row.include, *row.require, *row.exclude]),
        *(f'group "{row.name}"' for row in groups if wanted in [*row.include, *row.require, *row.exclude]),
    ]


def _facts(token: ServiceToken) -> dict[str, Any]:
    return {
        "name": token.name,
        "client_id": token.client_id,
        "duration_seconds": token.duration_seconds,
        "expires_at": token.expires_at.isoformat() if token.expires_at else None,
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
