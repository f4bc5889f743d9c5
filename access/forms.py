"""Forms of the Access pages: they clean input; what is allowed is decided by the actions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django import forms

from access.models import DEFAULT_EXTENSIONS, AccessList, Application, Policy, SshAuthority
from accounts.forms import DAY, HOUR, SESSION_CHOICES, LinesField, duration_choices

# An application may also want a check for every page or connection, or every few minutes.
APPLICATION_SESSION_CHOICES = (0, 300, *SESSION_CHOICES)
CERTIFICATE_CHOICES = (60, 120, 240, 300, 600, 1800, HOUR, 8 * HOUR, DAY)
TOKEN_DAYS = (30, 90, 180, 365, 730)
EXTENSION_TEXTS = (
    ("permit-pty", "A terminal (permit-pty)"),
    ("permit-port-forwarding", "Port forwarding (permit-port-forwarding)"),
    ("permit-agent-forwarding", "Agent forwarding (permit-agent-forwarding)"),
    ("permit-X11-forwarding", "X11 forwarding (permit-X11-forwarding)"),
    ("permit-user-rc", "Run ~/.ssh/rc (permit-user-rc)"),
)


def set_choices(field: forms.Field, choices: Iterable[tuple[str, str]]) -> None:
    field.choices = list(choices)  # type: ignore[attr-defined]


class DurationField(forms.TypedChoiceField):
    """A drop-down of durations in seconds."""

    def __init__(self, offered: Sequence[int], **kwargs: Any) -> None:
        self.offered = offered
        super().__init__(coerce=int, choices=duration_choices(offered), **kwargs)

    def offer(self, current: int | str | None) -> None:
        """Keep a stored value (or one a draft holds as text) that is none of the usual ones."""
        text = str(current)
        self.choices = duration_choices(self.offered, int(text) if text.isascii() and text.isdigit() else None)


class SshProfileForm(forms.Form):
    """What certificates for an application may do, and where its bastion may go."""

    certificate_lifetime_seconds = DurationField(
        CERTIFICATE_CHOICES,
        label="Certificate lifetime",
        initial=240,
        help_text="Time to start a session; a running session goes on after it. Minutes are enough.",
    )
    certificate_extensions = forms.MultipleChoiceField(
        required=False,
        label="Sessions may use",
        choices=EXTENSION_TEXTS,
        widget=forms.CheckboxSelectMultiple,
        initial=list(DEFAULT_EXTENSIONS),
    )
    bastion_destinations = LinesField(
        required=False,
        label="Bastion destinations",
        help_text="Only for tunnels with a bastion service: where people may go through it, one host:port or "
        "network:port per line, for example 10.0.0.0/8:22. Empty means nowhere.",
    )
    require_key_proof = forms.BooleanField(
        required=False,
        label="Require proof of possession",
        help_text="Certificates only for clients that sign the request with the very key: sallyport does, "
        "other clients are refused.",
    )
    principal_overrides = LinesField(
        required=False,
        label="Account names that differ",
        help_text="Normally the account is the part of the e-mail before @. Exceptions, one per line: "
        "alice@widgetcorp.tech = deploy",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        lifetime = self.fields["certificate_lifetime_seconds"]
        assert isinstance(lifetime, DurationField)
        lifetime.offer((self.initial or {}).get("certificate_lifetime_seconds"))

    @staticmethod
    def initial_of(application: Application) -> dict[str, Any]:
        values = {name: getattr(application, name) for name in SshProfileForm.base_fields}
        values["principal_overrides"] = [f"{email} = {name}" for email, name in application.principal_overrides.items()]
        return values

    def clean_principal_overrides(self) -> dict[str, str]:
        overrides: dict[str, str] = {}
        for line in self.cleaned_data["principal_overrides"]:
            email, equals, account = line.partition("=")
            if not equals or not email.strip() or not account.strip():
                raise forms.ValidationError(f"{line[:80]}: write e-mail = account name.")
            overrides[email.strip()] = account.strip()
        return overrides


class OverridableForm(forms.Form):
    """A change that saved tests may hold back: the field for the reason to go on appears when they do."""

    override_reason = forms.CharField(
        required=False,
        max_length=500,
        label="Do it although saved tests fail, because",
        help_text="The reason goes to the audit log.",
        widget=forms.HiddenInput,
    )

    def add_error(self, field: str | None, error: Any) -> None:
        if field == "override_reason":
            self.fields["override_reason"].widget = forms.TextInput(attrs={"autocomplete": "off"})
        super().add_error(field, error)


class IdsField(forms.CharField):
    """Ids with commas between them, in a hidden field."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(widget=forms.HiddenInput, max_length=100_000, **kwargs)

    def clean(self, value: Any) -> Any:
        return [part for part in (super().clean(value) or "").split(",") if part]


class MoveForm(OverridableForm):
    direction = forms.CharField(required=False, widget=forms.HiddenInput)
    seen = IdsField(required=False)


class OrderForm(OverridableForm):
    """The whole order at once, and the one that was shown before anything was moved."""

    order = IdsField()
    seen = IdsField()


class GroupForm(OverridableForm):
    name = forms.CharField(max_length=350, label="Group name")
    is_default = forms.BooleanField(
        required=False,
        label="Default group",
        help_text="The first policy of every new application starts with it.",
    )


class TagForm(forms.Form):
    name = forms.CharField(
        max_length=200, label="Tag", help_text="At most 35 letters and digits, for example databases."
    )


class ListForm(OverridableForm):
    """Entries one per line, with a description after the first blank."""

    name = forms.CharField(max_length=350, label="List name")
    type = forms.ChoiceField(label="Holds", choices=AccessList.Type.choices, initial=AccessList.Type.EMAIL)
    description = forms.CharField(required=False, max_length=500)
    items = forms.CharField(
        required=False,
        max_length=2_000_000,
        label="Entries",
        widget=forms.Textarea(attrs={"rows": 12, "class": "mono", "spellcheck": "false", "autocapitalize": "none"}),
        help_text="One per line, at most 5,000. A description may follow after a blank: 192.0.2.0/24 Lisbon office",
    )

    def __init__(self, *args: Any, changes: AccessList | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if changes is not None:
            self.fields["type"].disabled = True
            self.fields["type"].help_text = "The type of a list never changes: rules rely on it."

    @staticmethod
    def initial_of(row: AccessList) -> dict[str, Any]:
        lines = (f"{item['value']} {item.get('description', '')}".rstrip() for item in row.items)
        return {"name": row.name, "type": row.type, "description": row.description, "items": "\n".join(lines)}

    def clean_items(self) -> list[dict[str, str]]:
        found = []
        for line in self.cleaned_data["items"].splitlines():
            value, _, description = line.strip().partition(" ")
            if value:
                found.append({"value": value.rstrip(",;"), "description": description.strip()})
        return found


class ClientAuthorityForm(forms.Form):
    name = forms.CharField(max_length=350)
    certificate = forms.CharField(
        max_length=64 * 1024,
        label="Root certificate (PEM), with its intermediates",
        widget=forms.Textarea(attrs={"rows": 8, "class": "mono", "spellcheck": "false", "autocapitalize": "none"}),
        help_text="The self-signed certificate of the authority, then those of its intermediates if it has any. Never "
        "a private key.",
    )
    associated_hostnames = LinesField(
        required=False,
        label="Hostnames",
        help_text="Where clients are asked for a certificate, one per line. Each must be in one of your active zones; "
        "*.apps.example.com stands for every name one label below.",
    )
    forwarding = forms.BooleanField(
        required=False,
        label="Show the certificate to the origins of these hostnames",
        help_text="In the headers Cf-Client-Cert-Der-Base64 and Cf-Client-Cert-Sha256.",
    )

    def __init__(self, *args: Any, is_new: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not is_new:
            self.fields["certificate"].disabled = True
            self.fields["certificate"].help_text = "A root never changes: add the new one, then delete this one."


class RevocationForm(forms.Form):
    lists = forms.CharField(
        required=False,
        label="Revocation lists (PEM)",
        widget=forms.Textarea(attrs={"rows": 8, "class": "mono", "spellcheck": "false", "autocapitalize": "none"}),
        help_text="Each signed by the root or one of its intermediates. They replace the present ones; empty takes "
        "them away. An expired list refuses every certificate of its issuer, so upload the next one in time.",
    )


class ServiceTokenForm(forms.Form):
    name = forms.CharField(max_length=350, help_text="The machine or job that will use it, for example: ansible.")
    duration_seconds = forms.TypedChoiceField(
        coerce=int,
        empty_value=None,
        required=False,
        label="Valid for",
        initial=365 * DAY,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        current = (self.initial or {}).get("duration_seconds")
        values = sorted({days * DAY for days in TOKEN_DAYS} | ({current} if current else set()))
        choices = [(str(value), f"{value // DAY} days") for value in values]
        set_choices(self.fields["duration_seconds"], [*choices, ("", "Does not expire")])


class RotateForm(forms.Form):
    """How long the present secret goes on beside the new one."""

    overlap_seconds = forms.TypedChoiceField(
        coerce=int,
        initial=DAY,
        label="The present secret goes on for",
        choices=[
            (HOUR, "1 hour"),
            (DAY, "1 day"),
            (7 * DAY, "1 week"),
            (30 * DAY, "30 days"),
            (0, "It stops at once (leaked or lost)"),
        ],
    )


class GenerateForm(forms.Form):
    """Service Auth, SSH: which application gets its certificate authority."""

    application = forms.ChoiceField()
    algorithm = forms.ChoiceField(choices=SshAuthority.Algorithm.choices, initial=SshAuthority.Algorithm.ED25519)

    def __init__(self, *args: Any, applications: Iterable[Application], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_choices(
            self.fields["application"], ((str(item.pk), f"{item.name} ({item.domain})") for item in applications)
        )


class AttachForm(OverridableForm):
    policy = forms.ChoiceField(label="Reusable policy")

    def __init__(self, *args: Any, policies: Iterable[Policy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_choices(
            self.fields["policy"], ((str(item.pk), f"{item.name} ({item.get_decision_display()})") for item in policies)
        )
