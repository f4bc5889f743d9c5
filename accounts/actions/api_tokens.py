"""API tokens: made, revoked, and checked at every API request."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit, events
from accounts.actor import Actor
from accounts.errors import AuthenticationFailed, Conflict, InvalidInput, PermissionDenied
from accounts.models import ApiToken, Membership, Organization, User
from accounts.permissions import SCOPES, Permission, role_allows

_TOKEN_BYTES = 30  # 240 bits, 40 characters of base64url
_TOKEN = re.compile(r"[0-9A-Za-z_-]{40,80}")
PREFIX_CHARACTERS = 8
TOUCH_INTERVAL = timedelta(minutes=1)


@transaction.atomic
def create_api_token(
    organization: Organization,
    *,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None,
    user: User | None,
    made_with: ApiToken | None = None,
    actor: Actor,
) -> tuple[ApiToken, str]:
    """The row and the token itself, which is shown once and stored only as a hash. `made_with`: the token whose bearer
    asks for another one, which holds no more, ends no later, and is revoked with it."""
    clean_name = " ".join(name.split())
    if not 1 <= len(clean_name) <= 120:
        raise InvalidInput("The name must have 1 to 120 characters.", fields={"name": "1 to 120 characters."})
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidInput("The expiry must be in the future.", fields={"expires_at": "In the past."})
    wanted = _clean_scopes(scopes)
    # As changes of roles and revocations do: none of them ends beside this without seeing the new token.
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    if user is not None:
        _within_role(organization, user, wanted)
    if made_with is not None:
        _within_token(made_with, wanted, expires_at)
    value = secrets.token_urlsafe(_TOKEN_BYTES)
    token = ApiToken.objects.create(
        organization=organization,
        name=clean_name,
        token_sha256=_hash(value),
        prefix=value[:PREFIX_CHARACTERS],
        scopes=[scope.value for scope in wanted],
        created_by=user,
        made_with=made_with,
        expires_at=expires_at,
    )
    audit.record(
        events.API_TOKEN_CREATED,
        organization=organization,
        actor=actor,
        target=token,
        new={"name": clean_name, "scopes": token.scopes, "expires_at": expires_at and expires_at.isoformat()},
    )
    return token, value


@transaction.atomic
def revoke_api_token(token: ApiToken, *, actor: Actor) -> None:
    """With all that were made with it: whoever stole one may have made others."""
    Organization.objects.select_for_update(no_key=True).get(pk=token.organization_id)
    now = timezone.now()
    if not ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).update(revoked_at=now):
        raise Conflict(f"The token {token.name} is revoked already.", code="already_revoked")
    token.revoked_at = now
    also = _revoke_made_with(token, now)
    old = {"scopes": token.scopes, "expires_at": token.expires_at and token.expires_at.isoformat()}
    new = {"revoked_with_it": also} if also else None
    audit.record(events.API_TOKEN_REVOKED, organization=token.organization, actor=actor, target=token, old=old, new=new)


def _revoke_made_with(token: ApiToken, now: datetime) -> list[str]:
    """Their names, generation after generation. A token is older than those made with it, so this comes to an end."""
    names: list[str] = []
    parents = [token.pk]
    while parents:
        made = list(ApiToken.objects.for_organization(token.organization).filter(made_with__in=parents))
        parents = [row.pk for row in made]
        names += [row.name for row in made if row.revoked_at is None]
        ApiToken.objects.filter(pk__in=parents, revoked_at__isnull=True).update(revoked_at=now)
    return names


def authenticate(bearer: str, *, now: datetime, ip: str | None) -> ApiToken:
    """The active token behind a bearer value. Raises AuthenticationFailed, the same for every reason.

    `last_used_at` is noted at most once a minute: a fact about the row, no event of the audit log.
    """
    refused = _refused()
    if not _TOKEN.fullmatch(bearer):
        raise refused
    token = ApiToken.objects.select_related("organization", "created_by").filter(token_sha256=_hash(bearer)).first()
    if token is None or not token.is_active(now):
        raise refused
    if token.created_by is not None and not token.created_by.is_active:
        raise refused
    if token.last_used_at is None or now - token.last_used_at >= TOUCH_INTERVAL:
        stale = Q(last_used_at__isnull=True) | Q(last_used_at__lte=now - TOUCH_INTERVAL)
        ApiToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)
        token.last_used_at = now
    return token


def _refused() -> AuthenticationFailed:
    return AuthenticationFailed("The API token is unknown, expired or revoked.", code="invalid_api_token")


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def _clean_scopes(scopes: Iterable[str]) -> list[Permission]:
    wanted = sorted(set(scopes))
    known = {scope.value: scope for scope in SCOPES}
    unknown = [scope for scope in wanted if scope not in known]
    if unknown or not wanted:
        message = f"Unknown scopes: {', '.join(unknown)}." if unknown else "Choose at least one scope."
        raise InvalidInput(message, fields={"scopes": message})
    return [known[scope] for scope in wanted]


def _within_role(organization: Organization, user: User, scopes: list[Permission]) -> None:
    membership = Membership.objects.for_organization(organization).filter(user=user).first()
    beyond = [scope.value for scope in scopes if membership is None or not role_allows(membership.role, scope)]
    if beyond:
        raise PermissionDenied(f"Your role does not hold: {', '.join(beyond)}.", code="scope_beyond_role")


def _within_token(token: ApiToken, scopes: list[Permission], expires_at: datetime | None) -> None:
    """Raises AuthenticationFailed when the token was revoked since its bearer came."""
    if not ApiToken.objects.filter(pk=token.pk, revoked_at__isnull=True).exists():
        raise _refused()
    beyond = [scope.value for scope in scopes if scope.value not in token.scopes]
    if beyond:
        raise PermissionDenied(f"Your token does not hold: {', '.join(beyond)}.", code="scope_beyond_token")
    if token.expires_at is not None and (expires_at is None or expires_at > token.expires_at):
        text = f"It can expire at {token.expires_at:%Y-%m-%dT%H:%M:%SZ} at the latest, as the token that makes it."
        raise InvalidInput(text, fields={"expires_at": text})
