"""Blocking HTTP/1.1 for the command line: one exchange per connection, deadlines, bounded answers, no redirects.

Own code, not http.client, for two reasons: `sallyport access ssh` runs at every ssh and http.client alone adds half
to its import time, and the WebSocket handshake must hand over the bytes that follow the head.
"""

import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from dataplane.errors import CommandError
from dataplane.proxy import open_tunnel, proxy_for

DIAL_TIMEOUT_SECONDS = 10.0
MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 1024 * 1024
READ_BYTES = 64 * 1024
USER_AGENT = "sallyport/0.1.0"


class HttpError(CommandError):
    """No usable answer: name, connection, TLS, timeout or malformed HTTP."""


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    @property
    def text(self) -> str:
        """host, or host:port when the port is not 443; an IPv6 host gets brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"


def parse_address(text: str, *, default_port: int | None = 443) -> Address:
    """host, host:port, [v6]:port. Raises CommandError with what was wrong."""
    try:
        parts = urlsplit(f"//{text.strip()}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise CommandError(f"{text!r} is not HOST or HOST:PORT") from None
    if not host or parts.path or parts.query or parts.fragment or parts.username is not None:
        raise CommandError(f"{text!r} is not HOST or HOST:PORT")
    chosen = port if port is not None else default_port
    if chosen is None:
        raise CommandError(f"{text!r} has no port; write HOST:PORT")
    return Address(host, chosen)


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    def all(self, name: str) -> list[str]:
        wanted = name.lower()
        return [value for key, value in self.headers if key == wanted]


class Dialer:
    """Opens connections. `edge` replaces the dialled address, not the name that is verified and sent as Host."""

    def __init__(self, *, edge: Address | None = None, cafile: str | None = None) -> None:
        self.edge = edge
        self.cafile = cafile
        self._context: ssl.SSLContext | None = None

    def open_tls(self, address: Address, *, timeout: float = DIAL_TIMEOUT_SECONDS) -> ssl.SSLSocket:
        """A verified TLS connection, no ALPN (the WebSocket port speaks HTTP/1.1). Raises HttpError."""
        target = self.edge or address
        raw = self._reach(target, timeout)
        try:
            return self._tls_context().wrap_socket(raw, server_hostname=address.host)
        except ssl.SSLCertVerificationError as error:
            raw.close()
            hint = "" if self.cafile else "; for a private CA give --cacert FILE or SALLYPORT_CACERT"
            raise HttpError(f"{address.host}: certificate not trusted: {error.verify_message}{hint}") from error
        except (OSError, ValueError) as error:
            raw.close()
            raise HttpError(f"{address.host}: TLS failed at {target.host}:{target.port}: {describe(error)}") from error

    def _reach(self, target: Address, timeout: float) -> socket.socket:
        """Through HTTPS_PROXY if there is one; never for an address given by --edge, which is meant as it is."""
        proxy = None if self.edge or is_loopback_name(target.host) else proxy_for(target.host)
        if proxy is None:
            return _connect(target, timeout)
        raw = _connect(Address(proxy.host, proxy.port), timeout)
        try:
            open_tunnel(raw, proxy, target.host, target.port)
        except OSError as error:
            raw.close()
            raise HttpError(f"the proxy {proxy.host}:{proxy.port} failed: {describe(error)}") from error
        except CommandError:
            raw.close()
            raise
        return raw

    def open_plain(self, address: Address, *, timeout: float = DIAL_TIMEOUT_SECONDS) -> socket.socket:
        return _connect(self.edge or address, timeout)

    def _tls_context(self) -> ssl.SSLContext:
        if self._context is None:
            try:
                self._context = ssl.create_default_context(cafile=self.cafile)
            except (OSError, ssl.SSLError) as error:
                raise CommandError(f"cannot read the CA file {self.cafile}: {describe(error)}") from error
            self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        return self._context

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 10.0,
    ) -> Response:
        """One exchange within `timeout` seconds overall. Redirects are returned, not followed. Raises HttpError."""
        deadline = time.monotonic() + timeout
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise HttpError(f"not an http(s) URL: {printable_url(url)}")
        address = _address_of(url)
        opener = self.open_tls if parts.scheme == "https" else self.open_plain
        connection = opener(address, timeout=min(timeout, DIAL_TIMEOUT_SECONDS))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            head = encode_request(method, target, parts.netloc.rpartition("@")[2], headers or {}, body)
            connection.settimeout(_remaining(deadline))
            connection.sendall(head + (body or b""))
            reader = Reader(connection, deadline)
            return reader.read_response(method)
        except TimeoutError:
            raise HttpError(f"{address.host}: no answer within {timeout:.0f} s") from None
        except (OSError, ssl.SSLError) as error:
            raise HttpError(f"{address.host}: connection failed: {describe(error)}") from error
        finally:
            connection.close()


def encode_request(
    method: str,
    target: str,
    host: str,
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    upgrade: bool = False,
) -> bytes:
    """Refuses line breaks and NUL anywhere: a header value from the command line must not become a second header."""
    fields = {"Host": host, "User-Agent": USER_AGENT, **headers}
    if body is not None:
        fields["Content-Length"] = str(len(body))
    if not upgrade:
        fields["Connection"] = "close"
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    for line in lines:
        if any(ch in line for ch in "\r\n\0"):
            raise CommandError(f"a line break is not allowed in {line.split(':', 1)[0]!r}")
    try:
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    except UnicodeEncodeError:
        raise CommandError("only latin-1 characters can be sent in a request line or header") from None


class Reader:
    """Reads one answer from a blocking socket. After read_head, `rest` holds the bytes that already followed it."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self.rest = b""

    def read_response(self, method: str) -> Response:
        head = self.read_head()
        while 100 <= head.status < 200 and head.status != 101:
            head = self.read_head()
        if method == "HEAD" or head.status in (204, 304):
            return head
        return Response(head.status, head.headers, self.read_body(head))

    def read_head(self) -> Response:
        while b"\r\n\r\n" not in self.rest:
            if len(self.rest) > MAX_HEAD_BYTES:
                raise HttpError("the answer's header is too large")
            if not self._more():
                raise HttpError("the connection was closed before an answer came")
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        return parse_head(head)

    def read_body(self, head: Response, *, limit: int = MAX_BODY_BYTES) -> bytes:
        if (head.header("transfer-encoding") or "").lower() == "chunked":
            return self._read_chunks(limit)
        length = head.header("content-length")
        if length is None:
            while len(self.rest) <= limit and self._more():
                pass
            return self._bounded(self.rest, limit)
        if not length.isdigit() or int(length) > limit:
            raise HttpError(f"the answer's length {printable_url(length)} is not acceptable")
        return self._take(int(length))

    def _read_chunks(self, limit: int) -> bytes:
        body = b""
        while True:
            try:
                size = int(self._line().split(b";")[0], 16)
            except ValueError:
                raise HttpError("malformed chunked answer") from None
            if size <= 0:
                return body
            body = self._bounded(body + self._take(min(size, limit + 1)), limit)
            if self._take(2) != b"\r\n":
                raise HttpError("malformed chunked answer")

    def _line(self) -> bytes:
        while b"\r\n" not in self.rest:
            if len(self.rest) > MAX_HEAD_BYTES or not self._more():
                raise HttpError("malformed chunked answer")
        line, _, self.rest = self.rest.partition(b"\r\n")
        return line

    def _take(self, count: int) -> bytes:
        while len(self.rest) < count:
            if not self._more():
                raise HttpError("the connection was closed in the middle of an answer")
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def _more(self) -> bool:
        self._connection.settimeout(_remaining(self._deadline))
        data = self._connection.recv(READ_BYTES)
        self.rest += data
        return bool(data)

    @staticmethod
    def _bounded(body: bytes, limit: int) -> bytes:
        if len(body) > limit:
            raise HttpError(f"the answer is larger than {limit} bytes")
        return body


def parse_head(head: bytes) -> Response:
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not status.isdigit():
        raise HttpError("the answer is not HTTP/1.1; is this really the edge's HTTPS port?")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise HttpError("malformed header in the answer")
        headers.append((name.lower(), value.strip()))
    return Response(int(status), tuple(headers))


def printable_url(url: str) -> str:
    """A URL or header fit for a message: no query (it may hold a token), no control characters, bounded."""
    return "".join(ch for ch in url.split("?")[0] if ch.isprintable())[:200]


def describe(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def is_loopback_name(host: str) -> bool:
    """RFC 6761 section 6.3: these names mean this machine, whatever a resolver says."""
    return host == "localhost" or host.endswith(".localhost")


def _address_of(url: str) -> Address:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        raise HttpError(f"bad port in {printable_url(url)}") from None
    return Address(parts.hostname or "", port or (443 if parts.scheme == "https" else 80))


def _connect(target: Address, timeout: float) -> socket.socket:
    hosts = ["127.0.0.1", "::1"] if is_loopback_name(target.host.rstrip(".").lower()) else [target.host]
    failure: OSError | None = None
    for host in hosts:
        try:
            connection = socket.create_connection((host, target.port), timeout=timeout)
        except socket.gaierror as error:
            raise HttpError(f"cannot resolve {target.host}: {error.strerror}") from error
        except (OSError, UnicodeError) as error:
            failure = failure or (error if isinstance(error, OSError) else OSError(str(error)))
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    assert failure is not None
    raise HttpError(f"cannot connect to {target.host}:{target.port}: {describe(failure)}") from failure


def _remaining(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
