"""HTTP/1.1 heads and bodies, strictly (RFC 9112). Pure: bytes in, values or HeadError out.

Everything two parsers could read in two ways is refused, because the request is parsed again behind the edge.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from dataplane.wire.headers import Header, is_valid_name, is_valid_value

MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 128
MAX_METHOD_CHARACTERS = 32
MAX_CONTENT_LENGTH_DIGITS = 15
MAX_CHUNK_LINE_BYTES = 256
MAX_TRAILER_BYTES = 8 * 1024
END_OF_HEAD = b"\r\n\r\n"


class HeadError(Exception):
    """A request that cannot be read. `status` is the answer, `reason` a stable code."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class RequestHead:
    method: str
    target: str
    minor_version: int
    # Names lower case, in the order sent, repeated names repeated.
    headers: tuple[Header, ...]
    hostname: str
    content_length: int | None
    is_chunked: bool

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def tokens(self, name: str) -> set[str]:
        """The comma-separated tokens of a header, lower case."""
        return {token.strip().lower() for value in self.get_all(name) for token in value.split(",")}

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def has_body(self) -> bool:
        return self.is_chunked or bool(self.content_length)

    @property
    def is_websocket(self) -> bool:
        return "websocket" in self.tokens("upgrade") and "upgrade" in self.tokens("connection")

    @property
    def wants_keep_alive(self) -> bool:
        connection = self.tokens("connection")
        return "close" not in connection and (self.minor_version == 1 or "keep-alive" in connection)

    @property
    def expects_continue(self) -> bool:
        return self.minor_version == 1 and "100-continue" in self.tokens("expect")


def parse_request_head(data: bytes) -> RequestHead:
    """`data` ends before the empty line. Raises HeadError."""
    first, *lines = _split_lines(data)
    method, target, minor_version = _request_line(first)
    headers = _parse_header_lines(lines)
    host = _host_of(headers, minor_version)
    content_length, is_chunked = _body_framing(headers, minor_version)
    return RequestHead(
        method=method,
        target=_origin_form(method, target, host),
        minor_version=minor_version,
        headers=headers,
        hostname=hostname_of(host),
        content_length=content_length,
        is_chunked=is_chunked,
    )


def parse_response_head(data: bytes) -> tuple[int, tuple[Header, ...]]:
    """Status and headers of the control plane's answer. Raises HeadError(502)."""
    try:
        first, *lines = _split_lines(data)
        version, _, rest = first.partition(" ")
        status = rest[:3]
        if version not in ("HTTP/1.1", "HTTP/1.0") or not (status.isascii() and status.isdigit()):
            raise _bad("bad_response", "not an HTTP/1.1 answer")
        return int(status), _parse_header_lines(lines)
    except HeadError as error:
        raise HeadError(502, "control_plane_bad_answer", error.message) from error


def hostname_of(host: str) -> str:
    """Host header without port, lower case, no trailing dot."""
    return host.rpartition(":")[0].lower().rstrip(".") if ":" in host else host.lower().rstrip(".")


def parse_cookies(values: Iterable[str]) -> dict[str, str]:
    """First occurrence wins, as RFC 6265 servers commonly do; broken pairs are skipped."""
    cookies: dict[str, str] = {}
    for value in values:
        for pair in value.split(";"):
            name, equals, content = pair.strip().partition("=")
            if equals:
                cookies.setdefault(name.strip(), content.strip().strip('"'))
    return cookies


def _bad(reason: str, message: str) -> HeadError:
    return HeadError(400, reason, message)


def _split_lines(data: bytes) -> list[str]:
    lines = data.split(b"\r\n")
    # A bare CR or LF is where two parsers disagree about the end of a line (RFC 9112 section 2.2).
    if any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines):
        raise _bad("malformed_request", "a line of the request head contains a bare CR, LF or NUL")
    if len(lines) > MAX_HEADERS + 1:
        raise HeadError(431, "too_many_headers", f"more than {MAX_HEADERS} header fields")
    return [line.decode("latin-1") for line in lines]


def _request_line(line: str) -> tuple[str, str, int]:
    parts = line.split(" ")
    if len(parts) != 3:
        raise _bad("malformed_request", "the request line is not METHOD SP TARGET SP VERSION")
    method, target, version = parts
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        if version.startswith("HTTP/"):
            raise HeadError(505, "http_version_not_supported", "only HTTP/1.1 is spoken here")
        raise _bad("malformed_request", "the request line has no HTTP version")
    if not is_valid_name(method) or len(method) > MAX_METHOD_CHARACTERS:
        raise _bad("malformed_request", "the request method is not a token")
    if method in ("CONNECT", "TRACE"):
        raise HeadError(405, "method_not_allowed", f"{method} is not served here")
    if not target or any(not "!" <= character <= "~" for character in target):
        raise _bad("malformed_request", "the request target contains characters that must be percent-encoded")
    return method, target, int(version[-1])


def _origin_form(method: str, target: str, host: str) -> str:
    if target.startswith("/"):
        return target.partition("#")[0]
    if target == "*" and method == "OPTIONS":
        return "/"
    scheme, separator, rest = target.partition("://")
    authority, slash, path = rest.partition("/")
    if not separator or scheme.lower() not in ("http", "https") or authority.lower() != host.lower():
        raise _bad("malformed_request", "the request target is neither a path nor a URL of this host")
    return (slash + path).partition("#")[0] or "/"


def _parse_header_lines(lines: list[str]) -> tuple[Header, ...]:
    headers: list[Header] = []
    for line in lines:
        name, colon, value = line.partition(":")
        # Also catches obsolete line folding and a space before the colon (RFC 9112 section 5).
        if not colon or not is_valid_name(name):
            raise _bad("malformed_header", "a header field has no valid name")
        value = value.strip(" \t")
        if not is_valid_value(value):
            raise _bad("malformed_header", f"the value of header {name[:64]} contains control characters")
        headers.append((name.lower(), value))
    return tuple(headers)


def _host_of(headers: tuple[Header, ...], minor_version: int) -> str:
    hosts = [value for name, value in headers if name == "host"]
    if len(hosts) > 1:
        raise _bad("duplicate_host", "more than one Host header")
    if not hosts or not hosts[0]:
        raise _bad("missing_host", f"HTTP/1.{minor_version} request without a Host header")
    name, colon, port = hosts[0].partition(":")
    if not name or not all(c.isascii() and (c.isalnum() or c in "-._") for c in name) or (colon and not port.isdigit()):
        raise _bad("malformed_host", "the Host header is not a host name with an optional port")
    return hosts[0]


def _body_framing(headers: tuple[Header, ...], minor_version: int) -> tuple[int | None, bool]:
    lengths = {value for name, value in headers if name == "content-length"}
    codings = [value.lower() for name, value in headers if name == "transfer-encoding"]
    if codings:
        # Both at once is request smuggling's favourite (RFC 9112 section 6.1).
        if lengths or codings != ["chunked"] or minor_version == 0:
            raise _bad("ambiguous_body", "Transfer-Encoding must be chunked, alone, and without Content-Length")
        return None, True
    if not lengths:
        return None, False
    text = lengths.pop()
    if lengths or not (text.isascii() and text.isdigit()) or len(text) > MAX_CONTENT_LENGTH_DIGITS:
        raise _bad("ambiguous_body", "Content-Length is not one decimal number")
    return int(text), False


class BodyDecoder:
    """Takes the bytes after a head apart into body bytes and what follows the body."""

    def __init__(self, content_length: int | None, *, is_chunked: bool) -> None:
        self._remaining = content_length or 0
        self._is_chunked = is_chunked
        self._is_in_chunk = False
        self._is_in_trailers = False
        self._needs_line_end = False
        self._trailer_bytes = 0
        self.is_complete = not is_chunked and self._remaining == 0

    def take(self, buffer: bytearray) -> bytes:
        """Removes what belongs to the body from the front of `buffer` and returns its content. Raises
        HeadError."""
        if not self._is_chunked:
            return self._take_counted(buffer)
        content = bytearray()
        while not self.is_complete and buffer:
            if self._is_in_chunk:
                content += self._take_counted(buffer)
            elif not self._take_line(buffer):
                break
        return bytes(content)

    def _take_counted(self, buffer: bytearray) -> bytes:
        piece = bytes(buffer[: self._remaining])
        del buffer[: len(piece)]
        self._remaining -= len(piece)
        if self._remaining == 0:
            self.is_complete = not self._is_chunked
            self._needs_line_end = self._is_in_chunk
            self._is_in_chunk = False
        return piece

    def _take_line(self, buffer: bytearray) -> bool:
        end = buffer.find(b"\r\n", 0, MAX_CHUNK_LINE_BYTES)
        if end < 0:
            if len(buffer) >= MAX_CHUNK_LINE_BYTES:
                raise _bad("malformed_chunk", "a chunk line is too long")
            return False
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        if b"\n" in line or b"\r" in line:
            raise _bad("malformed_chunk", "a chunk line contains a bare CR or LF")
        self._read_line(line)
        return True

    def _read_line(self, line: bytes) -> None:
        if self._needs_line_end:
            if line:
                raise _bad("malformed_chunk", "chunk data is longer than its size")
            self._needs_line_end = False
        elif self._is_in_trailers:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > MAX_TRAILER_BYTES:
                raise _bad("malformed_chunk", "trailers are too long")
            self.is_complete = not line
        else:
            size = line.partition(b";")[0].strip(b" \t")
            if not size or len(size) > 15 or not set(size) <= set(b"0123456789abcdefABCDEF"):
                raise _bad("malformed_chunk", "a chunk size is not a hexadecimal number")
            self._remaining = int(size, 16)
            self._is_in_chunk = self._remaining > 0
            self._is_in_trailers = self._remaining == 0
