"""Cleans a login method's configuration: known keys only (AC-106), each of its kind, URLs by the guard's rules (AC-66).

A class names the kind of each of its keys (LoginMethod.keys); a kind is a function of this module.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from accounts import fetch
from accounts.errors import InvalidInput
from accounts.models import IdentityProvider
from accounts.providers import LOGIN_METHODS
from accounts.providers.saml import read_metadata

MAX_TEXT = 2048
MAX_LIST = 100
MAX_CERTIFICATES = 10
MAX_SECRET = 16 * 1024
AUTH_METHODS = ("client_secret_post", "client_secret_basic")
PROMPTS = ("login", "select_account", "none", "consent")
CLOUDS = ("global", "us_government", "china")
# Kinds of keys that say where a provider is: to whom its secrets are sent (accounts.actions.identity_providers).
PLACE_KINDS = frozenset({"url", "account_url", "host", "directory", "cloud"})


class _Bad(Exception):
    """What is wrong with a value; becomes InvalidInput naming the key."""


def clean_config(kind: IdentityProvider.Type, config: Mapping[str, Any]) -> dict[str, Any]:
    method = LOGIN_METHODS[kind.value]
    given = _with_metadata(config) if kind == IdentityProvider.Type.SAML else config
    clean: dict[str, Any] = {}
    for key in sorted(method.keys):
        value = given.get(key)
        if value in (None, "", []):
            continue
        try:
            clean[key] = _CLEANERS[method.keys[key]](value)
        except _Bad as error:
            raise bad(key, str(error)) from error
    for key in method.required:
        if key not in clean:
            raise bad(key, "is required")
    return clean


def clean_secret(name: str, value: str) -> str:
    """A named secret. A service account key is reduced to what is used of it."""
    if len(value) > MAX_SECRET:
        raise bad(name, "is too long")
    return _service_account_key(value) if name == "service_account_key" else value.strip()


def bad(key: str, problem: str) -> InvalidInput:
    return InvalidInput(f"{key} {problem}.", fields={key: f"{problem[0].upper()}{problem[1:]}."})


def _with_metadata(config: Mapping[str, Any]) -> dict[str, Any]:
    """The identity provider's metadata fills what was not typed by hand."""
    document = config.get("metadata_xml")
    if not document:
        return dict(config)
    try:
        return {**config, **read_metadata(document)}
    except ValueError as error:
        raise bad("metadata_xml", f"is refused: {error}") from error


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.strip().isprintable():
        raise _Bad(f"must be text of at most {MAX_TEXT} characters")
    return value.strip()


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Bad("must be true or false")
    return value


def _url(value: object) -> str:
    url = _text(value)
    try:
        fetch.check_url(url)
    except fetch.FetchError as error:
        raise _Bad(f"is refused: {error}") from error
    return url


def _account_url(value: object) -> str:
    account = _text(value)
    return _url(account if "://" in account else f"https://{account}").rstrip("/")


def _host(value: object) -> str:
    """A hostname, perhaps typed as the address of its start page."""
    host = _text(value).lower().removeprefix("https://").rstrip("/")
    parts = urlsplit(_url(f"https://{host}"))
    if parts.path or parts.query or parts.fragment or parts.netloc != host:
        raise _Bad("must be a hostname such as github.example.com")
    return host


def _words(value: object) -> list[str]:
    items = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(items, list) or len(items) > MAX_LIST or not all(isinstance(item, str) for item in items):
        raise _Bad(f"must be a list of at most {MAX_LIST} words")
    words = [item.strip() for item in items if item.strip()]
    if any(len(word) > 200 or len(word.split()) > 1 for word in words):
        raise _Bad("must hold words without spaces")
    return words


def _names(value: object) -> list[str]:
    """Attribute names of SAML: URIs or free text, one per item."""
    items = value.splitlines() if isinstance(value, str) else value
    if not isinstance(items, list) or len(items) > MAX_LIST or not all(isinstance(item, str) for item in items):
        raise _Bad(f"must be a list of at most {MAX_LIST} names")
    return [name for name in (_text(item) for item in items) if name]


def _domain(value: object) -> str:
    domain = _text(value).lower().lstrip("@").rstrip(".")
    try:
        validate_email(f"somebody@{domain}")
    except ValidationError as error:
        raise _Bad("must be a domain such as example.com") from error
    return domain


def _domains(value: object) -> list[str]:
    return [_domain(word) for word in _words(value)]


def _email(value: object) -> str:
    address = _text(value)
    try:
        validate_email(address)
    except ValidationError as error:
        raise _Bad("must be an e-mail address") from error
    return address


def _directory(value: object) -> str:
    """A tenant's own id. "common" and "organizations" would let every directory in (AC-12)."""
    try:
        return str(uuid.UUID(_text(value)))
    except ValueError as error:
        raise _Bad("must be the Directory (tenant) ID, such as 11111111-2222-3333-4444-555555555555") from error


def _one_of(*allowed: str) -> Callable[[object], str]:
    def clean(value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise _Bad(f"must be one of: {', '.join(allowed)}")
        return value

    return clean


def _certificates(value: object) -> list[str]:
    """PEM or bare base64, as metadata has it; kept as PEM."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or len(items) > MAX_CERTIFICATES:
        raise _Bad(f"must be a list of at most {MAX_CERTIFICATES} certificates")
    found: list[str] = []
    for item in items:
        found += _pem_certificates(item)
    return list(dict.fromkeys(found))


def _pem_certificates(value: object) -> list[str]:
    if not isinstance(value, str) or len(value) > MAX_SECRET * 4:
        raise _Bad("must hold certificates as PEM text")
    block = value.strip()
    if "-----BEGIN" not in block:
        block = f"-----BEGIN CERTIFICATE-----\n{block}\n-----END CERTIFICATE-----\n"
    try:
        certificates = x509.load_pem_x509_certificates(block.encode())
        return [certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates]
    except ValueError as error:
        raise _Bad("must hold X.509 certificates as PEM text") from error


def _service_account_key(value: str) -> str:
    wanted = ("client_email", "private_key", "private_key_id")
    try:
        key = json.loads(value)
        load_pem_private_key(str(key["private_key"]).encode(), None)
        return json.dumps(
            {name: str(key[name]) for name in wanted if name in key} | {"client_email": key["client_email"]}
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise bad("service_account_key", "must be the JSON key file of a service account") from error


_CLEANERS: dict[str, Callable[[object], object]] = {
    "text": _text,
    "flag": _flag,
    "url": _url,
    "account_url": _account_url,
    "host": _host,
    "cloud": _one_of(*CLOUDS),
    "words": _words,
    "names": _names,
    "domain": _domain,
    "domains": _domains,
    "email": _email,
    "directory": _directory,
    "prompt": _one_of(*PROMPTS),
    "auth_method": _one_of(*AUTH_METHODS),
    "certificates": _certificates,
}
