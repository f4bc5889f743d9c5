"""Header serialization and hygiene between eyeball, edge, connector and origin (tunnel-edge.md 5.6, 5.7, 11)."""

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass

from dataplane.wire.names import H_ASSERTION, H_JUMP

Header = tuple[str, str]

MAX_SERIALIZED_BYTES = 256 * 1024

# RFC 9110 section 7.6.1 and the names older proxies treat the same way.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

# What an eyeball may never send toward a connector: headers there are authority (tunnel-edge.md 11).
EYEBALL_STRIP_PREFIXES = ("cf-cloudflared-", "cf-int-", "cf-warp-tag-")
EYEBALL_STRIP_NAMES = frozenset({H_ASSERTION, H_JUMP, "cf-trace-id"})

# What an origin may never send toward the edge (tunnel-edge.md 5.7).
ORIGIN_STRIP_PREFIXES = ("cf-int-", "cf-cloudflared-", "cf-proxy-")

_TOKEN_CHARACTERS = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class HeaderError(ValueError):
    """A serialized header block that is not well formed."""


def serialize_headers(headers: Iterable[Header]) -> str:
    """base64(name):base64(value) joined by ";", without padding; repeated names stay repeated."""
    return ";".join(f"{_encode(name)}:{_encode(value)}" for name, value in headers)


def parse_headers(serialized: str) -> list[Header]:
    """Inverse of serialize_headers. Raises HeaderError on anything malformed, CR, LF or NUL in a value included:
    the result is written into an HTTP/1.1 response, where those would inject headers."""
    if len(serialized) > MAX_SERIALIZED_BYTES:
        raise HeaderError(f"serialized headers exceed {MAX_SERIALIZED_BYTES} bytes")
    headers: list[Header] = []
    for item in serialized.split(";") if serialized else ():
        name_text, colon, value_text = item.partition(":")
        if not colon:
            raise HeaderError("serialized header without a colon")
        name, value = _decode(name_text), _decode(value_text)
        if not is_valid_name(name):
            raise HeaderError(f"invalid header name {name!r}")
        if not is_valid_value(value):
            raise HeaderError(f"invalid value in header {name!r}")
        headers.append((name, value))
    return headers


def is_valid_name(name: str) -> bool:
    """RFC 9110 section 5.6.2 token."""
    return bool(name) and _TOKEN_CHARACTERS.issuperset(name)


def is_valid_value(value: str) -> bool:
    """No CR, LF, NUL or other control character but tab (RFC 9110 section 5.5)."""
    return all(character >= " " or character == "\t" for character in value) and "\x7f" not in value


def strip_hop_by_hop(headers: Iterable[Header]) -> list[Header]:
    """Drops hop-by-hop headers, and those named by Connection (RFC 9110 section 7.6.1)."""
    items = list(headers)
    named = {
        token.strip().lower() for name, value in items if name.lower() == "connection" for token in value.split(",")
    }
    return [(name, value) for name, value in items if name.lower() not in HOP_BY_HOP and name.lower() not in named]


def is_forbidden_from_eyeball(name: str) -> bool:
    """True for headers that carry authority inside the tunnel, underscore spellings too: some origins fold them."""
    folded = name.lower().replace("_", "-")
    return folded in EYEBALL_STRIP_NAMES or folded.startswith(EYEBALL_STRIP_PREFIXES)


def strip_from_eyeball(headers: Iterable[Header]) -> list[Header]:
    """The eyeball's headers as the edge may pass them on: no hop-by-hop header, no authority."""
    return [header for header in strip_hop_by_hop(headers) if not is_forbidden_from_eyeball(header[0])]


def strip_from_origin(headers: Iterable[Header]) -> list[Header]:
    """Origin response headers as a connector reports them. Connection and Upgrade stay: a 101 needs them."""
    return [(name, value) for name, value in headers if not name.lower().startswith(ORIGIN_STRIP_PREFIXES)]


@dataclass(frozen=True, slots=True)
class ResponseMeta:
    """Who answered: "origin" or the connector itself ("cloudflared" on the wire), then with the reason."""

    source: str
    reason: str | None = None
    detail: str | None = None
    is_flow_rate_limited: bool = False

    def __str__(self) -> str:
        document: dict[str, object] = {"src": self.source}
        if self.is_flow_rate_limited:
            document["flow_rate_limited"] = True
        if self.reason is not None:
            document["reason"] = self.reason
        if self.detail is not None:
            document["detail"] = self.detail
        return json.dumps(document, separators=(",", ":"))


META_ORIGIN = ResponseMeta("origin")


def connector_failure(reason: str, detail: str) -> ResponseMeta:
    """Meta of a 502 made by the connector; `reason` is a stable snake_case code, `detail` is for people."""
    return ResponseMeta("cloudflared", reason, detail)


def parse_response_meta(text: str | None) -> ResponseMeta:
    """Never raises: a missing or broken meta header counts as an answer by the connector without a reason."""
    try:
        document = json.loads(text or "")
    except (ValueError, RecursionError):
        return ResponseMeta("cloudflared")
    if not isinstance(document, dict):
        return ResponseMeta("cloudflared")
    return ResponseMeta(
        "origin" if document.get("src") == "origin" else "cloudflared",
        _text_or_none(document.get("reason"), 64),
        _text_or_none(document.get("detail"), 512),
        document.get("flow_rate_limited") is True,
    )


def _text_or_none(value: object, limit: int) -> str | None:
    return value[:limit] if isinstance(value, str) else None


def _encode(text: str) -> str:
    # latin-1 keeps obs-text octets as they are on the wire (RFC 9110 section 5.5); other text goes out as UTF-8.
    try:
        raw = text.encode("latin-1")
    except UnicodeEncodeError:
        raw = text.encode()
    return base64.b64encode(raw).rstrip(b"=").decode("ascii")


def _decode(text: str) -> str:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise HeaderError("serialized header is not base64") from error
    return raw.decode("latin-1")
