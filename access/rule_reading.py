"""Rules from their public JSON shape, {"selector": {body}} (product.md 1.5). Pure."""

from __future__ import annotations

from typing import Any

from access.selectors import SELECTORS, Rule, RuleError


def read_rule(item: Any) -> Rule:
    """Raises RuleError naming the fault."""
    if not isinstance(item, dict) or len(item) != 1:
        raise RuleError('a rule is an object with one selector, such as {"email": {"email": "alice@example.com"}}')
    name, body = next(iter(item.items()))
    selector = SELECTORS.get(name)
    if selector is None:
        raise RuleError(f"unknown selector {str(name)[:60]!r}; known are {', '.join(SELECTORS)}")
    if not isinstance(body, dict):
        raise RuleError(f'"{name}" needs an object, even an empty one')
    for key in body:
        if key not in selector.body:
            raise RuleError(f'"{name}" has an unknown key {str(key)[:60]!r}')
    given = {}
    for key, field_name in selector.body.items():
        value = body.get(key)
        if value is None and key in selector.optional:
            continue
        if not isinstance(value, str) or not (value.strip() or key in selector.optional):
            raise RuleError(f'"{name}" needs "{key}", a text that is not empty')
        given[field_name] = value
    return Rule(name, **given)


def read_rules(items: Any) -> tuple[Rule, ...]:
    """Stored rules for evaluation. What cannot be read stays, as a rule whose evaluation is an error: never skipped."""
    if not isinstance(items, list):
        return (Rule("unreadable", problem="The rule list is not a list."),)
    return tuple(_read_or_mark(item) for item in items)


def _read_or_mark(item: Any) -> Rule:
    try:
        return read_rule(item)
    except RuleError as error:
        name = str(next(iter(item), "unreadable"))[:60] if isinstance(item, dict) else "unreadable"
        return Rule(name, problem=f"Unreadable rule: {error}.")
