"""Where WebSocket frames end in a byte stream that is relayed verbatim (RFC 6455 section 5.2). Pure."""


class FrameBoundary:
    """Follows unmasked server frames by their lengths only; payload is skipped, never looked at."""

    __slots__ = ("_header", "_remaining")

    def __init__(self) -> None:
        self._remaining = 0
        self._header = b""

    @property
    def is_between_frames(self) -> bool:
        return not self._remaining and not self._header

    def feed(self, data: bytes | memoryview) -> None:
        position, end = 0, len(data)
        while position < end:
            if self._remaining:
                step = min(self._remaining, end - position)
                self._remaining -= step
                position += step
                continue
            needed = _header_bytes(self._header)
            taken = bytes(data[position : position + needed - len(self._header)])
            position += len(taken)
            self._header += taken
            if len(self._header) == _header_bytes(self._header):
                self._remaining = _payload_bytes(self._header)
                self._header = b""


def _header_bytes(header: bytes) -> int:
    if len(header) < 2:
        return 2
    length = header[1] & 0x7F
    mask_bytes = 4 if header[1] & 0x80 else 0
    return 2 + (2 if length == 126 else 8 if length == 127 else 0) + mask_bytes


def _payload_bytes(header: bytes) -> int:
    length = header[1] & 0x7F
    if length == 126:
        return int.from_bytes(header[2:4])
    return int.from_bytes(header[2:10]) if length == 127 else length
