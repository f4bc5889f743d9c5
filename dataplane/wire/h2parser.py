"""Incremental HTTP/2 frame reader: whole control frames, DATA payload in pieces without copying."""

from typing import Protocol

from dataplane.wire import h2frames as f
from dataplane.wire.h2frames import ErrorCode, H2ProtocolError
from dataplane.wire.h2streams import Stream


class FrameSink(Protocol):
    """What a connection does with frames."""

    def begin_data(self, stream_id: int, length: int) -> Stream | None: ...
    def take_data(self, stream: Stream | None, piece: memoryview) -> None: ...
    def drop_padding(self, stream: Stream | None, length: int) -> None: ...
    def end_data(self, stream: Stream | None) -> None: ...
    def take_frame(self, frame_type: int, flags: int, stream_id: int, payload: memoryview) -> None: ...


class FrameParser:
    """Holds at most one incomplete control frame (bounded by `max_frame_bytes`), never DATA payload."""

    def __init__(self, sink: FrameSink, max_frame_bytes: int, *, expects_preface: bool) -> None:
        self.max_frame_bytes = max_frame_bytes
        self.continuation_stream_id = 0  # set by the connection while a header block is open
        self._sink = sink
        self._preface = f.PREFACE if expects_preface else b""
        self._partial = bytearray()
        self._is_first_frame = True
        self._data_left = 0
        self._padding_left = 0
        self._data_stream: Stream | None = None
        self._is_data_last = False

    def parse(self, view: memoryview) -> None:
        position = self._skip_preface(view) if self._preface else 0
        end = len(view)
        while position < end:
            if self._data_left:
                position = self._read_data(view, position, end)
            elif self._padding_left:
                position = self._read_padding(position, end)
            elif self._partial:
                position = self._complete_partial(view, position, end)
            else:
                position = self._read_frame(view, position, end)

    def _skip_preface(self, view: memoryview) -> int:
        expected = self._preface[: len(view)]
        if view[: len(expected)] != expected:
            raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "the client preface is wrong")
        self._preface = self._preface[len(expected) :]
        return len(expected)

    def _read_frame(self, view: memoryview, position: int, end: int) -> int:
        """Fast path: a frame that lies in the buffer; otherwise the rest is kept in _partial."""
        if end - position >= f.FRAME_HEADER_BYTES:
            length, frame_type, flags, stream_id = f.parse_frame_header(view, position)
            self._check(length, frame_type, flags, stream_id)
            body = position + f.FRAME_HEADER_BYTES
            if frame_type == f.DATA and not flags & f.FLAG_PADDED:
                self._begin_data(stream_id, flags, length, 0, length)
                return body
            if frame_type != f.DATA and end - body >= length:
                self._sink.take_frame(frame_type, flags, stream_id, view[body : body + length])
                return body + length
        self._partial += view[position : position + f.FRAME_HEADER_BYTES]
        return min(position + f.FRAME_HEADER_BYTES, end)

    def _complete_partial(self, view: memoryview, position: int, end: int) -> int:
        """Slow path: a frame cut by the end of a read; dispatched as soon as the last needed byte is there."""
        partial = self._partial
        while len(partial) < (needed := self._needed_bytes(partial)):
            taken = view[position : position + needed - len(partial)]
            if not taken:
                return end
            partial += taken
            position += len(taken)
        length, frame_type, flags, stream_id = f.parse_frame_header(partial)
        self._partial = bytearray()
        if frame_type != f.DATA:
            self._sink.take_frame(frame_type, flags, stream_id, memoryview(partial)[f.FRAME_HEADER_BYTES :])
        elif flags & f.FLAG_PADDED:
            padding = partial[f.FRAME_HEADER_BYTES]
            if padding >= length:
                raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "DATA padding is longer than its payload")
            self._begin_data(stream_id, flags, length, padding, length - 1 - padding)
        else:
            self._begin_data(stream_id, flags, length, 0, length)
        return position

    def _needed_bytes(self, partial: bytearray) -> int:
        if len(partial) < f.FRAME_HEADER_BYTES:
            return f.FRAME_HEADER_BYTES
        length, frame_type, flags, stream_id = f.parse_frame_header(partial)
        self._check(length, frame_type, flags, stream_id)
        if frame_type != f.DATA:
            return f.FRAME_HEADER_BYTES + length
        if not flags & f.FLAG_PADDED:
            return f.FRAME_HEADER_BYTES
        return f.FRAME_HEADER_BYTES + 1

    def _check(self, length: int, frame_type: int, flags: int, stream_id: int) -> None:
        if length > self.max_frame_bytes:
            raise H2ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes is too large")
        if self._is_first_frame:
            if frame_type != f.SETTINGS:
                raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._is_first_frame = False
        if self.continuation_stream_id and (frame_type != f.CONTINUATION or stream_id != self.continuation_stream_id):
            raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")
        if frame_type == f.DATA and flags & f.FLAG_PADDED and not length:
            raise H2ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "padded DATA without a pad length")

    def _begin_data(self, stream_id: int, flags: int, length: int, padding: int, payload: int) -> None:
        stream = self._sink.begin_data(stream_id, length)
        self._data_stream = stream
        self._is_data_last = bool(flags & f.FLAG_END_STREAM)
        self._data_left, self._padding_left = payload, padding
        if length > payload:
            self._sink.drop_padding(stream, length - payload)
        if not payload and not padding:
            self._end_frame()

    def _read_data(self, view: memoryview, position: int, end: int) -> int:
        stop = min(position + self._data_left, end)
        self._data_left -= stop - position
        self._sink.take_data(self._data_stream, view[position:stop])
        if not self._data_left and not self._padding_left:
            self._end_frame()
        return stop

    def _read_padding(self, position: int, end: int) -> int:
        stop = min(position + self._padding_left, end)
        self._padding_left -= stop - position
        if not self._padding_left:
            self._end_frame()
        return stop

    def _end_frame(self) -> None:
        if self._is_data_last:
            self._sink.end_data(self._data_stream)
        self._data_stream = None
