"""Forms of login methods, one per type. They collect input; accounts.providers.config decides what is allowed."""

from __future__ import annotations

from typing import Any

from django import forms

from accounts.forms import LinesField
from accounts.models import IdentityProvider

MAX_METADATA_BYTES = 256 * 1024
_KEPT = "Stored sealed. Leave empty to keep the present one."


def _secret(label: str, help_text: str = "Stored sealed and never shown again.", **options: Any) -> forms.CharField:
    widget = forms.PasswordInput(attrs={"autocomplete": "new-password"})
    return forms.CharField(max_length=2048, label=label, strip=True, widget=widget, help_text=help_text, **options)


def _mono(**options: Any) -> forms.CharField:
    return forms.CharField(widget=forms.TextInput(attrs={"class": "mono"}), **options)


class ProviderForm(forms.Form):
    """`kept`: names of secrets an existing provider has; those stay when their field is left empty."""

    secret_fields: tuple[str, ...] = ()
    # Fields that few need, folded away until one of them is filled or wrong.
    rare_fields: tuple[str, ...] = ()

    name = forms.CharField(max_length=350, help_text="Shown on the button of the login page.")

    def __init__(self, *args: Any, kept: frozenset[str] = frozenset(), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in kept & set(self.fields):
            self.fields[name].required = False
            self.fields[name].help_text = _KEPT

    @property
    def main_fields(self) -> list[forms.BoundField]:
        return [field for field in self if field.name not in self.rare_fields]

    @property
    def more_fields(self) -> list[forms.BoundField]:
        return [field for field in self if field.name in self.rare_fields]

    @property
    def more_is_open(self) -> bool:
        return any(
            field.errors or (field.value() != field.field.initial and field.value()) for field in self.more_fields
        )

    def config(self) -> dict[str, Any]:
        left_out = {"name", "client_secret", *self.secret_fields}
        values = {name: value for name, value in self.cleaned_data.items() if name not in left_out}
        return {name: value for name, value in values.items() if value not in ("", [], None)}

    def secrets(self) -> dict[str, str]:
        return {name: self.cleaned_data[name] for name in self.secret_fields if self.cleaned_data.get(name)}


class OneTimePinForm(ProviderForm):
    name = forms.CharField(max_length=350, initial="One-time PIN", help_text="Shown on the button of the login page.")


class TrustedDomainsForm(ProviderForm):
    email_trusted_domains = LinesField(
        required=False,
        label="Trusted e-mail domains",
        help_text="Addresses in these domains count as verified when the provider says nothing about them. Enter only "
        "domains whose addresses this provider alone hands out. Other addresses match no e-mail rule.",
    )


class ClientForm(TrustedDomainsForm):
    client_id = _mono(max_length=400, label="Client ID")
    client_secret = _secret("Client secret")


class ClaimsForm(ClientForm):
    claims = LinesField(
        required=False,
        label="Claims to keep",
        help_text="Extra claims policies may ask about, one per line, for example: department",
    )
    email_claim_name = forms.CharField(
        max_length=100, required=False, label="E-mail claim", help_text="Empty means: email"
    )


class OidcForm(ClaimsForm):
    issuer = forms.CharField(
        max_length=2000,
        required=False,
        label="Issuer",
        help_text="For example https://idp.example.com/realms/main. Its discovery page fills in the addresses below.",
    )
    auth_url = forms.CharField(
        max_length=2000, required=False, label="Authorization URL", help_text="Empty: from the issuer's discovery page."
    )
    token_url = forms.CharField(
        max_length=2000, required=False, label="Token URL", help_text="Empty: from the issuer's discovery page."
    )
    certs_url = forms.CharField(
        max_length=2000,
        required=False,
        label="Key set (JWKS) URL",
        help_text="Empty: from the issuer's discovery page.",
    )
    scopes = LinesField(required=False, help_text="One per line. Empty means: openid, email, profile.")
    pkce_enabled = forms.BooleanField(
        # Always used: kept as it was sent, for the API's sake.
        required=False,
        initial=True,
        widget=forms.HiddenInput,
    )
    own_redirect_url = forms.BooleanField(
        required=False,
        label="A redirect URL of its own",
        help_text="For providers whose answers do not name their issuer (RFC 9207). The edit page shows the address.",
    )
    field_order = ("name", "issuer", "client_id", "client_secret", "auth_url", "token_url", "certs_url", "scopes")
    rare_fields = (
        "auth_url",
        "token_url",
        "certs_url",
        "scopes",
        "email_trusted_domains",
        "claims",
        "email_claim_name",
        "own_redirect_url",
    )


class OktaForm(ClaimsForm):
    secret_fields = ("api_token",)

    okta_account = forms.CharField(
        max_length=400, label="Okta account URL", help_text="For example: https://widgetcorp.okta.com"
    )
    authorization_server_id = forms.CharField(
        max_length=200, required=False, label="Authorization server", help_text="Only for a custom one; its id."
    )
    api_token = _secret(
        "API token",
        "Only when somebody is in more than 100 groups: then groups are read from Okta's API. Stored sealed.",
        required=False,
    )
    own_redirect_url = forms.BooleanField(required=False, label="A redirect URL of its own")
    field_order = ("name", "okta_account", "client_id", "client_secret", "authorization_server_id", "api_token")
    rare_fields = (
        "authorization_server_id",
        "api_token",
        "email_trusted_domains",
        "claims",
        "email_claim_name",
        "own_redirect_url",
    )


class EntraForm(ClaimsForm):
    directory_id = _mono(max_length=60, label="Directory (tenant) ID")
    support_groups = forms.BooleanField(
        required=False,
        initial=True,
        label="Read groups",
        help_text="Rules name groups by their object ID. Needs the Graph permissions listed beside.",
    )
    prompt = forms.ChoiceField(
        required=False,
        choices=[("", "as the directory decides"), ("select_account", "choose an account"), ("login", "log in anew")],
        label="At each login",
    )
    cloud = forms.ChoiceField(
        required=False,
        choices=[("", "worldwide"), ("us_government", "US Government"), ("china", "China, operated by 21Vianet")],
        help_text="Only for directories in a national cloud.",
    )
    field_order = (
        "name",
        "client_id",
        "client_secret",
        "directory_id",
        "support_groups",
        "email_trusted_domains",
        "cloud",
        "prompt",
    )
    rare_fields = ("cloud", "prompt", "claims", "email_claim_name")


class GoogleForm(ClaimsForm):
    field_order = ("name", "client_id", "client_secret")
    rare_fields = ("email_trusted_domains", "claims", "email_claim_name")


class GitHubForm(ClientForm):
    github_host = forms.CharField(
        max_length=253,
        required=False,
        label="GitHub Enterprise host",
        help_text="Empty means github.com. Examples: github.widgetcorp.com, widgetcorp.ghe.com",
    )
    field_order = ("name", "client_id", "client_secret", "github_host")
    rare_fields = ("github_host", "email_trusted_domains")


class GoogleWorkspaceForm(ClaimsForm):
    secret_fields = ("service_account_key",)

    apps_domain = forms.CharField(
        max_length=253,
        label="Workspace domain",
        help_text="Only accounts of this domain get in. Example: widgetcorp.com",
    )
    service_account_key = forms.CharField(
        required=False,
        max_length=16_000,
        label="Service account key (JSON)",
        widget=forms.Textarea(attrs={"rows": 4, "class": "mono", "spellcheck": "false", "autocomplete": "off"}),
        help_text="Only for groups. Stored sealed and never shown again.",
    )
    admin_email = forms.EmailField(
        required=False,
        label="Administrator to read groups as",
        help_text="An address that may read groups in your Workspace.",
    )
    field_order = ("name", "client_id", "client_secret", "apps_domain", "service_account_key", "admin_email")
    rare_fields = ("email_trusted_domains", "claims", "email_claim_name")


class SamlForm(TrustedDomainsForm):
    metadata_url = forms.CharField(
        max_length=2000,
        required=False,
        label="Identity provider's metadata, from its address",
        help_text="Read once, when you save.",
    )
    metadata_file = forms.FileField(
        required=False,
        label="Or as a file",
        help_text="An XML file. It fills in issuer, sign-on URL and certificates.",
    )
    metadata_xml = forms.CharField(
        required=False,
        max_length=MAX_METADATA_BYTES,
        label="Or pasted",
        widget=forms.Textarea(attrs={"rows": 4, "class": "mono", "spellcheck": "false"}),
    )
    issuer_url = forms.CharField(max_length=2000, required=False, label="Issuer (the provider's entity ID)")
    sso_target_url = forms.CharField(max_length=2000, required=False, label="Sign-on URL (HTTP-Redirect)")
    idp_public_certs = forms.CharField(
        required=False,
        max_length=64_000,
        label="Signing certificates",
        widget=forms.Textarea(attrs={"rows": 4, "class": "mono", "spellcheck": "false"}),
        help_text="PEM, one or more. During a change of certificate enter the old and the new one.",
    )
    email_attribute_name = forms.CharField(
        max_length=400, required=False, label="E-mail attribute", help_text="Empty: email, mail, or an e-mail NameID."
    )
    groups_attribute_name = forms.CharField(
        max_length=400, required=False, label="Groups attribute", help_text="Empty means: groups"
    )
    attributes = forms.CharField(
        required=False,
        max_length=20_000,
        label="Attributes to keep",
        widget=forms.Textarea(attrs={"rows": 3, "class": "mono", "spellcheck": "false"}),
        help_text="Attributes policies may ask about, one per line.",
    )
    sign_request = forms.BooleanField(required=False, initial=True, label="Sign login requests")
    force_authn = forms.BooleanField(required=False, label="Ask for a fresh login each time")
    enable_encryption = forms.BooleanField(required=False, label="Accept encrypted assertions only")
    field_order = ("name", "metadata_url", "metadata_file", "metadata_xml", "email_trusted_domains")
    rare_fields = (
        "issuer_url",
        "sso_target_url",
        "idp_public_certs",
        "email_attribute_name",
        "groups_attribute_name",
        "attributes",
        "sign_request",
        "force_authn",
        "enable_encryption",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("idp_public_certs", "attributes"):
            if isinstance(self.initial.get(name), list):
                self.initial[name] = "\n".join(self.initial[name])

    def clean_metadata_file(self) -> str:
        sent = self.cleaned_data.get("metadata_file")
        if not sent:
            return ""
        if sent.size > MAX_METADATA_BYTES:
            raise forms.ValidationError("The file is too large to be metadata of one identity provider.")
        try:
            return str(sent.read().decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise forms.ValidationError("The file is not XML text.") from error

    def config(self) -> dict[str, Any]:
        found = super().config()
        document = found.pop("metadata_file", "") or found.get("metadata_xml", "")
        return {**found, "metadata_xml": document} if document else found


PROVIDER_FORMS: dict[str, type[ProviderForm]] = {
    IdentityProvider.Type.ONE_TIME_PIN.value: OneTimePinForm,
    IdentityProvider.Type.OIDC.value: OidcForm,
    IdentityProvider.Type.OKTA.value: OktaForm,
    IdentityProvider.Type.AZURE_AD.value: EntraForm,
    IdentityProvider.Type.GOOGLE.value: GoogleForm,
    IdentityProvider.Type.GOOGLE_APPS.value: GoogleWorkspaceForm,
    IdentityProvider.Type.GITHUB.value: GitHubForm,
    IdentityProvider.Type.SAML.value: SamlForm,
}
