"""Reading logs of any length: filters from an allow-list (AC-109), pages by key, never a count or an offset.

A page is the next rows before (or after) a cursor `(created_at, id)`, which an index answers at once however long the
log is. Filters that an index does not answer (free text, country, a rare decision) would make the database read on and
on for rows that are not there; they look at SCAN_ROWS entries per page instead, and the page says how far it looked.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, QueryDict
from django.utils import timezone

from accounts.zones import zone_label, zone_named

ModelT = TypeVar("ModelT", bound=Model)
PER_PAGE = 50
SCAN_ROWS = 10_000
EXPORT_ROWS = 50_000
_EXPORT_BATCH = 1000
_MAX_TEXT = 200
RANGES = {
    "hour": ("Last hour", timedelta(hours=1)),
    "day": ("Last 24 hours", timedelta(days=1)),
    "week": ("Last 7 days", timedelta(days=7)),
    "month": ("Last 30 days", timedelta(days=30)),
}
# Of the page itself, never part of a saved view.
_POSITION = ("before", "after", "format")


@dataclass(frozen=True)
class Condition:
    """`indexed`: the database finds these rows, in order, without reading the others."""

    q: Q
    indexed: bool = False


@dataclass(frozen=True)
class LogFilter:
    """One field above a log. With `choices` a drop-down whose other values are ignored, otherwise text."""

    name: str
    label: str
    condition: Callable[[str], Condition]
    choices: Sequence[tuple[str, str]] = ()
    value: str = ""

    def chosen(self, data: QueryDict) -> LogFilter:
        text = clean(data.get(self.name, ""))
        known = not self.choices or text in {value for value, _ in self.choices}
        return LogFilter(self.name, self.label, self.condition, self.choices, text if known else "")


@dataclass(frozen=True)
class LogShape(Generic[ModelT]):
    """A log: its filters, the columns free text is looked for in, and columns where the whole text may be found by
    an index (a reference, a serial)."""

    filters: Sequence[LogFilter]
    search: Sequence[str]
    exact: Sequence[str] = ()


@dataclass(frozen=True)
class LogPage(Generic[ModelT]):
    rows: list[ModelT]
    filters: list[LogFilter]
    query: str
    time: TimeRange
    older: str | None
    newer: str | None
    # How far a filter that reads rows has looked, when it stopped before the end.
    looked_back_to: datetime | None
    parameters: str
    ranges: list[tuple[str, str]] = field(default_factory=lambda: [(key, text) for key, (text, _) in RANGES.items()])

    @property
    def is_narrowed(self) -> bool:
        return bool(self.query or self.time.is_set or any(item.value for item in self.filters))

    @property
    def scan_rows(self) -> int:
        return SCAN_ROWS

    def __iter__(self) -> Iterator[ModelT]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class TimeRange:
    name: str
    since_text: str
    until_text: str
    zone: str
    since: datetime | None
    until: datetime | None

    @property
    def is_set(self) -> bool:
        return self.since is not None or self.until is not None

    @property
    def q(self) -> Q:
        condition = Q()
        if self.since is not None:
            condition &= Q(created_at__gte=self.since)
        if self.until is not None:
            condition &= Q(created_at__lt=self.until)
        return condition


@dataclass(frozen=True)
class _Cursor:
    at: datetime
    pk: Any

    def __str__(self) -> str:
        key = self.pk.hex if isinstance(self.pk, uuid.UUID) else self.pk
        microseconds = (self.at - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
        return f"{microseconds}-{key}"

    def beyond(self, *, older: bool, inclusive: bool = False) -> Q:
        way, end = ("lt", "lte") if older else ("gt", "gte")
        tie = {f"pk__{end if inclusive else way}": self.pk}
        # The first term is redundant and is what an index starts at.
        return Q(**{f"created_at__{end}": self.at}) & (Q(**{f"created_at__{way}": self.at}) | Q(**tie))


@dataclass(frozen=True)
class _Asked(Generic[ModelT]):
    """What a request asks of a log: `base` is what indexes answer, `narrowing` what has to be read for."""

    base: QuerySet[ModelT]
    narrowing: Q | None
    filters: list[LogFilter]
    query: str
    time: TimeRange


def log_page(request: HttpRequest, rows: QuerySet[ModelT], shape: LogShape[ModelT]) -> LogPage[ModelT]:
    asked = _asked(request, rows, shape)
    cursor = _parse_cursor(request.GET.get("after", ""), rows)
    if cursor is not None:
        found, older, looked = _page(asked, cursor, older=False)
        if found and (older is not None):
            found.reverse()
            return _answer(request, asked, found, str(_cursor_of(found[-1])), older, looked)
    cursor = _parse_cursor(request.GET.get("before", ""), rows)
    found, older, looked = _page(asked, cursor, older=True)
    newer = None
    if cursor is not None:
        newer = str(_cursor_of(found[0])) if found else str(cursor)
    return _answer(request, asked, found, older, newer, looked)


def export_rows(request: HttpRequest, rows: QuerySet[ModelT], shape: LogShape[ModelT]) -> Iterator[ModelT]:
    """All rows the filters leave, newest first, at most EXPORT_ROWS, a batch at a time."""
    asked = _asked(request, rows, shape)
    matching = asked.base if asked.narrowing is None else asked.base.filter(asked.narrowing)
    cursor, left = None, EXPORT_ROWS
    while left > 0:
        batch = list((matching if cursor is None else matching.filter(cursor.beyond(older=True)))[:_EXPORT_BATCH])
        yield from batch[:left]
        left -= len(batch)
        if len(batch) < _EXPORT_BATCH:
            return
        cursor = _cursor_of(batch[-1])


def parameters(data: QueryDict) -> str:
    """The filters of an address as a query string, without the position: what is shared, saved and exported."""
    kept = data.copy()
    for name in _POSITION:
        kept.pop(name, None)
    for name in [name for name, values in kept.lists() if not any(values)]:
        kept.pop(name)
    return kept.urlencode()


def clean(text: str) -> str:
    return text.replace("\0", "").strip()[:_MAX_TEXT]


def nothing() -> Condition:
    return Condition(Q(pk__in=[]), indexed=True)


def _asked(request: HttpRequest, rows: QuerySet[ModelT], shape: LogShape[ModelT]) -> _Asked[ModelT]:
    time = _time_range(request.GET)
    filters = [item.chosen(request.GET) for item in shape.filters]
    conditions = [item.condition(item.value) for item in filters if item.value]
    query = clean(request.GET.get("q", ""))
    if query:
        conditions.append(_text_condition(rows, shape, query))
    base = rows.order_by("-created_at", "-pk").filter(time.q)
    narrowing = None
    for condition in conditions:
        if condition.indexed:
            base = base.filter(condition.q)
        else:
            narrowing = condition.q if narrowing is None else narrowing & condition.q
    return _Asked(base, narrowing, filters, query, time)


def _text_condition(rows: QuerySet[ModelT], shape: LogShape[ModelT], query: str) -> Condition:
    for column in shape.exact:
        exact = Q(**{column: query})
        if rows.filter(exact).exists():
            return Condition(exact, indexed=True)
    condition = Q()
    for column in shape.search:
        condition |= Q(**{f"{column}__icontains": query})
    return Condition(condition)


def _page(
    asked: _Asked[ModelT], cursor: _Cursor | None, *, older: bool
) -> tuple[list[ModelT], str | None, datetime | None]:
    """Rows from the cursor on, the cursor of what comes after them, and how far was looked if that ended early."""
    base = asked.base if older else asked.base.order_by("created_at", "pk")
    if cursor is not None:
        base = base.filter(cursor.beyond(older=older))
    floor = None
    if asked.narrowing is not None:
        end = base.values_list("created_at", "pk")[SCAN_ROWS - 1 : SCAN_ROWS].first()
        floor = _Cursor(*end) if end is not None else None
        base = base.filter(asked.narrowing)
    if floor is not None:
        base = base.filter(floor.beyond(older=not older, inclusive=True))
    rows = list(base[: PER_PAGE + 1])
    if len(rows) > PER_PAGE:
        return rows[:PER_PAGE], str(_cursor_of(rows[PER_PAGE - 1])), None
    return rows, str(floor) if floor is not None else None, floor.at if floor is not None else None


def _answer(
    request: HttpRequest,
    asked: _Asked[ModelT],
    rows: list[ModelT],
    older: str | None,
    newer: str | None,
    looked: datetime | None,
) -> LogPage[ModelT]:
    return LogPage(rows, asked.filters, asked.query, asked.time, older, newer, looked, parameters(request.GET))


def _cursor_of(row: Any) -> _Cursor:
    return _Cursor(row.created_at, row.pk)


def _parse_cursor(text: str, rows: QuerySet[Any]) -> _Cursor | None:
    microseconds, _, key = text.partition("-")
    if not (microseconds.isascii() and microseconds.isdigit() and len(microseconds) <= 17):
        return None
    try:
        at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(microseconds))
        return _Cursor(at, uuid.UUID(key) if rows.model._meta.pk.get_internal_type() == "UUIDField" else int(key[:18]))
    except (ValueError, OverflowError):
        return None


def _time_range(data: QueryDict) -> TimeRange:
    """From and until win over a named range. Times without a zone are of `tz`, or of the viewer: a shared address means
    the same instants to everybody."""
    zone = zone_named(data.get("tz", "")) or timezone.get_current_timezone()
    since = _instant(data.get("since", ""), zone)
    until = _instant(data.get("until", ""), zone)
    name = data.get("range", "")
    if since is None and until is None and name in RANGES:
        since = timezone.now() - RANGES[name][1]
        return TimeRange(name, "", "", zone_label(), since, None)
    local = timezone.get_current_timezone()
    texts = [f"{moment.astimezone(local):%Y-%m-%dT%H:%M}" if moment else "" for moment in (since, until)]
    return TimeRange("", texts[0], texts[1], zone_label(), since, until)


def _instant(text: str, zone: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text[:32])
        # Out of range in another zone (year 1, year 9999) is no time either.
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC) if text else None
    except (ValueError, OverflowError):
        return None
