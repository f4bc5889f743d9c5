"""Tokens of an organization: minted with its active RS256 key, verified against its published keys.

Times are whole seconds and `aud` is an array everywhere but in the metadata token: clients reject anything else
(access-client.md 4.1, 5.1). The issuer is the team URL without a trailing slash.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.db.models import CharField

from access.actions.token_keys import PUBLISHED, active_key, key_context
from access.models import Application, ServiceToken, TokenKey
from accounts.errors import AuthenticationFailed
from accounts.models import AccessSession, Organization
from accounts.prepared import Parameter, PreparedRows
from accounts.sealing import unseal

_KEY = PreparedRows(
    lambda: TokenKey.objects.filter(
        organization=Parameter("organization", Organization._meta.pk),
        kid=Parameter("kid", CharField()),
        state__in=PUBLISHED,
    )
)
ALGORITHM = "RS256"
TYPE_APPLICATION = "app"
TYPE_ORGANIZATION = "org"
TYPE_EXTERNAL = "external_evaluation"
MAX_TOKEN_CHARACTERS = 8192
# For nbf and iat only: no token is accepted after its end.
CLOCK_SKEW_SECONDS = 60
MIN_LIFETIME_SECONDS = 60
SERVICE_ASSERTION_SECONDS = 600
EXTERNAL_QUESTION_SECONDS = 60
AUTH_DOMAIN_CHARACTERS = len("https://")


class TokenInvalid(AuthenticationFailed):
    """`code` is the reason; the message never quotes the token."""

    code = "token_invalid"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. `session_nonce` is empty for service tokens, `common_name` for people."""

    type: str
    audience: tuple[str, ...]
    subject: str
    email: str
    session_nonce: str
    common_name: str
    country: str
    # Thumbprint of the device key the token is bound to; empty: a bearer token.
    device: str
    issued_at: int
    expires_at: int


def mint_application_token(
    application: Application,
    session: AccessSession,
    *,
    now: datetime,
    lifetime_seconds: int,
    country: str,
    device: str = "",
) -> str:
    """For one application, at most as long as the session lives. Its end: application_token_end."""
    expires = application_token_end(session, now=now, lifetime_seconds=lifetime_seconds)
    claims = _personal_claims(session, now, expires, TYPE_APPLICATION, device)
    claims |= {"aud": [application.aud], "country": country}
    return _sign(application.organization, claims)


def application_token_end(session: AccessSession, *, now: datetime, lifetime_seconds: int) -> datetime:
    return min(now + timedelta(seconds=max(lifetime_seconds, MIN_LIFETIME_SECONDS)), session.expires_at)


def mint_organization_token(session: AccessSession, *, now: datetime, device: str = "") -> str:
    """The team domain's own session; exchanged for application tokens at its login endpoint, good for nothing else."""
    claims = _personal_claims(session, now, session.expires_at, TYPE_ORGANIZATION, device)
    return _sign(session.organization, claims | {"aud": [session.organization.team_url]})


def mint_service_assertion(application: Application, service_token: ServiceToken, *, now: datetime) -> str:
    """What origins get for a machine: names the service token, no person (product.md section 2)."""
    return mint_machine_assertion(application, service_token.client_id, now=now)


def mint_machine_assertion(application: Application, common_name: str, *, now: datetime) -> str:
    """`common_name`: of the client certificate, or the service token's client id."""
    issued = int(now.timestamp())
    claims = {
        "aud": [application.aud],
        "iss": application.organization.team_url,
        "type": TYPE_APPLICATION,
        "sub": "",
        "common_name": common_name,
        "iat": issued,
        "nbf": issued,
        "exp": issued + SERVICE_ASSERTION_SECONDS,
    }
    return _sign(application.organization, claims)


def mint_external_question(
    session: AccessSession, *, audience: str, nonce: str, identity: dict[str, Any], now: datetime
) -> str:
    """To an external evaluator; its type makes it good for nothing here."""
    issued = int(now.timestamp())
    claims = {
        "aud": [audience],
        "iss": session.organization.team_url,
        "type": TYPE_EXTERNAL,
        "nonce": nonce,
        "identity": identity,
        "iat": issued,
        "nbf": issued,
        "exp": issued + EXTERNAL_QUESTION_SECONDS,
    }
    return _sign(session.organization, claims)


def mint_metadata(application: Application, hostname: str, *, now: datetime) -> str:
    """The signed answer to `Cf-Access-Metadata-Request` (access-client.md 5.1): here `aud` is a string."""
    claims = {
        "type": "match",
        "hostname": hostname,
        "auth_domain": application.organization.team_url[AUTH_DOMAIN_CHARACTERS:],
        "aud": application.aud,
        "app_hostname": application.hostname,
        "iat": int(now.timestamp()),
    }
    return _sign(application.organization, claims)


def jwks(organization: Organization) -> dict[str, Any]:
    """The published key set: next, active and retiring keys."""
    active_key(organization)
    keys = TokenKey.objects.for_organization(organization).filter(state__in=PUBLISHED).order_by("created_at", "kid")
    return {"keys": [key.public_jwk for key in keys]}


def verify(organization: Organization, token: str, *, now: datetime, audience: str | None) -> Claims:
    """The claims of a valid token of this organization. Raises TokenInvalid.

    `audience` is an application's AUD tag; None means an organization token is expected. Each kind is refused where
    the other belongs (AC-29). Of the token's header only `alg` and `kid` are read, `kid` only as a database value;
    `jku`, `x5u` and `jwk` are never looked at (AC-30).
    """
    key = _key_of(organization, token, now)
    try:
        payload = jwt.api_jws.decode(
            token, _public_key(key.public_jwk["n"], key.public_jwk["e"]), algorithms=[ALGORITHM]
        )
        claims = json.loads(payload)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise TokenInvalid("The token's signature is not valid.", code="token_signature_invalid") from error
    if not isinstance(claims, dict):
        raise _malformed()
    return _checked(organization, claims, now, audience)


@lru_cache(maxsize=256)
def _public_key(modulus: str, exponent: str) -> jwt.PyJWK:
    """Made of its numbers once: whether the key is still in use is asked each time."""
    return jwt.PyJWK({"kty": "RSA", "n": modulus, "e": exponent}, algorithm=ALGORITHM)


def _key_of(organization: Organization, token: str, now: datetime) -> TokenKey:
    if len(token) > MAX_TOKEN_CHARACTERS or token.count(".") != 2 or not token.isascii():
        raise _malformed()
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError as error:
        raise _malformed() from error
    if header.get("alg") != ALGORITHM:
        raise TokenInvalid("The token is not signed with RS256.", code="token_algorithm_refused")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= 64 or "\0" in kid:
        raise _malformed()
    key = _KEY.first(organization=organization.pk, kid=kid)
    # The task that retires keys may be late; the key's end is not.
    if key is None or (key.retires_at is not None and key.retires_at <= now):
        raise TokenInvalid("The token's signing key is not in use (any more). Log in again.", code="token_key_unknown")
    return key


def _checked(organization: Organization, claims: dict[str, Any], now: datetime, audience: str | None) -> Claims:
    expected = TYPE_ORGANIZATION if audience is None else TYPE_APPLICATION
    stated = claims.get("aud")
    audiences = tuple(stated) if isinstance(stated, list) else (stated,)
    instants = [claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)]
    if any(isinstance(value, bool) or not isinstance(value, int) for value in instants):
        raise _malformed()
    if claims.get("iss") != organization.team_url:
        raise TokenInvalid("The token was issued by another team domain.", code="token_wrong_issuer")
    if claims.get("type") != expected:
        raise TokenInvalid("The token is of another kind than is needed here.", code="token_wrong_type")
    if (audience or organization.team_url) not in audiences:
        raise TokenInvalid("The token belongs to another application.", code="token_wrong_application")
    timestamp = now.timestamp()
    if timestamp >= claims["exp"]:
        raise TokenInvalid("The token has expired. Log in again.", code="token_expired")
    if max(claims["iat"], claims.get("nbf", 0)) > timestamp + CLOCK_SKEW_SECONDS:
        raise TokenInvalid("The token is not valid yet: clocks disagree (clock skew).", code="token_not_yet_valid")
    return Claims(
        type=expected,
        audience=tuple(str(item) for item in audiences),
        subject=_text(claims, "sub"),
        email=_text(claims, "email"),
        session_nonce=_text(claims, "identity_nonce"),
        common_name=_text(claims, "common_name"),
        country=_text(claims, "country"),
        device=device_in(claims),
        issued_at=claims["iat"],
        expires_at=claims["exp"],
    )


def device_in(claims: dict[str, Any]) -> str:
    confirmation = claims.get("cnf")
    return _text(confirmation, "jkt") if isinstance(confirmation, dict) else ""


def _text(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name)
    return value if isinstance(value, str) else ""


def _personal_claims(
    session: AccessSession, now: datetime, expires: datetime, kind: str, device: str
) -> dict[str, Any]:
    """`device`: thumbprint of the key of the device that logged in (RFC 7800 `cnf`, with RFC 9449's `jkt`)."""
    issued = int(now.timestamp())
    return {
        **({"cnf": {"jkt": device}} if device else {}),
        "iss": session.organization.team_url,
        "type": kind,
        "email": session.identity.email,
        "sub": str(session.identity_id),
        "identity_nonce": session.nonce,
        "country": session.country,
        "jti": secrets.token_urlsafe(12),
        "iat": issued,
        "nbf": issued,
        "exp": int(expires.timestamp()),
    }


def _sign(organization: Organization, claims: dict[str, Any]) -> str:
    key = active_key(organization)
    private = _private_key(organization.id, key.kid, bytes(key.private_sealed))
    return jwt.encode(claims, private, algorithm=ALGORITHM, headers={"kid": key.kid})


@lru_cache(maxsize=256)
def _private_key(organization_id: str, kid: str, sealed: bytes) -> rsa.RSAPrivateKey:
    """Opened keys stay in this process: opening one costs more than signing with it."""
    der = unseal(settings.SEAL_KEY, sealed, *key_context(organization_id, kid))
    # The seal authenticates the key, so its numbers need no second (slow) validation.
    key = serialization.load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("Token keys are RSA keys.")
    return key


def _malformed() -> TokenInvalid:
    return TokenInvalid("This is not a signed token of this installation.", code="token_malformed")
