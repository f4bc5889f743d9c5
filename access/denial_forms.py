"""Forms about what refused people are shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms

from access.actions.custom_pages import SETTING
from access.forms import set_choices
from access.models import Application, CustomPage
from access.safe_html import MAX_HTML_CHARACTERS

_KINDS = tuple(CustomPage.Type.values)


def _page_field(label: str) -> forms.ChoiceField:
    return forms.ChoiceField(required=False, label=label)


def _offer(form: forms.Form, pages: Iterable[CustomPage], nothing: str) -> None:
    rows = list(pages)
    for kind in _KINDS:
        own = [(str(page.pk), page.name) for page in rows if page.type == kind]
        set_choices(form.fields[kind], [("", nothing), *own])


class CustomPageForm(forms.Form):
    name = forms.CharField(max_length=350, label="Page name", help_text="Only administrators see it.")
    type = forms.ChoiceField(label="Shown to", choices=CustomPage.Type.choices)
    custom_html = forms.CharField(
        max_length=MAX_HTML_CHARACTERS,
        label="HTML",
        widget=forms.Textarea(attrs={"rows": 14, "class": "mono", "spellcheck": "false"}),
        help_text="Headings, paragraphs, lists, tables, https and mailto links, images as data: addresses. Scripts, "
        "styles and images from elsewhere are left out. The reason and its reference follow below it.",
    )


class DefaultPagesForm(forms.Form):
    identity_denied = _page_field("People who are logged in and refused")
    forbidden = _page_field("Requests refused without a login")

    def __init__(self, *args: Any, pages: Iterable[CustomPage], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _offer(self, pages, "Built-in page")


class DenialForm(forms.Form):
    """One application."""

    custom_deny_message = forms.CharField(
        required=False,
        max_length=2000,
        label="Message",
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Stands on the page below the reason, for example: Ask the platform team for the group ssh-users.",
    )
    identity_denied = _page_field("Page for people who are logged in")
    custom_deny_url = forms.URLField(
        required=False,
        max_length=2000,
        assume_scheme="https",
        label="Or send them to",
        help_text="An https address. It gets the reason and its reference as parameters; no page of ours is shown.",
    )
    forbidden = _page_field("Page for requests without a login")
    custom_non_identity_deny_url = forms.URLField(
        required=False, max_length=2000, assume_scheme="https", label="Or send those to"
    )

    def __init__(self, *args: Any, pages: Iterable[CustomPage], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _offer(self, pages, "As for the whole organization")

    @staticmethod
    def initial_of(application: Application, pages: Iterable[CustomPage]) -> dict[str, Any]:
        values = {name: application.settings.get(name) or "" for name in DenialForm.base_fields if name not in _KINDS}
        chosen = {str(key) for key in application.settings.get(SETTING) or []}
        return values | {page.type: str(page.pk) for page in pages if str(page.pk) in chosen}

    def settings_changes(self) -> dict[str, Any]:
        """As the public API stores them: null where nothing was written."""
        data = self.cleaned_data
        changes: dict[str, Any] = {name: value or None for name, value in data.items() if name not in _KINDS}
        return changes | {SETTING: [data[kind] for kind in _KINDS if data[kind]]}
