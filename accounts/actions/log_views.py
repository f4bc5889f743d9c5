"""Named filters of logs, and the event of a log read out. Looking is free; both of these are on record."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction

from accounts import audit, events
from accounts.actions.deletions import keep_deleted
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput
from accounts.models import DeletedObject, Organization, SavedLogView

MAX_VIEWS = 100
_MAX_QUERY = 1000
# Where a page stands, and what only forms carry.
_NOT_KEPT = {"before", "after", "format", "csrfmiddlewaretoken", "form_id"}


@transaction.atomic
def save_log_view(
    organization: Organization, *, log: str, name: str, query: str, actor: Actor, key: UUID | None = None
) -> SavedLogView:
    """`key`: the id it had, when its deletion is undone."""
    clean = " ".join(name.split())
    if not 1 <= len(clean) <= 80 or not clean.isprintable():
        raise InvalidInput("Give the view a name of 1 to 80 printable characters.")
    kept = _clean_query(query)
    if not kept:
        raise InvalidInput("There is no filter to save: choose some and search first.")
    if SavedLogView.objects.for_organization(organization).count() >= MAX_VIEWS:
        raise Conflict(f"There are {MAX_VIEWS} saved views already. Delete one first.", code="too_many_views")
    try:
        with transaction.atomic():
            view = SavedLogView.objects.create(
                pk=key or uuid4(),
                organization=organization,
                log=log,
                name=clean,
                query=kept,
                created_by_label=actor.label[:300],
            )
    except IntegrityError as error:
        raise Conflict(f"There is a view named {clean} already. Choose another name.", code="name_taken") from error
    new = {"log": log, "name": clean, "query": kept}
    audit.record(events.LOG_VIEW_SAVED, organization=organization, actor=actor, target=view, new=new)
    return view


@transaction.atomic
def delete_log_view(view: SavedLogView, *, actor: Actor) -> DeletedObject:
    old = {"log": view.log, "name": view.name, "query": view.query}
    kept = keep_deleted("log_view", view.organization, key=view.pk, name=view.name, document=old, actor=actor)
    audit.delete(view)
    audit.record(events.LOG_VIEW_DELETED, organization=view.organization, actor=actor, target=view, old=old)
    return kept


@transaction.atomic
def record_log_export(organization: Organization, *, log: str, kind: str, query: str, actor: Actor) -> None:
    """Written before the first row leaves."""
    new = {"log": log, "format": kind, "filters": query[:_MAX_QUERY]}
    audit.record(
        events.LOG_EXPORTED,
        organization=organization,
        actor=actor,
        target=organization,
        target_label=f"{log} log",
        new=new,
    )


def _clean_query(query: str) -> str:
    pairs = parse_qsl(query[: 4 * _MAX_QUERY], max_num_fields=50)
    kept = [(key, value.replace("\0", "")[:200]) for key, value in pairs if key.isidentifier() and len(key) <= 20]
    text = urlencode([(key, value) for key, value in kept if key not in _NOT_KEPT])
    if len(text) > _MAX_QUERY:
        raise InvalidInput("These filters are too long to be saved. Use fewer.")
    return text
