"""Forms of the accounts pages: they clean input; what is allowed is decided by the actions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.utils import timezone

from accounts.models import IdentityProvider
from accounts.permissions import ROLE_TEXTS, SCOPES, Permission, Role
from accounts.templatetags.pages import duration

HOUR, DAY = 3600, 86400
SESSION_CHOICES = (900, 1800, HOUR, 6 * HOUR, 12 * HOUR, DAY, 7 * DAY, 30 * DAY)
_SCOPE_AREAS = {
    "organization": "Organization",
    "members": "Members",
    "identity": "Login methods, users, sessions",
    "access": "Applications, policies, groups, SSH authorities",
    "service_tokens": "Service tokens",
    "tokens": "API tokens, with no more rights than this one",
    "tunnels": "Tunnels",
    "dns": "Zones and DNS records",
    "logs": "Logs",
}


def duration_choices(offered: Sequence[int], current: int | None = None) -> list[tuple[str, str]]:
    """Drop-down of durations; a stored value that is not among the usual ones is offered too."""
    values = sorted({*offered, *([current] if current is not None else [])})
    return [(str(value), duration(value) if value else "No duration, expires immediately") for value in values]


class LinesField(forms.CharField):
    """One item per line (or comma); cleans to a list without blanks or repeats."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("widget", forms.Textarea(attrs={"rows": 3, "class": "mono", "spellcheck": "false"}))
        super().__init__(max_length=20_000, **kwargs)

    def clean(self, value: Any) -> Any:
        text = super().clean(value) or ""
        items = [item.strip() for line in text.splitlines() for item in line.split(",")]
        return list(dict.fromkeys(item for item in items if item))

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list | tuple) else value


class TypedNameForm(forms.Form):
    """Deleting something that takes more with it: its name has to be typed."""

    confirmation = forms.CharField(max_length=400, widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def __init__(self, *args: Any, name: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = name
        self.fields["confirmation"].label = f"Type the name to confirm: {name}"

    def clean_confirmation(self) -> str:
        typed = str(self.cleaned_data["confirmation"])
        if typed.strip() != self.expected.strip():
            raise forms.ValidationError("That is not the name. Nothing was deleted.")
        return typed


class PlainForm(forms.Form):
    """A confirmation without fields: carries the errors of a refused action."""


class OrganizationForm(forms.Form):
    name = forms.CharField(
        max_length=200, label="Organization name", help_text="Shown on login pages and in the dashboard."
    )
    session_duration_seconds = forms.TypedChoiceField(
        coerce=int,
        label="Session duration",
        help_text="How long a person stays logged in at the team domain. Applications may ask for less.",
    )
    auto_redirect_to_identity = forms.BooleanField(
        required=False,
        label="Skip the login page when there is only one login method",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        current = (self.initial or {}).get("session_duration_seconds")
        self.fields["session_duration_seconds"].choices = duration_choices(SESSION_CHOICES, current)  # type: ignore[attr-defined]


# Shorter than the model's texts, which a drop-down on a phone would cut.
_SCIM_CHOICES = [
    (IdentityProvider.ScimBehavior.AUTOMATIC.value, "Follow them at once"),
    (IdentityProvider.ScimBehavior.REAUTH.value, "Follow them, end sessions"),
    (IdentityProvider.ScimBehavior.NO_ACTION.value, "Nothing, only logins count"),
]


class ScimForm(forms.Form):
    enabled = forms.BooleanField(required=False, label="Take users and groups from the provider over SCIM")
    user_deprovision = forms.BooleanField(
        required=False,
        label="Deactivated people are disabled at once: sessions end, connections are cut, logins are refused",
    )
    seat_deprovision = forms.BooleanField(
        required=False,
        label="Disabled people hold no seat",
        help_text="Told to API clients; nothing is counted here.",
    )
    identity_update_behavior = forms.ChoiceField(
        label="When groups of a logged-in person change", choices=_SCIM_CHOICES
    )


class InvitationForm(forms.Form):
    email = forms.EmailField(
        label="E-mail",
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
        help_text="They get a mail with a link that works for 7 days, once, and only for this address.",
    )
    role = forms.ChoiceField(
        choices=[(role.value, text) for role, text in ROLE_TEXTS.items()], initial=Role.VIEWER.value
    )


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=[(role.value, text) for role, text in ROLE_TEXTS.items()])


class ApiTokenForm(forms.Form):
    name = forms.CharField(max_length=120, help_text="What will use it, for example: terraform, nightly backup.")
    lifetime_days = forms.TypedChoiceField(
        coerce=int,
        label="Expires",
        choices=[(30, "in 30 days"), (90, "in 90 days"), (365, "in one year"), (0, "never")],
        initial=90,
    )
    scopes = forms.MultipleChoiceField(
        label="What it may do",
        widget=forms.CheckboxSelectMultiple,
        help_text="Give only what the program needs. A token never holds more than you do.",
    )

    def __init__(self, *args: Any, allowed: Sequence[Permission], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [(scope.value, _scope_text(scope)) for scope in SCOPES if scope in allowed]
        self.fields["scopes"].choices = choices  # type: ignore[attr-defined]

    def expires_at(self) -> datetime | None:
        days = self.cleaned_data["lifetime_days"]
        return timezone.now() + timedelta(days=days) if days else None


def _scope_text(scope: Permission) -> str:
    area, _, verb = scope.value.partition(".")
    return f"{_SCOPE_AREAS.get(area, area)}: {'change' if verb == 'edit' else 'read'}"
