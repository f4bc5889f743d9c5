"""Widgets written directly are what Django's own templates give, and as well escaped."""

from __future__ import annotations

from typing import Any

import pytest
from django import forms
from django.forms.renderers import DjangoTemplates, get_default_renderer
from django.utils.safestring import mark_safe

from controlplane.quick_forms import QuickForms

_EVIL = "<b>\"x'&</b>"
_CHOICES = [("", "None"), ("a", "A"), ("evil", _EVIL), (3, mark_safe("<i>3</i>"))]
_GROUPS = [("", "None"), (_EVIL, [("a", "A"), ("b", "B")]), ("Last", [("c", "C")])]
_WIDGETS: list[forms.Widget] = [
    forms.TextInput({"maxlength": 5, "class": "mono", "title": _EVIL, "autofocus": True, "disabled": False}),
    forms.EmailInput(),
    forms.URLInput(),
    forms.NumberInput(),
    forms.PasswordInput(),
    forms.PasswordInput(render_value=True),
    forms.HiddenInput(),
    forms.CheckboxInput(),
    forms.DateInput(),
    forms.DateTimeInput(),
    forms.Textarea({"rows": 4, "class": "mono"}),
    forms.Select({"class": "x"}, choices=_CHOICES),
    forms.Select(choices=_GROUPS),
    forms.SelectMultiple(choices=_CHOICES),
    forms.RadioSelect({"class": _EVIL}, choices=_CHOICES),
    forms.RadioSelect(choices=_GROUPS),
    forms.CheckboxSelectMultiple(choices=_CHOICES),
    forms.FileInput(),
    forms.ClearableFileInput(),
]
_VALUES: list[Any] = [None, "", "a", _EVIL, 3, 0, True, ["a", "evil"], mark_safe("<i>3</i>"), 1234567]


@pytest.mark.parametrize("widget", _WIDGETS, ids=lambda widget: type(widget).__name__)
@pytest.mark.parametrize("attributes", [{}, {"id": "id_<name>", "required": True, "aria-invalid": "true"}])
def test_the_html_is_djangos(widget: forms.Widget, attributes: dict[str, Any]) -> None:
    for value in _VALUES:
        drawn = [widget.render("na<me", value, attributes, renderer()) for renderer in (QuickForms, DjangoTemplates)]
        assert _squeezed(drawn[0]) == _squeezed(drawn[1]), value


def test_forms_use_it() -> None:
    assert isinstance(get_default_renderer(), QuickForms)


def _squeezed(html: str) -> list[str]:
    """Blanks between tags are the templates' own affair."""
    return [line.strip() for line in html.replace(">", ">\n").replace("<", "\n<").splitlines() if line.strip()]
