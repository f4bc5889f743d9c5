"""Forms of the staff area."""

from __future__ import annotations

from datetime import timedelta

from django import forms

from accounts.actions.support import LONGEST_REASON

_DURATIONS = (("15", "15 minutes"), ("30", "30 minutes"), ("60", "1 hour"), ("120", "2 hours"), ("240", "4 hours"))


class SupportSessionForm(forms.Form):
    reason = forms.CharField(
        max_length=LONGEST_REASON,
        label="Reason",
        help_text="With the ticket's number, if there is one. The organization reads this in its audit log.",
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    minutes = forms.ChoiceField(label="Time limit", choices=_DURATIONS, initial="30")

    def duration(self) -> timedelta:
        return timedelta(minutes=int(self.cleaned_data["minutes"]))


class ExtensionForm(SupportSessionForm):
    minutes = forms.ChoiceField(label="Longer by", choices=_DURATIONS[:4], initial="15")
