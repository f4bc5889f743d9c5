"""WebSocket frames, sans-io (RFC 6455). Either side; payloads are handed on piece by piece, unmasked."""

import base64
import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

CLOSE_NORMAL: Final = 1000
CLOSE_GOING_AWAY: Final = 1001
CLOSE_PROTOCOL_ERROR: Final = 1002
CLOSE_UNSUPPORTED: Final = 1003
CLOSE_POLICY: Final = 1008
CLOSE_TOO_BIG: Final = 1009
CLOSE_INTERNAL: Final = 1011

# cloudflared cuts longer messages (tunnel-edge.md 0.6): whoever frames toward a connector stays at or below this.
MAX_TUNNEL_MESSAGE_BYTES: Final = 16_384
MAX_CONTROL_PAYLOAD_BYTES: Final = 125
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ZERO_MASK = bytes(4)
_LANES_FROM_BYTES: Final = 256
_XOR_TABLES: Final = [bytes(value ^ mask for value in range(256)) for mask in range(256)]


class WebSocketError(Exception):
    """The peer broke RFC 6455; answer a close frame with `close_code` and end the stream."""

    def __init__(self, close_code: int, message: str) -> None:
        super().__init__(message)
        self.close_code = close_code


class State(IntEnum):
    """What FrameParser reads next."""

    HEADER = 0
    PAYLOAD = 1


@dataclass(slots=True)
class PayloadReceived:
    """A piece of a text or binary message. `opcode` is that of the message, also for continuation frames."""

    opcode: int
    data: bytes | bytearray | memoryview
    is_message_end: bool


@dataclass(frozen=True, slots=True)
class PingReceived:
    """Answer with a pong that carries the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class PongReceived:
    payload: bytes


@dataclass(frozen=True, slots=True)
class CloseReceived:
    """`code` is 1005 when the frame had none."""

    code: int
    reason: str


Event = PayloadReceived | PingReceived | PongReceived | CloseReceived


def accept_key(key: str) -> str:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 section 4.2.2)."""
    # SHA-1 is what the RFC fixes; it proves understanding of the protocol, not identity.
    digest = hashlib.sha1(key.strip().encode("latin-1") + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")


def frame_header(opcode: int, length: int, *, mask: bytes | None, fin: bool = True) -> bytes:
    """2 to 14 bytes; the payload follows, masked with `mask` when given."""
    first = (0x80 if fin else 0) | opcode
    mask_bit = 0 if mask is None else 0x80
    if length < 126:
        head = struct.pack(">BB", first, mask_bit | length)
    elif length < 1 << 16:
        head = struct.pack(">BBH", first, mask_bit | 126, length)
    else:
        head = struct.pack(">BBQ", first, mask_bit | 127, length)
    return head if mask is None else head + mask


def encode_frame(opcode: int, payload: bytes | memoryview, *, mask: bytes | None, fin: bool = True) -> bytes:
    """A whole frame. Clients give 4 bytes as `mask`, servers None; an all-zero mask costs nothing."""
    header = frame_header(opcode, len(payload), mask=mask, fin=fin)
    body = payload if mask is None or mask == _ZERO_MASK else apply_mask(payload, mask)
    return b"".join((header, body))


def encode_close(code: int, reason: str = "", *, mask: bytes | None) -> bytes:
    """The reason is cut to what a control frame holds, without splitting a character."""
    text = reason.encode()[: MAX_CONTROL_PAYLOAD_BYTES - 2].decode("utf-8", "ignore").encode()
    return encode_frame(CLOSE, struct.pack(">H", code) + text, mask=mask)


def apply_mask(data: bytes | bytearray | memoryview, mask: bytes, offset: int = 0) -> bytes | bytearray:
    """XOR with the 4-byte mask repeated, beginning `offset` bytes into it; masks and unmasks.

    Long data goes lane by lane through a translation table: about twice as fast as one big-integer XOR, which
    is what short data gets, and a hundred times a byte loop."""
    shift = offset & 3
    rotated = mask[shift:] + mask[:shift]
    length = len(data)
    if length < _LANES_FROM_BYTES:
        pad = (rotated * ((length + 3) >> 2))[:length]
        return (int.from_bytes(data, "little") ^ int.from_bytes(pad, "little")).to_bytes(length, "little")
    out = bytearray(data)
    for lane in range(4):
        out[lane::4] = out[lane::4].translate(_XOR_TABLES[rotated[lane]])
    return out


class FrameParser:
    """Incremental reader. `expects_mask` is True on a server, False on a client: the other kind is an error.

    Payload of messages is reported as it arrives; control frames are reported whole. `max_message_bytes`
    bounds one message; None means any length, for byte streams where messages have no meaning."""

    def __init__(self, *, expects_mask: bool, max_message_bytes: int | None = None) -> None:
        self._expects_mask = expects_mask
        self._max_message_bytes = max_message_bytes
        self._state = State.HEADER
        self._head = bytearray()
        self._control = bytearray()
        self._opcode = 0
        self._is_fin = False
        self._mask = _ZERO_MASK
        self._mask_offset = 0
        self._left = 0
        self._message_opcode = 0
        self._message_bytes = 0
        self._is_closed = False

    def receive_data(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Raises WebSocketError. Pieces of unmasked frames point into `data`. Nothing follows a close."""
        view = memoryview(data)
        events: list[Event] = []
        position, end = 0, len(view)
        while not self._is_closed and (position < end or (self._state is State.PAYLOAD and not self._left)):
            if self._state is State.HEADER:
                position = self._read_header(view, position)
            else:
                position = self._read_payload(view, position, events)
        return events

    def _read_header(self, view: memoryview, position: int) -> int:
        head = self._head
        needed = _header_length(head)
        taken = view[position : position + needed - len(head)]
        head += taken
        # The length byte decides how long the header is, so the need may have grown.
        if len(head) >= _header_length(head):
            self._begin_frame(head)
            self._head = bytearray()
        return position + len(taken)

    def _begin_frame(self, head: bytearray) -> None:
        first, second = head[0], head[1]
        self._is_fin, self._opcode = bool(first & 0x80), first & 0x0F
        if first & 0x70:
            raise WebSocketError(CLOSE_PROTOCOL_ERROR, "a reserved bit is set")
        if bool(second & 0x80) != self._expects_mask:
            wanted = "masked" if self._expects_mask else "unmasked"
            raise WebSocketError(CLOSE_PROTOCOL_ERROR, f"a frame is not {wanted}")
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack_from(">H", head, 2)
        elif length == 127:
            (length,) = struct.unpack_from(">Q", head, 2)
        self._check_opcode(length)
        self._mask = bytes(head[-4:]) if self._expects_mask else _ZERO_MASK
        self._mask_offset = 0
        self._left = length
        self._state = State.PAYLOAD

    def _check_opcode(self, length: int) -> None:
        opcode = self._opcode
        if opcode in (CLOSE, PING, PONG):
            if length > MAX_CONTROL_PAYLOAD_BYTES or not self._is_fin:
                raise WebSocketError(CLOSE_PROTOCOL_ERROR, "a control frame is long or fragmented")
            return
        if length >> 63:
            raise WebSocketError(CLOSE_PROTOCOL_ERROR, "a frame length has its highest bit set")
        if opcode in (TEXT, BINARY):
            if self._message_opcode:
                raise WebSocketError(CLOSE_PROTOCOL_ERROR, "a new message began inside a fragmented one")
            self._message_opcode, self._message_bytes = opcode, 0
        elif opcode != CONTINUATION:
            raise WebSocketError(CLOSE_PROTOCOL_ERROR, f"unknown opcode {opcode}")
        elif not self._message_opcode:
            raise WebSocketError(CLOSE_PROTOCOL_ERROR, "a continuation frame without a message")
        self._message_bytes += length
        if self._max_message_bytes is not None and self._message_bytes > self._max_message_bytes:
            raise WebSocketError(CLOSE_TOO_BIG, f"a message exceeds {self._max_message_bytes} bytes")

    def _read_payload(self, view: memoryview, position: int, events: list[Event]) -> int:
        piece: bytes | bytearray | memoryview = view[position : position + self._left]
        taken = len(piece)
        self._left -= taken
        if self._mask != _ZERO_MASK and taken:
            piece = apply_mask(piece, self._mask, self._mask_offset)
            self._mask_offset += taken
        if self._opcode >= CLOSE:
            self._control += piece
        else:
            self._report_piece(piece, events)
        if not self._left:
            self._end_frame(events)
        return position + taken

    def _report_piece(self, piece: bytes | bytearray | memoryview, events: list[Event]) -> None:
        is_end = not self._left and self._is_fin
        if piece or is_end:
            events.append(PayloadReceived(self._message_opcode, piece, is_end))

    def _end_frame(self, events: list[Event]) -> None:
        self._state = State.HEADER
        if self._opcode < CLOSE:
            if self._is_fin:
                self._message_opcode = 0
            return
        payload, self._control = bytes(self._control), bytearray()
        if self._opcode == PING:
            events.append(PingReceived(payload))
        elif self._opcode == PONG:
            events.append(PongReceived(payload))
        else:
            self._is_closed = True
            events.append(_parse_close(payload))


def _header_length(head: bytearray) -> int:
    if len(head) < 2:
        return 2
    extended = {126: 2, 127: 8}.get(head[1] & 0x7F, 0)
    return 2 + extended + (4 if head[1] & 0x80 else 0)


def _parse_close(payload: bytes) -> CloseReceived:
    if not payload:
        return CloseReceived(1005, "")
    if len(payload) == 1:
        raise WebSocketError(CLOSE_PROTOCOL_ERROR, "a close frame of one byte")
    (code,) = struct.unpack_from(">H", payload)
    try:
        reason = payload[2:].decode()
    except UnicodeDecodeError as error:
        raise WebSocketError(CLOSE_PROTOCOL_ERROR, "a close reason is not UTF-8") from error
    return CloseReceived(code, reason)
