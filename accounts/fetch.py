"""The only way the control plane fetches a URL that a tenant typed (OIDC endpoints): AC-66.

https only, no redirects, no private addresses, one resolution whose address is the one dialled (no rebinding between
check and use), one deadline for everything, a cap on the answer. FETCH_ALLOWED_PRIVATE_HOSTS lists host:port pairs
that may be private and may be plain http: the operator's exception, never a tenant's.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from django.conf import settings

TIMEOUT_SECONDS = 10.0
RESOLVE_TIMEOUT_SECONDS = 5.0
DIAL_TIMEOUT_SECONDS = 3.0
MAX_ADDRESSES = 3
MAX_BODY_BYTES = 256 * 1024
MAX_URL_CHARACTERS = 2048
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_resolver = ThreadPoolExecutor(max_workers=8, thread_name_prefix="fetch-resolve")


class FetchError(Exception):
    """Why a URL was not fetched; the text names the host and is safe to show, it never holds a body or a header."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def header(self, name: str) -> str:
        return self.headers.get(name.lower(), "")

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise FetchError("the answer is not JSON") from error


def check_url(url: str) -> SplitResult:
    """The parts of an acceptable URL; no network. Raises FetchError saying what is wrong."""
    if len(url) > MAX_URL_CHARACTERS or any(ord(character) <= 0x20 or ord(character) >= 0x7F for character in url):
        raise FetchError("the URL holds spaces or other characters that do not belong there, or is too long")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise FetchError("the URL is malformed") from error
    host = parts.hostname or ""
    if parts.scheme not in {"https", "http"} or not host or "\\" in url:
        raise FetchError("the URL must start with https:// and name a host")
    if parts.username is not None or parts.password is not None or parts.fragment or port == 0:
        raise FetchError("the URL must not hold user names, fragments or port 0")
    if not _is_allowed_private(parts):
        if parts.scheme != "https":
            raise FetchError(
                "the URL must start with https://; plain http is for hosts that the operator lists in "
                "FETCH_ALLOWED_PRIVATE_HOSTS"
            )
        with contextlib.suppress(ValueError):
            _refuse_private(ipaddress.ip_address(host), host)
    return parts


def get(url: str, *, headers: Mapping[str, str] | None = None) -> Answer:
    return _fetch("GET", url, None, headers or {})


def post_form(url: str, fields: Mapping[str, str], *, headers: Mapping[str, str] | None = None) -> Answer:
    extra = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
    return _fetch("POST", url, urlencode(fields).encode(), extra)


def post_json(url: str, document: Mapping[str, Any]) -> Answer:
    return _fetch("POST", url, json.dumps(document).encode(), {"Content-Type": "application/json"})


def _fetch(method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
    parts = check_url(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    addresses = _resolve(parts, host, port)
    try:
        with _connection(parts, host, addresses) as connection:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            sent = {"Accept": "application/json", "User-Agent": "sallyport", "Connection": "close", **headers}
            connection.request(method, target, body=body, headers=sent)
            response = connection.getresponse()
            content = response.read(MAX_BODY_BYTES + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FetchError(f"{host} did not answer properly within {TIMEOUT_SECONDS:.0f} s ({_kind(error)})") from error
    if 300 <= response.status < 400:
        raise FetchError(f"{host} answered with a redirect; configure the final URL")
    if len(content) > MAX_BODY_BYTES:
        raise FetchError(f"{host} answered with more than {MAX_BODY_BYTES // 1024} KiB")
    if response.length:
        raise FetchError(f"{host} ended its answer half-way")
    found: dict[str, str] = {}
    for name, value in response.getheaders():
        found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else value
    return Answer(response.status, content, found)


@contextlib.contextmanager
def _connection(
    parts: SplitResult, host: str, addresses: list[tuple[str, int]]
) -> Iterator[http.client.HTTPConnection]:
    """A connection to one of exactly `addresses`. A timer ends it at the deadline: a trickle can not stretch it."""
    sock: socket.socket = _dial(addresses)
    ends = time.monotonic() + TIMEOUT_SECONDS
    deadline = threading.Timer(TIMEOUT_SECONDS, _shut, [sock])
    deadline.daemon = True
    deadline.start()
    try:
        if parts.scheme == "https":
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
            deadline.args = [sock]
        connection = http.client.HTTPConnection(host, parts.port or (443 if parts.scheme == "https" else 80))
        # http.client writes the port into Host unless it is 80, its own default; https wants 443 left out.
        connection.default_port = 443 if parts.scheme == "https" else 80
        connection.sock = sock
        yield connection
        if time.monotonic() >= ends:
            # The clock, not the timer's flag: that is raised only after the connection was cut.
            # http.client takes the end the timer made for the server's: a cut answer must not pass for a whole one.
            raise TimeoutError
    finally:
        deadline.cancel()
        sock.close()


def _dial(addresses: list[tuple[str, int]]) -> socket.socket:
    for address in addresses[:-1]:
        with contextlib.suppress(OSError):
            return _dialled(address)
    return _dialled(addresses[-1])


def _dialled(address: tuple[str, int]) -> socket.socket:
    sock = socket.create_connection(address, timeout=DIAL_TIMEOUT_SECONDS)
    sock.settimeout(TIMEOUT_SECONDS)
    return sock


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _resolve(parts: SplitResult, host: str, port: int) -> list[tuple[str, int]]:
    try:
        found = _resolver.submit(_lookup, host, port).result(RESOLVE_TIMEOUT_SECONDS)
    except FutureTimeout as error:
        raise FetchError(f"the name {host} was not resolved within {RESOLVE_TIMEOUT_SECONDS:.0f} s") from error
    except (OSError, UnicodeError) as error:
        raise FetchError(f"the name {host} does not resolve") from error
    if not _is_allowed_private(parts):
        for address in found:
            _refuse_private(ipaddress.ip_address(address.split("%")[0]), host)
    return [(address, port) for address in found[:MAX_ADDRESSES]]


def _lookup(host: str, port: int) -> list[str]:
    # *.localhost is this machine (RFC 6761), also where the resolver does not know it.
    if host == "localhost" or host.endswith(".localhost"):
        return ["127.0.0.1"]
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _is_allowed_private(parts: SplitResult) -> bool:
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.hostname}:{port}" in settings.FETCH_ALLOWED_PRIVATE_HOSTS


def _refuse_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address, host: str) -> None:
    inner: ipaddress.IPv4Address | ipaddress.IPv6Address | None = address
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64 or address.sixtofour is not None or address.teredo is not None:
            inner = None
        elif address.ipv4_mapped is not None:
            inner = address.ipv4_mapped
    if inner is None or not inner.is_global or inner.is_multicast:
        raise FetchError(f"{host} is a private address; the operator may list it in FETCH_ALLOWED_PRIVATE_HOSTS")


def _kind(error: Exception) -> str:
    """The class of failure only: error texts of TLS and HTTP libraries may quote what the peer sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return type(error).__name__
