"""The services an ingress rule may name (tunnel-edge.md 3.3)."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from dataplane.wire.origin_request import IngressError, OriginRequest

_DEFAULT_TCP_PORTS = {"ssh": 22, "rdp": 3389, "smb": 445, "tcp": 7864}
_HTTP_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_HOST = re.compile(r"^[a-z0-9_.-]{1,253}\Z|^[0-9a-f:.]+\Z")
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*\Z")


@dataclass(frozen=True, slots=True)
class TcpService:
    """A TCP origin whose WebSocket framing the connector terminates; `scheme` is a label (ssh, tcp, ...)."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class HttpService:
    """An HTTP origin; `is_tls` for https and wss."""

    is_tls: bool
    host: str
    port: int

    def __str__(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixService:
    """HTTP over a Unix socket; `is_tls` for unix+tls."""

    is_tls: bool
    path: str

    def __str__(self) -> str:
        return f"unix{'+tls' if self.is_tls else ''}:{self.path}"


@dataclass(frozen=True, slots=True)
class BastionService:
    """TCP to the destination the stream asks for."""

    def __str__(self) -> str:
        return "bastion"


@dataclass(frozen=True, slots=True)
class SocksService:
    """A SOCKS5 server in the connector."""

    def __str__(self) -> str:
        return "socks-proxy"


@dataclass(frozen=True, slots=True)
class HttpStatusService:
    """A fixed status."""

    status: int

    def __str__(self) -> str:
        return f"http_status:{self.status}"


@dataclass(frozen=True, slots=True)
class HelloWorldService:
    """A built-in page that proves the path works."""

    def __str__(self) -> str:
        return "hello_world"


Service = TcpService | HttpService | UnixService | BastionService | SocksService | HttpStatusService | HelloWorldService


def parse_service(text: str, where: str, origin_request: OriginRequest) -> Service:
    """`where` begins the message of any IngressError."""
    if text == "bastion":
        return BastionService()
    if text == "socks-proxy":
        return SocksService()
    if text in ("hello_world", "hello-world"):
        return HelloWorldService()
    if text.startswith("http_status:"):
        return _parse_status(text, where)
    if text.startswith(("unix:", "unix+tls:")):
        return _parse_unix(text, where)
    return _parse_url(text, where, origin_request)


def _parse_status(text: str, where: str) -> HttpStatusService:
    code = text.removeprefix("http_status:")
    if not (code.isascii() and code.isdigit() and 100 <= int(code) <= 999):
        raise IngressError(f"{where}: {text!r} must have a status from 100 to 999")
    return HttpStatusService(int(code))


def _parse_unix(text: str, where: str) -> UnixService:
    scheme, _, path = text.partition(":")
    path = "/" + path.lstrip("/") if path.startswith("//") else path
    if not path.startswith("/") or "\x00" in path:
        raise IngressError(f"{where}: {text!r} must name an absolute socket path, for example unix:/run/app.sock")
    return UnixService(scheme == "unix+tls", path)


def _parse_url(text: str, where: str, origin_request: OriginRequest) -> Service:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise IngressError(f"{where}: service {text!r} is not a valid URL: {error}") from error
    scheme, host = parts.scheme, parts.hostname
    if not scheme or not _SCHEME.match(scheme) or not host or "://" not in text:
        raise IngressError(
            f"{where}: service {text!r} needs a scheme and a host (ssh://localhost:22), or must be one of"
            " bastion, hello_world, http_status:NNN, unix:/path"
        )
    if parts.username is not None or parts.password is not None:
        raise IngressError(f"{where}: service URLs must not carry a user name or password")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise IngressError(f"{where}: service {text!r} must not have a path; the request path is passed on")
    if not _HOST.match(host):
        raise IngressError(f"{where}: service host {host!r} is not a valid name or address")
    if port == 0:
        raise IngressError(f"{where}: service port must be from 1 to 65535")
    if scheme in _HTTP_PORTS:
        return HttpService(_HTTP_PORTS[scheme] == 443, host, port or _HTTP_PORTS[scheme])
    if origin_request.proxy_type == "socks":
        return SocksService()
    port = port or _DEFAULT_TCP_PORTS.get(scheme)
    if port is None:
        raise IngressError(f"{where}: service {text!r} needs a port")
    return TcpService(scheme, host, port)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
