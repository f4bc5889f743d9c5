"""HPACK blocks in and out, with the field checks of RFC 9113 section 8.2."""

from collections.abc import Iterable

import hpack

from dataplane.wire.h2frames import ErrorCode, H2ProtocolError
from dataplane.wire.headers import Header, is_valid_value

_CONNECTION_SPECIFIC = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"})
_NAME_CHARACTERS = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")
_REQUEST_PSEUDO = frozenset({":method", ":scheme", ":authority", ":path"})
# Credentials stay out of the compression table (RFC 7541 section 7.1.3).
_SENSITIVE = frozenset(
    {
        "authorization",
        "cookie",
        "set-cookie",
        "cf-access-token",
        "cf-access-jwt-assertion",
        "cf-access-client-secret",
    }
)


class MalformedHeaders(Exception):
    """A field section that is decodable but not allowed: a stream error."""


class HeaderCodec:
    """Both HPACK contexts of one connection."""

    def __init__(self, max_header_list_bytes: int) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=max_header_list_bytes)
        self._encoder = hpack.Encoder()

    def limit_table(self, size: int) -> None:
        """Applies the peer's SETTINGS_HEADER_TABLE_SIZE; never more than the default 4096."""
        self._encoder.header_table_size = min(size, 4096)

    def encode(self, headers: Iterable[Header]) -> bytes:
        fields: list[hpack.HeaderTuple] = []
        for name, value in headers:
            kind = hpack.NeverIndexedHeaderTuple if name in _SENSITIVE else hpack.HeaderTuple
            fields.append(kind(name.encode("ascii"), _octets(value)))
        return self._encoder.encode(fields)

    def decode(self, block: bytes) -> list[Header]:
        """Raises H2ProtocolError: after a failure the compression contexts differ for good."""
        try:
            fields = self._decoder.decode(block, raw=True)
        except hpack.OversizedHeaderListError as error:
            raise H2ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "header list is too large") from error
        except hpack.HPACKError as error:
            raise H2ProtocolError(ErrorCode.COMPRESSION_ERROR, "header block cannot be decoded") from error
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]


def check_request(headers: list[Header]) -> None:
    """Raises MalformedHeaders. CONNECT carries only :authority (RFC 9113 section 8.5)."""
    pseudo = _check_fields(headers)
    if not _REQUEST_PSEUDO.issuperset(pseudo):
        raise MalformedHeaders("unknown pseudo-header in a request")
    required = {":method", ":authority"} if pseudo.get(":method") == "CONNECT" else {":method", ":scheme", ":path"}
    if not required.issubset(pseudo):
        raise MalformedHeaders("a request pseudo-header is missing")


def check_response(headers: list[Header]) -> int:
    """The status. Raises MalformedHeaders."""
    pseudo = _check_fields(headers)
    status = pseudo.get(":status", "")
    if set(pseudo) != {":status"} or len(status) != 3 or not status.isdigit():
        raise MalformedHeaders("a response needs exactly one three-digit :status")
    return int(status)


def check_trailers(headers: list[Header]) -> None:
    if _check_fields(headers):
        raise MalformedHeaders("trailers must not have pseudo-headers")


def _check_fields(headers: list[Header]) -> dict[str, str]:
    pseudo: dict[str, str] = {}
    is_regular_seen = False
    for name, value in headers:
        if not is_valid_value(value) or value != value.strip(" \t"):
            raise MalformedHeaders("invalid character in a field value")
        if name.startswith(":"):
            if is_regular_seen or name in pseudo:
                raise MalformedHeaders("pseudo-headers must be unique and come first")
            pseudo[name] = value
            continue
        is_regular_seen = True
        if not name or not _NAME_CHARACTERS.issuperset(name):
            raise MalformedHeaders("invalid field name")
        if name in _CONNECTION_SPECIFIC or (name == "te" and value != "trailers"):
            raise MalformedHeaders("connection-specific field")
    return pseudo


def _octets(value: str) -> bytes:
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()
