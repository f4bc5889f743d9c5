"""Small pieces of output that need code: times, durations, the head of every form, JSON for reading."""

from __future__ import annotations

import json
import re
import secrets
from datetime import UTC, datetime
from typing import Any

from django import template
from django.contrib.humanize.templatetags.humanize import naturaltime
from django.forms import BoundField
from django.template.context import Context
from django.utils import timezone
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe

from accounts.devices import device_of
from accounts.text import in_words
from accounts.zones import zone_label

register = template.Library()
_DAY = 86400
# Escaped text: an entity such as &amp; stays whole.
_LONG_WORD = re.compile(r"[^\s<>]{24,}")
_BREAK_BEHIND = re.compile(r"&[#\w]+;|[-.@/:_](?=[^\s<>])")
_LATER_CAPITAL = re.compile(r"(?<=[a-z)][ -])[A-Z](?=[a-z])|(?<=[A-Z] )[A-Z](?=[a-z])")
_EMAIL = re.compile(r"(?<![/@\w.])([Ee])mail\b(?!@|[^<>]*>)")
_UNITS = ((7 * _DAY, "week"), (_DAY, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


@register.simple_tag(takes_context=True)
def form_head(context: Context) -> SafeString:
    """CSRF token, and the random id by which a form sent twice is known (accounts.repeats)."""
    return format_html(
        '<input type="hidden" name="csrfmiddlewaretoken" value="{}"><input type="hidden" name="form_id" value="{}">',
        context.get("csrf_token", ""),
        secrets.token_urlsafe(12),
    )


@register.filter
def undo_address(message: Any) -> str:
    """Where a message's Undo button posts to, when what it tells of can be undone (accounts.pages)."""
    tag = str(message.extra_tags or "")
    return tag.removeprefix("undo:") if tag.startswith("undo:/") else ""


@register.filter
def when(value: datetime | None, missing: str = "never") -> SafeString | str:
    """How long ago (or ahead), with the exact instant in the viewer's zone on hover."""
    if value is None:
        return missing
    return format_html('<time datetime="{}" title="{}">{}</time>', value.isoformat(), _exact(value), naturaltime(value))


@register.filter
def instant(value: datetime | None) -> SafeString | str:
    """The exact instant in the viewer's zone, as logs need it; its zone on hover, and in the text where it is UTC."""
    if value is None:
        return ""
    local = timezone.localtime(value)
    text = f"{local:%Y-%m-%d %H:%M:%S}"
    text = f"{text} UTC" if local.tzname() == "UTC" else text
    return format_html('<time datetime="{}" title="{}">{}</time>', value.isoformat(), _exact(value), text)


def _exact(value: datetime) -> str:
    local = timezone.localtime(value)
    utc = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return utc if local.tzname() == "UTC" else f"{local:%Y-%m-%d %H:%M:%S} {zone_label()} ({utc})"


@register.simple_tag
def zone() -> str:
    """The zone times of this page are in."""
    return zone_label()


@register.filter
def event_text(name: str, texts: dict[str, str]) -> str:
    return texts.get(name, name)


@register.filter
def duration(seconds: int | None) -> str:
    """Seconds in words: 86400 -> "1 day", 5400 -> "1 hour 30 minutes"."""
    if seconds is None:
        return "no limit"
    if seconds % _DAY == 0 and seconds % (7 * _DAY):
        days = seconds // _DAY
        return f"{days} day{'s' if days > 1 else ''}"
    parts, rest = [], seconds
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}{'s' if count > 1 else ''}")
    return " ".join(parts[:2]) or "0 seconds"


@register.filter
def words(code: str) -> str:
    """A code as people read it: "api_token" -> "API token"."""
    return in_words(code)


@register.filter
def breakable(value: Any) -> SafeString:
    """Long addresses, names and paths may break behind their own marks, before they break anywhere."""
    return mark_safe(_LONG_WORD.sub(_with_breaks, conditional_escape(value)))  # noqa: S308 - escaped just here


def _with_breaks(word: re.Match[str]) -> str:
    return _BREAK_BEHIND.sub(r"\g<0><wbr>", word.group())


@register.filter
def sentence_case(text: str) -> str:
    """ "Two-Factor Authentication" -> "Two-factor authentication", "Email" -> "E-mail": words of a library whose
    headings are written in another way than ours."""
    return e_mail(_LATER_CAPITAL.sub(lambda found: found.group().lower(), str(text)))


@register.filter
def e_mail(text: str) -> str:
    """ "email" as we write it, in text and not in the tags around it."""
    return _EMAIL.sub(r"\1-mail", text)


@register.filter
def code_marks(text: str) -> SafeString:
    """`Words` between backticks, as docstrings have them, as code."""
    return mark_safe(re.sub(r"`([^`]+)`", r"<code>\1</code>", conditional_escape(text)))  # noqa: S308 - escaped here


@register.simple_tag
def without_placeholder(field: BoundField) -> SafeString:
    """The input of a library's form, which repeats its label inside."""
    return field.as_widget(attrs={"placeholder": ""})


@register.filter
def device(user_agent: str) -> str:
    return device_of(user_agent)


@register.filter
def as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True, default=str)


@register.filter
def reading(value: Any) -> str:
    """A value of an audit event or a rule, for people: text as it is, everything else as short JSON."""
    if value is None or value == "" or value == []:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
