"""The audit log: registered event names, and the one function that writes an event in the caller's transaction.

An action writes exactly one event. Events marked `affects_edge` also raise the edge version in the same transaction,
so edges fetch a new snapshot and re-check live streams: no action can forget to. Each event is chained to the one
before it (accounts/audit_chain.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import CharField, F, Model, PositiveBigIntegerField

from accounts import audit_chain
from accounts.actor import Actor
from accounts.edge_models import EdgeChange, EdgeVersion
from accounts.models import AuditChain, AuditEvent, Organization
from accounts.prepared import Parameter, PreparedRows, PreparedUpdate, insert, insert_all

_SECRET_WORDS = ("secret", "password", "private", "sha256", "sealed", "pin_hash")
_written: ContextVar[int] = ContextVar("audit_events_written", default=0)


@dataclass(frozen=True, slots=True)
class EventType:
    name: str
    text: str
    affects_edge: bool


_HEAD = PreparedRows(
    lambda: AuditChain.objects.select_for_update(no_key=True).filter(pk=Parameter("chain", CharField()))
)
_MOVE_HEAD = PreparedUpdate(
    lambda: AuditChain.objects.filter(pk=Parameter("chain", CharField())),
    sequence=Parameter("sequence", PositiveBigIntegerField()),
    digest=Parameter("digest", CharField()),
)
_RAISE = PreparedUpdate(lambda: EdgeVersion.objects.filter(id=1), version=F("version") + 1)
_NOTE_CHANGE = PreparedUpdate(
    lambda: EdgeChange.objects.filter(organization=Parameter("organization", Organization._meta.pk)),
    version=EdgeVersion.objects.filter(id=1).values("version"),
)
_REGISTRY: dict[str, EventType] = {}
_announcer: Callable[[], object] | None = None


def register(name: str, text: str, *, affects_edge: bool = False) -> str:
    """Declare an event name at import time of the app's `events` module; returns the name, to be used as a constant."""
    if name in _REGISTRY:
        raise ValueError(f"Audit event {name} is registered twice.")
    _REGISTRY[name] = EventType(name, text, affects_edge)
    return name


def registered_events() -> Mapping[str, EventType]:
    return dict(_REGISTRY)


_recorded: ContextVar[list[Model] | None] = ContextVar("recorded", default=None)


@dataclass(frozen=True, slots=True)
class Together:
    """Events that are stored at the end of a `together` block."""

    events: list[AuditEvent]
    # Whose edges have to know, by id.
    organizations: dict[str, Organization]

    def place(self) -> int:
        return len(self.events)

    def back_to(self, place: int) -> None:
        """Forget what was recorded since: the changes were undone."""
        del self.events[place:]


_together: ContextVar[Together | None] = ContextVar("together", default=None)


@contextmanager
def recorded_targets() -> Iterator[list[Model]]:
    """The targets of the events written inside, oldest first."""
    found: list[Model] = []
    mark = _recorded.set(found)
    try:
        yield found
    finally:
        _recorded.reset(mark)


@contextmanager
def together() -> Iterator[Together]:
    """Events recorded inside are stored in one statement at the end, and their chain and the edges' version are locked
    only from then on. For several changes in one transaction; nothing is stored when the block fails."""
    waiting = Together([], {})
    mark = _together.set(waiting)
    try:
        yield waiting
    finally:
        _together.reset(mark)
    _append(waiting.events)
    for organization in waiting.organizations.values():
        raise_edge_version(organization)


def record(
    name: str,
    *,
    organization: Organization | None,
    actor: Actor,
    target: Model | None = None,
    target_label: str | None = None,
    old: Mapping[str, Any] | None = None,
    new: Mapping[str, Any] | None = None,
    edges_learn: bool = False,
) -> AuditEvent:
    """Write one event inside the running transaction (required: no change without its event, and no event alone).

    `edges_learn`: this change affects edges although not every event of its name does."""
    event_type = _REGISTRY[name]
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("Audit events are written inside the action's transaction.")
    event = AuditEvent(
        organization=organization,
        chain=organization.pk if organization is not None else "",
        name=name,
        actor_kind=actor.kind.value,
        actor_id=actor.id,
        actor_label=actor.label[:300],
        ip_address=actor.ip,
        target_type=target._meta.model_name or "" if target is not None else "",
        target_id=str(target.pk) if target is not None else "",
        target_label=(target_label or (str(target) if target is not None else ""))[:350],
        old=_without_secrets(old),
        new=_without_secrets(new),
    )
    waiting = _together.get()
    if waiting is None:
        _append([event])
    else:
        waiting.events.append(event)
    _written.set(_written.get() + 1)
    watching = _recorded.get()
    if watching is not None and target is not None:
        watching.append(target)
    # Last: one row that all organizations share, locked until the commit.
    if event_type.affects_edge or edges_learn:
        if organization is None:
            raise RuntimeError(f"{name} affects edges, so it has to say whose streams they check again.")
        if waiting is None:
            raise_edge_version(organization)
        else:
            waiting.organizations[organization.pk] = organization
    return event


def delete(row: Model) -> None:
    """Delete a row ahead of its event: it keeps its id, which the event names. Events come last, because the head of
    the chain stays locked until the commit: who locks a row after that may wait for somebody who waits for the chain
    (docs/architecture.md, "Locks")."""
    key = row.pk
    row.delete()
    row.pk = key


def events_written() -> int:
    """A counter of this context: what ran between two equal values changed nothing."""
    return _written.get()


def _append(events: Sequence[AuditEvent]) -> None:
    """Give events their places after the last one of their chain, whose row stays locked until the commit: events of
    one organization get their places one after the other, and a rolled back one leaves no gap."""
    for chain in sorted({event.chain for event in events}):
        head = _HEAD.first(chain=chain)
        if head is None:
            AuditChain.objects.get_or_create(pk=chain)
            head = _HEAD.first(chain=chain)
            assert head is not None
        own = [event for event in events if event.chain == chain]
        for event in own:
            head.sequence += 1
            event.sequence = head.sequence
            values = {name: getattr(event, name) for name in audit_chain.CONTENT}
            event.digest = head.digest = audit_chain.digest_of(settings.SECRET_KEY, head.digest, values)
        if len(own) == 1:
            insert(own[0])  # whoever recorded it may want its number
        else:
            insert_all(own)
        _MOVE_HEAD.run(chain=chain, sequence=head.sequence, digest=head.digest)


def raise_edge_version(organization: Organization) -> None:
    """Tell edges that something has changed that concerns this organization: they fetch a new snapshot and check its
    live streams again. Called by `record`. Where an event is written as well, let `record` do it (edges_learn): the
    row of the version is the last one to be locked, or two changes could wait for each other."""
    if not _RAISE.run():
        EdgeVersion.objects.get_or_create(id=1, defaults={"version": 2})
    # The version's row is locked until this commits, so whoever sees this number sees all smaller ones too.
    if not _NOTE_CHANGE.run(organization=organization.pk):
        EdgeChange.objects.create(organization=organization, version=edge_version())
    if _announcer is not None:
        transaction.on_commit(_announcer, robust=True)


def set_change_announcer(announce: Callable[[], object]) -> None:
    """Called after each commit that raised the edge version, to poke edges. Edges poll as well, so it may fail."""
    global _announcer
    _announcer = announce


def edge_version() -> int:
    row = EdgeVersion.objects.filter(id=1).values_list("version", flat=True).first()
    return row if row is not None else 1


def _without_secrets(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """At any depth: a configuration may nest what must not be kept."""
    if values is None:
        return None
    return {key: _clean(value) for key, value in values.items() if not _names_a_secret(str(key))}


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _without_secrets(value)
    return [_clean(item) for item in value] if isinstance(value, list | tuple) else value


def _names_a_secret(key: str) -> bool:
    return key.lower() == "pin" or any(word in key.lower() for word in _SECRET_WORDS)
