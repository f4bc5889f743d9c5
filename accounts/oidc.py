"""OpenID Connect as a relying party: authorization code flow with PKCE, nonce and issuer checks.

    browser --> authorization_url() --> provider --> /cdn-cgi/access/callback?code&state[&iss]
    fetch_claims(): code -> token endpoint -> ID token -> JWKS -> verified claims

Tokens of the provider live in local variables only: never stored, logged, or put into an error (AC-37).
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import jwt
from django.conf import settings
from django.core.cache import cache

from accounts import fetch
from accounts.errors import AuthenticationFailed
from accounts.models import IdentityProvider
from accounts.sealing import SealError, unseal
from accounts.text import ascii_lower

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384")
CLOCK_SKEW_SECONDS = 120
MAX_TOKEN_CHARACTERS = 32 * 1024
JWKS_CACHE_SECONDS = 3600
JWKS_MIN_REFETCH_SECONDS = 60
MAX_GROUPS = 2000
MAX_TEXT = 255
MAX_EMAIL = 254


class LoginFailed(AuthenticationFailed):
    """A login that did not end in an identity. `code` is the reason code; the message names the login method."""

    code = "login_failed"


@dataclass(frozen=True, slots=True)
class ProviderEndpoints:
    """Where a provider is. `issuer` empty: not configured, then the issuer must live on a host we already trust."""

    client_id: str
    auth_url: str
    token_url: str
    certs_url: str
    issuer: str
    userinfo_url: str


@dataclass(frozen=True, slots=True)
class Person:
    """What a login method says about who logged in. Only `email_verified` e-mails ever match e-mail rules."""

    subject: str
    email: str
    email_verified: bool
    name: str
    groups: list[str]
    claims: dict[str, Any]
    authentication_methods: list[str]


def endpoints(provider: IdentityProvider) -> ProviderEndpoints:
    config: Mapping[str, Any] = provider.config
    if provider.type == IdentityProvider.Type.OKTA:
        return _okta_endpoints(config)
    return ProviderEndpoints(
        client_id=str(config.get("client_id", "")),
        auth_url=str(config.get("auth_url", "")),
        token_url=str(config.get("token_url", "")),
        certs_url=str(config.get("certs_url", "")),
        issuer=str(config.get("issuer", "")),
        userinfo_url=str(config.get("userinfo_url", "")),
    )


def _okta_endpoints(config: Mapping[str, Any]) -> ProviderEndpoints:
    """Okta's organization server, or the custom authorization server `authorization_server_id`."""
    account = str(config.get("okta_account", "")).rstrip("/")
    server = str(config.get("authorization_server_id") or "")
    base = f"{account}/oauth2/{quote(server, safe='')}" if server else f"{account}/oauth2"
    return ProviderEndpoints(
        client_id=str(config.get("client_id", "")),
        auth_url=f"{base}/v1/authorize",
        token_url=f"{base}/v1/token",
        certs_url=f"{base}/v1/keys",
        issuer=base if server else account,
        userinfo_url=f"{base}/v1/userinfo",
    )


def authorization_url(
    provider: IdentityProvider, *, redirect_uri: str, state: str, nonce: str, code_verifier: str
) -> str:
    places = endpoints(provider)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()
    query = urlencode(
        {
            "client_id": places.client_id,
            "response_type": "code",
            "scope": " ".join(_scopes(provider)),
            "redirect_uri": redirect_uri,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
    )
    return f"{places.auth_url}{'&' if urlsplit(places.auth_url).query else '?'}{query}"


def _scopes(provider: IdentityProvider) -> list[str]:
    default = ["openid", "email", "profile"]
    if provider.type == IdentityProvider.Type.OKTA:
        default.append("groups")
    scopes = [str(scope) for scope in provider.config.get("scopes") or default]
    return scopes if "openid" in scopes else ["openid", *scopes]


def check_response_issuer(provider: IdentityProvider, issuer: str | None) -> None:
    """RFC 9207: an `iss` in the authorization response must be the provider this login was started at (AC-44)."""
    if issuer is not None and not _is_issuer(endpoints(provider), issuer):
        raise LoginFailed(
            f"The answer came from another issuer than {provider.name}. Start the login again.", code="issuer_mismatch"
        )


def fetch_person(provider: IdentityProvider, *, code: str, redirect_uri: str, code_verifier: str, nonce: str) -> Person:
    """Exchange the code and verify the ID token. Network: never inside a transaction. Raises LoginFailed."""
    places = endpoints(provider)
    try:
        tokens = _exchange(provider, places, code, redirect_uri, code_verifier)
        claims = _verify_id_token(provider, places, tokens, nonce)
        claims = _with_userinfo(places, tokens, claims)
    except fetch.FetchError as error:
        raise LoginFailed(f"{provider.name} could not be asked: {error}.", code="provider_unreachable") from error
    return _person(provider, claims)


def _exchange(
    provider: IdentityProvider, places: ProviderEndpoints, code: str, redirect_uri: str, code_verifier: str
) -> dict[str, Any]:
    fields = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "code_verifier": code_verifier,
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
    if answer.status != 200 or not isinstance(body, dict):
        problem = body.get("error") if isinstance(body, dict) else None
        known = problem if problem in _TOKEN_ERRORS else "no reason given"
        raise LoginFailed(
            f"{provider.name} refused the login code (HTTP {answer.status}, {known}).", code="code_refused"
        )
    return body


_TOKEN_ERRORS = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)


def client_secret(provider: IdentityProvider) -> str:
    if not provider.client_secret_sealed:
        return ""
    try:
        return unseal(settings.SEAL_KEY, bytes(provider.client_secret_sealed), *secret_context(provider)).decode()
    except SealError as error:
        raise LoginFailed(
            f"The client secret of {provider.name} can not be opened; enter it again.", code="provider_misconfigured"
        ) from error


def secret_context(provider: IdentityProvider) -> tuple[str, ...]:
    return "identity-provider", provider.organization_id, str(provider.id)


def _verify_id_token(
    provider: IdentityProvider, places: ProviderEndpoints, tokens: Mapping[str, Any], nonce: str
) -> dict[str, Any]:
    token = tokens.get("id_token")
    if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARACTERS:
        raise LoginFailed(f"{provider.name} sent no ID token.", code="id_token_missing")
    claims = _signed_claims(provider, places, token)
    problem = _claims_problem(places, claims, nonce, time.time())
    if problem:
        raise LoginFailed(f"The ID token of {provider.name} is refused: {problem}.", code="id_token_refused")
    return claims


def _signed_claims(provider: IdentityProvider, places: ProviderEndpoints, token: str) -> dict[str, Any]:
    refused = LoginFailed(f"The ID token of {provider.name} has no valid signature.", code="id_token_refused")
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError as error:
        raise refused from error
    algorithm, key_id = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS:
        raise refused
    for key in _keys(provider, places, key_id):
        try:
            payload = jwt.api_jws.decode(token, jwt.PyJWK(key, algorithm=algorithm), algorithms=[algorithm])
            claims = json.loads(payload)
        except (jwt.PyJWTError, ValueError, RecursionError):
            continue
        if isinstance(claims, dict):
            return claims
    raise refused


def _keys(provider: IdentityProvider, places: ProviderEndpoints, key_id: object) -> list[dict[str, Any]]:
    """Candidate keys. An unknown key id (a rotation) fetches the set again, at most once a minute (AC-30)."""
    name = f"oidc-jwks:{provider.id}:{hashlib.sha256(places.certs_url.encode()).hexdigest()}"
    cached = cache.get(name)
    if cached is not None:
        found = _matching(cached["keys"], key_id)
        if found or time.time() - cached["fetched_at"] < JWKS_MIN_REFETCH_SECONDS:
            return found
    answer = fetch.get(places.certs_url)
    document = answer.json() if answer.status == 200 else None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise fetch.FetchError(f"{urlsplit(places.certs_url).hostname} sent no key set (HTTP {answer.status})")
    usable = [key for key in keys if isinstance(key, dict) and key.get("kty") in {"RSA", "EC"}][:50]
    cache.set(name, {"keys": usable, "fetched_at": time.time()}, JWKS_CACHE_SECONDS)
    return _matching(usable, key_id)


def _matching(keys: list[dict[str, Any]], key_id: object) -> list[dict[str, Any]]:
    signing = [key for key in keys if key.get("use", "sig") == "sig"]
    return signing[:5] if key_id is None else [key for key in signing if key.get("kid") == key_id][:5]


def _claims_problem(places: ProviderEndpoints, claims: Mapping[str, Any], nonce: str, now: float) -> str | None:
    """OpenID Connect Core 3.1.3.7, in its order."""
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    instants = [claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)]
    subject = claims.get("sub")
    if not _is_issuer(places, claims.get("iss")):
        return "it names another issuer"
    if places.client_id not in audiences:
        return "it was issued to another client"
    if (len(audiences) > 1 or "azp" in claims) and claims.get("azp") != places.client_id:
        return "it was issued to another party"
    if any(isinstance(instant, bool) or not isinstance(instant, int | float) for instant in instants):
        return "it has no valid times"
    expires, issued, not_before = (float(instant) for instant in instants if instant is not None)
    if now > expires + CLOCK_SKEW_SECONDS:
        return "it has expired; check the clocks (clock skew)"
    if max(issued, not_before) > now + CLOCK_SKEW_SECONDS:
        return "it comes from the future; check the clocks (clock skew)"
    if claims.get("nonce") != nonce:
        return "it belongs to another login (nonce)"
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_TEXT:
        return "it names no subject"
    return None


def _is_issuer(places: ProviderEndpoints, issuer: object) -> bool:
    if not isinstance(issuer, str):
        return False
    if places.issuer:
        return issuer.rstrip("/") == places.issuer.rstrip("/")
    trusted = {urlsplit(url).hostname for url in (places.auth_url, places.token_url, places.certs_url)}
    try:
        return urlsplit(issuer).hostname in trusted
    except ValueError:
        return False


def _with_userinfo(places: ProviderEndpoints, tokens: Mapping[str, Any], claims: dict[str, Any]) -> dict[str, Any]:
    """Thin ID tokens leave e-mail and groups to the userinfo endpoint. It may add claims, never replace one."""
    access_token = tokens.get("access_token")
    if not places.userinfo_url or not isinstance(access_token, str) or ("email" in claims and "groups" in claims):
        return claims
    answer = fetch.get(places.userinfo_url, headers={"Authorization": f"Bearer {_header_safe(access_token)}"})
    if answer.status != 200:
        return claims
    more = answer.json()
    if not isinstance(more, dict) or more.get("sub") != claims["sub"]:
        raise fetch.FetchError("the userinfo endpoint describes somebody else")
    return {**more, **claims}


def _header_safe(token: str) -> str:
    if not token.isascii() or not token.isprintable() or len(token) > MAX_TOKEN_CHARACTERS:
        raise fetch.FetchError("the access token is malformed")
    return token


def _person(provider: IdentityProvider, claims: Mapping[str, Any]) -> Person:
    claim_name = str(provider.config.get("email_claim_name") or "email")
    email = _address(claims.get(claim_name))
    wanted = {str(name) for name in provider.config.get("claims") or []}
    methods = claims.get("amr")
    return Person(
        subject=str(claims["sub"]),
        email=email,
        email_verified=bool(email) and _is_verified(provider, claims, email),
        name=_text(claims.get("name")) or _text(claims.get("preferred_username")),
        groups=_texts(claims.get("groups")),
        claims={name: claims[name] for name in sorted(wanted) if name in claims},
        authentication_methods=_texts(methods)[:20],
    )


def _is_verified(provider: IdentityProvider, claims: Mapping[str, Any], email: str) -> bool:
    """Boolean true, or the string "true" from a provider the admin flagged; nothing else counts (AC-11).

    The flag `email_verified` speaks about the claim `email`: an address from another claim must be that same one.
    """
    flag = claims.get("email_verified")
    is_flagged = provider.config.get("email_verified_trusted") is True
    if flag is not True and not (is_flagged and flag == "true"):
        return False
    return _address(claims.get("email")) == email


def _address(value: object) -> str:
    """An e-mail address as the provider wrote it, A-Z in lower case; "" for what cannot be one.

    Nothing else is folded, trimmed or repaired: two addresses of the provider must never become one of ours (AC-05).
    """
    if not isinstance(value, str) or len(value) > MAX_EMAIL or not value.isprintable() or value.strip() != value:
        return ""
    return ascii_lower(value)


def _text(value: object) -> str:
    return _storable(value[:MAX_TEXT]) if isinstance(value, str) else ""


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [_storable(value[:MAX_TEXT])]
    if not isinstance(value, list):
        return []
    return [_storable(item[:MAX_TEXT]) for item in value if isinstance(item, str)][:MAX_GROUPS]


def _storable(text: str) -> str:
    """Without what PostgreSQL cannot hold: NUL and lone surrogates."""
    return text.replace("\0", "").encode("utf-8", "ignore").decode()
