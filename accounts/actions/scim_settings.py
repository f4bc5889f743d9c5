"""Whether a login method takes SCIM, what a change does, and its secret (public API: scim_config)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid

from django.db import transaction

from accounts import audit, events, scim_rows
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput, NotFound
from accounts.models import IdentityProvider, Organization, public_url

SCIM_PATH = "/cdn-cgi/access/scim/v2"
_PREFIX = "scim_"


@transaction.atomic
def set_scim(
    provider: IdentityProvider,
    *,
    actor: Actor,
    enabled: bool,
    user_deprovision: bool | None = None,
    seat_deprovision: bool | None = None,
    identity_update_behavior: str | None = None,
) -> str | None:
    """What is not given keeps its value. Returns the secret when SCIM was enabled for the first time: it is shown
    once. Disabling keeps people and groups as they are, and the secret for later."""
    provider = _locked(provider)
    if enabled and provider.type == IdentityProvider.Type.ONE_TIME_PIN:
        message = "One-time PIN has no directory that could push people. SCIM belongs to an identity provider."
        raise InvalidInput(message, fields={"scim_config": message})
    old = scim_facts(provider)
    provider.scim_enabled = enabled
    if user_deprovision is not None:
        provider.scim_user_deprovision = user_deprovision
    if seat_deprovision is not None:
        provider.scim_seat_deprovision = seat_deprovision
    if identity_update_behavior is not None:
        provider.scim_identity_update_behavior = _behavior(identity_update_behavior)
    if provider.scim_seat_deprovision and not provider.scim_user_deprovision:
        message = "seat_deprovision needs user_deprovision."
        raise InvalidInput(message, fields={"seat_deprovision": message})
    secret = _new_secret(provider) if enabled and not provider.scim_secret_sha256 else None
    provider.save()
    if old != scim_facts(provider) or secret:
        audit.record(
            events.PROVIDER_SCIM_CHANGED,
            organization=provider.organization,
            actor=actor,
            target=provider,
            old=old,
            new=scim_facts(provider),
        )
    return secret


@transaction.atomic
def refresh_scim_secret(provider: IdentityProvider, *, actor: Actor) -> str:
    """The new secret; the old one stops at once."""
    provider = _locked(provider)
    if not provider.scim_enabled:
        raise Conflict("SCIM is not enabled for this login method.", code="scim_not_enabled")
    secret = _new_secret(provider)
    provider.save(update_fields=["scim_secret_sha256", "updated_at"])
    audit.record(events.PROVIDER_SCIM_SECRET_MADE, organization=provider.organization, actor=actor, target=provider)
    return secret


def find_by_secret(organization: Organization, provider_id: uuid.UUID, secret: str) -> IdentityProvider | None:
    """The enabled provider this secret belongs to; compared in constant time, an unknown provider like a wrong one."""
    provider = scim_rows.provider_of(organization, provider_id)
    known = provider.scim_secret_sha256 if provider is not None and provider.scim_enabled else ""
    matches = hmac.compare_digest(_hash(secret), known or _hash(""))
    return provider if secret and known and matches else None


def scim_base_url(provider: IdentityProvider) -> str:
    return f"{public_url(provider.organization.team_domain)}{SCIM_PATH}/{provider.pk}"


def scim_facts(provider: IdentityProvider) -> dict[str, object]:
    return {
        "enabled": provider.scim_enabled,
        "user_deprovision": provider.scim_user_deprovision,
        "seat_deprovision": provider.scim_seat_deprovision,
        "identity_update_behavior": provider.scim_identity_update_behavior,
    }


def _behavior(value: str) -> str:
    if value not in IdentityProvider.ScimBehavior.values:
        message = f"It must be one of {', '.join(IdentityProvider.ScimBehavior.values)}."
        raise InvalidInput(message, fields={"identity_update_behavior": message})
    return value


def _new_secret(provider: IdentityProvider) -> str:
    secret = _PREFIX + secrets.token_urlsafe(36)
    provider.scim_secret_sha256 = _hash(secret)
    return secret


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _locked(provider: IdentityProvider) -> IdentityProvider:
    found = (
        IdentityProvider.objects.for_organization(provider.organization)
        .select_for_update(of=("self",), no_key=True)
        .select_related("organization")
        .filter(pk=provider.pk)
        .first()
    )
    if found is None:
        raise NotFound("There is no such login method.")
    return found
