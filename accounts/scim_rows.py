"""SCIM's rows as its hot path reads and writes them: compiled once, because a provider that deactivates thousands sends
one request for each (fault 46)."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db.models import DateTimeField
from django.utils import timezone

from accounts.models import (
    AccessSession,
    Identity,
    IdentityProvider,
    Organization,
    ScimMembership,
    ScimUser,
)
from accounts.prepared import Parameter, PreparedRows, PreparedUpdate

_CHANGED = ("user_name", "external_id", "display_name", "email", "active", "resource", "version", "updated_at")
_REASON = "the caller names the provider or the row"


def _user_id() -> Parameter:
    return Parameter("user", ScimUser._meta.pk)


def _identity_id() -> Parameter:
    return Parameter("identity", Identity._meta.pk)


_PROVIDER = PreparedRows(
    lambda: IdentityProvider.objects.filter(
        organization=Parameter("organization", Organization._meta.pk),
        pk=Parameter("provider", IdentityProvider._meta.pk),
        deleted_at__isnull=True,
    )
)
_USER = PreparedRows(
    lambda: ScimUser.objects.select_for_update(no_key=True).filter(
        provider=Parameter("provider", IdentityProvider._meta.pk), pk=_user_id()
    )
)
_STORE_USER = PreparedUpdate(
    lambda: ScimUser.objects.all_organizations(reason=_REASON).filter(pk=_user_id()),
    **{field.name: Parameter(field.name, field) for field in ScimUser._meta.concrete_fields if field.name in _CHANGED},
)
_IDENTITY = PreparedRows(lambda: Identity.objects.select_for_update(no_key=True).filter(pk=_identity_id()))
_DISABLE = PreparedUpdate(
    lambda: Identity.objects.all_organizations(reason=_REASON).filter(pk=_identity_id()),
    disabled_at=Parameter("disabled_at", DateTimeField()),
    disabled_by_scim=True,
)
_END_SESSIONS = PreparedUpdate(
    lambda: AccessSession.objects.all_organizations(reason=_REASON).filter(
        identity=_identity_id(), revoked_at__isnull=True, expires_at__gt=Parameter("now", DateTimeField())
    ),
    revoked_at=Parameter("revoked_at", DateTimeField()),
)
_MEMBERSHIPS = PreparedRows(
    lambda: ScimMembership.objects.filter(user=_user_id()).select_related("group").order_by("pk")
)


def provider_of(organization: Organization, provider_id: UUID) -> IdentityProvider | None:
    return _PROVIDER.first(organization=organization.pk, provider=provider_id)


def locked_user(provider: IdentityProvider, user_id: UUID) -> ScimUser | None:
    return _USER.first(provider=provider.pk, user=user_id)


def store_user(user: ScimUser) -> None:
    """Everything a change can touch, except the link to an identity. Not for names: uniqueness needs a savepoint."""
    user.updated_at = timezone.now()
    _STORE_USER.run(user=user.pk, **{name: getattr(user, name) for name in _CHANGED})


def locked_identity(identity_id: UUID | None) -> Identity | None:
    return _IDENTITY.first(identity=identity_id) if identity_id is not None else None


def disable_identity(identity: Identity, *, now: datetime) -> int:
    """Returns how many live sessions ended with it."""
    identity.disabled_at, identity.disabled_by_scim = now, True
    _DISABLE.run(identity=identity.pk, disabled_at=now)
    return _END_SESSIONS.run(identity=identity.pk, now=now, revoked_at=now)


def memberships_of(user: ScimUser) -> list[ScimMembership]:
    return _MEMBERSHIPS.all(user=user.pk)
