"""Forms of applications, by cards: the wizard's steps and the tabs of an existing application are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms

from access.cors import METHODS
from access.domain_choices import domains_of
from access.forms import APPLICATION_SESSION_CHOICES, DurationField, OverridableForm, SshProfileForm, set_choices
from access.hostnames import split_domain
from access.models import Application, Tag
from accounts.errors import InvalidInput
from accounts.forms import DAY, LinesField
from accounts.mfa_forms import MfaForm
from accounts.models import IdentityProvider, Organization

_MONO = {"class": "mono", "spellcheck": "false", "autocapitalize": "none"}
CORS_OFF, CORS_ANSWER, CORS_PASS = "", "answer", "pass"
_LAX = ""


class OrganizationForm(forms.Form):
    """A form whose choices are an organization's; cards below add their own."""

    def __init__(self, *args: Any, organization: Organization, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.organization = organization


class TagsForm(OrganizationForm):
    """The words of an application: alone in the list, with the rest in wizard and settings."""

    tags = forms.CharField(
        required=False,
        max_length=1000,
        widget=forms.TextInput(attrs={"autocomplete": "off", "list": "known-tags"}),
        help_text="Words to find it by, with commas between them. A new word becomes a new tag.",
    )

    def known_tags(self) -> list[str]:
        rows = Tag.objects.for_organization(self.organization)
        return list(rows.values_list("name", flat=True)[:1000])

    def clean_tags(self) -> list[str]:
        named = [word.strip() for word in self.cleaned_data["tags"].split(",")]
        return list({word.lower(): word for word in named if word}.values())


class BasicsFields(TagsForm):
    name = forms.CharField(max_length=350, label="Application name", help_text="Shown to people when they log in.")
    session_duration_seconds = DurationField(
        APPLICATION_SESSION_CHOICES,
        label="Session duration",
        initial=DAY,
        help_text="After this time people log in again for this application.",
    )
    app_launcher_visible = forms.BooleanField(
        required=False,
        initial=True,
        label="Show on the team's start page",
        help_text="Only for people it lets in. Hiding it protects nothing.",
    )
    logo_url = forms.CharField(
        required=False,
        max_length=2000,
        label="Logo",
        widget=forms.TextInput(attrs={**_MONO, "inputmode": "url"}),
        help_text="Address of a picture for the start page, beginning with https://",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = self.fields["session_duration_seconds"]
        assert isinstance(offered, DurationField)
        offered.offer((self.initial or {}).get("session_duration_seconds"))


class LoginFields(OrganizationForm):
    allowed_provider_ids = forms.MultipleChoiceField(
        required=False,
        label="Login methods",
        widget=forms.CheckboxSelectMultiple,
        help_text="None ticked means: every login method of the organization, also those added later.",
    )
    auto_redirect_to_identity = forms.BooleanField(
        required=False,
        label="Instant Auth: skip the login page",
        help_text="Only when exactly one login method is ticked.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        providers = IdentityProvider.objects.for_organization(self.organization)
        set_choices(self.fields["allowed_provider_ids"], ((str(item.pk), item.name) for item in providers))

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        chosen = cleaned.get("allowed_provider_ids")
        if cleaned.get("auto_redirect_to_identity") and chosen is not None and len(chosen) != 1:
            self.add_error("auto_redirect_to_identity", "Tick exactly one login method above, or untick this.")
        return cleaned


class BlockPageFields(forms.Form):
    custom_deny_message = forms.CharField(
        required=False,
        max_length=2000,
        label="Message for people who are refused",
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Shown with the reason and its reference, for example whom to ask.",
    )
    custom_deny_url = forms.CharField(
        required=False,
        max_length=2000,
        label="Link for people who are refused",
        widget=forms.TextInput(attrs={**_MONO, "inputmode": "url"}),
        help_text="A page that helps them, beginning with https://",
    )


class CommandLineFields(forms.Form):
    skip_interstitial = forms.BooleanField(
        required=False,
        label="Command-line logins need no Approve click",
        help_text="Leave this off unless a program logs in without a person watching the browser.",
    )


class WebFields(forms.Form):
    """Cookies and cross-origin requests. SSH needs none of it."""

    same_site_cookie_attribute = forms.ChoiceField(
        required=False,
        label="Same Site",
        choices=[(_LAX, "Lax: the usual choice"), ("strict", "Strict"), ("none", "None: also inside other sites")],
        help_text="When browsers send the login cookie along. Strict may ask for a second login after a link.",
    )
    http_only_cookie_attribute = forms.BooleanField(
        required=False, initial=True, label="HTTP only", help_text="Scripts of the page cannot read the login cookie."
    )
    path_cookie_attribute = forms.BooleanField(
        required=False, label="Cookie only for the path", help_text="For applications that share a hostname."
    )
    cors = forms.ChoiceField(
        required=False,
        label="Preflight requests of other sites",
        choices=[
            (CORS_OFF, "Need a login like everything else (other sites cannot call it)"),
            (CORS_ANSWER, "Answer them as said below"),
            (CORS_PASS, "Pass them to the application without a login"),
        ],
        help_text="Browsers send one before a script of another site may call this application.",
    )
    cors_all_origins = forms.BooleanField(required=False, label="Every site may call it")
    cors_origins = LinesField(
        required=False, label="Sites that may call it", help_text="One per line, such as https://app.example.com"
    )
    cors_all_methods = forms.BooleanField(required=False, label="With every method")
    cors_methods = forms.MultipleChoiceField(
        required=False,
        label="With these methods",
        widget=forms.CheckboxSelectMultiple,
        choices=[(name, name) for name in METHODS[:7]],
    )
    cors_all_headers = forms.BooleanField(required=False, label="With every header")
    cors_headers = LinesField(required=False, label="With these headers", help_text="One per line.")
    cors_credentials = forms.BooleanField(
        required=False, label="With cookies", help_text="Not together with “every site”."
    )
    cors_max_age = forms.IntegerField(
        required=False,
        min_value=-1,
        max_value=86400,
        label="Browsers may remember the answer for (seconds)",
    )


class ConfigureForm(BasicsFields, LoginFields, BlockPageFields):
    """Wizard, step 1."""

    subdomain = forms.CharField(
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs=_MONO),
        help_text="For example ssh-bastion. Empty means the domain itself.",
    )
    domain = forms.ChoiceField(help_text="One of your active zones.")
    path = forms.CharField(
        required=False,
        max_length=255,
        widget=forms.TextInput(attrs=_MONO),
        help_text="Only for web applications that share a hostname, for example /admin. SSH needs none.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.domains = domains_of(self.organization)
        set_choices(self.fields["domain"], ((name, name) for name in self.domains))

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        if not any(name in self.errors for name in ("subdomain", "domain", "path")):
            try:
                split_domain(self.full_domain())
            except InvalidInput as error:
                self.add_error("subdomain", error.message)
        return cleaned

    def full_domain(self) -> str:
        """Hostname and path, as the actions take them."""
        values = self.cleaned_data
        return joined_domain(values["subdomain"], values["domain"], values["path"])


class DuplicateForm(OrganizationForm):
    """A new name and hostname; everything else is copied."""

    name = forms.CharField(max_length=350, label="Name of the copy")
    subdomain = forms.CharField(
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs=_MONO),
        help_text="For example ssh-bastion-2. Empty means the domain itself.",
    )
    domain = forms.ChoiceField(help_text="One of your active zones.")
    path = forms.CharField(required=False, max_length=255, widget=forms.TextInput(attrs=_MONO))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_choices(self.fields["domain"], ((name, name) for name in domains_of(self.organization)))

    def full_domain(self) -> str:
        values = self.cleaned_data
        return joined_domain(values["subdomain"], values["domain"], values["path"])


class SettingsForm(BasicsFields, WebFields):
    """An existing application: tab Settings."""

    domain = forms.CharField(
        max_length=600,
        label="Domain",
        widget=forms.TextInput(attrs=_MONO),
        help_text="Hostname in one of your active zones, with a path if needed. People's SSH configurations name it.",
    )

    @staticmethod
    def initial_of(application: Application) -> dict[str, Any]:
        return {**basics_of(application), **web_of(application.settings), "domain": application.domain}


class AuthenticationForm(OverridableForm, LoginFields, CommandLineFields, MfaForm):
    """An existing application: tab Authentication."""

    field_order = ("allowed_provider_ids", "auto_redirect_to_identity", "skip_interstitial", "mfa_mode")

    @staticmethod
    def initial_of(application: Application) -> dict[str, Any]:
        return {**logins_of(application), **MfaForm.mfa_initial(application.mfa_config)}

    def values(self) -> dict[str, Any]:
        """Arguments for update_application. Only after is_valid()."""
        given = {name: value for name, value in self.cleaned_data.items() if not name.startswith("mfa_")}
        return {**given, "mfa_config": self.mfa_config() or {}}


class SetupForm(SshProfileForm, CommandLineFields, WebFields):
    """Wizard, step 3."""


def joined_domain(subdomain: str, domain: str, path: str) -> str:
    subdomain = subdomain.strip().strip(".")
    # People paste the whole hostname into the first box.
    host = subdomain if subdomain.endswith(f".{domain}") else f"{subdomain}.{domain}" if subdomain else domain
    path = path.strip().lstrip("/")
    return f"{host}/{path}" if path else host


# --- stored values as forms show them -------------------------------------------------------------------------
def basics_of(application: Application) -> dict[str, Any]:
    settings = application.settings
    return {
        "name": application.name,
        "session_duration_seconds": application.session_duration_seconds,
        "tags": ", ".join(tag.name for tag in application.tags.all()),
        "app_launcher_visible": application.app_launcher_visible,
        **{name: settings.get(name) or "" for name in ("logo_url", "custom_deny_message", "custom_deny_url")},
    }


def logins_of(application: Application) -> dict[str, Any]:
    return {
        "allowed_provider_ids": [str(item.pk) for item in application.allowed_providers.all()],
        "auto_redirect_to_identity": application.auto_redirect_to_identity,
        "skip_interstitial": application.skip_interstitial,
    }


def web_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    stored = settings.get("cors_headers")
    cors: Mapping[str, Any] = stored if isinstance(stored, dict) else {}
    mode = CORS_PASS if settings.get("options_preflight_bypass") else CORS_ANSWER if cors else CORS_OFF
    same_site = str(settings.get("same_site_cookie_attribute") or "").lower()
    return {
        "same_site_cookie_attribute": same_site if same_site in {"strict", "none"} else _LAX,
        "http_only_cookie_attribute": settings.get("http_only_cookie_attribute") is not False,
        "path_cookie_attribute": settings.get("path_cookie_attribute") is True,
        "cors": mode,
        **{f"cors_all_{what}": bool(cors.get(f"allow_all_{what}")) for what in ("origins", "methods", "headers")},
        **{f"cors_{what}": cors.get(f"allowed_{what}") or [] for what in ("origins", "methods", "headers")},
        "cors_credentials": bool(cors.get("allow_credentials")),
        "cors_max_age": cors.get("max_age"),
    }


# --- what forms hold, as actions take it ----------------------------------------------------------------------
def settings_from(values: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """The application's `settings` with those of the form's fields that live there; others stay as they are."""
    settings = dict(current)
    for name in ("logo_url", "custom_deny_message", "custom_deny_url"):
        if name in values:
            _put(settings, name, values[name].strip() or None)
    if "cors" in values:
        _put(settings, "same_site_cookie_attribute", values["same_site_cookie_attribute"] or None)
        _put(settings, "http_only_cookie_attribute", None if values["http_only_cookie_attribute"] else False)
        _put(settings, "path_cookie_attribute", values["path_cookie_attribute"] or None)
        _put(settings, "options_preflight_bypass", values["cors"] == CORS_PASS or None)
        _put(settings, "cors_headers", _cors_headers(values) if values["cors"] == CORS_ANSWER else None)
    return settings


def _cors_headers(values: Mapping[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for what in ("origins", "methods", "headers"):
        if values[f"cors_all_{what}"]:
            document[f"allow_all_{what}"] = True
        elif values[f"cors_{what}"]:
            document[f"allowed_{what}"] = values[f"cors_{what}"]
    if values["cors_credentials"]:
        document["allow_credentials"] = True
    if values["cors_max_age"] is not None:
        document["max_age"] = values["cors_max_age"]
    return document


def _put(settings: dict[str, Any], name: str, value: Any) -> None:
    """Absent means the default, as for applications that never had another value."""
    if value is None:
        settings.pop(name, None)
    else:
        settings[name] = value


# Where the form's field has another name than the action's or the public document's.
RENAMED = {
    "domain": "subdomain",
    "allowed_origins": "cors_origins",
    "allowed_methods": "cors_methods",
    "allowed_headers": "cors_headers",
    "allow_credentials": "cors_credentials",
    "max_age": "cors_max_age",
}
