"""Google accounts, and Google Workspace: one domain (`hd`), with groups by the Directory API given credentials.

Groups are the groups' e-mail addresses, read by a service account with domain-wide delegation that acts as
`admin_email`. Google vouches for an address only if it is at gmail.com or its Workspace domain owns it (`hd`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlencode

import jwt

from accounts import fetch
from accounts.models import IdentityProvider
from accounts.providers.base import MAX_GROUPS, Flow, LoginFailed, clean_email, texts
from accounts.providers.idtokens import refused
from accounts.providers.oauth import Endpoints, ask, bearer
from accounts.providers.openid import COMMON_KEYS, Claims, OpenIdConnect
from accounts.providers.secrets import named_secrets
from accounts.text import ascii_lower

ISSUER = "https://accounts.google.com"
AUTH_URL = "https://accounts.google.com/o/oauth2/v2/auth"
TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
CERTS_URL = "https://www.googleapis.com/oauth2/v3/certs"
DIRECTORY_URL = "https://admin.googleapis.com/admin/directory/v1/groups"
GROUPS_SCOPE = "https://www.googleapis.com/auth/admin.directory.group.readonly"
PAGE_SIZE = 200
MAX_PAGES = MAX_GROUPS // PAGE_SIZE + 1
ASSERTION_SECONDS = 300


class Google(OpenIdConnect):
    kind: ClassVar[IdentityProvider.Type] = IdentityProvider.Type.GOOGLE
    keys: ClassVar[Mapping[str, str]] = {**COMMON_KEYS, "prompt": "prompt"}
    required: ClassVar[tuple[str, ...]] = ("client_id",)

    def callback_slug(self, provider: IdentityProvider) -> str:
        return self.kind.value

    def endpoints(self, provider: IdentityProvider) -> Endpoints:
        return Endpoints(
            client_id=str(provider.config.get("client_id", "")),
            auth_url=AUTH_URL,
            token_url=TOKEN_URL,
            certs_url=CERTS_URL,
            issuer=ISSUER,
        )

    def extra_parameters(self, provider: IdentityProvider, flow: Flow) -> dict[str, str]:
        prompt = provider.config.get("prompt")
        return {"nonce": flow.nonce, **({"prompt": str(prompt)} if prompt else {})}

    def says_verified(self, provider: IdentityProvider, claims: Claims, email: str) -> bool | None:
        said = super().says_verified(provider, claims, email)
        is_owner = email.endswith("@gmail.com") or isinstance(claims.get("hd"), str)
        return None if said is True and not is_owner else said

    def groups(self, provider: IdentityProvider, claims: Claims, tokens: Mapping[str, Any]) -> list[str]:
        return []


class GoogleWorkspace(Google):
    kind: ClassVar[IdentityProvider.Type] = IdentityProvider.Type.GOOGLE_APPS
    keys: ClassVar[Mapping[str, str]] = {
        **COMMON_KEYS,
        "apps_domain": "domain",
        "admin_email": "email",
        "prompt": "prompt",
    }
    required: ClassVar[tuple[str, ...]] = ("client_id", "apps_domain")
    secret_names: ClassVar[tuple[str, ...]] = ("service_account_key",)

    def extra_parameters(self, provider: IdentityProvider, flow: Flow) -> dict[str, str]:
        """`hd` only chooses which accounts Google offers; check_claims is what decides."""
        return {**super().extra_parameters(provider, flow), "hd": str(provider.config["apps_domain"])}

    def check_claims(self, provider: IdentityProvider, claims: Claims) -> None:
        """The claim, never the ending of the e-mail address: anybody can have an account with a foreign address."""
        domain = claims.get("hd")
        if not isinstance(domain, str) or ascii_lower(domain) != provider.config["apps_domain"]:
            raise refused(provider, f"the account does not belong to {provider.config['apps_domain']}")

    def groups(self, provider: IdentityProvider, claims: Claims, tokens: Mapping[str, Any]) -> list[str]:
        key = named_secrets(provider).get("service_account_key")
        if not key:
            return []
        headers = bearer(_service_tokens(provider, json.loads(key)))
        query = {"userKey": str(claims["sub"]), "maxResults": str(PAGE_SIZE)}
        found: list[str] = []
        for _ in range(MAX_PAGES):
            hint = "check the delegation of the service account"
            page = ask(f"{DIRECTORY_URL}?{urlencode(query)}", headers, what="the groups", hint=hint).json()
            rows = page.get("groups", []) if isinstance(page, dict) else None
            if not isinstance(rows, list):
                raise fetch.FetchError("the list of groups is malformed")
            found += [clean_email(address) for address in texts([row.get("email") for row in rows])]
            following = page.get("nextPageToken")
            if not isinstance(following, str) or not following:
                return [address for address in found if address]
            query["pageToken"] = following
        raise fetch.FetchError(f"it lists more than {MAX_GROUPS} groups")


def _service_tokens(provider: IdentityProvider, key: Mapping[str, Any]) -> dict[str, Any]:
    """An access token of the service account acting as the admin (RFC 7523). The key's own token_uri is not used."""
    now = int(time.time())
    claims = {
        "iss": key["client_email"],
        "sub": provider.config.get("admin_email", ""),
        "scope": GROUPS_SCOPE,
        "aud": TOKEN_URL,
        "iat": now,
        "exp": now + ASSERTION_SECONDS,
    }
    assertion = jwt.encode(claims, key["private_key"], "RS256", headers={"kid": key.get("private_key_id", "")})
    fields = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
    answer = fetch.post_form(TOKEN_URL, fields)
    body = answer.json() if answer.status == 200 else None
    if not isinstance(body, dict):
        raise LoginFailed(
            f"Google refused the service account of {provider.name} (HTTP {answer.status}). Check that domain-wide "
            "delegation allows it to read groups, and that admin_email is an administrator.",
            code="groups_unavailable",
        )
    return body
