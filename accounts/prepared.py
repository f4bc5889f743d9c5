"""Queries of the machine endpoints, compiled once per thread instead of once per request.

Building and compiling a queryset costs Django several times what the database needs for one indexed row. Here the
queryset is written as usual, with Parameters in place of values, and only its SQL is kept: every run asks the
database, so nothing can be stale.

    LIVE = PreparedRows(lambda: Session.objects.filter(nonce=Parameter("nonce", CharField())))
    LIVE.first(nonce="…")

Only for lookups whose SQL does not depend on the value: no None, no lists, no LIKE.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import AutoField, BigAutoField, Expression, Field, Model, QuerySet, TextField
from django.db.models.query import get_related_populators
from django.db.models.sql import UpdateQuery

ModelT = TypeVar("ModelT", bound=Model)
PreparedT = TypeVar("PreparedT")


class Parameter(Expression):
    """A value given at each run under `name`, sent as a value of `field`."""

    def __init__(self, name: str, field: Field[Any, Any]) -> None:
        super().__init__(output_field=field)
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return "%s", [self]  # a placeholder for _Statement.bound to fill


class RowText(Expression):
    """All columns of a row as one text, to see whether it is still the same: far cheaper than an instance of it."""

    def __init__(self, model: type[Model]) -> None:
        super().__init__(output_field=TextField())
        self.model = model

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        quote, table = connection.ops.quote_name, connection.ops.quote_name(self.model._meta.db_table)
        columns = ", ".join(f"{table}.{quote(str(field.column))}" for field in self.model._meta.concrete_fields)
        return (f"ROW({columns})::text" if connection.vendor == "postgresql" else f"json_array({columns})"), []


@dataclass(frozen=True, slots=True)
class _Statement:
    """What one thread keeps of a compiled query; `connection` is that thread's own."""

    connection: Any
    compiler: Any
    sql: str
    slots: Sequence[Any]

    def bound(self, values: dict[str, Any]) -> list[Any]:
        return [
            slot.output_field.get_db_prep_value(values[slot.name], connection=self.connection)
            if isinstance(slot, Parameter)
            else slot
            for slot in self.slots
        ]


# The cursor of each statement of this thread, with the connection it belongs to. A new cursor works out anew how to
# send and read the types of its statement, which costs psycopg as much as the statement itself.
_cursors = threading.local()


def executed(connection: Any, sql: str, values: Sequence[Any]) -> Any:
    """The cursor that has executed it; whoever asks for rows fetches all of them at once."""
    # What connection.cursor() would do.
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    if connection.queries_logged:
        cursor = connection.cursor()
    else:
        kept: dict[str, tuple[Any, Any]] = _cursors.__dict__.setdefault("kept", {})
        owner, cursor = kept.get(sql, (None, None))
        if owner is not connection.connection:
            cursor = connection.cursor()
            kept[sql] = (connection.connection, cursor)
    cursor.execute(sql, values)
    return cursor


class _Prepared:
    """Compiles at the first run in a thread, and again when the thread has got another connection object."""

    def __init__(self) -> None:
        self._local = threading.local()

    def _statement(self) -> _Statement:
        real = connections[DEFAULT_DB_ALIAS]
        kept: _Statement | None = getattr(self._local, "statement", None)
        if kept is None or kept.connection is not real:
            compiler = self._compiler()
            sql, slots = compiler.as_sql()
            kept = self._local.statement = _Statement(real, compiler, sql, tuple(slots))
        return kept

    def _compiler(self) -> Any:
        raise NotImplementedError


class PreparedRows(_Prepared, Generic[ModelT]):
    """Model instances, with the related ones of select_related."""

    def __init__(self, build: Callable[[], QuerySet[ModelT]]) -> None:
        super().__init__()
        self._build = build

    def first(self, **values: Any) -> ModelT | None:
        found = self.all(**values)
        return found[0] if found else None

    def all(self, **values: Any) -> list[ModelT]:
        statement = self._statement()
        rows = executed(statement.connection, statement.sql, statement.bound(values)).fetchall()
        return self._instances(statement, rows) if rows else []

    def _instances(self, statement: _Statement, rows: Sequence[Any]) -> list[ModelT]:
        """As django.db.models.query.ModelIterable does it, for a compiler that has already been set up."""
        compiler, alias = statement.compiler, statement.connection.alias
        if (reading := getattr(self._local, "reading", None)) is None or reading[0] is not statement:
            columns = compiler.klass_info["select_fields"]
            names = [compiler.select[index][0].target.attname for index in columns]
            converters = compiler.get_converters([column[0] for column in compiler.select])
            populators: Any = get_related_populators  # the stubs are of a later Django
            related = populators(compiler.klass_info, compiler.select, alias)
            reading = self._local.reading = (
                statement,
                columns[0],
                columns[-1] + 1,
                names,
                converters,
                related,
            )
        _, start, end, names, converters, related = reading
        found = []
        for row in compiler.apply_converters(rows, converters) if converters else rows:
            instance = compiler.klass_info["model"].from_db(alias, names, row[start:end])
            for populator in related:
                populator.populate(row, instance)
            found.append(instance)
        return found

    def _compiler(self) -> Any:
        return self._build().query.get_compiler(DEFAULT_DB_ALIAS)


class PreparedValues(_Prepared):
    """The rows of a values_list()."""

    def __init__(self, build: Callable[[], QuerySet[Any, Any]]) -> None:
        super().__init__()
        self._build = build

    def all(self, **values: Any) -> list[Sequence[Any]]:
        statement = self._statement()
        rows = executed(statement.connection, statement.sql, statement.bound(values)).fetchall()
        converters = statement.compiler.get_converters([column[0] for column in statement.compiler.select])
        return list(statement.compiler.apply_converters(rows, converters)) if converters else rows

    def _compiler(self) -> Any:
        return self._build().query.get_compiler(DEFAULT_DB_ALIAS)


class PreparedUpdate(_Prepared, Generic[ModelT]):
    """A conditional UPDATE; new values may be Parameters."""

    def __init__(self, build: Callable[[], QuerySet[ModelT]], **changes: Any) -> None:
        super().__init__()
        self._build = build
        self._changes = changes

    def run(self, **values: Any) -> int:
        """Number of rows changed."""
        statement = self._statement()
        return int(executed(statement.connection, statement.sql, statement.bound(values)).rowcount)

    def _compiler(self) -> Any:
        query: Any = self._build().query.chain(UpdateQuery)
        query.add_update_values(self._changes)
        return query.get_compiler(DEFAULT_DB_ALIAS)


class Sized(Generic[PreparedT]):
    """Statements about several rows (`pk__in`), one kept for each number of them up to a power of two: a shorter list
    is filled up by repeating its last value."""

    def __init__(self, build: Callable[[int], PreparedT]) -> None:
        self._build = build
        self._kept: dict[int, PreparedT] = {}

    def of(self, count: int) -> tuple[PreparedT, int]:
        """The statement for `count` rows or a few more, and how many it is for."""
        size = 1 << max(0, count - 1).bit_length()
        if size not in self._kept:
            self._kept[size] = self._build(size)
        return self._kept[size], size


def numbered(name: str, values: Sequence[Any], size: int) -> dict[str, Any]:
    """`values` for the Parameters name0, name1, … of a Sized statement."""
    return {f"{name}{index}": values[min(index, len(values) - 1)] for index in range(size)}


_Insert: TypeAlias = "tuple[str, str, str, Sequence[Field[Any, Any]], bool]"
_inserts: dict[tuple[type[Model], str], _Insert] = {}


def insert(instance: ModelT) -> ModelT:
    """Store a new row, as `instance.save(force_insert=True)` does but without signals (nothing here listens to any)."""
    connection = connections[DEFAULT_DB_ALIAS]
    head, marks, returned, fields, makes_key = _insert_statement(type(instance), connection)
    cursor = executed(connection, f"{head} {marks}{returned}", _insert_values([instance], fields, connection))
    if makes_key:
        instance.pk = cursor.fetchall()[0][0]
    _mark_stored(instance)
    return instance


def insert_all(instances: Sequence[ModelT]) -> None:
    """Store new rows of one model in one statement. A key that the database makes is not read back."""
    if not instances:
        return
    connection = connections[DEFAULT_DB_ALIAS]
    head, marks, _, fields, _ = _insert_statement(type(instances[0]), connection)
    values = _insert_values(instances, fields, connection)
    executed(connection, f"{head} {', '.join([marks] * len(instances))}", values)
    for instance in instances:
        _mark_stored(instance)


def _mark_stored(instance: Model) -> None:
    instance._state.adding = False
    instance._state.db = DEFAULT_DB_ALIAS


def _insert_values(instances: Sequence[Model], fields: Sequence[Field[Any, Any]], connection: Any) -> list[Any]:
    return [
        field.get_db_prep_save(field.pre_save(instance, add=True), connection=connection)
        for instance in instances
        for field in fields
    ]


def _insert_statement(kind: type[Model], connection: Any) -> _Insert:
    """The SQL in three parts, its fields in order, and whether the database makes the key and returns it."""
    if (kind, connection.vendor) not in _inserts:
        _inserts[kind, connection.vendor] = _new_insert_statement(kind, connection)
    return _inserts[kind, connection.vendor]


def _new_insert_statement(kind: type[Model], connection: Any) -> _Insert:
    key = kind._meta.pk
    makes_key = isinstance(key, AutoField | BigAutoField)
    fields = [field for field in kind._meta.concrete_fields if not (makes_key and field is key)]
    quote = connection.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    returned = f" RETURNING {quote(str(key.column))}" if makes_key else ""
    # Nothing but names of our own models and columns.
    head = f"INSERT INTO {quote(kind._meta.db_table)} ({columns}) VALUES"
    return head, f"({', '.join(['%s'] * len(fields))})", returned, fields, makes_key
