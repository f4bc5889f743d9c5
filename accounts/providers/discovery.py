"""OpenID Connect Discovery: an issuer is enough, its own document says the rest. Network: never in a transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accounts import fetch
from accounts.models import IdentityProvider
from accounts.providers.config import bad

_ENDPOINTS = {
    "auth_url": "authorization_endpoint",
    "token_url": "token_endpoint",
    "certs_url": "jwks_uri",
    "userinfo_url": "userinfo_endpoint",
}
_NEEDED = ("auth_url", "token_url", "certs_url")


def discovered(type_name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration, with missing endpoints taken from the issuer (SAML: from its metadata). What was typed by
    hand is kept."""
    if type_name == IdentityProvider.Type.SAML and config.get("metadata_url"):
        return _with_saml_metadata(config)
    issuer = config.get("issuer")
    is_complete = all(config.get(key) for key in _NEEDED)
    if type_name != IdentityProvider.Type.OIDC or not isinstance(issuer, str) or not issuer or is_complete:
        return dict(config)
    try:
        answer = fetch.get(f"{issuer.strip().rstrip('/')}/.well-known/openid-configuration")
        document = answer.json() if answer.status == 200 else None
    except fetch.FetchError as error:
        raise bad("issuer", f"could not be asked for its configuration: {error}") from error
    if not isinstance(document, dict):
        raise bad("issuer", f"has no discovery document (HTTP {answer.status}); enter the three URLs by hand")
    named = document.get("issuer")
    if not isinstance(named, str) or named.rstrip("/") != issuer.strip().rstrip("/"):
        raise bad("issuer", "is not what its discovery document says; copy the issuer exactly")
    found = {key: document[name] for key, name in _ENDPOINTS.items() if isinstance(document.get(name), str)}
    flags = _flags(document)
    return {**flags, **found, **{key: value for key, value in config.items() if value not in ("", None)}}


def _with_saml_metadata(config: Mapping[str, Any]) -> dict[str, Any]:
    """`metadata_url` is read now and not kept: later documents change nothing without an administrator."""
    kept = {key: value for key, value in config.items() if key != "metadata_url"}
    if kept.get("metadata_xml"):
        return kept
    try:
        answer = fetch.get(str(config["metadata_url"]).strip())
        document = answer.body.decode("utf-8-sig")
    except (fetch.FetchError, UnicodeDecodeError) as error:
        raise bad("metadata_url", f"could not be read: {error}") from error
    if answer.status != 200:
        raise bad("metadata_url", f"answers with HTTP {answer.status} instead of metadata")
    return {**kept, "metadata_xml": document}


def _flags(document: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 9207 support makes `iss` mandatory from then on; the client authentication we know that it knows."""
    flags: dict[str, Any] = {}
    if document.get("authorization_response_iss_parameter_supported") is True:
        flags["requires_iss"] = True
    methods = document.get("token_endpoint_auth_methods_supported")
    if isinstance(methods, list) and "client_secret_post" not in methods and "client_secret_basic" in methods:
        flags["token_endpoint_auth_method"] = "client_secret_basic"  # noqa: S105 - the name of a method
    elif methods is None and "authorization_endpoint" in document:
        # Discovery 1.0 section 3: without the list the default is client_secret_basic.
        flags["token_endpoint_auth_method"] = "client_secret_basic"  # noqa: S105
    return flags
