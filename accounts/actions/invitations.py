"""Invitations: asked for by a member, mailed by a worker, accepted once by the person behind the address (AC-56).

    invite_member / renew_invitation -> task send_invitation -> issue_link -> mail -> accept_invitation

Acceptance, withdrawal and every change of roles lock the organization's row first, so they wait for each other: an
inviter who loses the right a moment before leaves a dead link behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from allauth.account.models import EmailAddress
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import audit, events
from accounts.actions.members import clean_email, clean_role, only_owners_touch_owners
from accounts.actor import Actor, ActorKind
from accounts.errors import Conflict, DomainError, NotFound, PermissionDenied
from accounts.models import Invitation, Membership, Organization, User
from accounts.people_models import INVITATION_LIFETIME
from accounts.permissions import Permission, Role, role_allows
from accounts.ratelimits import INVITE_BY_ADDRESS, INVITE_BY_ORGANIZATION, spend
from accounts.tasks import send_invitation


class InvitationEnded(Conflict):
    """The link was good once and is not any more; the code says why."""

    status = 410
    code = "invitation_ended"


@transaction.atomic
def invite_member(organization: Organization, *, email: str, role: Role | str, user: User, actor: Actor) -> Invitation:
    """`user` is the member on whose right the link will stand."""
    new_role, address = clean_role(role), clean_email(email)
    only_owners_touch_owners(organization, actor, new_role)
    if Membership.objects.for_organization(organization).filter(user__email=address).exists():
        raise Conflict(f"{address} is a member already.", code="already_member", fields={"email": "Already a member."})
    spend(INVITE_BY_ORGANIZATION, organization.id)
    spend(INVITE_BY_ADDRESS, organization.id, address)
    message = f"{address} is invited already. Send that invitation again, or withdraw it first."
    try:
        with transaction.atomic():
            invitation = Invitation.objects.create(
                organization=organization,
                email=address,
                role=new_role,
                invited_by=user,
                invited_by_label=user.email,
                expires_at=timezone.now() + INVITATION_LIFETIME,
            )
    except IntegrityError as error:
        raise Conflict(message, code="already_invited", fields={"email": message}) from error
    new = {"role": new_role.value, "expires_at": invitation.expires_at.isoformat()}
    _record(events.MEMBER_INVITED, invitation, actor, new=new)
    _mail_after_commit(invitation)
    return invitation


@transaction.atomic
def renew_invitation(invitation: Invitation, *, user: User | None, actor: Actor) -> Invitation:
    """A new mail with a new link for another 7 days; the link before it is dead. `user`: the member it stands on from
    now on; None (support staff) leaves the inviter."""
    current = _open_invitation(invitation)
    only_owners_touch_owners(current.organization, actor, Role(current.role))
    spend(INVITE_BY_ORGANIZATION, current.organization_id)
    spend(INVITE_BY_ADDRESS, current.organization_id, current.email)
    old = {"expires_at": current.expires_at.isoformat(), "invited_by": current.invited_by_label}
    current.expires_at = timezone.now() + INVITATION_LIFETIME
    current.token_sha256, current.sent_at = "", None
    if user is not None:
        current.invited_by, current.invited_by_label = user, user.email
    current.save(update_fields=["expires_at", "token_sha256", "sent_at", "invited_by", "invited_by_label"])
    new = {"expires_at": current.expires_at.isoformat(), "invited_by": current.invited_by_label}
    _record(events.INVITATION_RENEWED, current, actor, old=old, new=new)
    _mail_after_commit(current)
    return current


@transaction.atomic
def withdraw_invitation(invitation: Invitation, *, actor: Actor) -> None:
    current = _open_invitation(invitation)
    only_owners_touch_owners(current.organization, actor, Role(current.role))
    current.withdrawn_at = timezone.now()
    current.save(update_fields=["withdrawn_at"])
    _record(events.INVITATION_WITHDRAWN, current, actor, old={"role": current.role})


def find_invitation(token: str) -> Invitation:
    """The invitation behind a link, in whatever state. Raises NotFound."""
    rows = Invitation.objects.all_organizations(reason="the link names no organization").select_related("organization")
    found = rows.filter(token_sha256=hashlib.sha256(token.encode()).hexdigest()).first()
    if found is None:
        raise NotFound("This invitation link is not known: maybe a newer mail replaced it. Open the newest one.")
    return found


def check_invitation(invitation: Invitation, now: datetime) -> None:
    """Raises InvitationEnded when it cannot be used (any more), whoever asks."""
    if invitation.accepted_at is not None:
        raise InvitationEnded("This invitation was used already. Sign in to the dashboard instead.", code="used")
    if invitation.withdrawn_at is not None:
        raise InvitationEnded("This invitation was withdrawn. Ask the organization for a new one.", code="withdrawn")
    if not invitation.is_usable(now):
        raise InvitationEnded("This invitation has expired. Ask the organization to send it again.", code="expired")
    if not inviter_may(invitation):
        message = "Whoever invited you may not invite people any more. Ask the organization for a new invitation."
        raise InvitationEnded(message, code="inviter_lost_right")


def inviter_may(invitation: Invitation) -> bool:
    """Whether the inviter is still a member who could send this invitation now."""
    membership = (
        Membership.objects.for_organization(invitation.organization)
        .filter(user=invitation.invited_by, user__is_active=True)
        .first()
    )
    if membership is None or not role_allows(membership.role, Permission.MEMBERS_EDIT):
        return False
    return invitation.role != Role.OWNER or membership.role == Role.OWNER


def accept_invitation(invitation: Invitation, *, user: User, actor: Actor) -> Membership:
    """The person's membership. A refusal leaves an event too, in a transaction of its own."""
    try:
        return _accept(invitation, user=user, actor=actor)
    except DomainError as error:
        with transaction.atomic():
            new = {"reason": error.code, "email": user.email}
            _record(events.INVITATION_REFUSED, invitation, actor, new=new)
        raise


@transaction.atomic
def _accept(invitation: Invitation, *, user: User, actor: Actor) -> Membership:
    Organization.objects.select_for_update(no_key=True).get(pk=invitation.organization_id)
    now = timezone.now()
    current = (
        Invitation.objects.select_for_update(of=("self",), no_key=True)
        .select_related("organization")
        .get(pk=invitation.pk)
    )
    if user.email.lower() != current.email:
        message = f"This invitation is for {current.email}, and you are signed in as {user.email}."
        raise PermissionDenied(message, code="wrong_account")
    check_invitation(current, now)
    try:
        with transaction.atomic():
            membership = Membership.objects.create(organization=current.organization, user=user, role=current.role)
    except IntegrityError as error:
        raise Conflict(f"You are a member of {current.organization} already.", code="already_member") from error
    current.accepted_at = now
    current.save(update_fields=["accepted_at"])
    _confirm_address(user)
    new = {"role": current.role, "invited_by": current.invited_by_label}
    _record(events.INVITATION_ACCEPTED, current, actor, new=new)
    return membership


def _confirm_address(user: User) -> None:
    """Whoever holds the link reads the mails of this address."""
    known = EmailAddress.objects.filter(user=user, email__iexact=user.email)
    if not known.update(verified=True):
        primary = not EmailAddress.objects.filter(user=user, primary=True).exists()
        EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=primary)


def _open_invitation(invitation: Invitation) -> Invitation:
    Organization.objects.select_for_update(no_key=True).get(pk=invitation.organization_id)
    current = (
        Invitation.objects.select_for_update(of=("self",), no_key=True)
        .select_related("organization")
        .get(pk=invitation.pk)
    )
    if current.accepted_at is not None or current.withdrawn_at is not None:
        word = "accepted" if current.accepted_at is not None else "withdrawn"
        raise Conflict(f"The invitation of {current.email} was {word} meanwhile.", code=f"already_{word}")
    return current


def _mail_after_commit(invitation: Invitation) -> None:
    transaction.on_commit(lambda: send_invitation.delay(str(invitation.pk)))


def _record(
    name: str,
    invitation: Invitation,
    actor: Actor,
    *,
    old: Mapping[str, object] | None = None,
    new: Mapping[str, object] | None = None,
) -> None:
    audit.record(
        name,
        organization=invitation.organization,
        actor=actor,
        target=invitation,
        target_label=invitation.email,
        old=old,
        new=new,
    )


def invited_person(user: User, ip: str | None) -> Actor:
    return Actor(ActorKind.USER, str(user.pk), user.email, ip)
