"""Which deletions can be undone, and how. Each app registers its kinds (AppConfig.ready)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Model

from accounts.actor import Actor
from accounts.models import DeletedObject
from accounts.permissions import Permission

# The page that shows the object: name of the route, and what it takes after the team.
Place = tuple[str, tuple[object, ...]]


@dataclass(frozen=True)
class Kind:
    """`permission` is that of making one. `restore` calls the action that makes one, under the old id: it raises
    DomainError saying what is in the way, and then nothing has changed."""

    name: str
    label: str
    permission: Permission
    restore: Callable[[DeletedObject, Actor], Model]
    place: Callable[[Any], Place]


_KINDS: dict[str, Kind] = {}


def register(kind: Kind) -> None:
    _KINDS[kind.name] = kind


def kinds() -> Mapping[str, Kind]:
    return _KINDS
