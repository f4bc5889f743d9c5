"""Drafts of applications: keep, use up, discard, and forget after a time. A draft belongs to one member."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from access import events
from access.models import ApplicationDraft
from accounts import audit
from accounts.actor import Actor
from accounts.errors import Conflict
from accounts.models import Organization, User

KEPT = timedelta(days=30)
MAX_DRAFTS = 50


@transaction.atomic
def save_draft(
    organization: Organization,
    draft: ApplicationDraft | None,
    *,
    actor: Actor,
    user: User,
    name: str,
    data: Mapping[str, Any],
) -> ApplicationDraft:
    """None makes a new one. Every save prolongs its life."""
    rows = ApplicationDraft.objects.for_organization(organization).filter(user=user)
    if draft is None:
        # Locked: two windows must not pass the limit together.
        Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
        if rows.count() >= MAX_DRAFTS:
            raise Conflict(f"You have {MAX_DRAFTS} drafts. Discard one first.", code="too_many_drafts")
        draft = ApplicationDraft(organization=organization, user=user)
    else:
        draft = rows.select_for_update(no_key=True).get(pk=draft.pk)
    draft.name, draft.data = name.strip()[:350], dict(data)
    draft.expires_at = timezone.now() + KEPT
    draft.save()
    _record(events.APPLICATION_DRAFT_SAVED, draft, actor)
    return draft


@transaction.atomic
def discard_draft(draft: ApplicationDraft, *, actor: Actor) -> None:
    audit.delete(draft)
    _record(events.APPLICATION_DRAFT_DISCARDED, draft, actor)


def forget_expired_drafts(*, now: datetime) -> int:
    """Nobody is told: their author left them alone for KEPT."""
    rows = ApplicationDraft.objects.all_organizations(reason="a sweeper").filter(expires_at__lte=now)
    return rows.delete()[0]


def _record(name: str, draft: ApplicationDraft, actor: Actor) -> None:
    audit.record(name, organization=draft.organization, actor=actor, target=draft, new={"name": draft.name})
