"""RS256 keys of an organization's tokens: made with their successor, rotated with overlap.

    next (published, signs nothing) ──rotate──> active (signs) ──rotate──> retiring (verifies) ──later──> retired

A key is in the published set for a whole rotation interval before it signs, so no edge or origin meets a token whose
key it has not seen; it stays there until the last token it signed has ended (AC-33, faults 15 and 45).
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from access import login_events as events
from access.models import TokenKey
from accounts import audit
from accounts.actor import Actor, system
from accounts.models import Organization
from accounts.sealing import seal

KEY_BITS = 2048
ROTATION_INTERVAL = timedelta(days=42)
MIN_GRACE = timedelta(days=7)
PUBLISHED = (TokenKey.State.NEXT, TokenKey.State.ACTIVE, TokenKey.State.RETIRING)


def active_key(organization: Organization) -> TokenKey:
    """The key that signs now; the first use makes an organization's first keys."""
    return _find_active(organization) or create_token_keys(organization, actor=system("create_token_keys"))


def create_token_keys(organization: Organization, *, actor: Actor) -> TokenKey:
    """The first active and next key. Somebody else may make them at the same time: the winner's are used."""
    try:
        return _create_token_keys(organization, actor=actor)
    except IntegrityError:
        return TokenKey.objects.for_organization(organization).get(state=TokenKey.State.ACTIVE)


def _create_token_keys(organization: Organization, *, actor: Actor) -> TokenKey:
    first, second = _generate(), _generate()
    with transaction.atomic():
        key = _store(organization, TokenKey.State.ACTIVE, first)
        _store(organization, TokenKey.State.NEXT, second)
        audit.record(
            events.TOKEN_KEYS_CREATED, organization=organization, actor=actor, target=key, new={"kid": key.kid}
        )
    return key


def rotate_token_keys(organization: Organization, *, now: datetime, actor: Actor) -> TokenKey:
    """The next key signs from now on, a new next one is published, the old one verifies until its tokens ended."""
    if _find_active(organization) is None:
        return create_token_keys(organization, actor=actor)
    return _rotate(organization, _generate(), now=now, actor=actor)


@transaction.atomic
def _rotate(organization: Organization, material: RSAPrivateKey, *, now: datetime, actor: Actor) -> TokenKey:
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    keys = TokenKey.objects.for_organization(organization)
    old = keys.get(state=TokenKey.State.ACTIVE)
    following = keys.get(state=TokenKey.State.NEXT)
    grace = max(MIN_GRACE, timedelta(seconds=organization.session_duration_seconds))
    keys.filter(pk=old.pk).update(state=TokenKey.State.RETIRING, retires_at=now + grace)
    keys.filter(pk=following.pk).update(state=TokenKey.State.ACTIVE, activated_at=now)
    _store(organization, TokenKey.State.NEXT, material)
    following.refresh_from_db()
    audit.record(
        events.TOKEN_KEYS_ROTATED,
        organization=organization,
        actor=actor,
        target=following,
        old={"kid": old.kid},
        new={"kid": following.kid, "old_key_ends": (now + grace).isoformat()},
    )
    return following


@transaction.atomic
def retire_token_keys(organization: Organization, *, now: datetime, actor: Actor) -> int:
    """Retiring keys whose time is over leave the published set; their private halves are deleted."""
    over = TokenKey.objects.for_organization(organization).filter(state=TokenKey.State.RETIRING, retires_at__lte=now)
    kids = list(over.values_list("kid", flat=True))
    if not kids:
        return 0
    over.update(state=TokenKey.State.RETIRED, private_sealed=b"")
    audit.record(
        events.TOKEN_KEYS_RETIRED, organization=organization, actor=actor, target=organization, old={"kids": kids}
    )
    return len(kids)


def rotate_due(*, now: datetime) -> int:
    """What the periodic task calls; running it twice, or on two schedulers, changes nothing more (fault 47)."""
    actor = system("rotate_token_keys")
    active = TokenKey.objects.all_organizations(reason="periodic rotation").filter(state=TokenKey.State.ACTIVE)
    due = [key.organization for key in active.select_related("organization") if _is_due(key, now)]
    for organization in due:
        _rotate_if_still_due(organization, now=now, actor=actor)
    retiring = TokenKey.objects.all_organizations(reason="periodic rotation").filter(
        state=TokenKey.State.RETIRING, retires_at__lte=now
    )
    for organization in {key.organization for key in retiring.select_related("organization")}:
        retire_token_keys(organization, now=now, actor=actor)
    return len(due)


def _rotate_if_still_due(organization: Organization, *, now: datetime, actor: Actor) -> None:
    material = _generate()
    with transaction.atomic():
        Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
        key = _find_active(organization)
        if key is not None and _is_due(key, now):
            _rotate(organization, material, now=now, actor=actor)


def _is_due(key: TokenKey, now: datetime) -> bool:
    return now - (key.activated_at or key.created_at) >= ROTATION_INTERVAL


def _find_active(organization: Organization) -> TokenKey | None:
    return TokenKey.objects.for_organization(organization).filter(state=TokenKey.State.ACTIVE).first()


def _generate() -> RSAPrivateKey:
    """Takes a tenth of a second: done before a transaction takes its locks."""
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


def _store(organization: Organization, state: TokenKey.State, private: RSAPrivateKey) -> TokenKey:
    jwk = _public_jwk(private.public_key())
    der = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return TokenKey.objects.create(
        organization=organization,
        kid=jwk["kid"],
        public_jwk=jwk,
        private_sealed=seal(settings.SEAL_KEY, der, *key_context(organization.id, jwk["kid"])),
        state=state,
        activated_at=timezone.now() if state == TokenKey.State.ACTIVE else None,
    )


def key_context(organization_id: str, kid: str) -> tuple[str, ...]:
    return "token-key", organization_id, kid


def _public_jwk(public: RSAPublicKey) -> dict[str, Any]:
    """The key as published; `kid` is the RFC 7638 thumbprint in hex (64 digits)."""
    numbers = public.public_numbers()
    required = {"e": _base64url(numbers.e), "kty": "RSA", "n": _base64url(numbers.n)}
    thumbprint = hashlib.sha256(json.dumps(required, separators=(",", ":"), sort_keys=True).encode()).hexdigest()
    return {**required, "kid": thumbprint, "alg": "RS256", "use": "sig"}


def _base64url(number: int) -> str:
    data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
