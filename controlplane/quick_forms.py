"""The widgets of forms, written directly: the same HTML as Django's templates give, for a tenth of the time.

Django renders every <option> by a template inside a template; a page with a few drop-downs spends most of its time
there. Whatever is not known here goes through Django's template as usual (FORM_RENDERER in the settings).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.forms.renderers import DjangoTemplates
from django.utils.html import conditional_escape
from django.utils.safestring import SafeString, mark_safe

_FOLDER = "django/forms/widgets/"
Widget = Mapping[str, Any]


def _attributes(widget: Widget) -> str:
    found = []
    for name, value in widget["attrs"].items():
        if value is True:
            found.append(f" {conditional_escape(name)}")
        elif value is not False:
            found.append(f' {conditional_escape(name)}="{conditional_escape(str(value))}"')
    return "".join(found)


def _input(widget: Widget) -> str:
    value = "" if widget["value"] is None else f' value="{conditional_escape(str(widget["value"]))}"'
    kind, name = conditional_escape(widget["type"]), conditional_escape(widget["name"])
    return f'<input type="{kind}" name="{name}"{value}{_attributes(widget)}>'


def _textarea(widget: Widget) -> str:
    value = conditional_escape(widget["value"]) if widget["value"] else ""
    return f'<textarea name="{conditional_escape(widget["name"])}"{_attributes(widget)}>\n{value}</textarea>'


def _select(widget: Widget) -> str:
    parts = [f'<select name="{conditional_escape(widget["name"])}"{_attributes(widget)}>']
    for group, options, _ in widget["optgroups"]:
        if group:
            parts.append(f'\n  <optgroup label="{conditional_escape(group)}">')
        parts += [f"\n  {_option(option)}" for option in options]
        if group:
            parts.append("\n  </optgroup>")
    return "".join([*parts, "\n</select>"])


def _option(widget: Widget) -> str:
    value = conditional_escape(str(widget["value"]))
    return f'<option value="{value}"{_attributes(widget)}>{conditional_escape(widget["label"])}</option>'


def _choices(widget: Widget) -> str:
    """Checkboxes or radio buttons."""
    attrs = widget["attrs"]
    own = f' id="{conditional_escape(attrs["id"])}"' if attrs.get("id") else ""
    own += f' class="{conditional_escape(attrs["class"])}"' if attrs.get("class") else ""
    parts = [f"<div{own}>"]
    for group, options, _ in widget["optgroups"]:
        if group:
            parts.append(f"\n  <div><label>{conditional_escape(group)}</label>")
        parts += [f"<div>\n    {_choice(option)}\n</div>" for option in options]
        if group:
            parts.append("\n  </div>")
    return "".join([*parts, "\n</div>"])


def _choice(widget: Widget) -> str:
    if not widget.get("wrap_label"):
        return _input(widget)
    target = f' for="{conditional_escape(widget["attrs"]["id"])}"' if widget["attrs"].get("id") else ""
    return f"<label{target}>{_input(widget)} {conditional_escape(widget['label'])}</label>"


_INPUTS = ("checkbox", "date", "datetime", "email", "hidden", "input", "number", "password", "text", "time", "url")
_QUICK: dict[str, Callable[[Widget], str]] = {
    **{f"{_FOLDER}{name}.html": _input for name in _INPUTS},
    f"{_FOLDER}textarea.html": _textarea,
    f"{_FOLDER}select.html": _select,
    f"{_FOLDER}radio.html": _choices,
    f"{_FOLDER}checkbox_select.html": _choices,
}


class QuickForms(DjangoTemplates):
    def render(self, template_name: str, context: dict[str, Any], request: Any = None) -> SafeString:
        quick = _QUICK.get(template_name)
        html = super().render(template_name, context, request) if quick is None else quick(context["widget"])
        return mark_safe(html)  # noqa: S308 - escaped above, or by Django's template
