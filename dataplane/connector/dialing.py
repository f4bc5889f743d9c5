"""Reaching an origin: resolve once, check the addresses, dial those addresses, name the reason of any failure."""

import asyncio
import errno
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from dataplane.transport import client_tls_context, enable_keepalive, resolve
from dataplane.wire.destination import IPAddress, forbidden_reason, unmapped
from dataplane.wire.origin_request import OriginRequest, is_address_allowed

logger = logging.getLogger(__name__)

MAX_ADDRESSES_TRIED = 4

# Returns why an address must not be dialled, or None.
AddressPolicy = Callable[[IPAddress, int], str | None]
ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class DialError(Exception):
    """`reason` is a stable code for the edge, `detail` says what happened to whom, for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class TlsOptions:
    context: ssl.SSLContext
    server_name: str
    handshake_seconds: float


def allow_any(_address: IPAddress, _port: int) -> str | None:
    """For services the operator wrote into the configuration by name."""
    return None


def bastion_policy(origin_request: OriginRequest, metrics_port: int | None) -> AddressPolicy:
    """With ipRules only what they allow; without them anything but addresses no person means to reach.
    The connector's own metrics listener is never a destination (security.md AC-62)."""

    def check(address: IPAddress, port: int) -> str | None:
        plain = unmapped(address)
        if port == metrics_port and (plain.is_loopback or plain.is_unspecified):
            return "the connector's own metrics address"
        if origin_request.ip_rules:
            is_allowed = is_address_allowed(address, port, origin_request.ip_rules)
            return None if is_allowed else "not allowed by the ipRules of this connector"
        return forbidden_reason(address)

    return check


def tls_options(origin_request: OriginRequest, server_name: str) -> TlsOptions:
    """Raises DialError when the CA pool cannot be read."""
    try:
        context = _tls_context(origin_request.ca_pool, origin_request.no_tls_verify)
    except (OSError, ssl.SSLError) as error:
        raise DialError("origin_tls", f"cannot use the CA file {origin_request.ca_pool}: {error}") from error
    name = origin_request.origin_server_name or server_name
    return TlsOptions(context, name, origin_request.tls_timeout_seconds or 10.0)


@lru_cache(maxsize=32)
def _tls_context(ca_pool: str, no_verify: bool) -> ssl.SSLContext:
    context = client_tls_context(Path(ca_pool) if ca_pool else None)
    if no_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def dial_tcp(
    factory: ProtocolFactory,
    host: str,
    port: int,
    origin_request: OriginRequest,
    *,
    policy: AddressPolicy = allow_any,
    tls: TlsOptions | None = None,
) -> asyncio.Transport:
    """A connected transport. The name is resolved exactly once, and only addresses that passed `policy` are dialled:
    a second answer of the resolver can change nothing (security.md AC-62). Raises DialError."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    seconds = origin_request.connect_timeout_seconds or 30.0
    addresses = await _permitted_addresses(host, port, target, policy, seconds)
    failure: DialError | None = None
    for address in addresses[:MAX_ADDRESSES_TRIED]:
        try:
            async with asyncio.timeout(seconds):
                return await _connect(factory, address, port, origin_request, tls)
        except (OSError, TimeoutError, ssl.SSLError, ssl.CertificateError) as error:
            failure = _describe(error, _shown(host, address, port), seconds)
    assert failure is not None, "_permitted_addresses never returns an empty list"
    raise failure


async def dial_unix(
    factory: ProtocolFactory, path: str, origin_request: OriginRequest, *, tls: TlsOptions | None = None
) -> asyncio.Transport:
    """Raises DialError."""
    seconds = origin_request.connect_timeout_seconds or 30.0
    try:
        async with asyncio.timeout(seconds):
            transport, _ = await asyncio.get_running_loop().create_unix_connection(
                factory,
                path,
                ssl=tls.context if tls else None,
                server_hostname=tls.server_name if tls else None,
                ssl_handshake_timeout=tls.handshake_seconds if tls else None,
            )
    except (OSError, TimeoutError, ssl.SSLError) as error:
        raise _describe(error, path, seconds) from error
    return transport


async def _permitted_addresses(
    host: str, port: int, target: str, policy: AddressPolicy, seconds: float
) -> list[IPAddress]:
    try:
        addresses = await resolve(host, port, timeout_seconds=seconds)
    except TimeoutError as error:
        raise DialError("origin_unresolvable", f"{host} did not resolve within {seconds:g} s") from error
    except OSError as error:
        raise DialError("origin_unresolvable", f"{host} does not resolve: {error.strerror or error}") from error
    refusals = {address: policy(address, port) for address in addresses}
    permitted = [address for address, refusal in refusals.items() if refusal is None]
    if permitted:
        return permitted
    if not refusals:
        raise DialError("origin_unresolvable", f"{host} has no address")
    address, refusal = next(iter(refusals.items()))
    shown = target if _is_literal(host) else f"{target} ({address})"
    raise DialError("destination_refused", f"{shown} is {refusal}")


async def _connect(
    factory: ProtocolFactory,
    address: IPAddress,
    port: int,
    origin_request: OriginRequest,
    tls: TlsOptions | None,
) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    connecting = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        enable_keepalive(connecting, origin_request.tcp_keep_alive_seconds)
        await loop.sock_connect(connecting, (str(address), port))
        transport, _ = await loop.create_connection(
            factory,
            sock=connecting,
            ssl=tls.context if tls else None,
            server_hostname=tls.server_name if tls else None,
            ssl_handshake_timeout=tls.handshake_seconds if tls else None,
        )
    except BaseException:
        connecting.close()
        raise
    return transport


def _describe(error: Exception, shown: str, seconds: float) -> DialError:
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, ssl.SSLCertVerificationError):
        return DialError("origin_tls", f"the certificate of {shown} was not accepted: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        return DialError("origin_tls", f"TLS handshake with {shown} failed: {error.reason or error}")
    if isinstance(error, TimeoutError) or number == errno.ETIMEDOUT:
        return DialError("origin_timeout", f"no answer from {shown} within {seconds:g} s")
    if isinstance(error, ConnectionRefusedError):
        return DialError("origin_refused", f"connection refused by {shown}")
    if number == errno.ENOENT:
        return DialError("origin_missing", f"there is no socket {shown}")
    if number in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return DialError("origin_unreachable", f"no route to {shown}")
    if number in (errno.EMFILE, errno.ENFILE):
        return DialError("connector_exhausted", "this connector is out of file descriptors")
    return DialError("origin_failed", f"cannot connect to {shown}: {getattr(error, 'strerror', None) or error}")


def _shown(host: str, address: IPAddress, port: int) -> str:
    literal = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    return literal if _is_literal(host) or host == "localhost" else f"{host} ({literal})"


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
