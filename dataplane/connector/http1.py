"""HTTP/1.1 toward an origin, sans-io: request heads out, responses in (RFC 9112)."""

from dataclasses import dataclass
from enum import Enum

from dataplane.wire.headers import Header, is_valid_name, is_valid_value, strip_hop_by_hop

MAX_HEAD_BYTES = 128 * 1024
MAX_LINE_BYTES = 4096
MAX_TRAILERS = 100
CHUNK_END = b"0\r\n\r\n"
_METHOD_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_")
_BODILESS_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "DELETE", "CONNECT"})


class Http1Error(Exception):
    """The request cannot be written, or the origin's answer cannot be understood."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """`is_chunked`: the body must be framed with chunk()."""

    data: bytes
    is_chunked: bool


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """`headers` without hop-by-hop fields, but Connection and Upgrade of a 101. `has_body` is False after 101 too."""

    status: int
    headers: list[Header]
    content_length: str | None
    has_body: bool


@dataclass(slots=True)
class BodyReceived:
    """Points into what was given to receive_data."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class ResponseEnded:
    trailers: list[Header]


Event = ResponseHead | BodyReceived | ResponseEnded


def build_request(
    headers: list[Header], *, host: str, is_upgrade: bool, has_body: bool, extra: list[Header]
) -> RequestHead:
    """Raises Http1Error for a method or path that would not be one token in the request line."""
    pseudo = {name: value for name, value in headers if name.startswith(":")}
    method, path = pseudo.get(":method", ""), pseudo.get(":path", "")
    if not method or not _METHOD_CHARACTERS.issuperset(method):
        raise Http1Error("the request method is not valid")
    is_target = path.startswith("/") or (method == "OPTIONS" and path == "*")
    if not is_target or any(character <= " " or character == "\x7f" for character in path):
        raise Http1Error("the request path is not valid")
    fields = [item for item in strip_hop_by_hop(headers) if not item[0].startswith(":")]
    cookies = [value for name, value in fields if name == "cookie"]
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in fields if name not in ("host", "cookie", "expect")]
    if cookies:
        lines.append("cookie: " + "; ".join(cookies))  # HTTP/2 may split them (RFC 9113 section 8.2.3)
    lines += [f"{name}: {value}" for name, value in extra]
    is_sized = any(name == "content-length" for name, _ in fields)
    is_chunked = has_body and not is_sized
    if is_chunked:
        lines.append("Transfer-Encoding: chunked")
    elif not has_body and not is_sized and method not in _BODILESS_METHODS:
        lines.append("Content-Length: 0")
    lines += ["Connection: Upgrade", "Upgrade: websocket"] if is_upgrade else ["Connection: close"]
    return RequestHead(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace"), is_chunked)


def chunk(data: memoryview) -> bytes:
    return b"".join((f"{len(data):x}\r\n".encode(), data, b"\r\n"))


class _State(Enum):
    HEAD = "head"
    SIZED = "sized"
    UNTIL_CLOSE = "until close"
    CHUNK_SIZE = "chunk size"
    CHUNK_DATA = "chunk data"
    CHUNK_END = "chunk end"
    TRAILERS = "trailers"
    DONE = "done"


class ResponseParser:
    """Reads one response. After a 101 the bytes that follow the head are in take_rest()."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._state = _State.HEAD
        self._buffer = bytearray()
        self._left = 0
        self._trailers: list[Header] = []
        self.is_upgraded = False

    @property
    def is_done(self) -> bool:
        return self._state is _State.DONE

    def receive_data(self, data: memoryview) -> list[Event]:
        """Raises Http1Error."""
        events: list[Event] = []
        view: memoryview = data
        while len(view) and self._state is not _State.DONE:
            view = self._step(view, events)
        if len(view) and self.is_upgraded:
            self._buffer += view
        return events

    def receive_eof(self) -> list[Event]:
        """The origin closed. Raises Http1Error when the response is cut short."""
        if self._state is _State.DONE:
            return []
        if self._state is not _State.UNTIL_CLOSE:
            raise Http1Error("the origin closed the connection before its answer was complete")
        self._state = _State.DONE
        return [ResponseEnded([])]

    def take_rest(self) -> bytes:
        rest, self._buffer = bytes(self._buffer), bytearray()
        return rest

    def _step(self, view: memoryview, events: list[Event]) -> memoryview:
        if self._state is _State.HEAD:
            return self._read_head(view, events)
        if self._state is _State.UNTIL_CLOSE:
            events.append(BodyReceived(view))
            return view[len(view) :]
        if self._state in (_State.SIZED, _State.CHUNK_DATA):
            return self._read_sized(view, events)
        return self._read_line(view, events)

    def _read_head(self, view: memoryview, events: list[Event]) -> memoryview:
        # Searched from just before the new bytes: a head that drips in costs no quadratic time.
        searched = max(0, len(self._buffer) - 3)
        known = len(self._buffer)
        self._buffer += view[:MAX_HEAD_BYTES]
        end = self._buffer.find(b"\r\n\r\n", searched)
        if end < 0:
            if len(self._buffer) >= MAX_HEAD_BYTES:
                raise Http1Error("the head of the origin's answer is too large")
            return view[len(view) :]
        head = bytes(self._buffer[:end])
        self._buffer = bytearray()
        self._take_head(head, events)
        return view[end + 4 - known :]

    def _take_head(self, head: bytes, events: list[Event]) -> None:
        lines = head.decode("latin-1").split("\r\n")
        status = _parse_status_line(lines[0])
        headers = [_parse_field(line) for line in lines[1:]]
        if 100 <= status < 200 and status != 101:
            return  # the final answer follows
        codings = [value.lower().strip() for name, value in headers if name.lower() == "transfer-encoding"]
        length = _content_length(headers)
        self.is_upgraded = status == 101
        is_bodiless = self.is_upgraded or self._method == "HEAD" or status in (204, 304)
        self._state = _State.DONE if is_bodiless else self._body_state(codings, length)
        kept = headers if self.is_upgraded else strip_hop_by_hop(headers)
        shown = None if codings or length is None else str(length)
        events.append(ResponseHead(status, kept, shown, self._state is not _State.DONE))
        if self._state is _State.DONE and not self.is_upgraded:
            events.append(ResponseEnded([]))

    def _body_state(self, codings: list[str], length: int | None) -> _State:
        if codings:
            # Transfer-Encoding wins over Content-Length (RFC 9112 section 6.3).
            if codings != ["chunked"]:
                raise Http1Error("the origin uses a transfer coding other than chunked")
            return _State.CHUNK_SIZE
        if length is None:
            return _State.UNTIL_CLOSE
        self._left = length
        return _State.SIZED if length else _State.DONE

    def _read_sized(self, view: memoryview, events: list[Event]) -> memoryview:
        piece = view[: self._left]
        self._left -= len(piece)
        events.append(BodyReceived(piece))
        if not self._left:
            if self._state is _State.CHUNK_DATA:
                self._state = _State.CHUNK_END
            else:
                self._state = _State.DONE
                events.append(ResponseEnded([]))
        return view[len(piece) :]

    def _read_line(self, view: memoryview, events: list[Event]) -> memoryview:
        window = bytes(view[:MAX_LINE_BYTES])
        end = window.find(b"\n")
        used = len(window) if end < 0 else end + 1
        self._buffer += window[:used]
        if len(self._buffer) > MAX_LINE_BYTES:
            raise Http1Error("a line in the origin's chunked answer is too long")
        if end >= 0:
            line = bytes(self._buffer).rstrip(b"\r\n").decode("latin-1")
            self._buffer = bytearray()
            self._take_line(line, events)
        return view[used:]

    def _take_line(self, line: str, events: list[Event]) -> None:
        if self._state is _State.CHUNK_END:
            if line:
                raise Http1Error("a chunk of the origin's answer has the wrong length")
            self._state = _State.CHUNK_SIZE
        elif self._state is _State.CHUNK_SIZE:
            self._left = _parse_chunk_size(line)
            self._state = _State.CHUNK_DATA if self._left else _State.TRAILERS
        elif line:
            if len(self._trailers) >= MAX_TRAILERS:
                raise Http1Error("the origin sent too many trailers")
            self._trailers.append(_parse_field(line))
        else:
            self._state = _State.DONE
            events.append(ResponseEnded(strip_hop_by_hop(self._trailers)))


def _parse_status_line(line: str) -> int:
    parts = line.split(" ", 2)
    is_valid = len(parts) >= 2 and parts[0] in ("HTTP/1.1", "HTTP/1.0")
    if not is_valid or len(parts[1]) != 3 or not parts[1].isdigit() or parts[1] < "100":
        raise Http1Error("the origin did not answer with HTTP/1.1")
    return int(parts[1])


def _parse_field(line: str) -> Header:
    name, colon, value = line.partition(":")
    value = value.strip(" \t")
    if not colon or not is_valid_name(name) or not is_valid_value(value):
        raise Http1Error("the origin sent a malformed header")
    return name, value


def _content_length(headers: list[Header]) -> int | None:
    values = {value for name, value in headers if name.lower() == "content-length"}
    if not values:
        return None
    value = values.pop()
    if values or not (value.isascii() and value.isdigit() and len(value) < 19):
        raise Http1Error("the origin sent an unusable Content-Length")
    return int(value)


def _parse_chunk_size(line: str) -> int:
    size = line.partition(";")[0].strip()
    if not size or len(size) > 15 or any(character not in "0123456789abcdefABCDEF" for character in size):
        raise Http1Error("the origin sent an unusable chunk size")
    return int(size, 16)
