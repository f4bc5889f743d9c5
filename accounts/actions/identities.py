"""Identities: made and refreshed by logins, disabled and enabled by admins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit, events
from accounts.actions import scim_effects
from accounts.actions.sessions import end_sessions
from accounts.actor import Actor, ActorKind
from accounts.errors import Conflict, InvalidInput
from accounts.models import AccessSession, Identity, IdentityProvider, ScimUser
from accounts.providers.base import LoginFailed, clean_email
from accounts.text import ascii_lower

MAX_USER_AGENT = 300
_MAX_SUBJECT = 255
_REFRESHED = ["email", "email_verified", "name", "groups", "claims", "last_login_at"]


@transaction.atomic
def record_login(
    provider: IdentityProvider,
    *,
    subject: str,
    email: str,
    email_verified: bool,
    name: str,
    groups: Sequence[str],
    claims: Mapping[str, Any],
    amr: Sequence[str],
    ip: str | None,
    country: str,
    user_agent: str,
    session_seconds: int,
    authenticated_at: datetime | None = None,
) -> AccessSession:
    """A new session for the identity (provider, subject), made at its first login, never found by e-mail.

    Raises LoginFailed when the identity is disabled or the provider deleted, also when that happened while the
    person was at the provider (AC-49).
    """
    now = timezone.now()
    _check_present(provider)
    provisioned = scim_effects.lock_user_of_login(
        provider, subject=subject, confirmed_email=ascii_lower(email) if email_verified is True else ""
    )
    identity = _locked_identity(provider, subject)
    if identity.disabled_at is not None or not scim_effects.may_log_in(provisioned, provider):
        message = "This account was disabled. Ask an administrator of your organization."
        raise LoginFailed(message, code="identity_disabled")
    scim_effects.link_login(provisioned, identity)
    old_email, before = identity.email, _known_of(identity)
    is_new = identity.last_login_at is None
    identity.email, identity.email_verified = ascii_lower(email), email_verified
    identity.groups = scim_effects.groups_at_login(provisioned, provider, groups)
    identity.claims = scim_effects.claims_at_login(provisioned, provider, claims)
    identity.name = name[:350]
    identity.last_login_at = now
    identity.save(update_fields=_REFRESHED)
    session = AccessSession.objects.create(
        organization=provider.organization,
        identity=identity,
        expires_at=now + timedelta(seconds=session_seconds),
        ip_address=ip,
        country=country,
        user_agent=user_agent[:MAX_USER_AGENT],
        authentication_methods=list(amr),
        authenticated_at=authenticated_at,
        last_seen_at=now,
    )
    _record_login_event(provider, session, old_email)
    if not is_new and _known_of(identity) != before:
        # Streams of earlier sessions go on only under what the provider says now.
        audit.raise_edge_version(provider.organization)
    return session


def _record_login_event(provider: IdentityProvider, session: AccessSession, old_email: str) -> None:
    identity = session.identity
    audit.record(
        events.LOGIN_SUCCEEDED,
        organization=session.organization,
        actor=Actor(ActorKind.IDENTITY, str(identity.id), str(identity), session.ip_address),
        target=identity,
        # Worth an admin's look: the principal does not follow the address (AC-10).
        old={"email": old_email} if old_email and old_email != identity.email else None,
        new={"provider": provider.name, "email": identity.email, "session": str(session.id)},
    )


def _check_present(provider: IdentityProvider) -> None:
    if not IdentityProvider.objects.filter(pk=provider.pk, deleted_at__isnull=True).exists():
        raise LoginFailed(f"{provider.name} is no login method any more.", code="provider_deleted")


def _known_of(identity: Identity) -> tuple[Any, ...]:
    """What policies may ask about the person."""
    return identity.email, identity.email_verified, sorted(map(str, identity.groups)), identity.claims


def _locked_identity(provider: IdentityProvider, subject: str) -> Identity:
    """The row, locked. Two first logins at once meet at the unique constraint; the loser reads the winner's row."""
    found = Identity.objects.select_for_update(no_key=True).filter(provider=provider, subject=subject).first()
    if found is not None:
        return found
    try:
        with transaction.atomic():
            return Identity.objects.create(organization=provider.organization, provider=provider, subject=subject)
    except IntegrityError:
        return Identity.objects.select_for_update(no_key=True).get(provider=provider, subject=subject)


@transaction.atomic
def create_identity(provider: IdentityProvider, *, subject: str, email: str, name: str = "", actor: Actor) -> Identity:
    """A person before their first login, to disable them or to ask policies about them. What is said here grants
    nothing: the login itself says the rest, and replaces it. `subject` is what the provider calls them; for one-time
    PINs that is the address."""
    # As logins fold it, so that it will be the same person (AC-05).
    address = clean_email(email.strip())
    try:
        validate_email(address)
    except ValidationError as error:
        raise InvalidInput("Enter a valid e-mail address.", fields={"email": "Not an e-mail address."}) from error
    is_pin = provider.type == IdentityProvider.Type.ONE_TIME_PIN
    key = address if is_pin else subject.strip()
    if not 0 < len(key) <= _MAX_SUBJECT or not key.isprintable():
        message = f"Say which subject {provider.name} knows them by: for one-time PINs only, it is the address."
        raise InvalidInput(message, fields={"subject": message})
    values = {"organization": provider.organization, "provider": provider, "subject": key}
    try:
        with transaction.atomic():
            identity = Identity.objects.create(**values, email=address, name=" ".join(name.split())[:350])
    except IntegrityError as error:
        message = f"{provider.name} knows {address} already."
        raise Conflict(message, code="identity_exists", fields={"email": message}) from error
    new = {"provider": provider.name, "email": address, "subject": key}
    audit.record(events.IDENTITY_CREATED, organization=provider.organization, actor=actor, target=identity, new=new)
    return identity


@transaction.atomic
def delete_identity(identity: Identity, *, actor: Actor) -> None:
    """Only of somebody who never logged in: sessions, certificates and account names of the others name them, so those
    are disabled instead."""
    rows = Identity.objects.for_organization(identity.organization).select_for_update(no_key=True)
    current = rows.filter(pk=identity.pk).first()
    if current is None:
        raise Conflict(f"{identity} is deleted already.", code="already_deleted")
    if current.last_login_at is not None or ScimUser.objects.filter(identity=current).exists():
        message = f"Sessions, certificates or the directory name {identity}. Disable them instead."
        raise Conflict(message, code="identity_in_use")
    old = {"email": current.email, "subject": current.subject}
    audit.delete(current)
    audit.record(events.IDENTITY_DELETED, organization=identity.organization, actor=actor, target=current, old=old)


@transaction.atomic
def disable_identity(identity: Identity, *, actor: Actor) -> None:
    """Blocks the person: no new login, token or certificate, and their sessions end now. Only enable_identity lifts it:
    whom the provider had deactivated stays out when it takes them back."""
    now = timezone.now()
    was_out = identity.disabled_at is not None
    free = Identity.objects.filter(Q(disabled_at__isnull=True) | Q(disabled_by_scim=True), pk=identity.pk)
    if not free.update(disabled_at=now, disabled_by_scim=False):
        raise Conflict(f"{identity} is blocked already.", code="already_disabled")
    identity.disabled_at, identity.disabled_by_scim = now, False
    ended = end_sessions(identity)
    audit.record(
        events.IDENTITY_DISABLED,
        organization=identity.organization,
        actor=actor,
        target=identity,
        old={"disabled": was_out},
        new={"disabled": True, "sessions": ended},
    )


@transaction.atomic
def enable_identity(identity: Identity, *, actor: Actor) -> None:
    """Lifts the block. Whom the provider deactivated meanwhile stays out until it takes them back."""
    known = ScimUser.objects.select_for_update(of=("self",), no_key=True).filter(identity=identity)
    deactivates = {"provider__scim_enabled": True, "provider__scim_user_deprovision": True}
    is_kept_out = known.filter(active=False, **deactivates).first() is not None
    disabled = Identity.objects.filter(pk=identity.pk, disabled_at__isnull=False)
    if is_kept_out and not disabled.filter(disabled_by_scim=False).update(disabled_by_scim=True):
        message = f"{identity} was deactivated at {identity.provider.name}; it has to be activated there."
        raise Conflict(message, code="deactivated_by_scim")
    if not is_kept_out and not disabled.update(disabled_at=None, disabled_by_scim=False):
        raise Conflict(f"{identity} is not blocked.", code="not_disabled")
    identity.disabled_at, identity.disabled_by_scim = identity.disabled_at if is_kept_out else None, is_kept_out
    audit.record(
        events.IDENTITY_ENABLED,
        organization=identity.organization,
        actor=actor,
        target=identity,
        old={"disabled": True},
        new={"disabled": False, "deactivated": is_kept_out},
    )
