"""Forms that ask policies a question: the simulator's, and that of saved tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms

from access.forms import set_choices
from access.models import Application, SavedTest, ServiceToken
from access.questions import EXTERNAL_ANSWERS, IDENTITY, WHO, Question
from accounts.forms import LinesField
from accounts.models import IdentityProvider, Organization


class OnePerLine(LinesField):
    """Like LinesField, but commas belong to the value: names of groups hold them."""

    def clean(self, value: Any) -> Any:
        text = forms.CharField.clean(self, value) or ""
        return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


class QuestionForm(forms.Form):
    who = forms.ChoiceField(label="Who asks", choices=WHO, initial=IDENTITY)
    identity = forms.CharField(
        required=False,
        max_length=320,
        label="Known person",
        help_text="The e-mail address of somebody who has logged in before.",
        widget=forms.TextInput(attrs={"list": "people", "autocomplete": "off", "spellcheck": "false"}),
    )
    provider = forms.ChoiceField(
        required=False, label="Login method", help_text="Of somebody made up, or when several know the address."
    )
    email = forms.CharField(required=False, max_length=320, label="E-mail of somebody made up")
    email_unverified = forms.BooleanField(required=False, label="The login method did not confirm the address")
    groups = OnePerLine(required=False, label="Groups of somebody made up", help_text="One per line.")
    claims = OnePerLine(required=False, label="Claims of somebody made up", help_text="One per line: name = value")
    amr = LinesField(
        required=False,
        label="Authentication methods (amr)",
        help_text="For example pwd, mfa, hwk. Empty for a known person: those of the last login.",
        widget=forms.TextInput(attrs={"class": "mono", "spellcheck": "false"}),
    )
    service_token = forms.ChoiceField(required=False, label="Service token")
    ip = forms.CharField(
        required=False,
        max_length=60,
        label="Address",
        help_text="Empty for a known person: that of the last login.",
        widget=forms.TextInput(attrs={"class": "mono", "spellcheck": "false"}),
    )
    country = forms.CharField(
        required=False,
        max_length=80,
        label="Country",
        help_text="Name or code; counts instead of the address's own.",
        widget=forms.TextInput(attrs={"list": "countries", "autocomplete": "off"}),
    )

    external = forms.ChoiceField(
        required=False,
        label="External evaluation answers",
        choices=EXTERNAL_ANSWERS,
        help_text="Only for policies that ask an external service. It is never asked from here.",
    )

    def __init__(self, *args: Any, organization: Organization, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        providers = IdentityProvider.objects.for_organization(organization)
        set_choices(self.fields["provider"], [("", "Any"), *((str(item.pk), item.name) for item in providers)])
        tokens = ServiceToken.objects.for_organization(organization)
        set_choices(self.fields["service_token"], [("", "Choose…"), *((str(item.pk), item.name) for item in tokens)])

    def clean_claims(self) -> dict[str, str]:
        claims: dict[str, str] = {}
        for line in self.cleaned_data["claims"]:
            name, equals, value = line.partition("=")
            if not equals or not name.strip() or not value.strip():
                raise forms.ValidationError(f"{line[:80]}: write name = value.")
            claims[name.strip()] = value.strip()
        return claims

    def question(self) -> Question:
        values = self.cleaned_data
        return Question(
            who=values["who"],
            identity=values["identity"].strip(),
            email=values["email"].strip(),
            email_verified=not values["email_unverified"],
            provider=values["provider"],
            groups=values["groups"],
            claims=values["claims"],
            amr=values["amr"],
            service_token=values["service_token"],
            ip=values["ip"],
            country=values["country"],
            external=values["external"],
        )


class SimulatorForm(QuestionForm):
    at = forms.DateTimeField(
        required=False,
        label="Time (UTC)",
        help_text="Empty: now. Matters for service tokens that expire.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )


class AnyApplicationForm(SimulatorForm):
    """The simulator outside of one application."""

    application = forms.ChoiceField(label="Application")
    field_order = ("application",)

    def __init__(self, *args: Any, applications: Iterable[Application], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_choices(
            self.fields["application"], ((str(item.pk), f"{item.name} ({item.domain})") for item in applications)
        )


class SavedTestForm(QuestionForm):
    name = forms.CharField(
        max_length=350, label="Test name", help_text="What must hold, for example: contractors stay out."
    )
    expected = forms.ChoiceField(
        label="Expected", choices=SavedTest.Expected.choices, initial=SavedTest.Expected.ALLOW.value
    )
    field_order = ("name", "expected")

    @staticmethod
    def initial_of(test: SavedTest, shown_identity: str) -> dict[str, Any]:
        """`shown_identity`: the e-mail address behind the stored id."""
        question = Question.stored(test.question)
        claims = [f"{name} = {value}" for name, value in question.claims.items()]
        values = {**question.as_json(), "claims": claims, "amr": ", ".join(question.amr), "identity": shown_identity}
        return {**values, "email_unverified": not question.email_verified, "name": test.name, "expected": test.expected}
