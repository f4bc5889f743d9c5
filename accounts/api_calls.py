"""Buttons and questions of the accounts pages as API requests ("Copy as API request")."""

from __future__ import annotations

from typing import Any

from accounts.api_providers import ProviderBody, shape_provider
from accounts.api_requests import ApiCall, Asked, body_of, register, register_build, register_call
from accounts.api_scim import ScimConfigBody
from accounts.models import AccessSession, ApiToken, Identity, IdentityProvider, Invitation, Membership, Organization

_VALUE_ONCE = "The answer holds the token, once. Send the request with a token that holds at least these scopes."
_SECRET_ONCE = "The answer holds the secret, once."  # noqa: S105 - a sentence about one
_VOUCHES = "The invitation stands on the right of the member who made the token."
_LOGO = "Put the picture in place of <base64>: base64 -w0 logo.png"


def invitation_request(invitation: Invitation, is_new: bool) -> ApiCall:
    body = {"email": invitation.email, "roles": [invitation.role]}
    return ApiCall("POST", f"/accounts/{invitation.organization_id}/members", body, (_VOUCHES,))


def role_request(membership: Membership, is_new: bool) -> ApiCall:
    path = f"/accounts/{membership.organization_id}/members/{membership.pk}"
    return ApiCall("PUT", path, {"roles": [membership.role]})


def api_token_request(token: ApiToken, is_new: bool) -> ApiCall:
    body: dict[str, Any] = {"name": token.name, "scopes": sorted(token.scopes)}
    if token.expires_at is not None:
        body["expires_on"] = token.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return ApiCall("POST", f"/accounts/{token.organization_id}/tokens", body, (_VALUE_ONCE,))


def scim_request(provider: IdentityProvider, is_new: bool) -> ApiCall:
    """The settings of SCIM are part of the login method. Secrets that are left out stay."""
    provider = IdentityProvider.objects.select_related("organization").get(pk=provider.pk)
    shaped = shape_provider(provider)
    sent = {name: shaped.scim_config.get(name) for name in ScimConfigBody.model_fields if name in shaped.scim_config}
    scim = {name: value for name, value in sent.items() if name not in ("secret", "scim_base_url")}
    config = {name: value for name, value in shaped.config.items() if name not in ("redirect_url", "sp_metadata_url")}
    body = body_of(shaped, ProviderBody, keep=("config", "scim_config"), config=config, scim_config=scim)
    path = f"/accounts/{provider.organization_id}/access/identity_providers/{provider.pk}"
    notes = (_SECRET_ONCE,) if scim.get("enabled") else ()
    return ApiCall("PUT", path, body, notes)


def consent_request(organization: Organization, is_new: bool) -> ApiCall:
    body = {"support_needs_consent": organization.support_needs_consent}
    return ApiCall("PUT", f"/accounts/{organization.pk}/access/organizations", body)


def _revoke_user(asked: Asked) -> ApiCall | None:
    identity = asked.target(Identity)
    if identity is None:
        return None
    body = {"email": identity.email, "user_uid": str(identity.pk)}
    return ApiCall("POST", f"/accounts/{asked.organization.pk}/access/organizations/revoke_user", body)


def _end_session(asked: Asked) -> ApiCall | None:
    session = asked.target(AccessSession)
    if session is None:
        return None
    users = f"/accounts/{asked.organization.pk}/access/users"
    return ApiCall("DELETE", f"{users}/{session.identity_id}/active_sessions/{session.nonce}", None)


def register_calls() -> None:
    register("member_invite", Invitation, invitation_request, is_new=True)
    register("member_change_role", Membership, role_request, is_new=False)
    register_call("member_remove", "DELETE", "{account}/members/{membership_id}")
    register_call("invitation_withdraw", "DELETE", "{account}/members/{invitation_id}")
    register_call("invitation_resend", "POST", "{account}/members/{invitation_id}/resend", notes=(_VOUCHES,))
    register("api_token_create", ApiToken, api_token_request, is_new=True)
    register_call("api_token_revoke", "DELETE", "{account}/tokens/{token_id}")
    user = "{account}/access/users/{identity_id}"
    register_call("user_disable", "PUT", user, body=lambda asked: {"disabled": True})
    register_call("user_enable", "PUT", user, body=lambda asked: {"disabled": False})
    register_call("user_reset_authenticators", "DELETE", f"{user}/authenticators")
    register_build("user_revoke_sessions", _revoke_user)
    register_build("session_revoke", _end_session)
    provider = "{account}/access/identity_providers/{provider_id}"
    register("login_method_scim", IdentityProvider, scim_request, is_new=False)
    register_call("login_method_scim_secret", "POST", f"{provider}/refresh_scim_secret", notes=(_SECRET_ONCE,))
    register_call("login_method_delete", "DELETE", provider)
    register_call("login_page_remove_logo", "DELETE", "{account}/access/organizations/logo")
    register("organization_settings_support_consent", Organization, consent_request, is_new=False)
    register_call("deleted_restore", "POST", "{account}/deleted_objects/{deleted_id}/restore")
    support = "{account}/support_sessions/{support_session_id}"
    register_call("organization_settings_support_allow", "POST", f"{support}/allow")
    register_call("organization_settings_support_end", "DELETE", support)
