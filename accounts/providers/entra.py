"""Microsoft Entra ID, one directory: OpenID Connect with directory-wide subjects and groups by object id.

The subject is `oid`, the person's object id in the directory (what SCIM calls them too); `sub` differs per
application. Groups are object ids. A token that holds too many groups points elsewhere (overage); then, and when the
token carries none at all, they are read from Microsoft Graph with the person's own access token. The address in the
token's `_claim_sources` is never used (AC-66).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from accounts import fetch
from accounts.models import IdentityProvider
from accounts.providers.base import MAX_GROUPS, MAX_TEXT, Flow, clean_email, texts
from accounts.providers.idtokens import refused
from accounts.providers.oauth import Endpoints, ask, bearer
from accounts.providers.openid import COMMON_KEYS, Claims, OpenIdConnect

LOGIN_URL = "https://login.microsoftonline.com"
GRAPH_URL = "https://graph.microsoft.com"
# National clouds have hosts of their own for the login and for Graph.
_CLOUDS = {
    "us_government": ("https://login.microsoftonline.us", "https://graph.microsoft.us"),
    "china": ("https://login.partner.microsoftonline.cn", "https://microsoftgraph.chinacloudapi.cn"),
}
PAGE_SIZE = 999
MAX_PAGES = MAX_GROUPS // PAGE_SIZE + 1


class EntraId(OpenIdConnect):
    kind: ClassVar[IdentityProvider.Type] = IdentityProvider.Type.AZURE_AD
    keys: ClassVar[Mapping[str, str]] = {
        **COMMON_KEYS,
        "directory_id": "directory",
        "cloud": "cloud",
        "support_groups": "flag",
        "prompt": "prompt",
    }
    required: ClassVar[tuple[str, ...]] = ("client_id", "directory_id")

    def callback_slug(self, provider: IdentityProvider) -> str:
        """Its answers carry no `iss`, so they have an address of their own (AC-44)."""
        return self.kind.value

    def endpoints(self, provider: IdentityProvider) -> Endpoints:
        directory = str(provider.config.get("directory_id", ""))
        base = f"{_hosts(provider)[0]}/{directory}"
        return Endpoints(
            client_id=str(provider.config.get("client_id", "")),
            auth_url=f"{base}/oauth2/v2.0/authorize",
            token_url=f"{base}/oauth2/v2.0/token",
            certs_url=f"{base}/discovery/v2.0/keys",
            issuer=f"{base}/v2.0",
        )

    def default_scopes(self, provider: IdentityProvider) -> list[str]:
        plain = ["openid", "email", "profile"]
        graph = _hosts(provider)[1]
        by_graph = [f"{graph}/User.Read", f"{graph}/GroupMember.Read.All"]
        return [*plain, *by_graph] if provider.config.get("support_groups") is True else plain

    def extra_parameters(self, provider: IdentityProvider, flow: Flow) -> dict[str, str]:
        prompt = provider.config.get("prompt")
        return {"nonce": flow.nonce, **({"prompt": str(prompt)} if prompt else {})}

    def check_claims(self, provider: IdentityProvider, claims: Claims) -> None:
        """The issuer names the directory already; `tid` says so once more, and `oid` must be an object id."""
        if claims.get("tid") != provider.config.get("directory_id"):
            raise refused(provider, "it comes from another directory")
        oid = claims.get("oid")
        if not isinstance(oid, str) or not 0 < len(oid) <= MAX_TEXT:
            raise refused(provider, "it names no object id (oid); add the profile scope")

    def subject(self, provider: IdentityProvider, claims: Claims) -> str:
        return str(claims["oid"])

    def says_verified(self, provider: IdentityProvider, claims: Claims, email: str) -> bool | None:
        """`email` is whatever an account's owner typed, unless `xms_edov` says its domain's owner vouches (AC-12)."""
        flag = claims.get("xms_edov")
        if flag is None or clean_email(claims.get("email")) != email:
            return None
        return flag is True or flag == 1 or flag in {"1", "true"}

    def groups(self, provider: IdentityProvider, claims: Claims, tokens: Mapping[str, Any]) -> list[str]:
        if provider.config.get("support_groups") is not True:
            return []
        named = claims.get("groups")
        if isinstance(named, list) and not is_overage(claims):
            return texts(named)
        return _groups_from_graph(tokens, _hosts(provider)[1])


def is_overage(claims: Claims) -> bool:
    """The token says that the groups are elsewhere: more than 200 of them, or 150 for SAML-like tokens."""
    names = claims.get("_claim_names")
    return claims.get("hasgroups") is not None or (isinstance(names, dict) and "groups" in names)


def _hosts(provider: IdentityProvider) -> tuple[str, str]:
    """Where people log in, and where Graph is."""
    return _CLOUDS.get(str(provider.config.get("cloud") or ""), (LOGIN_URL, GRAPH_URL))


def _groups_from_graph(tokens: Mapping[str, Any], graph: str) -> list[str]:
    headers = bearer(tokens)
    url: object = f"{graph}/v1.0/me/transitiveMemberOf/microsoft.graph.group?$select=id&$top={PAGE_SIZE}"
    found: list[str] = []
    for _ in range(MAX_PAGES):
        if not isinstance(url, str):
            return found
        if (urlsplit(url).scheme, urlsplit(url).netloc) != (urlsplit(graph).scheme, urlsplit(graph).netloc):
            raise fetch.FetchError("the next page of groups is at another host")
        hint = "grant User.Read and GroupMember.Read.All with admin consent"
        page = ask(url, headers, what="the groups", hint=hint).json()
        rows = page.get("value") if isinstance(page, dict) else None
        if not isinstance(rows, list):
            raise fetch.FetchError("the list of groups is malformed")
        found += texts([row.get("id") for row in rows if isinstance(row, dict)])
        url = page.get("@odata.nextLink")
    if url is None:
        return found
    raise fetch.FetchError(f"it lists more than {MAX_GROUPS} groups")
