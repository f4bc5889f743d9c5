"""SCIM filters (RFC 7644 section 3.4.2.2): text to a tree, and a tree against a JSON object.

filter = term *( "or" term )      term = factor *( "and" factor )
factor = "not" "(" filter ")" | "(" filter ")" | attribute "pr" | attribute operator value
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accounts.scim.errors import invalid_filter

MAX_FILTER_CHARACTERS = 2000
MAX_DEPTH = 20
OPERATORS = frozenset({"eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"})
_TOKEN = re.compile(r'\s*(?:([()])|("(?:[^"\\]|\\.)*")|([^\s()"]+))')
_ATTRIBUTE = re.compile(r"[A-Za-z$][A-Za-z0-9_$-]*(?:\.[A-Za-z$][A-Za-z0-9_$-]*)?")
_URN = re.compile(r"urn:[^\s\"()\[\]]+:", re.IGNORECASE)
Scalar = str | bool | float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """`attribute` in lower case, without its schema's URN. `operator` "pr" has no value."""

    attribute: str
    operator: str
    value: Scalar = None


@dataclass(frozen=True, slots=True)
class Not:
    inner: Node


@dataclass(frozen=True, slots=True)
class Both:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    parts: tuple[Node, ...]


Node = Comparison | Not | Both | Either


def parse_filter(text: str) -> Node:
    """Raises ScimError invalidFilter."""
    if len(text) > MAX_FILTER_CHARACTERS:
        raise invalid_filter(f"A filter has at most {MAX_FILTER_CHARACTERS} characters.")
    reader = _Reader(_tokens(text))
    node = reader.either(0)
    if reader.left:
        raise invalid_filter(f"Unexpected {reader.left[0]!r} in the filter.")
    return node


def without_urn(attribute: str) -> str:
    """ "urn:ietf:params:scim:schemas:core:2.0:User:userName" -> "userName"."""
    match = _URN.match(attribute)
    return attribute[match.end() :] if match else attribute


def matches(node: Node, value: Any) -> bool:
    """Whether a JSON object satisfies the filter; strings compare without case."""
    if isinstance(node, Not):
        return not matches(node.inner, value)
    if isinstance(node, Both):
        return all(matches(part, value) for part in node.parts)
    if isinstance(node, Either):
        return any(matches(part, value) for part in node.parts)
    found = lookup(value, node.attribute)
    if node.operator == "pr":
        return found not in (None, "", [], {})
    candidates = found if isinstance(found, list) else [found]
    return any(_compare(candidate, node.operator, node.value) for candidate in candidates)


def lookup(value: Any, attribute: str) -> Any:
    """An attribute or sub-attribute by its name in any case. A bare value is its own "value"."""
    for name in attribute.split("."):
        if isinstance(value, Mapping):
            value = next((kept for key, kept in value.items() if key.lower() == name.lower()), None)
        elif name.lower() != "value":
            return None
    return value


def _compare(found: Any, operator: str, wanted: Scalar) -> bool:
    if isinstance(found, str) and isinstance(wanted, str):
        left, right = found.lower(), wanted.lower()
        return {
            "eq": left == right,
            "ne": left != right,
            "co": right in left,
            "sw": left.startswith(right),
            "ew": left.endswith(right),
            "gt": left > right,
            "ge": left >= right,
            "lt": left < right,
            "le": left <= right,
        }[operator]
    same = found == wanted and isinstance(found, bool) is isinstance(wanted, bool)
    return same if operator == "eq" else not same if operator == "ne" else False


def _tokens(text: str) -> list[str]:
    found, position = [], 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise invalid_filter(f"The filter cannot be read from character {position + 1}.")
        found.append(match.group().strip())
        position = match.end()
    return found


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self.left = tokens

    def either(self, depth: int) -> Node:
        parts = [self.both(depth)]
        while self._takes("or"):
            parts.append(self.both(depth))
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def both(self, depth: int) -> Node:
        parts = [self.factor(depth)]
        while self._takes("and"):
            parts.append(self.factor(depth))
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def factor(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise invalid_filter("The filter is nested too deep.")
        if self._takes("not"):
            self._need("(")
            return Not(self._closed(depth))
        if self._takes("("):
            return self._closed(depth)
        attribute = without_urn(self._next())
        if not _ATTRIBUTE.fullmatch(attribute):
            raise invalid_filter(f"{attribute[:60]!r} is not an attribute name.")
        operator = self._next().lower()
        if operator == "pr":
            return Comparison(attribute.lower(), "pr")
        if operator not in OPERATORS:
            raise invalid_filter(f"{operator[:20]!r} is not an operator.")
        return Comparison(attribute.lower(), operator, _value(self._next()))

    def _closed(self, depth: int) -> Node:
        node = self.either(depth + 1)
        self._need(")")
        return node

    def _next(self) -> str:
        if not self.left:
            raise invalid_filter("The filter ends too early.")
        return self.left.pop(0)

    def _takes(self, word: str) -> bool:
        if self.left and self.left[0].lower() == word:
            self.left.pop(0)
            return True
        return False

    def _need(self, word: str) -> None:
        if not self._takes(word):
            raise invalid_filter(f"The filter lacks a {word!r}.")


def _value(token: str) -> Scalar:
    try:
        value = json.loads(token if token.startswith('"') else token.lower())
    except ValueError:
        raise invalid_filter(f"{token[:60]!r} is not a value; texts stand in double quotes.") from None
    if not isinstance(value, str | bool | int | float | None):
        raise invalid_filter("Only texts, numbers, true, false and null can be compared.")
    return value
