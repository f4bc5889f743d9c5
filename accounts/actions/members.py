"""Members of an organization's dashboard. An organization always keeps at least one owner (AC-55)."""

from __future__ import annotations

import secrets

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit, events
from accounts.actor import Actor, ActorKind
from accounts.errors import Conflict, InvalidInput, PermissionDenied
from accounts.models import ApiToken, Membership, Organization, User
from accounts.permissions import ROLE_PERMISSIONS, Role


@transaction.atomic
def add_member(
    organization: Organization, *, email: str, role: Role | str, actor: Actor
) -> tuple[Membership, str | None]:
    """The membership, and the generated password of a user made for it (shown once, stored hashed)."""
    new_role, address = clean_role(role), clean_email(email)
    only_owners_touch_owners(organization, actor, new_role)
    user, password = _user(address)
    already = Conflict(f"{address} is a member already.", code="already_member", fields={"email": "Already a member."})
    try:
        with transaction.atomic():
            membership = Membership.objects.create(organization=organization, user=user, role=new_role)
    except IntegrityError as error:
        raise already from error
    audit.record(
        events.MEMBER_ADDED,
        organization=organization,
        actor=actor,
        target=membership,
        target_label=address,
        new={"role": new_role.value},
    )
    return membership, password


@transaction.atomic
def change_role(membership: Membership, *, role: Role | str, actor: Actor) -> Membership:
    new_role = clean_role(role)
    current = _locked(membership)
    old_role = Role(current.role)
    only_owners_touch_owners(current.organization, actor, old_role, new_role)
    if old_role == Role.OWNER and new_role != Role.OWNER:
        _keep_one_owner(current)
    current.role = new_role
    current.save(update_fields=["role"])
    revoked = _revoke_tokens_beyond(current, ROLE_PERMISSIONS[new_role])
    audit.record(
        events.MEMBER_ROLE_CHANGED,
        organization=current.organization,
        actor=actor,
        target=current,
        target_label=current.user.email,
        old={"role": old_role.value},
        new={"role": new_role.value, "revoked_api_keys": revoked},
    )
    return current


@transaction.atomic
def remove_member(membership: Membership, *, actor: Actor) -> None:
    current = _locked(membership)
    only_owners_touch_owners(current.organization, actor, Role(current.role))
    if current.role == Role.OWNER:
        _keep_one_owner(current)
    revoked = _revoke_tokens_beyond(current, frozenset())
    audit.delete(current)
    audit.record(
        events.MEMBER_REMOVED,
        organization=current.organization,
        actor=actor,
        target=current,
        target_label=current.user.email,
        old={"role": current.role},
        new={"revoked_api_keys": revoked},
    )


def _locked(membership: Membership) -> Membership:
    """The current row, after the organization's: every change of roles waits for the one before it."""
    Organization.objects.select_for_update(no_key=True).get(pk=membership.organization_id)
    current = (
        Membership.objects.select_for_update(of=("self",), no_key=True)
        .select_related("organization", "user")
        .filter(pk=membership.pk)
        .first()
    )
    if current is None:
        raise Conflict("This member was removed meanwhile.", code="already_removed")
    return current


def _keep_one_owner(membership: Membership) -> None:
    others = Membership.objects.for_organization(membership.organization).filter(role=Role.OWNER)
    if not others.exclude(pk=membership.pk).exists():
        raise Conflict("An organization needs an owner. Make somebody else an owner first.", code="last_owner")


def only_owners_touch_owners(organization: Organization, actor: Actor, *roles: Role) -> None:
    """Admins manage members up to admin; making, changing or removing an owner takes an owner: a person, no token."""
    if Role.OWNER not in roles or actor.kind not in {ActorKind.USER, ActorKind.API_TOKEN}:
        return
    if actor.kind == ActorKind.API_TOKEN:
        message = "Owners are made, changed and removed by an owner in the dashboard, not by an API token."
        raise PermissionDenied(message, code="owner_required")
    own = Membership.objects.for_organization(organization).filter(user_id=actor.id).first()
    if own is None or own.role != Role.OWNER:
        raise PermissionDenied("Only an owner can make, change or remove an owner.", code="owner_required")


def _revoke_tokens_beyond(membership: Membership, allowed: frozenset[str]) -> list[str]:
    """A token never holds more than its creator does: names of the tokens that lost their ground."""
    tokens = ApiToken.objects.for_organization(membership.organization).filter(
        created_by=membership.user, revoked_at__isnull=True
    )
    beyond = [token for token in tokens if not allowed or not set(token.scopes) <= set(allowed)]
    ApiToken.objects.filter(pk__in=[token.pk for token in beyond]).update(revoked_at=timezone.now())
    return [token.name for token in beyond]


def _user(email: str) -> tuple[User, str | None]:
    user = User.objects.filter(email=email).first()
    if user is not None:
        return user, None
    password = secrets.token_urlsafe(15)
    return User.objects.create_user(email, password), password


def clean_email(email: str) -> str:
    address = email.strip().lower()
    try:
        validate_email(address)
    except ValidationError as error:
        raise InvalidInput("Enter a valid e-mail address.", fields={"email": "Not an e-mail address."}) from error
    return address


def clean_role(role: Role | str) -> Role:
    try:
        return Role(role)
    except ValueError as error:
        known = ", ".join(known.value for known in Role)
        raise InvalidInput(f"The role must be one of: {known}.", fields={"role": "Unknown role."}) from error
