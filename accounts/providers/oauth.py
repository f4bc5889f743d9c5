"""OAuth 2.0 authorization code with PKCE, state and the checks every such provider shares (RFC 6749, 7636, 9700)."""

from __future__ import annotations

import base64
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote, urlencode, urlsplit

from accounts import fetch
from accounts.models import IdentityProvider
from accounts.providers.base import Flow, LoginFailed, Person
from accounts.providers.secrets import client_secret

MAX_CODE_CHARACTERS = 4096
MAX_TOKEN_CHARACTERS = 32 * 1024
# RFC 6749 4.1.2.1 and OpenID Connect Core 3.1.2.6: the only words of a provider we repeat to people.
_KNOWN_ERRORS = {
    "access_denied": "it denied access, or you cancelled",
    "login_required": "it wants you to log in there first",
    "consent_required": "it wants your consent first",
    "interaction_required": "it wants to ask you something first",
    "server_error": "it has an internal error",
    "temporarily_unavailable": "it is temporarily unavailable",
    "unauthorized_client": "this login method is not set up there",
    "invalid_client": "this login method is not set up there",
    "invalid_scope": "a scope of this login method is not allowed there",
    "invalid_request": "the request was not understood; check the login method's settings",
    "redirect_uri_mismatch": "the redirect URL is not registered there",
    "application_suspended": "the application is suspended there",
}
_TOKEN_ERRORS = {
    "invalid_request": "invalid_request",
    "invalid_client": "invalid_client: the client ID or secret is wrong or has expired",
    "invalid_grant": "invalid_grant",
    "unauthorized_client": "unauthorized_client",
    "unsupported_grant_type": "unsupported_grant_type",
    "invalid_scope": "invalid_scope",
    "incorrect_client_credentials": "the client ID or secret is wrong",
    "bad_verification_code": "the code is wrong or too old",
    "redirect_uri_mismatch": "the redirect URL is not registered there",
}


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a provider is. `issuer` empty: not configured, then the issuer must live on a host we already trust."""

    client_id: str
    auth_url: str
    token_url: str
    certs_url: str = ""
    issuer: str = ""
    userinfo_url: str = ""


class AuthorizationCode(ABC):
    """The common half of OAuth login methods; subclasses say where the provider is and who the person is."""

    needs_client_secret: ClassVar[bool] = True
    secret_names: ClassVar[tuple[str, ...]] = ()
    answer_method: ClassVar[str] = "GET"

    @abstractmethod
    def endpoints(self, provider: IdentityProvider) -> Endpoints: ...

    @abstractmethod
    def scopes(self, provider: IdentityProvider) -> list[str]: ...

    @abstractmethod
    def person(
        self, provider: IdentityProvider, places: Endpoints, flow: Flow, tokens: Mapping[str, Any]
    ) -> Person: ...

    def callback_slug(self, provider: IdentityProvider) -> str:
        return str(provider.id) if provider.config.get("own_redirect_url") is True else ""

    def extra_parameters(self, provider: IdentityProvider, flow: Flow) -> dict[str, str]:
        return {}

    def begin(self, provider: IdentityProvider, flow: Flow) -> str:
        places = self.endpoints(provider)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(flow.code_verifier.encode()).digest()).rstrip(b"=").decode()
        query = urlencode(
            {
                "client_id": places.client_id,
                "response_type": "code",
                "scope": " ".join(self.scopes(provider)),
                "redirect_uri": flow.redirect_uri,
                "state": flow.state,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
                **self.extra_parameters(provider, flow),
            }
        )
        return f"{places.auth_url}{'&' if urlsplit(places.auth_url).query else '?'}{query}"

    def check_answer(self, provider: IdentityProvider, answer: Mapping[str, str]) -> None:
        """Before the code is used: does this answer come from the provider the login was started at (AC-44)?

        Here: yes. Providers that name no issuer have a redirect URL of their own instead (callback_slug).
        """
        return

    def finish(self, provider: IdentityProvider, flow: Flow, answer: Mapping[str, str]) -> Person:
        self.check_answer(provider, answer)
        code = code_of(provider, answer)
        places = self.endpoints(provider)
        try:
            tokens = exchange(provider, places, flow, code)
            return self.person(provider, places, flow, tokens)
        except fetch.FetchError as error:
            raise LoginFailed(f"{provider.name} could not be asked: {error}.", code="provider_unreachable") from error


def code_of(provider: IdentityProvider, answer: Mapping[str, str]) -> str:
    if "error" in answer:
        reason = _KNOWN_ERRORS.get(answer["error"], "it gave no reason we know")
        raise LoginFailed(f"{provider.name} did not log you in: {reason}.", code="provider_error")
    code = answer.get("code", "")
    if not code or len(code) > MAX_CODE_CHARACTERS:
        raise LoginFailed(f"{provider.name} sent no login code. Start again.", code="code_missing")
    return code


def exchange(provider: IdentityProvider, places: Endpoints, flow: Flow, code: str) -> dict[str, Any]:
    """The provider's tokens for the code. GitHub answers errors with status 200, so the body decides as well."""
    fields = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": flow.redirect_uri,
        "code_verifier": flow.code_verifier,
    }
    headers = {}
    secret = client_secret(provider)
    if provider.config.get("token_endpoint_auth_method") == "client_secret_basic":
        pair = f"{quote(places.client_id, safe='')}:{quote(secret, safe='')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        fields |= {"client_id": places.client_id, "client_secret": secret}
    answer = fetch.post_form(places.token_url, fields, headers=headers)
    body = answer.json() if answer.status in {200, 400, 401} else None
    if answer.status != 200 or not isinstance(body, dict) or "error" in body:
        problem = body.get("error") if isinstance(body, dict) else None
        known = _TOKEN_ERRORS.get(problem if isinstance(problem, str) else "", "no reason given")
        raise LoginFailed(
            f"{provider.name} refused the login code (HTTP {answer.status}, {known}).", code="code_refused"
        )
    return body


def bearer(tokens: Mapping[str, Any]) -> dict[str, str]:
    """The access token as a request header; never shown, stored or logged."""
    token = tokens.get("access_token")
    if not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN_CHARACTERS:
        raise fetch.FetchError("it sent no access token")
    if not token.isascii() or not token.isprintable():
        raise fetch.FetchError("the access token is malformed")
    return {"Authorization": f"Bearer {token}"}


def ask(url: str, headers: Mapping[str, str], *, what: str, hint: str = "") -> fetch.Answer:
    """A GET at a provider's API whose failure ends the login: guessing would hide a group (AC-81)."""
    answer = fetch.get(url, headers=headers)
    if answer.status != 200:
        host = urlsplit(url).hostname
        raise fetch.FetchError(f"{host} refused to tell {what} (HTTP {answer.status}){'; ' + hint if hint else ''}")
    return answer
