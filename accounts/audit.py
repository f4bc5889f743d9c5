"""The audit log: registered event names, and the one function that writes an event in the caller's transaction.

An action writes exactly one event. Events marked `affects_edge` also raise the edge version in the same transaction,
so edges fetch a new snapshot and re-check live streams: no action can forget to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import F, Model

from accounts.actor import Actor
from accounts.edge_models import EdgeChange, EdgeVersion
from accounts.models import AuditEvent, Organization
from accounts.prepared import insert

_SECRET_WORDS = ("secret", "password", "private", "sha256", "sealed", "pin_hash")
_written: ContextVar[int] = ContextVar("audit_events_written", default=0)


@dataclass(frozen=True, slots=True)
class EventType:
    name: str
    text: str
    affects_edge: bool


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


@contextmanager
def recorded_targets() -> Iterator[list[Model]]:
    """The targets of the events written inside, oldest first."""
    found: list[Model] = []
    mark = _recorded.set(found)
    try:
        yield found
    finally:
        _recorded.reset(mark)


def record(
    name: str,
    *,
    organization: Organization | None,
    actor: Actor,
    target: Model | None = None,
    target_label: str | None = None,
    old: Mapping[str, Any] | None = None,
    new: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Write one event inside the running transaction (required: no change without its event, and no event alone)."""
    event_type = _REGISTRY[name]
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("Audit events are written inside the action's transaction.")
    event = AuditEvent(
        organization=organization,
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
    insert(event)
    _written.set(_written.get() + 1)
    watching = _recorded.get()
    if watching is not None and target is not None:
        watching.append(target)
    if event_type.affects_edge:
        if organization is None:
            raise RuntimeError(f"{name} affects edges, so it has to say whose streams they check again.")
        raise_edge_version(organization)
    return event


def events_written() -> int:
    """A counter of this context: what ran between two equal values changed nothing."""
    return _written.get()


def raise_edge_version(organization: Organization) -> None:
    """Tell edges that something has changed that concerns this organization: they fetch a new snapshot and check its
    live streams again. Called by `record`; changes whose event does not say so (SCIM, logins) call it themselves."""
    if not EdgeVersion.objects.filter(id=1).update(version=F("version") + 1):
        EdgeVersion.objects.get_or_create(id=1, defaults={"version": 2})
    # The version's row is locked until this commits, so whoever sees this number sees all smaller ones too.
    changes = EdgeChange.objects.for_organization(organization)
    if not changes.update(version=EdgeVersion.objects.filter(id=1).values("version")):
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
