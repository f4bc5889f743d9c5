"""The opening handshake of a WebSocket over TLS (RFC 6455 section 4, access-client.md 8.1)."""

import base64
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass

from dataplane.client.target import Context, Target
from dataplane.errors import CommandError
from dataplane.https import HttpError, Reader, Response, describe, encode_request
from dataplane.wire.websocket import accept_key

# The edge answers only after the connector has reached the server behind it.
HANDSHAKE_TIMEOUT_SECONDS = 30.0
_OWN_HEADERS = frozenset({"host", "connection", "upgrade", "content-length", "transfer-encoding", "user-agent"})


@dataclass(frozen=True, slots=True)
class Opened:
    tls: ssl.SSLSocket
    rest: bytes  # frames that came with the handshake's last packet


def parse_header(text: str) -> tuple[str, str]:
    """ "Name: value" of --header; the value may have colons and commas. Raises CommandError."""
    name, colon, value = text.partition(":")
    name = name.strip()
    if not colon or not name or not all(ch.isalnum() or ch in "-_" for ch in name) or not name.isascii():
        raise CommandError(f"--header needs 'Name: value', not {text[:60]!r}")
    if name.lower() in _OWN_HEADERS or name.lower().startswith("sec-websocket-"):
        raise CommandError(f"--header cannot set {name}: it belongs to the connection itself")
    return name, value.strip()


def open_websocket(context: Context, target: Target, headers: Mapping[str, str]) -> Opened | Response:
    """The open connection, or the answer that refused it. Raises HttpError when there is no proper answer."""
    deadline = time.monotonic() + HANDSHAKE_TIMEOUT_SECONDS
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13",
        "Accept": "application/json",  # for a refusal
    }
    request = encode_request("GET", target.request_target, target.netloc, {**upgrade, **headers}, None, upgrade=True)
    tls = context.dialer.open_tls(target.address)
    try:
        return _shake_hands(tls, request, key, target, deadline)
    except TimeoutError:
        tls.close()
        seconds = f"{HANDSHAKE_TIMEOUT_SECONDS:.0f} s"
        raise HttpError(f"{target.host}: no answer to the WebSocket handshake within {seconds}") from None
    except (OSError, ssl.SSLError) as error:
        tls.close()
        raise HttpError(f"{target.host}: connection failed during the handshake: {describe(error)}") from error
    except CommandError:
        tls.close()
        raise


def _shake_hands(tls: ssl.SSLSocket, request: bytes, key: str, target: Target, deadline: float) -> Opened | Response:
    tls.sendall(request)
    reader = Reader(tls, deadline)
    head = reader.read_head()
    if head.status != 101:
        refusal = Response(head.status, head.headers, _body(reader, head))
        tls.close()
        return refusal
    if head.header("sec-websocket-accept") != accept_key(key):
        raise HttpError(f"{target.host} answered the WebSocket handshake wrongly; is a proxy in between?")
    return Opened(tls, reader.rest)


def _body(reader: Reader, head: Response) -> bytes:
    """The refusal counts, even when its explanation is cut off or oversized."""
    try:
        return reader.read_body(head)
    except (HttpError, OSError):
        return b""
