"""Waiting times after too many attempts, ended early: for people support staff talk to, who cannot wait."""

from __future__ import annotations

from django.db import transaction

from accounts import audit, events
from accounts.actor import Actor
from accounts.allauth_adapter import forget_failed_sign_ins
from accounts.models import Identity, Membership
from accounts.ratelimits import (
    FACTOR_TRY_BY_IDENTITY,
    FACTOR_WRONG_BY_IDENTITY,
    PIN_SEND_BY_ACCOUNT,
    PIN_TRY_BY_ACCOUNT,
    forgive,
)


@transaction.atomic
def unlock_identity(identity: Identity, *, actor: Actor) -> None:
    """Limits of the account end. Those of addresses stay: they protect everybody else."""
    audit.record(events.IDENTITY_UNLOCKED, organization=identity.organization, actor=actor, target=identity)
    for limit in (PIN_SEND_BY_ACCOUNT, PIN_TRY_BY_ACCOUNT):
        forgive(limit, identity.organization_id, identity.email)
    for limit in (FACTOR_TRY_BY_IDENTITY, FACTOR_WRONG_BY_IDENTITY):
        forgive(limit, str(identity.pk))


@transaction.atomic
def unlock_member(membership: Membership, *, actor: Actor) -> None:
    audit.record(
        events.MEMBER_UNLOCKED,
        organization=membership.organization,
        actor=actor,
        target=membership,
        target_label=membership.user.email,
    )
    forget_failed_sign_ins(membership.user.email)
