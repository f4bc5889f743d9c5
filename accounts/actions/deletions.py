"""Deletions that can be undone for a week: kept by the action that deletes, restored by the one that creates."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Model
from django.utils import timezone

from accounts import audit, events
from accounts.actor import Actor
from accounts.errors import Conflict
from accounts.models import DeletedObject, Organization
from accounts.restoring import kinds

KEPT = timedelta(days=7)
# Of an organization; the oldest makes room.
MAX_KEPT = 500
UNDO_HINT = (
    f"This can be undone for {KEPT.days} days: by the button in the message that follows, or under Settings, Recently "
    "deleted."
)


def keep_deleted(
    kind: str,
    organization: Organization,
    *,
    key: object,
    name: str,
    document: Mapping[str, Any],
    actor: Actor,
    sealed: Mapping[str, str] | None = None,
) -> DeletedObject:
    """Part of the action that deletes, which writes its own event."""
    rows = DeletedObject.objects.for_organization(organization)
    # One that is just being restored goes anyway: waiting for it here could be waiting for each other.
    oldest = rows.order_by("-created_at", "id").select_for_update(skip_locked=True)
    surplus = [row.pk for row in oldest.only("pk")[MAX_KEPT - 1 :]]
    if surplus:
        rows.filter(pk__in=surplus).delete()
    return DeletedObject.objects.create(
        organization=organization,
        kind=kind,
        object_id=str(key),
        name=name[:350],
        document=dict(document),
        sealed=dict(sealed or {}),
        deleted_by=actor.label[:300],
        expires_at=timezone.now() + KEPT,
    )


@transaction.atomic
def restore_deleted(kept: DeletedObject, *, actor: Actor) -> Model:
    """The object, made again by its own create action (which writes its event too). Of two at once, one is told that
    there is nothing left to undo."""
    # First, as the actions that delete do: they clear the oldest rows away under this lock.
    organization = Organization.objects.select_for_update(no_key=True).get(pk=kept.organization_id)
    row = DeletedObject.objects.for_organization(organization).select_for_update(no_key=True).filter(pk=kept.pk).first()
    if row is None or row.expires_at <= timezone.now():
        message = f"{kept.name} was restored before, or the time to undo it is over."
        raise Conflict(message, code="nothing_to_undo")
    audit.delete(row)
    target = kinds()[row.kind].restore(row, actor)
    audit.record(
        events.DELETED_RESTORED,
        organization=organization,
        actor=actor,
        target=target,
        target_label=kept.name,
        new={"kind": kept.kind, "deleted_by": kept.deleted_by, "deleted_at": kept.created_at.isoformat()},
    )
    return target


def forget_deleted(*, now: datetime) -> int:
    """Those whose week is over."""
    rows = DeletedObject.objects.all_organizations(reason="a sweeper").filter(expires_at__lte=now)
    return rows.delete()[0]
