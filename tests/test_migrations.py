"""Fault 42: while a new version is rolled out, processes of the old one go on with the new tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from django.db import models
from django.db.migrations import operations as ops
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation

OWN = ("accounts", "access", "tunnels")


def breaking(operations: Sequence[Operation]) -> Iterator[str]:
    """What code that does not know the migration cannot live with: columns that are gone or have another name, and new
    ones that it would have to fill."""
    for operation in operations:
        text = operation.describe()
        if isinstance(operation, ops.RemoveField | ops.RenameField | ops.RenameModel | ops.DeleteModel | ops.RunSQL):
            yield text
        elif isinstance(operation, ops.AddField):
            column = operation.field
            filled = column.null or column.many_to_many or column.db_default is not models.NOT_PROVIDED
            if not filled:
                yield text


def test_fault_42_migrations_after_the_first_leave_old_processes_working() -> None:
    loader = MigrationLoader(None)
    found = [
        f"{key}: {text}"
        for key, migration in loader.disk_migrations.items()
        if key[0] in OWN and not migration.initial
        for text in breaking(migration.operations)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("operation", "breaks"),
    [
        (ops.AddField("zone", "note", models.CharField(max_length=9, default="")), True),
        (ops.AddField("zone", "note", models.CharField(max_length=9, default="", db_default="")), False),
        (ops.AddField("zone", "note", models.DateTimeField(null=True)), False),
        (ops.RemoveField("zone", "note"), True),
        (ops.RenameField("zone", "note", "words"), True),
        (ops.DeleteModel("zone"), True),
        (ops.CreateModel("note", [("id", models.AutoField(primary_key=True))]), False),
        (ops.AddIndex("zone", models.Index(fields=["name"], name="by_name")), False),
    ],
)
def test_which_operations_break(operation: Operation, breaks: bool) -> None:
    assert bool(list(breaking([operation]))) is breaks
