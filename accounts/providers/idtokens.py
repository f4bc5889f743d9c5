"""ID tokens: signature by the provider's key set, then the checks of OpenID Connect Core 3.1.3.7."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import jwt
from django.core.cache import cache

from accounts import fetch
from accounts.models import IdentityProvider
from accounts.providers.base import MAX_TEXT, LoginFailed
from accounts.providers.oauth import MAX_TOKEN_CHARACTERS, Endpoints

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384")
CLOCK_SKEW_SECONDS = 120
JWKS_CACHE_SECONDS = 3600
JWKS_MIN_REFETCH_SECONDS = 60


def verify_id_token(
    provider: IdentityProvider, places: Endpoints, tokens: Mapping[str, Any], nonce: str
) -> dict[str, Any]:
    token = tokens.get("id_token")
    if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARACTERS:
        raise LoginFailed(f"{provider.name} sent no ID token.", code="id_token_missing")
    claims = _signed_claims(provider, places, token)
    problem = _claims_problem(places, claims, nonce, time.time())
    if problem:
        raise refused(provider, problem)
    return claims


def refused(provider: IdentityProvider, problem: str) -> LoginFailed:
    return LoginFailed(f"The ID token of {provider.name} is refused: {problem}.", code="id_token_refused")


def is_issuer(places: Endpoints, issuer: object) -> bool:
    if not isinstance(issuer, str):
        return False
    if places.issuer:
        return issuer.rstrip("/") == places.issuer.rstrip("/")
    trusted = {urlsplit(url).hostname for url in (places.auth_url, places.token_url, places.certs_url)}
    try:
        return urlsplit(issuer).hostname in trusted
    except ValueError:
        return False


def _signed_claims(provider: IdentityProvider, places: Endpoints, token: str) -> dict[str, Any]:
    unsigned = LoginFailed(f"The ID token of {provider.name} has no valid signature.", code="id_token_refused")
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError as error:
        raise unsigned from error
    algorithm, key_id = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS:
        raise unsigned
    for key in _keys(provider, places, key_id):
        try:
            payload = jwt.api_jws.decode(token, jwt.PyJWK(key, algorithm=algorithm), algorithms=[algorithm])
            claims = json.loads(payload)
        except (jwt.PyJWTError, ValueError, RecursionError):
            continue
        if isinstance(claims, dict):
            return claims
    raise unsigned


def _keys(provider: IdentityProvider, places: Endpoints, key_id: object) -> list[dict[str, Any]]:
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


def _claims_problem(places: Endpoints, claims: Mapping[str, Any], nonce: str, now: float) -> str | None:
    """OpenID Connect Core 3.1.3.7, in its order."""
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    instants = [claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)]
    subject = claims.get("sub")
    if not is_issuer(places, claims.get("iss")):
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
