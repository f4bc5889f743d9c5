"""Policies and groups whose stored rules mention a text: found by the database, so that the others need not be read."""

from __future__ import annotations

from typing import TypeVar

from django.db.models import Q, TextField
from django.db.models.functions import Cast

from access.models import Group, Policy
from accounts.tenancy import TenantQuerySet

HolderT = TypeVar("HolderT", Policy, Group)


def mentioning(rows: TenantQuerySet[HolderT], text: str, *more: str) -> TenantQuerySet[HolderT]:
    """Those that may name it; whoever asks looks at the rules themselves. `more`: further columns to look through."""
    condition = Q()
    for column in ("include", "require", "exclude", *more):
        rows = rows.alias(**{f"{column}_text": Cast(column, TextField())})
        condition |= Q(**{f"{column}_text__contains": text})
    return rows.filter(condition)
