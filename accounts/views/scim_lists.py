"""Searching users and groups: filter to query, paging, and which attributes an answer has (RFC 7644 section 3.4.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from accounts.scim import schemas
from accounts.scim.errors import ScimError, invalid_filter, invalid_value
from accounts.scim.filters import Both, Comparison, Either, Node, Not, parse_filter, without_urn

DEFAULT_RESULTS = 100
_ALWAYS = frozenset({"schemas", "id", "meta"})
_TEXT_LOOKUPS = {"eq": "iexact", "co": "icontains", "sw": "istartswith", "ew": "iendswith"}
_TIME_LOOKUPS = {"eq": "exact", "gt": "gt", "ge": "gte", "lt": "lt", "le": "lte"}
Columns = Mapping[str, str]


def list_page(
    rows: QuerySet[Any],
    query: Mapping[str, str],
    columns: Columns,
    shape: Callable[[list[Any]], list[dict[str, Any]]],
) -> dict[str, Any]:
    """A ListResponse. `columns` names the column of each attribute that can be filtered, in lower case."""
    text = query.get("filter")
    if text is not None:
        rows = rows.filter(to_query(parse_filter(text), columns))
    start = max(1, _number(query, "startIndex", 1))
    count = min(schemas.MAX_RESULTS, max(0, _number(query, "count", DEFAULT_RESULTS)))
    total = rows.count()
    page = list(rows[start - 1 : start - 1 + count]) if count else []
    return {
        "schemas": [schemas.LIST],
        "totalResults": total,
        "startIndex": start,
        "itemsPerPage": len(page),
        "Resources": [chosen_attributes(document, query) for document in shape(page)],
    }


def to_query(node: Node, columns: Columns) -> Q:
    """Raises ScimError invalidFilter for what cannot be filtered."""
    if isinstance(node, Not):
        return ~to_query(node.inner, columns)
    if isinstance(node, Both | Either):
        queries = [to_query(part, columns) for part in node.parts]
        combined = queries[0]
        for query in queries[1:]:
            combined = combined & query if isinstance(node, Both) else combined | query
        return combined
    column = columns.get(node.attribute)
    if column is None:
        raise invalid_filter(f"{node.attribute} cannot be filtered; {', '.join(sorted(columns))} can.")
    return _comparison(node, column)


def chosen_attributes(document: dict[str, Any], query: Mapping[str, str]) -> dict[str, Any]:
    """`attributes` and `excludedAttributes`, at the level of whole attributes."""
    wanted, unwanted = _names(query.get("attributes")), _names(query.get("excludedAttributes"))
    if wanted:
        return {key: value for key, value in document.items() if key in _ALWAYS or key.lower() in wanted}
    return {key: value for key, value in document.items() if key in _ALWAYS or key.lower() not in unwanted}


def wants(query: Mapping[str, str], attribute: str) -> bool:
    wanted, unwanted = _names(query.get("attributes")), _names(query.get("excludedAttributes"))
    return attribute in wanted if wanted else attribute not in unwanted


def _comparison(node: Comparison, column: str) -> Q:
    if column == "active":
        if node.operator not in {"eq", "ne"} or not isinstance(node.value, bool):
            raise invalid_filter("active is compared with eq or ne to true or false.")
        return Q(active=node.value is (node.operator == "eq"))
    if node.operator == "pr":
        return ~Q(**{column: ""}) if not _is_time(column) and column != "id" else Q()
    if not isinstance(node.value, str):
        raise invalid_filter(f"{node.attribute} is compared with a text.")
    if column == "id":
        return _identifier(node)
    lookups = _TIME_LOOKUPS if _is_time(column) else _TEXT_LOOKUPS
    operator = "eq" if node.operator == "ne" else node.operator
    if operator not in lookups:
        raise invalid_filter(f"{node.attribute} cannot be compared with {node.operator}.")
    value = _moment(node.value) if _is_time(column) else node.value.replace("\0", "")
    query = Q(**{f"{column}__{lookups[operator]}": value})
    return ~query if node.operator == "ne" else query


def _identifier(node: Comparison) -> Q:
    if node.operator != "eq":
        raise invalid_filter("id is compared with eq.")
    text = str(node.value)
    is_id = len(text) == 36 and all(character in "0123456789abcdef-" for character in text.lower())
    try:
        return Q(pk=text) if is_id else Q(pk__in=[])
    except ValueError:
        return Q(pk__in=[])


def _is_time(column: str) -> bool:
    return column in {"created_at", "updated_at"}


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise invalid_filter(f"{text[:40]!r} is not a time.") from None
    if moment.tzinfo is None:
        raise invalid_filter("A time needs its zone, for example 2026-01-31T00:00:00Z.")
    return moment


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None or text == "":
        return default
    try:
        number = int(text)
    except ValueError:
        raise invalid_value(f"{name} is a number.") from None
    if abs(number) > 10**9:
        raise ScimError(400, f"{name} is out of range.", "invalidValue")
    return number


def _names(text: str | None) -> set[str]:
    names = (without_urn(name.strip()).lower() for name in (text or "").split(","))
    return {name.partition(".")[0] for name in names if name}
