"""Forms of the Access pages: they clean input; what is allowed is decided by the actions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django import forms

from access.domain_choices import domains_of
from access.models import DEFAULT_EXTENSIONS, AccessList, Application, Policy, SshAuthority, Tag
from accounts.forms import DAY, HOUR, SESSION_CHOICES, LinesField, duration_choices
from accounts.models import IdentityProvider, Organization

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

    def offer(self, current: int | None) -> None:
        """Keep a stored value that is none of the usual ones."""
        self.choices = duration_choices(self.offered, current)


class ApplicationBasics(forms.Form):
    """What a new application and an existing one have in common."""

    name = forms.CharField(max_length=350, label="Application name", help_text="Shown to people when they log in.")
    session_duration_seconds = DurationField(
        APPLICATION_SESSION_CHOICES,
        label="Session duration",
        initial=DAY,
        help_text="After this time people log in again for this application.",
    )
    allowed_provider_ids = forms.MultipleChoiceField(
        required=False,
        label="Login methods",
        widget=forms.CheckboxSelectMultiple,
        help_text="None ticked means: every login method of the organization, also those added later.",
    )
    auto_redirect_to_identity = forms.BooleanField(
        required=False, label="Skip the login page when exactly one login method is ticked"
    )
    app_launcher_visible = forms.BooleanField(required=False, initial=True, label="Show on the team's start page")
    tags = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="To find the application by in lists. Tags are made under Settings, Tags.",
    )

    def __init__(self, *args: Any, organization: Organization, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        providers = IdentityProvider.objects.for_organization(organization)
        set_choices(self.fields["allowed_provider_ids"], ((str(item.pk), item.name) for item in providers))
        names = [tag.name for tag in Tag.objects.for_organization(organization)]
        if names:
            set_choices(self.fields["tags"], zip(names, names, strict=True))
        else:
            del self.fields["tags"]
        offered = self.fields["session_duration_seconds"]
        assert isinstance(offered, DurationField)
        offered.offer((self.initial or {}).get("session_duration_seconds"))


class ConfigureForm(ApplicationBasics):
    """Wizard, step 1."""

    subdomain = forms.CharField(
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={"class": "mono", "spellcheck": "false", "autocapitalize": "none"}),
        help_text="For example ssh-bastion. Empty means the domain itself.",
    )
    domain = forms.ChoiceField(help_text="One of your active zones.")
    path = forms.CharField(
        required=False,
        max_length=255,
        widget=forms.TextInput(attrs={"class": "mono", "spellcheck": "false"}),
        help_text="Only for web applications that share a hostname, for example /admin. SSH needs none.",
    )
    field_order = ("name", "subdomain", "domain", "path", "session_duration_seconds")

    def __init__(self, *args: Any, organization: Organization, **kwargs: Any) -> None:
        super().__init__(*args, organization=organization, **kwargs)
        self.domains = domains_of(organization)
        set_choices(self.fields["domain"], ((name, name) for name in self.domains))

    def full_domain(self) -> str:
        """Hostname and path, as the actions take them."""
        subdomain = self.cleaned_data["subdomain"].strip().strip(".")
        domain = self.cleaned_data["domain"]
        # People paste the whole hostname into the first box.
        host = subdomain if subdomain.endswith(f".{domain}") else f"{subdomain}.{domain}" if subdomain else domain
        path = self.cleaned_data["path"].strip().lstrip("/")
        return f"{host}/{path}" if path else host


class ApplicationForm(ApplicationBasics):
    """An existing application: tab Settings."""

    domain = forms.CharField(
        max_length=600,
        label="Domain",
        widget=forms.TextInput(attrs={"class": "mono", "spellcheck": "false"}),
        help_text="Hostname in one of your active zones, with a path if needed. People's SSH configurations name it.",
    )
    skip_interstitial = forms.BooleanField(
        required=False,
        label="Command-line logins need no Approve click",
        help_text="Leave this off unless a program logs in without a person watching the browser.",
    )
    field_order = ("name", "domain", "session_duration_seconds", "allowed_provider_ids")

    @staticmethod
    def initial_of(application: Application) -> dict[str, Any]:
        values = {
            name: getattr(application, name) for name in ApplicationForm.base_fields if hasattr(application, name)
        }
        values["allowed_provider_ids"] = [str(item.pk) for item in application.allowed_providers.all()]
        values["tags"] = [tag.name for tag in application.tags.all()]
        return values


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


class SetupForm(SshProfileForm):
    """Wizard, step 3."""

    skip_interstitial = forms.BooleanField(
        required=False,
        label="Command-line logins need no Approve click",
        help_text="Leave this off unless a program logs in without a person watching the browser.",
    )


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


class MoveForm(OverridableForm):
    direction = forms.CharField(required=False, widget=forms.HiddenInput)


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


class ListForm(forms.Form):
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
        max_length=16 * 1024,
        label="Root certificate (PEM)",
        widget=forms.Textarea(attrs={"rows": 8, "class": "mono", "spellcheck": "false", "autocapitalize": "none"}),
        help_text="The self-signed certificate of the authority. Never its private key.",
    )
    associated_hostnames = LinesField(
        required=False,
        label="Hostnames",
        help_text="Where clients are asked for a certificate, one per line. Each must be in one of your active zones.",
    )

    def __init__(self, *args: Any, is_new: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not is_new:
            self.fields["certificate"].disabled = True
            self.fields["certificate"].help_text = "A root never changes: add the new one, then delete this one."


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
        label="The present secret works for another",
        choices=[
            (HOUR, "hour"),
            (DAY, "day"),
            (7 * DAY, "week"),
            (30 * DAY, "30 days"),
            (0, "moment: it stops at once (leaked or lost)"),
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
