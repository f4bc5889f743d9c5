"""Codes of the access log, in words for people. The code stays what is stored, filtered by and exported. Pure."""

from __future__ import annotations

from access.country_names import country_name
from accounts.models import IdentityProvider

ACTIONS = {"login": "Login", "connect": "Connection", "certificate": "Certificate", "cut": "Session cut"}
REASONS = {
    # --- what policies say
    "allowed": "Allowed by a policy",
    "bypass": "Open to everyone",
    "service_token": "Allowed by service token",
    "blocked_by_policy": "A block policy matched",
    "no_policy_matches": "No policy lets them in",
    "login_required": "Not logged in",
    "service_token_required": "Open to service tokens only",
    "service_token_not_allowed": "Service token not accepted here",
    "country_not_allowed": "Wrong country",
    "ip_not_allowed": "Wrong network",
    "email_not_allowed": "E-mail address not on the list",
    "email_not_verified": "E-mail address not verified",
    "group_not_allowed": "Not in a required group",
    "login_method_not_allowed": "Wrong login method",
    "authentication_method_not_allowed": "Wrong way of logging in",
    "certificate_required": "Client certificate missing",
    "external_evaluation_refused": "Refused by an external check",
    "linked_token_required": "Token of another application missing",
    "policy_error": "A rule could not be evaluated",
    # --- what policies ask
    "mfa_required": "Second factor missing or too old",
    "purpose_required": "No purpose stated yet",
    "approval_required": "Not approved yet",
    # --- who
    "identity_disabled": "User is disabled",
    "not_logged_in": "Not logged in",
    "service_token_inactive": "Service token disabled or expired",
    "service_token_invalid": "Service token unknown or its secret wrong",
    "service_token_expired": "Service token expired",
    "service_token_rotated": "Service token's secret was replaced",
    "session_expired": "Session expired",
    "session_revoked": "Session was ended",
    "session_ended": "Session was ended",
    "session_unknown": "Session is gone",
    # --- tokens
    "token_revoked": "Tokens of the application were revoked",
    "token_expired": "Token expired",
    "token_not_yet_valid": "Token not valid yet: clocks differ",
    "token_wrong_application": "Token of another application",
    "token_wrong_issuer": "Token of another team",
    "token_wrong_type": "Token of another kind",
    "token_signature_invalid": "Token's signature is wrong",
    "token_algorithm_refused": "Token signed in another way",
    "token_key_unknown": "Token's signing key is retired",
    "token_malformed": "Token cannot be read",
    "token_not_personal": "Token names no person",
    # --- logins
    "pin_wrong": "Wrong code",
    "pin_ended": "Code too old or used up",
    "too_many_attempts": "Too many tries",
    "login_failed": "Login failed",
    "login_link_refused": "Login link refused",
    "state_unknown": "Answer to no login of this browser",
    "state_used": "Login answered twice",
    "link_expired": "Link too old",
    "provider_error": "The login method answered with an error",
    "provider_unreachable": "The login method does not answer",
    "provider_misconfigured": "The login method is set up wrongly",
    "provider_deleted": "The login method was removed",
    "wrong_issuer": "Answer of another provider",
    "wrong_callback": "Answer at the wrong address",
    "id_token_missing": "Answer without an ID token",
    "id_token_refused": "ID token refused",
    "saml_refused": "SAML answer refused",
    "subject_missing": "Answer without a person",
    "groups_unavailable": "Groups could not be read",
    "too_many_groups": "Too many groups",
    "deactivated_by_scim": "Deactivated by the provider (SCIM)",
    "wrong_account": "Logged in as somebody else",
    "code_refused": "Second factor's code refused",
    "passkey_refused": "Passkey refused",
    "token_bound_to_another_device": "Token of another device",
    "key_proof_required": "Proof of the key missing",
    "key_proof_invalid": "Proof of the key wrong",
    # --- where to
    "destination_required": "No destination named",
    "destination_not_allowed": "Destination not allowed",
    "destination_invalid": "Destination cannot be used",
    "origin_not_allowed": "Opened by a foreign page",
    # --- certificates
    "principal_reserved": "Account name belongs to somebody else",
    "principal_numeric": "Account name is a number",
    "principal_collision": "Account name belongs to somebody else",
    "principal_invalid": "Account name not usable",
    "too_many_certificates": "Too many certificates at once",
    "public_key_malformed": "Public key cannot be read",
    "public_key_reused": "Public key used by somebody else",
    "principal_missing": "No account name to give",
    "policy_names_no_account": "The policy names no account",
    "allow_policy_required": "Needs an allow policy",
    "service_auth_policy_required": "Needs a service auth policy",
    "signing_failed": "Not signed",
    "signing_timeout": "Signing took too long",
    "already_revoked": "Already revoked",
}
# Of refusals, as the access log's filter offers them.
REFUSALS = sorted(
    ((code, text) for code, text in REASONS.items() if code not in {"allowed", "bypass", "service_token"}),
    key=lambda pair: pair[1],
)
_METHODS = {**dict(IdentityProvider.Type.choices), "service_token": "Service token"}
_LISTS = {"include": "Include", "require": "Require", "exclude": "Exclude"}


def _sentence(code: str) -> str:
    """A code without words of its own: "some_new_code" -> "Some new code"."""
    text = code.replace("_", " ")
    return text[:1].upper() + text[1:]


def reason_text(code: str) -> str:
    return REASONS.get(code) or _sentence(code)


def action_text(code: str) -> str:
    return ACTIONS.get(code) or _sentence(code)


def method_text(code: str) -> str:
    """How somebody showed who they are: a login method's type, or a service token."""
    return str(_METHODS.get(code) or code)


def list_text(name: str) -> str:
    return _LISTS.get(name) or _sentence(name)


def country_text(code: str) -> str:
    """For a page with room: "PT" -> "Portugal (PT)"; what is no country stays as it is."""
    name = country_name(code)
    return f"{name} ({code})" if name != code else code
