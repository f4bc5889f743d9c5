"""Headers on their way in and out: what is stripped, what the edge adds (tunnel-edge.md 11, AC-61). Pure."""

import base64
import hashlib
from collections.abc import Iterable

from dataplane.edge.heads import RequestHead
from dataplane.wire.headers import Header, is_valid_name, is_valid_value, strip_from_origin, strip_hop_by_hop
from dataplane.wire.names import (
    COOKIE_APP_SESSION,
    COOKIE_AUTH,
    H_ASSERTION,
    H_CLIENT_ID,
    H_CLIENT_SECRET,
    H_JUMP,
    H_TOKEN,
    H_UPGRADE,
    UPGRADE_WEBSOCKET,
)

H_CERTIFICATE = "cf-client-cert-der-base64"
H_CERTIFICATE_SHA256 = "cf-client-cert-sha256"
# Anything a client could pretend to be, or that carries authority behind the edge. Compared with all
# punctuation folded to "-".
_FORGED_PREFIXES = (
    "cf-cloudflared-",
    "cf-int-",
    "cf-warp-tag-",
    "cf-access-",
    "cf-client-cert-",
    "cf-proxy-",
    "sallyport-",
    "x-forwarded-",
    "x-auth-request-",
    "x-remote-",
    "x-authenticated-",
)
_FORGED_NAMES = frozenset(
    {
        "forwarded",
        "cf-connecting-ip",
        "cf-connecting-ipv6",
        "cf-ipcountry",
        "cf-pseudo-ipv4",
        "cf-ray",
        "cf-trace-id",
        "cf-visitor",
        "cf-worker",
        "true-client-ip",
        "x-client-ip",
        "x-real-ip",
        "x-cluster-client-ip",
        "remote-user",
        "x-user",
        "x-email",
    }
)
_KEPT_FOR_CONTROL_PLANE = frozenset({H_TOKEN, H_CLIENT_ID, H_CLIENT_SECRET, "cf-access-metadata-request"})
_OWN_COOKIES = frozenset({COOKIE_AUTH, COOKIE_APP_SESSION})
_REQUEST_FRAMING = frozenset({"host", "content-length", "expect"})


def tunnel_request_headers(
    head: RequestHead,
    *,
    client_ip: str,
    reference: str,
    assertion: str | None,
    identity: str | None,
    destination: str | None,
    certificate: bytes | None = None,
) -> list[Header]:
    """HTTP/2 request headers toward the connector. `:authority` is the routed hostname and nothing else.
    `certificate`: DER of the client's verified certificate, where its hostname forwards it."""
    headers = [
        (":method", head.method),
        (":scheme", "https"),
        (":authority", head.hostname),
        (":path", head.target),
    ]
    headers += [
        (name, value)
        for name, value in strip_hop_by_hop(head.headers)
        if name not in _REQUEST_FRAMING and name != "cookie" and not _is_forged(name)
    ]
    cookie = _without_own_cookies(head.get_all("cookie"))
    if cookie:
        headers.append(("cookie", cookie))
    if head.content_length is not None:
        headers.append(("content-length", str(head.content_length)))
    if head.is_websocket:
        headers.append((H_UPGRADE, UPGRADE_WEBSOCKET))
    headers += _edge_headers(head, client_ip, reference)
    optional = (
        (H_CERTIFICATE, base64.b64encode(certificate).decode() if certificate else None),
        (H_CERTIFICATE_SHA256, hashlib.sha256(certificate).hexdigest() if certificate else None),
        (H_ASSERTION, assertion),
        ("cf-access-authenticated-user-email", identity if identity and "@" in identity else None),
        (H_JUMP, destination),
    )
    return headers + [(name, value) for name, value in optional if value is not None]


def control_plane_headers(head: RequestHead, *, client_ip: str, reference: str, edge_token: str) -> list[Header]:
    """HTTP/1.1 request headers toward the control plane; Host stays as the client sent it, also when it calls Host a
    hop-by-hop header. Names with "_" are dropped: WSGI cannot tell them from names with "-"."""
    headers = [
        (name, value)
        for name, value in strip_hop_by_hop(head.headers)
        if name not in _REQUEST_FRAMING and "_" not in name
        if name in _KEPT_FOR_CONTROL_PLANE or not _is_forged(name)
    ]
    return [
        ("host", head.get("host") or head.hostname),
        *headers,
        ("sallyport-edge-token", edge_token),
        ("sallyport-client-ip", client_ip),
        ("sallyport-ray", reference),
        ("x-forwarded-proto", "https"),
    ]


def response_headers(headers: Iterable[Header], *, is_from_origin: bool) -> list[Header]:
    """Answer headers as the client may see them: framing is ours, and an origin cannot set the edge's
    cookies."""
    kept = []
    for name, value in strip_hop_by_hop(strip_from_origin(headers)):
        lower = name.lower()
        if not is_valid_name(name) or not is_valid_value(value) or lower == "content-length":
            continue
        # A cookie without a name, "=CF_Authorization=x", comes back from a browser as "CF_Authorization=x".
        cookie = value.lstrip("= \t").partition("=")[0].strip()
        if is_from_origin and lower == "set-cookie" and cookie in _OWN_COOKIES:
            continue
        if lower in ("sallyport-error", "sallyport-edge-token"):
            continue
        kept.append((name, value))
    return kept


def declared_length(headers: Iterable[Header]) -> int | None:
    """The one Content-Length of an answer, or None when absent or not one number."""
    values = {value for name, value in headers if name.lower() == "content-length"}
    text = values.pop() if len(values) == 1 else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None


def _edge_headers(head: RequestHead, client_ip: str, reference: str) -> list[Header]:
    return [
        ("x-forwarded-for", client_ip),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", head.get("host") or head.hostname),
        ("cf-connecting-ip", client_ip),
        ("cf-ray", reference),
    ]


def _is_forged(name: str) -> bool:
    # CGI and its heirs turn more than "-" into "_": "X.Forwarded.User" may arrive as HTTP_X_FORWARDED_USER.
    folded = "".join(character if character.isalnum() else "-" for character in name)
    return folded in _FORGED_NAMES or folded.startswith(_FORGED_PREFIXES)


def _without_own_cookies(values: list[str]) -> str:
    pairs = [pair.strip() for value in values for pair in value.split(";")]
    return "; ".join(pair for pair in pairs if pair and pair.partition("=")[0].strip() not in _OWN_COOKIES)
