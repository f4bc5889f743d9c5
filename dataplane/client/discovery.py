"""Which Access application answers at a host: the signed metadata token and its keys (access-client.md 5.1).

A host can claim anything in a header; only a token signed by the team domain it names, for this very host name, counts
(security.md AC-43). What the host gains by naming a team domain of its own is the chance to ask for that team's tokens.
"""

import json
import re
import time
from typing import Any

import jwt

from dataplane.client.grants import AppInfo, is_aud, remember_info
from dataplane.client.target import Context, Target
from dataplane.errors import CommandError, printable
from dataplane.https import HttpError, parse_address

METADATA_TIMEOUT_SECONDS = 7.0
JWKS_TIMEOUT_SECONDS = 10.0
JWKS_MAX_AGE_SECONDS = 24 * 3600
JWKS_MIN_REFETCH_SECONDS = 60
METADATA_MAX_AGE_SECONDS = 24 * 3600
CLOCK_LEEWAY_SECONDS = 300


class DiscoveryError(CommandError):
    """The host has no Access application, or what it says about one is not believable."""


def discover(context: Context, target: Target) -> AppInfo:
    """Asks the application host, verifies the answer, remembers it. Raises DiscoveryError or HttpError."""
    response = context.dialer.request(
        "HEAD", target.url, headers={"Cf-Access-Metadata-Request": "true"}, timeout=METADATA_TIMEOUT_SECONDS
    )
    metadata = response.header("cf-access-metadata")
    if not metadata:
        raise DiscoveryError(
            f"no Access application answers at {target.url} (HTTP {response.status}); "
            "check the host name, and that the application exists in the dashboard"
        )
    info = _verify(context, target, metadata)
    remember_info(context, target, info)
    return info


def _verify(context: Context, target: Target, metadata: str) -> AppInfo:
    try:
        header = jwt.get_unverified_header(metadata)
        unverified = jwt.decode(
            metadata,
            options={
                "verify_signature": False,
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_aud": False,
            },
        )
    except jwt.InvalidTokenError:
        raise DiscoveryError(f"{target.host} sent metadata that is not a signed token") from None
    kid = header.get("kid")
    if header.get("alg") != "RS256" or not isinstance(kid, str) or not kid:
        raise DiscoveryError(f"{target.host} sent metadata that is not RS256 with a key id")
    info = _app_info(target, unverified)
    _check_signature(context, info, metadata, kid)
    _check_clock(target, unverified.get("iat"), time.time())
    return info


def _app_info(target: Target, claims: dict[str, Any]) -> AppInfo:
    if claims.get("type") != "match":
        raise DiscoveryError(f"no Access application matches {target.url}")
    hostname, auth_domain, aud = claims.get("hostname"), claims.get("auth_domain"), claims.get("aud")
    if not isinstance(hostname, str) or hostname.lower() != target.host:
        raise DiscoveryError(
            f"{target.host} sent metadata of another host ({printable(str(hostname), limit=80)}); not trusted"
        )
    if not isinstance(auth_domain, str) or not auth_domain:
        raise DiscoveryError(f"{target.host} sent metadata without a team domain")
    if not is_aud(aud):
        raise DiscoveryError(f"{target.host} sent metadata without an audience tag")
    app_hostname = claims.get("app_hostname") or hostname
    if not isinstance(app_hostname, str) or not _covers(app_hostname, target.host):
        raise DiscoveryError(f"{target.host} sent metadata of an application for another host; not trusted")
    parse_address(auth_domain)
    return AppInfo(target.host, auth_domain.lower(), str(aud), app_hostname.lower())


def _covers(app_hostname: str, host: str) -> bool:
    """An application hostname may be a wildcard and may carry a path (access-client.md 5.2)."""
    pattern = ".+".join(re.escape(piece) for piece in app_hostname.split("/")[0].lower().split("*"))
    return re.fullmatch(pattern, host) is not None


def _check_clock(target: Target, issued_at: object, now: float) -> None:
    if not isinstance(issued_at, int) or isinstance(issued_at, bool):
        raise DiscoveryError(f"{target.host} sent metadata without an integer issue time")
    age = now - issued_at
    if age < -CLOCK_LEEWAY_SECONDS:
        raise DiscoveryError(
            f"{target.host} sent metadata from {-age:.0f} s in the future; "
            "this machine's clock is probably behind (clock skew)"
        )
    if age > METADATA_MAX_AGE_SECONDS:
        raise DiscoveryError(
            f"{target.host} sent metadata that is {age / 3600:.0f} h old; "
            "this machine's clock is probably ahead (clock skew), or the answer is a replay"
        )


def _check_signature(context: Context, info: AppInfo, metadata: str, kid: str) -> None:
    """Stored keys first; when they fail and are older than a minute, it may be a rotation: fetched anew."""
    keys, age = _stored_keys(context, info)
    if keys is not None and _is_signed(metadata, kid, keys):
        return
    if keys is None or age >= JWKS_MIN_REFETCH_SECONDS:
        keys = _fetch_keys(context, info)
        if _is_signed(metadata, kid, keys):
            return
    known = any(key.get("kid") == kid for key in keys)
    problem = "whose signature is wrong" if known else f"signed by a key {info.auth_domain} does not publish"
    raise DiscoveryError(f"{info.hostname} sent metadata {problem}; not trusted")


def _is_signed(metadata: str, kid: str, keys: list[dict[str, Any]]) -> bool:
    for key in keys:
        if key.get("kid") != kid or key.get("kty") != "RSA":
            continue
        try:
            jwt.api_jws.decode(metadata, jwt.PyJWK(key, algorithm="RS256"), algorithms=["RS256"])
        except jwt.PyJWTError:
            continue
        return True
    return False


def _stored_keys(context: Context, info: AppInfo) -> tuple[list[dict[str, Any]] | None, float]:
    try:
        age = time.time() - context.state.path(info.jwks_file).stat().st_mtime
    except OSError:
        return None, 0.0
    if not 0 <= age <= JWKS_MAX_AGE_SECONDS:
        return None, age
    try:
        return _parse_keys(context.state.read(info.jwks_file) or ""), age
    except ValueError:
        return None, age


def _fetch_keys(context: Context, info: AppInfo) -> list[dict[str, Any]]:
    url = f"https://{info.auth_domain}/cdn-cgi/access/certs"
    response = context.dialer.request("GET", url, timeout=JWKS_TIMEOUT_SECONDS)
    if response.status != 200:
        raise HttpError(f"{info.auth_domain} did not give its token keys (HTTP {response.status})")
    try:
        keys = _parse_keys(response.body.decode())
    except ValueError:
        raise HttpError(f"{info.auth_domain} gave token keys that are not a JSON key set") from None
    context.state.write(info.jwks_file, json.dumps({"keys": keys}))
    return keys


def _parse_keys(text: str) -> list[dict[str, Any]]:
    document = json.loads(text)
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list) or not keys or not all(isinstance(key, dict) for key in keys):
        raise ValueError("no keys")
    return keys
