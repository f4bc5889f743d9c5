"""The fields of a form that say which second factor is asked for: organization, application, policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms

from accounts.forms import DAY, HOUR, duration_choices
from accounts.second_factor import KIND_TEXTS, KINDS

INHERITED, REQUIRED, OFF = "inherited", "required", "off"
_OFFERED = (900, HOUR, 8 * HOUR, DAY, 7 * DAY, 30 * DAY)
_EACH_LOGIN = "0"


def _durations(current: int | None) -> list[tuple[str, str]]:
    texts = duration_choices((0, *_OFFERED), current)
    return [(value, "Asked at each login" if value == _EACH_LOGIN else text) for value, text in texts]


def _allowed_field() -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(
        required=False,
        label="Second factors that count",
        choices=[(kind, KIND_TEXTS[kind]) for kind in KINDS],
        widget=forms.CheckboxSelectMultiple,
        help_text="None ticked means: all of them. Codes can be phished, passkeys cannot.",
    )


class MfaForm(forms.Form):
    """Of an application or a policy; `inherited_from` names what speaks when it says nothing."""

    inherited_from = "the organization"
    mfa_mode = forms.ChoiceField(required=False, label="Second factor", initial=INHERITED)
    mfa_allowed = _allowed_field()
    mfa_session_seconds = forms.TypedChoiceField(
        coerce=int, empty_value=None, required=False, label="A second factor counts for"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        initial = self.initial or {}
        modes = [
            (INHERITED, f"As {self.inherited_from} says"),
            (REQUIRED, "Asked for"),
            (OFF, "Not asked for"),
        ]
        self.fields["mfa_mode"].choices = modes  # type: ignore[attr-defined]
        durations = [("", f"As {self.inherited_from} says"), *_durations(initial.get("mfa_session_seconds"))]
        self.fields["mfa_session_seconds"].choices = durations  # type: ignore[attr-defined]

    def mfa_config(self) -> dict[str, Any] | None:
        """As the actions take it. Only after is_valid()."""
        data = self.cleaned_data
        if data["mfa_mode"] not in {REQUIRED, OFF}:
            return None
        return {
            "allowed_authenticators": data["mfa_allowed"],
            "mfa_disabled": data["mfa_mode"] == OFF,
            "session_duration_seconds": data["mfa_session_seconds"],
        }

    @staticmethod
    def mfa_initial(config: Mapping[str, Any] | None) -> dict[str, Any]:
        if config is None:
            return {"mfa_mode": INHERITED}
        return {
            "mfa_mode": OFF if config["mfa_disabled"] else REQUIRED,
            "mfa_allowed": config["allowed_authenticators"],
            "mfa_session_seconds": config["session_duration_seconds"],
        }


class OrganizationMfaForm(forms.Form):
    mfa_required_for_all_apps = forms.BooleanField(
        required=False,
        label="Ask for a second factor of ours in every application",
        help_text="Besides the login method's own. Applications and policies may say otherwise; people add theirs at "
        "the first login that asks.",
    )
    mfa_allowed = _allowed_field()
    mfa_session_seconds = forms.TypedChoiceField(
        coerce=int, empty_value=None, required=False, label="A second factor counts for"
    )
    mfa_amr_seconds = forms.TypedChoiceField(
        coerce=int,
        empty_value=None,
        required=False,
        label="The login method's own second factor counts for",
        help_text="When it reports one that is ticked above (amr), ours is not asked for during this time.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        initial = self.initial or {}
        own = [("", "24 hours (default)"), *_durations(initial.get("mfa_session_seconds"))]
        self.fields["mfa_session_seconds"].choices = own  # type: ignore[attr-defined]
        theirs = [("", "It does not count"), *duration_choices(_OFFERED, initial.get("mfa_amr_seconds"))]
        self.fields["mfa_amr_seconds"].choices = theirs  # type: ignore[attr-defined]

    def mfa_config(self) -> dict[str, Any]:
        data = self.cleaned_data
        return {
            "allowed_authenticators": data["mfa_allowed"],
            "session_duration_seconds": data["mfa_session_seconds"],
            "amr_matching_session_duration_seconds": data["mfa_amr_seconds"],
        }

    @staticmethod
    def mfa_initial(config: Mapping[str, Any] | None) -> dict[str, Any]:
        stored = config or {}
        return {
            "mfa_allowed": stored.get("allowed_authenticators", []),
            "mfa_session_seconds": stored.get("session_duration_seconds"),
            "mfa_amr_seconds": stored.get("amr_matching_session_duration_seconds"),
        }
