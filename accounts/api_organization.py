"""/client/v4 {accounts|zones}/…/access/organizations: team settings, and revoking a person's sessions."""

from __future__ import annotations

import base64
from typing import Any

from django.db import transaction
from ninja import Field, Schema

from accounts.actions.login_page import remove_logo, set_logo
from accounts.actions.organizations import update_organization
from accounts.actions.sessions import revoke_identity_sessions
from accounts.api_base import ApiRequest, ApiRouter, as_uuid, rfc3339
from accounts.durations import format_duration, parse_duration
from accounts.errors import Conflict, InvalidInput, NotFound
from accounts.models import Identity, Organization
from accounts.permissions import Permission
from accounts.second_factor import public_config

router = ApiRouter(tags=["Organization"])


class OrganizationFields(Schema):
    """Public settings kept and returned as sent (product.md 1.14); the product acts on those named in docs/api.md."""

    login_design: dict[str, Any] | None = None
    is_ui_read_only: bool = False
    ui_read_only_toggle_reason: str | None = None
    user_seat_expiration_inactive_time: str | None = None
    warp_auth_session_duration: str | None = None
    allow_authenticate_via_warp: bool = False
    deny_unmatched_requests: bool = False
    deny_unmatched_requests_exempted_zone_names: list[str] = []
    custom_pages: dict[str, Any] | None = None


class OrganizationMfa(Schema):
    allowed_authenticators: list[str] | None = None
    session_duration: str | None = None
    amr_matching_session_duration: str | None = None
    required_aaguids: str | list[str] | None = None


class OrganizationBody(OrganizationFields):
    mfa_config: OrganizationMfa | None = None
    mfa_required_for_all_apps: bool | None = None
    # PIV keys are not offered: null is fine, a value is refused.
    mfa_piv_key_requirements: dict[str, Any] | None = None
    name: str | None = Field(None, min_length=1, max_length=200)
    auth_domain: str | None = None
    session_duration: str | None = None
    auto_redirect_to_identity: bool | None = None
    # Ours: support staff of the installation have to ask before they look in.
    support_needs_consent: bool | None = None


class OrganizationResult(OrganizationFields):
    mfa_config: OrganizationMfa | None
    mfa_required_for_all_apps: bool
    name: str
    auth_domain: str
    session_duration: str
    auto_redirect_to_identity: bool
    support_needs_consent: bool
    created_at: str | None


class LogoBody(Schema):
    # Base64 of a PNG or JPEG.
    content: str = Field(min_length=1, max_length=1_000_000)


class LogoResult(Schema):
    digest: str


class RevokeUserBody(Schema):
    email: str = Field(min_length=3, max_length=254)
    user_uid: str | None = None


@router.route("GET", "/organizations", Permission.ORGANIZATION_READ, OrganizationResult)
def get_organization(request: ApiRequest) -> OrganizationResult:
    return shape_organization(request.organization)


@router.route("PUT", "/organizations", Permission.ORGANIZATION_EDIT, OrganizationResult)
def put_organization(request: ApiRequest, body: OrganizationBody) -> OrganizationResult:
    """Fields that are not sent keep their values."""
    organization = request.organization
    if body.auth_domain is not None and body.auth_domain.lower() != organization.team_domain:
        raise InvalidInput(
            f"The team domain is {organization.team_domain} and cannot be changed through the API: "
            "tokens, connectors and ssh configurations carry it.",
            fields={"auth_domain": "Cannot be changed."},
        )
    if body.mfa_piv_key_requirements:
        message = "mfa_piv_key_requirements is not enforced by this product, so it is refused."
        raise InvalidInput(message, fields={"mfa_piv_key_requirements": "Refused."})
    organization = update_organization(
        organization,
        actor=request.actor,
        name=body.name,
        session_duration_seconds=(
            parse_duration(body.session_duration, field="session_duration") if body.session_duration else None
        ),
        auto_redirect_to_identity=body.auto_redirect_to_identity,
        settings=_merged_settings(organization, body),
        mfa_required_for_all_apps=body.mfa_required_for_all_apps,
        mfa_config=_mfa_config(body),
        support_needs_consent=body.support_needs_consent,
    )
    return shape_organization(organization)


@router.route("POST", "/organizations", Permission.ORGANIZATION_EDIT, OrganizationResult)
def post_organization(request: ApiRequest, body: OrganizationBody) -> OrganizationResult:
    """Always a conflict: a token belongs to an organization that exists. Use PUT."""
    raise Conflict("access.api.error.conflict: this account has its organization already; change it with PUT.")


@router.route("POST", "/organizations/revoke_user", Permission.IDENTITY_EDIT, bool)
def revoke_user(request: ApiRequest, body: RevokeUserBody) -> bool:
    """Ends every session of the person with this e-mail, at every identity provider; with `user_uid` of that one user
    only."""
    identities = Identity.objects.for_organization(request.organization).filter(email__iexact=body.email)
    if body.user_uid:
        wanted = as_uuid(body.user_uid)
        identities = identities.filter(pk=wanted) if wanted is not None else identities.none()
    with transaction.atomic():
        found = list(identities)
        if not found:
            raise NotFound("No user of this organization has that e-mail address.")
        for identity in found:
            revoke_identity_sessions(identity, actor=request.actor)
    return True


@router.route("PUT", "/organizations/logo", Permission.ORGANIZATION_EDIT, LogoResult)
def put_logo(request: ApiRequest, body: LogoBody) -> LogoResult:
    """Ours: the logo of login pages."""
    try:
        content = base64.b64decode(body.content, validate=True)
    except ValueError as error:
        raise InvalidInput("content must be base64.", fields={"content": "Not base64."}) from error
    organization = set_logo(request.organization, content, actor=request.actor)
    return LogoResult(digest=organization.settings["login_logo"])


@router.route("DELETE", "/organizations/logo", Permission.ORGANIZATION_EDIT, LogoResult)
def delete_logo(request: ApiRequest) -> LogoResult:
    remove_logo(request.organization, actor=request.actor)
    return LogoResult(digest="")


def shape_organization(organization: Organization) -> OrganizationResult:
    kept = {
        name: organization.settings[name] for name in OrganizationFields.model_fields if name in organization.settings
    }
    shown = public_config(organization.mfa_config)
    return OrganizationResult(
        **kept,
        mfa_config=OrganizationMfa(**shown) if shown is not None else None,
        mfa_required_for_all_apps=organization.mfa_required_for_all_apps,
        name=organization.name,
        auth_domain=organization.team_domain,
        session_duration=format_duration(organization.session_duration_seconds),
        auto_redirect_to_identity=organization.auto_redirect_to_identity,
        support_needs_consent=organization.support_needs_consent,
        created_at=rfc3339(organization.created_at),
    )


def _mfa_config(body: OrganizationBody) -> dict[str, Any] | None:
    """None: not sent; empty: sent as null, which takes it away."""
    if "mfa_config" not in body.model_fields_set:
        return None
    return body.mfa_config.model_dump(exclude_unset=True) if body.mfa_config is not None else {}


def _merged_settings(organization: Organization, body: OrganizationBody) -> dict[str, Any] | None:
    sent = body.model_dump(include=set(OrganizationFields.model_fields), exclude_unset=True)
    return {**organization.settings, **sent} if sent else None
