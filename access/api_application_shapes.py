"""Applications in /client/v4: the public fields, which of them are acted upon, and the SSH profile that is ours."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from ninja import Field, Schema

from access.actions.authorities import ROTATION_SETTING
from access.api_shapes import (
    MfaConfig,
    PolicyResult,
    PolicyTerms,
    optional_seconds,
    refuse_unsupported,
    session_text,
    shape_link,
    shape_mfa,
    terms_of,
)
from access.models import Application
from accounts.api_base import rfc3339
from accounts.errors import InvalidInput

_PROFILE_IN_SETTINGS = {"reserved_principals", "authority_rotation_days"}
_ONE_HOST = "An application has one hostname: create one application for each."


class KeptFields(Schema):
    """Public fields stored and returned exactly as sent; defaults are false, null or [] (product.md 1.2, 3.3)."""

    allow_authenticate_via_warp: bool = False
    allow_iframe: bool = False
    cors_headers: dict[str, Any] | None = None
    custom_deny_message: str | None = Field(None, max_length=2000)
    custom_deny_url: str | None = Field(None, max_length=2000)
    custom_non_identity_deny_url: str | None = Field(None, max_length=2000)
    custom_pages: list[str] = []
    destinations: list[dict[str, Any]] = []
    eager_redirect_cookie_setting: bool | None = None
    enable_binding_cookie: bool = False
    # Null: the product's own choice, which is HttpOnly; only an explicit false takes it off.
    http_only_cookie_attribute: bool | None = None
    logo_url: str | None = Field(None, max_length=2000)
    options_preflight_bypass: bool = False
    path_cookie_attribute: bool = False
    read_service_tokens_from_header: str | None = Field(None, max_length=100)
    same_site_cookie_attribute: str | None = Field(None, max_length=10)
    self_hosted_domains: list[str] = []
    service_auth_401_redirect: bool = False
    use_clientless_isolation_app_launcher_url: bool = False


class RefusedFields(Schema):
    """Public fields that would promise a protection nobody gives here: null is fine, a value is refused."""

    oauth_configuration: dict[str, Any] | None = None
    scim_config: dict[str, Any] | None = None
    target_criteria: list[dict[str, Any]] | None = None


class SshProfile(Schema):
    """What certificates of this application look like, and where a bastion stream may go. Not in the public API."""

    certificate_lifetime_seconds: int | None = None
    certificate_extensions: list[str] | None = None
    principal_overrides: dict[str, str] | None = None
    bastion_destinations: list[str] | None = None
    # Certificates only for clients that prove to hold the key (docs/wire-protocol.md).
    require_key_proof: bool | None = None
    # Account names nobody is issued, besides the built-in list (root, daemon, ...).
    reserved_principals: list[str] | None = None
    # Rotate the SSH authority every so many days; 0: only by hand.
    authority_rotation_days: int | None = Field(None, ge=0, le=3650)


class PolicyReference(PolicyTerms):
    """A reusable policy by id, or an inline one by its rules."""

    id: str | None = None
    precedence: int | None = Field(None, ge=1, le=2**31 - 1)
    name: str | None = Field(None, min_length=1, max_length=350)
    decision: str | None = Field(None, max_length=16)
    include: list[dict[str, Any]] = []
    require: list[dict[str, Any]] = []
    exclude: list[dict[str, Any]] = []
    session_duration: str | None = None


class ApplicationChanges(KeptFields, RefusedFields):
    """Body of PATCH: only what is sent changes."""

    type: str = "self_hosted"
    name: str | None = Field(None, min_length=1, max_length=350)
    domain: str | None = Field(None, max_length=600)
    session_duration: str | None = None
    allowed_idps: list[UUID] | None = None
    auto_redirect_to_identity: bool | None = None
    app_launcher_visible: bool | None = None
    skip_interstitial: bool | None = None
    policies: list[str | PolicyReference] | None = None
    tags: list[str] | None = None
    ssh_profile: SshProfile | None = None
    mfa_config: MfaConfig | None = None


class ApplicationBody(ApplicationChanges):
    """Body of POST and PUT. PUT resets public fields that are not sent, but keeps `policies` and `ssh_profile`."""

    name: str | None = Field(min_length=1, max_length=350)


class ApplicationResult(KeptFields):
    id: str
    aud: str
    name: str
    type: str
    domain: str
    session_duration: str
    allowed_idps: list[str]
    auto_redirect_to_identity: bool
    app_launcher_visible: bool
    skip_interstitial: bool
    policies: list[PolicyResult]
    tags: list[str]
    created_at: str | None
    updated_at: str | None
    ssh_profile: SshProfile
    mfa_config: MfaConfig | None


class AuthorityResult(Schema):
    """An application's SSH certificate authority: the line for TrustedUserCAKeys and the audience tag."""

    id: str
    aud: str
    public_key: str


def shape_application(application: Application) -> ApplicationResult:
    kept = {name: application.settings[name] for name in KeptFields.model_fields if name in application.settings}
    # Not validated again: what was stored is returned as it was sent.
    return ApplicationResult.model_construct(
        **_kept_defaults() | kept,
        id=str(application.pk),
        aud=application.aud,
        name=application.name,
        type=application.type,
        domain=application.domain,
        session_duration=session_text(application),
        allowed_idps=sorted(str(provider.pk) for provider in application.allowed_providers.all()),
        auto_redirect_to_identity=application.auto_redirect_to_identity,
        app_launcher_visible=application.app_launcher_visible,
        skip_interstitial=application.skip_interstitial,
        policies=[shape_link(link) for link in application.policy_links.all()],
        tags=[tag.name for tag in application.tags.all()],
        created_at=rfc3339(application.created_at),
        updated_at=rfc3339(application.updated_at),
        mfa_config=shape_mfa(application.mfa_config),
        ssh_profile=SshProfile(
            certificate_lifetime_seconds=application.certificate_lifetime_seconds,
            certificate_extensions=application.certificate_extensions,
            principal_overrides=application.principal_overrides,
            bastion_destinations=application.bastion_destinations,
            require_key_proof=application.require_key_proof,
            reserved_principals=application.settings.get("reserved_principals", []),
            authority_rotation_days=application.settings.get(ROTATION_SETTING, 0),
        ),
    )


def application_values(body: ApplicationChanges, *, current: Application | None, partial: bool) -> dict[str, Any]:
    """Arguments for create_application and update_application; absent ones keep their value or default."""
    _refuse(body)
    sent = body.model_fields_set
    values: dict[str, Any] = {}
    if body.name is not None:
        values["name"] = body.name
    domain = _domain(body)
    if domain is not None:
        values["domain"] = domain
    values |= _settled(body, partial=partial)
    if body.session_duration is not None or not partial:
        values["session_duration_seconds"] = _session_seconds(body)
    if "policies" in sent and body.policies is not None:
        values["policies"] = [_policy(item) for item in body.policies]
    values["settings"] = _settings(body, current.settings if current else {}, partial=partial)
    if "mfa_config" in sent or not partial:
        values["mfa_config"] = body.mfa_config.model_dump() if body.mfa_config is not None else {}
    if body.ssh_profile is not None:
        values |= body.ssh_profile.model_dump(exclude_none=True, exclude=_PROFILE_IN_SETTINGS)
    return values


def _settled(body: ApplicationChanges, *, partial: bool) -> dict[str, Any]:
    """The plain columns: PATCH takes those sent, POST and PUT all of them."""
    defaults = {
        "auto_redirect_to_identity": False,
        "app_launcher_visible": True,
        "skip_interstitial": False,
    }
    values = {}
    for name, default in defaults.items():
        value = getattr(body, name)
        if value is not None or not partial:
            values[name] = default if value is None else value
    if body.tags is not None or not partial:
        values["tags"] = body.tags or []
    providers = body.allowed_idps
    if providers is not None or not partial:
        values["allowed_provider_ids"] = [] if providers is None else providers
    return values


def _session_seconds(body: ApplicationChanges) -> int:
    seconds = optional_seconds(body.session_duration)
    return 24 * 3600 if seconds is None else seconds


def _settings(body: ApplicationChanges, current: dict[str, Any], *, partial: bool) -> dict[str, Any]:
    """PUT drops public fields that are not sent; what else lives in the settings (our own keys) always stays."""
    public = {*KeptFields.model_fields, "session_duration"}
    kept = {key: value for key, value in current.items() if partial or key not in public}
    sent = body.model_dump(include=set(KeptFields.model_fields), exclude_unset=True)
    if body.session_duration is not None:
        sent["session_duration"] = body.session_duration
    return kept | sent | _profile_settings(body.ssh_profile)


def _profile_settings(profile: SshProfile | None) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if profile is not None and profile.reserved_principals is not None:
        values["reserved_principals"] = profile.reserved_principals
    if profile is not None and profile.authority_rotation_days is not None:
        values[ROTATION_SETTING] = profile.authority_rotation_days
    return values


def _refuse(body: ApplicationChanges) -> None:
    if body.type != Application.Type.SELF_HOSTED:
        raise InvalidInput(f"Applications are of type self_hosted; {body.type[:40]!r} is not available.")
    for name in RefusedFields.model_fields:
        if getattr(body, name):
            raise InvalidInput(f"{name} is not enforced by this product, so it is refused.", fields={name: "Refused."})


def _domain(body: ApplicationChanges) -> str | None:
    """The one hostname (and path), wherever it was sent. Several different ones are refused: only one is protected."""
    named = [body.domain] if body.domain else []
    named += body.self_hosted_domains if not body.destinations else []
    for destination in body.destinations:
        if destination.get("type", "public") != "public" or not isinstance(destination.get("uri"), str):
            raise InvalidInput("Destinations are of type public with a uri.", fields={"destinations": "Only public."})
        named.append(destination["uri"])
    if len({domain.rstrip("/").lower() for domain in named}) > 1:
        raise InvalidInput(_ONE_HOST, fields={"domain": _ONE_HOST})
    return named[0] if named else None


def _policy(item: str | PolicyReference) -> Any:
    """As actions take it: an id, or the public JSON with only what was sent."""
    if isinstance(item, str):
        return {"id": item}
    values = item.model_dump(exclude_unset=True, exclude=set(PolicyTerms.model_fields))
    if "session_duration" in values:
        values["session_duration_seconds"] = optional_seconds(values.pop("session_duration"))
    if item.model_fields_set & PolicyTerms.model_fields.keys():
        refuse_unsupported(item)
        values["terms"] = terms_of(item)
    return values


def _kept_defaults() -> dict[str, Any]:
    return KeptFields.model_validate({}).model_dump()
