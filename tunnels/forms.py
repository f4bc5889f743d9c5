"""Forms of the tunnel and DNS pages: they clean input; what is allowed is decided by the actions."""

from __future__ import annotations

from typing import Any

from django import forms

from accounts.forms import TypedNameForm
from tunnels.models import DnsRecord

_MONO = {"class": "mono", "spellcheck": "false", "autocapitalize": "none"}
_TTL_CHOICES = ((1, "Automatic"), (60, "1 minute"), (300, "5 minutes"), (3600, "1 hour"), (86400, "1 day"))


class TunnelForm(forms.Form):
    name = forms.CharField(
        max_length=100,
        label="Tunnel name",
        widget=forms.TextInput(attrs=_MONO),
        help_text="For example ssh-pool, or the place it stands in.",
    )


class RotateTokenForm(forms.Form):
    cut = forms.BooleanField(
        required=False,
        label="Also cut live connections now",
        help_text="Tick this when the token may be in wrong hands: connectors with the old one are thrown out at once. "
        "Otherwise they stay connected until you restart them with the new one.",
    )


class DeleteTunnelForm(TypedNameForm):
    cascade = forms.BooleanField(required=False, label="Disconnect the connectors that are connected now")


class ZoneForm(forms.Form):
    name = forms.CharField(
        max_length=253,
        label="Domain",
        widget=forms.TextInput(attrs=_MONO),
        help_text="A domain you own, for example widgetcorp.tech",
    )


class RecordForm(forms.Form):
    type = forms.ChoiceField(choices=DnsRecord.Type.choices)
    name = forms.CharField(
        max_length=253,
        widget=forms.TextInput(attrs=_MONO),
        help_text="For example ssh-bastion, or @ for the domain itself.",
    )
    content = forms.CharField(
        max_length=2048,
        label="Target or content",
        widget=forms.TextInput(attrs={**_MONO, "list": "targets"}),
        help_text="For a tunnel: its id followed by the tunnel domain, as its page shows it.",
    )
    ttl = forms.TypedChoiceField(coerce=int, label="TTL", choices=_TTL_CHOICES, initial=1)
    comment = forms.CharField(max_length=100, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        current = (self.initial or {}).get("ttl")
        if current is not None and current not in dict(_TTL_CHOICES):
            self.fields["ttl"].choices = [*_TTL_CHOICES, (current, f"{current} seconds")]  # type: ignore[attr-defined]
