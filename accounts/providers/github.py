"""GitHub: OAuth 2.0 with organizations and teams. The subject is the account's number; log-in names change hands.

Groups are "org" for every organization the person is an active member of, and "org/team" for every team (by its
slug). The e-mail is the primary address, and counts only when GitHub says it is verified.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from accounts import fetch
from accounts.models import IdentityProvider
from accounts.providers.base import (
    MAX_GROUPS,
    Flow,
    LoginFailed,
    Person,
    all_groups,
    clean_email,
    counts_as_verified,
    text,
)
from accounts.providers.oauth import AuthorizationCode, Endpoints, ask, bearer

AUTH_URL = "https://github.com/login/oauth/authorize"
TOKEN_URL = "https://github.com/login/oauth/access_token"  # noqa: S105 - an address
API_URL = "https://api.github.com"
PAGE_SIZE = 30  # entries are some 3 KiB each, answers end at fetch.MAX_BODY_BYTES
MAX_PAGES = MAX_GROUPS // PAGE_SIZE + 1
_HINT = "grant the application the scopes read:org and user:email"


class GitHub(AuthorizationCode):
    kind: ClassVar[IdentityProvider.Type] = IdentityProvider.Type.GITHUB
    # `github_host`: a GitHub Enterprise Server, or a company's own place at ghe.com; without it github.com.
    keys: ClassVar[Mapping[str, str]] = {"client_id": "text", "github_host": "host"}
    required: ClassVar[tuple[str, ...]] = ("client_id",)

    def callback_slug(self, provider: IdentityProvider) -> str:
        """Its answers carry no `iss`, so they have an address of their own (AC-44)."""
        return self.kind.value

    def endpoints(self, provider: IdentityProvider) -> Endpoints:
        host = provider.config.get("github_host")
        return Endpoints(
            client_id=str(provider.config.get("client_id", "")),
            auth_url=f"https://{host}/login/oauth/authorize" if host else AUTH_URL,
            token_url=f"https://{host}/login/oauth/access_token" if host else TOKEN_URL,
        )

    def scopes(self, provider: IdentityProvider) -> list[str]:
        return ["read:user", "user:email", "read:org"]

    def person(self, provider: IdentityProvider, places: Endpoints, flow: Flow, tokens: Mapping[str, Any]) -> Person:
        headers = {**bearer(tokens), "Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        api = api_url(provider)
        user = ask(f"{api}/user", headers, what="who logged in").json()
        number = user.get("id") if isinstance(user, dict) else None
        if isinstance(number, bool) or not isinstance(number, int) or number <= 0:
            raise LoginFailed(f"{provider.name} did not say who logged in.", code="subject_missing")
        email, verified = _primary_address(_rows(f"{api}/user/emails", headers))
        return Person(
            subject=str(number),
            email=email,
            email_verified=counts_as_verified(provider, email, said=verified),
            name=text(user.get("name")) or text(user.get("login")),
            groups=all_groups(provider, _groups(api, headers)),
            claims={"login": text(user.get("login"))},
            authentication_methods=[],
        )


def api_url(provider: IdentityProvider) -> str:
    host = str(provider.config.get("github_host") or "")
    if not host:
        return API_URL
    return f"https://api.{host}" if host.endswith(".ghe.com") else f"https://{host}/api/v3"


def _primary_address(rows: list[dict[str, Any]]) -> tuple[str, bool]:
    for row in rows:
        if row.get("primary") is True:
            return clean_email(row.get("email")), row.get("verified") is True
    return "", False


def _groups(api: str, headers: Mapping[str, str]) -> list[str]:
    """Active memberships only: an invitation that was not accepted is no membership."""
    organizations = [_login(row) for row in _rows(f"{api}/user/memberships/orgs?state=active", headers)]
    teams = [(_login(row), text(row.get("slug"))) for row in _rows(f"{api}/user/teams", headers)]
    active = set(organizations)
    return [
        *filter(None, organizations),
        *(f"{organization}/{team}" for organization, team in teams if organization in active and team),
    ]


def _login(row: Mapping[str, Any]) -> str:
    organization = row.get("organization")
    return text(organization.get("login")) if isinstance(organization, dict) else ""


def _rows(address: str, headers: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every page, counted by us: no address of an answer is followed."""
    found: list[dict[str, Any]] = []
    joint = "&" if "?" in address else "?"
    what = address.partition("?")[0].partition("/user/")[2]
    for number in range(1, MAX_PAGES + 1):
        url = f"{address}{joint}per_page={PAGE_SIZE}&page={number}"
        page = ask(url, headers, what=f"user/{what}", hint=_HINT).json()
        if not isinstance(page, list):
            raise fetch.FetchError("the answer is malformed")
        found += [row for row in page if isinstance(row, dict)]
        if len(page) < PAGE_SIZE:
            return found
    raise fetch.FetchError(f"it lists more than {MAX_GROUPS} entries")
