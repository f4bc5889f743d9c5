"""Application tokens, checked at the edge against the keys of the snapshot. Pure: token, snapshot and `now`
in.

Only the key id is believed before the signature holds; `jku`, `x5u` and `jwk` headers are never looked at
(AC-30).
"""

from dataclasses import dataclass
from typing import Any

import jwt

from dataplane.edge.snapshot import Application, Snapshot

ALGORITHM = "RS256"
KEY_UNKNOWN = "token_key_unknown"
MAX_TOKEN_CHARACTERS = 8192
# Tolerance for nbf and iat only: a token is never accepted after its end.
CLOCK_SKEW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class TokenAccepted:
    claims: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """`is_login_useful`: a login would give a better token (expired, or signed by a key that is gone)."""

    reason: str
    message: str
    is_login_useful: bool


def check_token(token: str, application: Application, snapshot: Snapshot, now: float) -> TokenAccepted | TokenRefused:
    key_id = _key_id(token)
    if isinstance(key_id, TokenRefused):
        return key_id
    key = snapshot.keys.get(application.organization_id, {}).get(key_id)
    if key is None:
        return _unknown_key(key_id, snapshot)
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            options={
                "require": ["aud", "iss", "exp"],
                "verify_aud": False,
                "verify_iss": False,
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
    except jwt.MissingRequiredClaimError:
        return TokenRefused("token_incomplete", "The token lacks a required claim.", is_login_useful=False)
    except jwt.PyJWTError:
        return TokenRefused("token_signature_invalid", "The token's signature is not valid.", is_login_useful=False)
    return _check_claims(claims, application, now)


def _key_id(token: str) -> str | TokenRefused:
    if len(token) > MAX_TOKEN_CHARACTERS or token.count(".") != 2 or not token.isascii():
        return _malformed()
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        return _malformed()
    if header.get("alg") != ALGORITHM:
        return TokenRefused("token_algorithm_refused", "The token is not signed with RS256.", is_login_useful=False)
    key_id = header.get("kid")
    return key_id if isinstance(key_id, str) and key_id else _malformed()


def _malformed() -> TokenRefused:
    return TokenRefused("token_malformed", "The token is not a signed application token.", is_login_useful=False)


def _unknown_key(key_id: str, snapshot: Snapshot) -> TokenRefused:
    if any(key_id in keys for keys in snapshot.keys.values()):
        return TokenRefused(
            "token_wrong_organization", "The token was issued by another organization.", is_login_useful=False
        )
    return TokenRefused(KEY_UNKNOWN, "The token's signing key is not in use any more.", is_login_useful=True)


def _check_claims(claims: dict[str, Any], application: Application, now: float) -> TokenAccepted | TokenRefused:
    audience = claims["aud"]
    audiences = audience if isinstance(audience, list) else [audience]
    if claims["iss"] != application.issuer:
        return TokenRefused("token_wrong_issuer", "The token was issued by another team domain.", is_login_useful=False)
    if application.aud not in audiences:
        return TokenRefused(
            "token_wrong_application", "The token belongs to another application.", is_login_useful=False
        )
    instants = {name: claims.get(name, 0) for name in ("exp", "nbf", "iat")}
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in instants.values()):
        return _malformed()
    if now > instants["exp"]:
        return TokenRefused("token_expired", "The token has expired.", is_login_useful=True)
    if max(instants["nbf"], instants["iat"]) > now + CLOCK_SKEW_SECONDS:
        return TokenRefused(
            "token_not_yet_valid",
            "The token is not valid yet: the clocks of edge and control plane disagree (clock skew).",
            is_login_useful=False,
        )
    return TokenAccepted(claims)
