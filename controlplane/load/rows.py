"""Many rows of a model at once: COPY on PostgreSQL, executemany elsewhere.

Actions are left out on purpose: they write one row and its audit event per transaction, and a million of those takes
an hour. Columns that a row does not name get the model's default, so a new column needs no change here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from django.db import connection
from django.db.models import AutoField, Field, JSONField, Model

Row = Mapping[str, Any]
_BATCH = 2000
_CHUNK_CHARACTERS = 1 << 18


def write_rows(model: type[Model], rows: Iterable[Row]) -> int:
    """Store rows given as {column: value}; the first row names the columns of all. Returns how many."""
    source = iter(rows)
    first = next(source, None)
    if first is None:
        return 0
    fields = [field for field in model._meta.concrete_fields if _is_written(field, first)]
    everything = _with(first, source)
    write = _copy if connection.vendor == "postgresql" else _insert
    return write(model, fields, everything)


def _is_written(field: Field[Any, Any], row: Row) -> bool:
    if field.attname in row:
        return True
    return not isinstance(field, AutoField) and (field.has_default() or not field.has_db_default())


def _with(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest


def _values(model: type[Model], fields: list[Field[Any, Any]]) -> Callable[[Row], list[Any]]:
    """From a row to its values in the order of `fields`. Defaults that are drawn anew (ids) are drawn per row."""
    blank = model()
    made_anew = {field.attname: field.get_default for field in fields if _is_drawn(field)}
    fixed = {
        field.attname: field.pre_save(blank, True) for field in fields if field.attname not in made_anew
    }  # auto_now columns get the moment of this call

    def values(row: Row) -> list[Any]:
        found = []
        for field in fields:
            name = field.attname
            if name in row:
                found.append(row[name])
            else:
                found.append(made_anew[name]() if name in made_anew else fixed[name])
        return found

    return values


def _is_drawn(field: Field[Any, Any]) -> bool:
    return field.has_default() and callable(field.default)


def _copy(model: type[Model], fields: list[Field[Any, Any]], rows: Iterator[Row]) -> int:
    names = ", ".join(connection.ops.quote_name(str(field.column)) for field in fields)
    as_json = [isinstance(field, JSONField) for field in fields]
    values, count = _values(model, fields), 0
    with connection.cursor() as cursor:
        table = connection.ops.quote_name(model._meta.db_table)
        with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            buffer: list[str] = []
            size = 0
            for row in rows:
                line = "\t".join(_text(value, js) for value, js in zip(values(row), as_json, strict=True))
                buffer.append(line)
                size += len(line)
                count += 1
                if size > _CHUNK_CHARACTERS:
                    copy.write("\n".join(buffer) + "\n")
                    buffer, size = [], 0
            if buffer:
                copy.write("\n".join(buffer) + "\n")
    return count


def _text(value: Any, as_json: bool) -> str:
    """A value in COPY's text format."""
    if value is None:
        return "\\N"
    if as_json:
        value = json.dumps(value)
    elif isinstance(value, bool):
        return "t" if value else "f"
    elif isinstance(value, datetime):
        return value.isoformat()
    elif isinstance(value, bytes):
        return f"\\\\x{value.hex()}"
    text = str(value)
    if "\\" in text or "\n" in text or "\t" in text or "\r" in text:
        text = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return text


def _insert(model: type[Model], fields: list[Field[Any, Any]], rows: Iterator[Row]) -> int:
    names = ", ".join(connection.ops.quote_name(str(field.column)) for field in fields)
    marks = ", ".join("%s" for _ in fields)
    table = connection.ops.quote_name(model._meta.db_table)
    values, count = _values(model, fields), 0
    while batch := list(islice(rows, _BATCH)):
        prepared = [
            [field.get_db_prep_save(value, connection) for field, value in zip(fields, values(row), strict=True)]
            for row in batch
        ]
        with connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", prepared)  # noqa: S608 - our names
        count += len(batch)
    return count
