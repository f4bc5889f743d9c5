"""OpenID Connect as a relying party, for any provider: authorization code, PKCE, nonce, issuer checks.

Groups are the claim `groups`; any other claim a policy asks about is listed in the configuration's `claims`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from accounts import fetch
from accounts.models import IdentityProvider
from accounts.providers.base import (
    MAX_METHODS,
    Flow,
    LoginFailed,
    Person,
    all_groups,
    clean_email,
    counts_as_verified,
    text,
    texts,
)
from accounts.providers.idtokens import is_issuer, verify_id_token
from accounts.providers.oauth import AuthorizationCode, Endpoints, bearer

Claims = Mapping[str, Any]
# Cleaned alike for every OpenID Connect provider (accounts.providers.config).
COMMON_KEYS = {
    "client_id": "text",
    "email_claim_name": "text",
    "claims": "words",
    "email_trusted_domains": "domains",
    "pkce_enabled": "flag",
}


class OpenIdConnect(AuthorizationCode):
    kind: ClassVar[IdentityProvider.Type] = IdentityProvider.Type.OIDC
    keys: ClassVar[Mapping[str, str]] = {
        **COMMON_KEYS,
        "auth_url": "url",
        "token_url": "url",
        "certs_url": "url",
        "userinfo_url": "url",
        "issuer": "url",
        "scopes": "words",
        "email_verified_trusted": "flag",
        "own_redirect_url": "flag",
        "requires_iss": "flag",
        "token_endpoint_auth_method": "auth_method",
    }
    required: ClassVar[tuple[str, ...]] = ("client_id", "auth_url", "token_url", "certs_url")

    def endpoints(self, provider: IdentityProvider) -> Endpoints:
        config: Mapping[str, Any] = provider.config
        return Endpoints(
            client_id=str(config.get("client_id", "")),
            auth_url=str(config.get("auth_url", "")),
            token_url=str(config.get("token_url", "")),
            certs_url=str(config.get("certs_url", "")),
            issuer=str(config.get("issuer", "")),
            userinfo_url=str(config.get("userinfo_url", "")),
        )

    def default_scopes(self, provider: IdentityProvider) -> list[str]:
        return ["openid", "email", "profile"]

    def scopes(self, provider: IdentityProvider) -> list[str]:
        scopes = [str(scope) for scope in provider.config.get("scopes") or self.default_scopes(provider)]
        return scopes if "openid" in scopes else ["openid", *scopes]

    def extra_parameters(self, provider: IdentityProvider, flow: Flow) -> dict[str, str]:
        return {"nonce": flow.nonce}

    def check_answer(self, provider: IdentityProvider, answer: Mapping[str, str]) -> None:
        """RFC 9207: `iss` must be the provider this login was started at, and must be there if it promised to be."""
        issuer = answer.get("iss")
        if issuer is None and provider.config.get("requires_iss") is not True:
            return
        if not is_issuer(self.endpoints(provider), issuer):
            raise LoginFailed(
                f"The answer came from another issuer than {provider.name}. Start the login again.",
                code="issuer_mismatch",
            )

    def person(self, provider: IdentityProvider, places: Endpoints, flow: Flow, tokens: Mapping[str, Any]) -> Person:
        claims = verify_id_token(provider, places, tokens, flow.nonce)
        self.check_claims(provider, claims)
        claims = _with_userinfo(places, tokens, claims)
        name = str(provider.config.get("email_claim_name") or "email")
        email = clean_email(claims.get(name))
        wanted = {str(item) for item in provider.config.get("claims") or []}
        return Person(
            subject=self.subject(provider, claims),
            email=email,
            email_verified=counts_as_verified(provider, email, said=self.says_verified(provider, claims, email)),
            name=text(claims.get("name")) or text(claims.get("preferred_username")),
            groups=all_groups(provider, self.groups(provider, claims, tokens)),
            claims={item: claims[item] for item in sorted(wanted) if item in claims},
            authentication_methods=texts(claims.get("amr"))[:MAX_METHODS],
            authenticated_at=_instant(claims.get("auth_time")),
        )

    # --- What the provider classes beneath change ---

    def check_claims(self, provider: IdentityProvider, claims: Claims) -> None:
        """Raises LoginFailed for people of another tenant or domain."""

    def subject(self, provider: IdentityProvider, claims: Claims) -> str:
        return str(claims["sub"])

    def groups(self, provider: IdentityProvider, claims: Claims, tokens: Mapping[str, Any]) -> list[str]:
        return texts(claims.get("groups"))

    def says_verified(self, provider: IdentityProvider, claims: Claims, email: str) -> bool | None:
        """Boolean true, or the string "true" from a provider the admin flagged; None where it says nothing (AC-11).

        The flag `email_verified` speaks about the claim `email`: an address from another claim must be that same one.
        """
        flag = claims.get("email_verified")
        is_flagged = provider.config.get("email_verified_trusted") is True
        if flag is None:
            return None
        if flag is not True and not (is_flagged and flag == "true"):
            return False
        return True if clean_email(claims.get("email")) == email else None


def _with_userinfo(places: Endpoints, tokens: Mapping[str, Any], claims: dict[str, Any]) -> dict[str, Any]:
    """Thin ID tokens leave e-mail and groups to the userinfo endpoint. It may add claims, never replace one."""
    if not places.userinfo_url or "access_token" not in tokens or ("email" in claims and "groups" in claims):
        return claims
    answer = fetch.get(places.userinfo_url, headers=bearer(tokens))
    if answer.status != 200:
        return claims
    more = answer.json()
    if not isinstance(more, dict) or more.get("sub") != claims["sub"]:
        raise fetch.FetchError("the userinfo endpoint describes somebody else")
    return {**more, **claims}


def _instant(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**33:
        return None
    return datetime.fromtimestamp(value, tz=UTC)
