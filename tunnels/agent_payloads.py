"""The questions of edges, checked: types and lengths, so that what comes after can trust its input. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from access.authorize import AuthorizeRequest
from accounts.errors import InvalidInput
from dataplane.wire.shown import ShownCertificate, read_certificate

# A header line of the edge is at most this long; nothing in a question can be longer.
MAX_TEXT_CHARACTERS = 32 * 1024
MAX_HOSTNAME_CHARACTERS = 253
MAX_STREAMS = 5000
_TOKEN_SOURCES = (None, "header", "cookie")
_STREAM_KEYS = (
    "stream_id",
    "application_id",
    "session_nonce",
    "service_token_id",
    "client_ip",
    "destination",
    "evidence",
    "hostname",
    "path",
)


def parse_question(document: Mapping[str, Any]) -> AuthorizeRequest:
    """Raises InvalidInput for a question an edge of ours never asks."""
    token_source = document.get("token_source")
    if token_source not in _TOKEN_SOURCES:
        raise InvalidInput("token_source must be header, cookie or null.")
    return AuthorizeRequest(
        ray_id=_text(document, "ray_id", 32),
        hostname=_text(document, "hostname", MAX_HOSTNAME_CHARACTERS),
        path=_text(document, "path"),
        query=_text(document, "query"),
        method=_text(document, "method", 32),
        websocket=_flag(document, "websocket"),
        client_ip=_address(document, "client_ip"),
        user_agent=_optional(document, "user_agent") or "",
        token=_optional(document, "token"),
        token_source=token_source,
        app_session=_optional(document, "app_session"),
        service_token_id=_optional(document, "service_token_id"),
        service_token_secret=_optional(document, "service_token_secret"),
        destination=_optional(document, "destination"),
        xhr=_flag(document, "xhr"),
        page_wanted=_flag(document, "page_wanted"),
        origin=_optional(document, "origin"),
        certificate=_certificate(document),
        linked_token=_optional(document, "linked_token"),
        preflight_method=_optional(document, "preflight_method"),
        preflight_headers=_optional(document, "preflight_headers"),
    )


def parse_streams(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The live streams of a recheck, each with all keys of the contract. Raises InvalidInput."""
    streams = document.get("streams")
    if not isinstance(streams, list) or len(streams) > MAX_STREAMS:
        raise InvalidInput(f"streams must be a list of at most {MAX_STREAMS}.")
    return [_stream(stream) for stream in streams]


def _certificate(document: Mapping[str, Any]) -> ShownCertificate | None:
    try:
        return read_certificate(document.get("certificate"))
    except ValueError as error:
        raise InvalidInput(f"certificate: {error}.") from error


def _stream(stream: object) -> dict[str, Any]:
    if not isinstance(stream, dict):
        raise InvalidInput("A stream must be a JSON object.")
    found: dict[str, Any] = {key: _optional(stream, key) for key in _STREAM_KEYS}
    # From newer edges; access.recheck takes it for what it is worth.
    found["age_seconds"] = stream.get("age_seconds")
    if not found["stream_id"]:
        raise InvalidInput("A stream has no stream_id.")
    return found


def _text(document: Mapping[str, Any], key: str, limit: int = MAX_TEXT_CHARACTERS) -> str:
    value = document.get(key)
    if not isinstance(value, str) or len(value) > limit or "\0" in value:
        raise InvalidInput(f"{key} must be text of at most {limit} characters.")
    return value


def _optional(document: Mapping[str, Any], key: str) -> str | None:
    return None if document.get(key) is None else _text(document, key)


def _flag(document: Mapping[str, Any], key: str) -> bool:
    value = document.get(key, False)
    if not isinstance(value, bool):
        raise InvalidInput(f"{key} must be true or false.")
    return value


def _address(document: Mapping[str, Any], key: str) -> str:
    try:
        return str(ipaddress.ip_address(_text(document, key, 64)))
    except ValueError as error:
        raise InvalidInput(f"{key} must be an IP address.") from error
