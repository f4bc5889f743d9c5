"""Codes of decisions as people read them (access/reason_words.py)."""

from __future__ import annotations

from typing import Any

from django import template

from access.reason_words import action_text, country_text, list_text, method_text, reason_text

register = template.Library()
register.filter("reason_words", reason_text)
register.filter("action_words", action_text)
register.filter("method_words", method_text)
register.filter("list_words", list_text)


@register.filter
def country_words(value: Any) -> Any:
    """Countries of rules and facts come one or many."""
    values = value if isinstance(value, list) else [value]
    return ", ".join(country_text(item) if isinstance(item, str) else str(item) for item in values)
