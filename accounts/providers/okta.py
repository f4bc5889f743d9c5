"""Okta: OpenID Connect whose endpoints follow from the account, and groups without the limit of a claim.

A groups claim holds at most 100 groups. With an API token (sealed) groups are read from the Users API instead, all of
them, page by page; they are group names either way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

from accounts import fetch
from accounts.models import IdentityProvider
from accounts.providers.base import MAX_GROUPS, texts
from accounts.providers.oauth import Endpoints, ask
from accounts.providers.openid import COMMON_KEYS, Claims, OpenIdConnect
from accounts.providers.secrets import named_secrets

PAGE_SIZE = 100
MAX_PAGES = MAX_GROUPS // PAGE_SIZE + 1
_NEXT = re.compile(r'<([^<>]+)>\s*;\s*rel="next"')


class Okta(OpenIdConnect):
    kind: ClassVar[IdentityProvider.Type] = IdentityProvider.Type.OKTA
    keys: ClassVar[Mapping[str, str]] = {
        **COMMON_KEYS,
        "okta_account": "account_url",
        "authorization_server_id": "text",
        "scopes": "words",
        "email_verified_trusted": "flag",
        "own_redirect_url": "flag",
        "token_endpoint_auth_method": "auth_method",
    }
    required: ClassVar[tuple[str, ...]] = ("client_id", "okta_account")
    secret_names: ClassVar[tuple[str, ...]] = ("api_token",)

    def endpoints(self, provider: IdentityProvider) -> Endpoints:
        """Okta's organization server, or the custom authorization server `authorization_server_id`."""
        config: Mapping[str, Any] = provider.config
        account = str(config.get("okta_account", "")).rstrip("/")
        server = str(config.get("authorization_server_id") or "")
        base = f"{account}/oauth2/{quote(server, safe='')}" if server else f"{account}/oauth2"
        return Endpoints(
            client_id=str(config.get("client_id", "")),
            auth_url=f"{base}/v1/authorize",
            token_url=f"{base}/v1/token",
            certs_url=f"{base}/v1/keys",
            issuer=base if server else account,
            userinfo_url=f"{base}/v1/userinfo",
        )

    def default_scopes(self, provider: IdentityProvider) -> list[str]:
        """Asking for the groups scope fails at Okta for people in more than 100 groups; the API has no such limit."""
        by_api = "api_token" in named_secrets(provider)
        return ["openid", "email", "profile"] if by_api else ["openid", "email", "profile", "groups"]

    def groups(self, provider: IdentityProvider, claims: Claims, tokens: Mapping[str, Any]) -> list[str]:
        token = named_secrets(provider).get("api_token")
        if not token:
            return texts(claims.get("groups"))
        account = str(provider.config["okta_account"]).rstrip("/")
        url: str | None = f"{account}/api/v1/users/{quote(str(claims['sub']), safe='')}/groups?limit={PAGE_SIZE}"
        found: list[str] = []
        for _ in range(MAX_PAGES):
            if url is None:
                return found
            answer = ask(url, {"Authorization": f"SSWS {token}"}, what="the groups", hint="check the API token")
            found += _names(answer.json())
            url = _next_page(answer, account)
        raise fetch.FetchError(f"it lists more than {MAX_GROUPS} groups")


def _names(document: object) -> list[str]:
    if not isinstance(document, list):
        raise fetch.FetchError("the list of groups is malformed")
    profiles = [item.get("profile") for item in document if isinstance(item, dict)]
    return texts([profile.get("name") for profile in profiles if isinstance(profile, dict)])


def _next_page(answer: fetch.Answer, account: str) -> str | None:
    """Paging stays at the account's own host: the API token goes nowhere else."""
    found = _NEXT.search(answer.header("link"))
    if found is None:
        return None
    here, there = urlsplit(account), urlsplit(found.group(1))
    if (here.scheme, here.netloc.lower()) != (there.scheme, there.netloc.lower()):
        raise fetch.FetchError("the next page of groups is at another host")
    return found.group(1)
