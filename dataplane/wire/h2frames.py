"""HTTP/2 frame layout: codes, builders and payload parsers (RFC 9113 sections 4, 6 and 7). Stateless."""

import struct
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEADER_BYTES: Final = 9
DEFAULT_WINDOW_BYTES: Final = 65_535
DEFAULT_MAX_FRAME_BYTES: Final = 16_384
MAX_FRAME_BYTES_LIMIT: Final = (1 << 24) - 1
MAX_WINDOW_BYTES: Final = (1 << 31) - 1
MAX_STREAM_ID: Final = (1 << 31) - 1

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

FLAG_ACK: Final = 0x1
FLAG_END_STREAM: Final = 0x1
FLAG_END_HEADERS: Final = 0x4
FLAG_PADDED: Final = 0x8
FLAG_PRIORITY: Final = 0x20

_HEADER = struct.Struct(">BHBBL")  # 24-bit length in two parts, type, flags, stream id
_SETTING = struct.Struct(">HL")
_U32 = struct.Struct(">L")


class ErrorCode(IntEnum):
    """RFC 9113 section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class Setting(IntEnum):
    """RFC 9113 section 6.5.2."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6


class H2ProtocolError(Exception):
    """The peer broke the protocol; the connection is over. `code` is what GOAWAY carries."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(f"{message} ({code.name})")
        self.code = code
        self.message = message


def frame_header(length: int, frame_type: int, flags: int, stream_id: int) -> bytes:
    return _HEADER.pack(length >> 16, length & 0xFFFF, frame_type, flags, stream_id)


def parse_frame_header(buffer: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, int, int, int]:
    """(length, type, flags, stream id); the reserved bit is ignored as RFC 9113 section 4.1 asks."""
    high, low, frame_type, flags, stream_id = _HEADER.unpack_from(buffer, offset)
    return high << 16 | low, frame_type, flags, stream_id & MAX_STREAM_ID


def settings_frame(settings: dict[int, int]) -> bytes:
    payload = b"".join(_SETTING.pack(identifier, value) for identifier, value in settings.items())
    return frame_header(len(payload), SETTINGS, 0, 0) + payload


SETTINGS_ACK_FRAME: Final = frame_header(0, SETTINGS, FLAG_ACK, 0)


def window_update_frame(stream_id: int, increment: int) -> bytes:
    return frame_header(4, WINDOW_UPDATE, 0, stream_id) + _U32.pack(increment)


def reset_frame(stream_id: int, code: int) -> bytes:
    return frame_header(4, RST_STREAM, 0, stream_id) + _U32.pack(code)


def ping_frame(payload: bytes, flags: int = 0) -> bytes:
    return frame_header(8, PING, flags, 0) + payload


def goaway_frame(last_stream_id: int, code: int, debug: bytes) -> bytes:
    return frame_header(8 + len(debug), GOAWAY, 0, 0) + _U32.pack(last_stream_id) + _U32.pack(code) + debug


def header_frames(stream_id: int, block: bytes, max_frame_bytes: int, *, end_stream: bool) -> bytes:
    """HEADERS and as many CONTINUATION frames as the block needs, in one run as RFC 9113 section 4.3 asks."""
    end_flag = FLAG_END_STREAM if end_stream else 0
    if len(block) <= max_frame_bytes:
        return frame_header(len(block), HEADERS, end_flag | FLAG_END_HEADERS, stream_id) + block
    parts = [frame_header(max_frame_bytes, HEADERS, end_flag, stream_id), block[:max_frame_bytes]]
    for offset in range(max_frame_bytes, len(block), max_frame_bytes):
        fragment = block[offset : offset + max_frame_bytes]
        flags = FLAG_END_HEADERS if offset + len(fragment) == len(block) else 0
        parts += (frame_header(len(fragment), CONTINUATION, flags, stream_id), fragment)
    return b"".join(parts)


def parse_settings(payload: memoryview) -> dict[int, int]:
    """Values checked against RFC 9113 section 6.5.2; later duplicates win."""
    if len(payload) % 6:
        raise H2ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS length is not a multiple of 6")
    settings = dict(_SETTING.iter_unpack(payload))
    if settings.get(Setting.INITIAL_WINDOW_SIZE, 0) > MAX_WINDOW_BYTES:
        raise H2ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large")
    max_frame = settings.get(Setting.MAX_FRAME_SIZE, DEFAULT_MAX_FRAME_BYTES)
    if not DEFAULT_MAX_FRAME_BYTES <= max_frame <= MAX_FRAME_BYTES_LIMIT:
        raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range")
    if settings.get(Setting.ENABLE_PUSH, 0) > 1:
        raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
    return settings


def parse_u32(payload: memoryview, what: str) -> int:
    """The one 32-bit field of RST_STREAM."""
    if len(payload) != 4:
        raise H2ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"{what} length is not 4")
    return int(_U32.unpack(payload)[0])


def parse_goaway(payload: memoryview) -> tuple[int, int, bytes]:
    """(last stream id, error code, debug data)."""
    if len(payload) < 8:
        raise H2ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY is shorter than 8 bytes")
    (last_stream_id,), (code,) = _U32.unpack_from(payload, 0), _U32.unpack_from(payload, 4)
    return last_stream_id & MAX_STREAM_ID, code, bytes(payload[8:])


def unpad(payload: memoryview, flags: int, what: str) -> memoryview:
    """Payload without the pad length octet and the padding, for HEADERS (RFC 9113 section 6.2)."""
    if not flags & FLAG_PADDED:
        return payload
    if not payload:
        raise H2ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"padded {what} without a pad length")
    pad = payload[0]
    if pad >= len(payload):
        raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, f"{what} padding is longer than its payload")
    return payload[1 : len(payload) - pad]
