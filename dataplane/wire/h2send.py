"""The sending half of an HTTP/2 connection and the state both halves share."""

from collections.abc import Iterable
from typing import Literal

from dataplane.wire import h2frames as f
from dataplane.wire.h2frames import ErrorCode, Setting
from dataplane.wire.h2headers import HeaderCodec
from dataplane.wire.h2streams import Stream, StreamClosedError
from dataplane.wire.headers import Header

MAX_HEADER_LIST_BYTES = 256 * 1024
# Below this a copy is cheaper than one more buffer for TLS to wrap.
_JOIN_BELOW_BYTES = 4096

Buffer = bytes | bytearray | memoryview


class H2Sender:
    """`stream_window` and `connection_window` are what we grant the peer, in bytes; `connection_window` bounds
    the memory that stalled streams can hold. `unacked_limit` caps what one stream may have in flight toward the
    peer, so that a stalled stream leaves the connection window to others (tunnel-edge.md 0.7); it may change.
    """

    def __init__(
        self,
        role: Literal["client", "server"],
        *,
        max_frame_size: int = 1 << 20,
        stream_window: int = 8 << 20,
        connection_window: int = 256 << 20,
        max_concurrent_streams: int = 2048,
        unacked_limit: int | None = None,
    ) -> None:
        self.role = role
        self.unacked_limit = unacked_limit
        self.is_terminated = False
        self._stream_window = stream_window
        self._connection_window = connection_window
        self._max_concurrent_streams = max_concurrent_streams
        self._codec = HeaderCodec(MAX_HEADER_LIST_BYTES)
        self._max_frame_size = max_frame_size
        self._out: list[Buffer] = []
        self._streams: dict[int, Stream] = {}
        self._next_stream_id = 1
        self._last_peer_stream_id = 0
        self._is_goaway_sent = False
        self._is_goaway_received = False
        self._send_window = f.DEFAULT_WINDOW_BYTES
        self._receive_window = f.DEFAULT_WINDOW_BYTES
        self._credit = 0
        self._peer_initial_window = f.DEFAULT_WINDOW_BYTES
        self._peer_max_frame = f.DEFAULT_MAX_FRAME_BYTES
        self._peer_max_streams = f.MAX_STREAM_ID

    @property
    def stream_count(self) -> int:
        return len(self._streams)

    def has_stream(self, stream_id: int) -> bool:
        """False once both directions are closed."""
        return stream_id in self._streams

    @property
    def can_open_stream(self) -> bool:
        """Client role: False after GOAWAY either way, at the peer's stream limit, or after a failure."""
        return not (
            self.is_terminated
            or self._is_goaway_sent
            or self._is_goaway_received
            or len(self._streams) >= self._peer_max_streams
            or self._next_stream_id > f.MAX_STREAM_ID
        )

    def initiate(self) -> None:
        """Queues the preface (client) and our SETTINGS and connection window. Call once, first."""
        if self.role == "client":
            self._out.append(f.PREFACE)
        settings = {
            Setting.INITIAL_WINDOW_SIZE: self._stream_window,
            Setting.MAX_FRAME_SIZE: self._max_frame_size,
            Setting.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST_BYTES,
        }
        if self.role == "client":
            settings[Setting.ENABLE_PUSH] = 0
        else:
            settings[Setting.MAX_CONCURRENT_STREAMS] = self._max_concurrent_streams
        self._out.append(f.settings_frame({int(key): value for key, value in settings.items()}))
        growth = self._connection_window - f.DEFAULT_WINDOW_BYTES
        if growth > 0:
            self._receive_window += growth
            self._out.append(f.window_update_frame(0, growth))

    def data_to_send(self) -> list[Buffer]:
        """Takes what is queued; the pieces may reference buffers given to send_data."""
        out, self._out = self._out, []
        return out

    def open_stream(self, headers: Iterable[Header], end_stream: bool = False) -> int:
        """Client role: sends a request on a new stream. Raises StreamClosedError unless can_open_stream."""
        if self.role != "client" or not self.can_open_stream:
            raise StreamClosedError("the connection takes no new streams")
        stream_id = self._next_stream_id
        self._next_stream_id += 2
        self._streams[stream_id] = Stream(stream_id, self._peer_initial_window, self._stream_window)
        self.send_headers(stream_id, headers, end_stream=end_stream)
        return stream_id

    def send_headers(self, stream_id: int, headers: Iterable[Header], end_stream: bool = False) -> None:
        """Response headers or trailers (server), request or trailers (client). Names must be lower case."""
        stream = self._sendable(stream_id)
        block = self._codec.encode(headers)
        self._out.append(f.header_frames(stream_id, block, self._peer_max_frame, end_stream=end_stream))
        if end_stream:
            self._close_local(stream)

    def send_capacity(self, stream_id: int) -> int:
        """Bytes send_data would accept now; 0 for a stream that is closed for sending."""
        stream = self._streams.get(stream_id)
        if stream is None or not stream.is_local_open:
            return 0
        capacity = min(stream.send_window, self._send_window)
        if self.unacked_limit is not None:
            unacked = self._peer_initial_window - stream.send_window
            capacity = min(capacity, self.unacked_limit - unacked)
        return max(capacity, 0)

    def send_data(self, stream_id: int, data: Buffer, end_stream: bool = False) -> int:
        """Bytes accepted, as many as the windows allow; END_STREAM goes out only when all were accepted.

        The accepted part of `data` must stay unchanged until data_to_send was written."""
        stream = self._sendable(stream_id)
        accepted = min(len(data), self.send_capacity(stream_id))
        is_last = end_stream and accepted == len(data)
        if accepted:
            stream.send_window -= accepted
            self._send_window -= accepted
            self._queue_data(stream_id, memoryview(data)[:accepted], is_last=is_last)
        elif is_last:
            self._out.append(f.frame_header(0, f.DATA, f.FLAG_END_STREAM, stream_id))
        if is_last:
            self._close_local(stream)
        return accepted

    def acknowledge(self, stream_id: int, flow_length: int) -> None:
        """The consumer is done with this many received bytes: lets the peer send as many more."""
        self._credit_connection(flow_length)
        stream = self._streams.get(stream_id)
        if stream is None or not stream.is_remote_open:
            return
        stream.credit += flow_length
        if stream.credit >= self._stream_window >> 2:
            stream.receive_window += stream.credit
            self._out.append(f.window_update_frame(stream_id, stream.credit))
            stream.credit = 0

    def reset(self, stream_id: int, code: int = ErrorCode.CANCEL) -> None:
        """Ends the stream both ways at once. Unknown and finished streams are fine: resets race."""
        stream = self._streams.pop(stream_id, None)
        if stream is None:
            return
        stream.is_local_open = stream.is_remote_open = False
        self._out.append(f.reset_frame(stream_id, code))

    def ping(self, payload: bytes) -> None:
        """8 bytes; PingAcked carries them back."""
        if len(payload) != 8:
            raise ValueError("a ping payload has 8 bytes")
        self._out.append(f.ping_frame(payload))

    def goaway(self, code: int = ErrorCode.NO_ERROR, debug: bytes = b"") -> None:
        """Takes no new streams from now on; existing ones live on."""
        self._is_goaway_sent = True
        self._out.append(f.goaway_frame(self._last_peer_stream_id, code, debug))

    def _sendable(self, stream_id: int) -> Stream:
        stream = self._streams.get(stream_id)
        if stream is None or not stream.is_local_open:
            raise StreamClosedError(f"stream {stream_id} is closed for sending")
        return stream

    def _queue_data(self, stream_id: int, view: memoryview, *, is_last: bool) -> None:
        limit, total, offset = self._peer_max_frame, len(view), 0
        out = self._out
        while offset < total:
            end = min(offset + limit, total)
            flags = f.FLAG_END_STREAM if is_last and end == total else 0
            header = f.frame_header(end - offset, f.DATA, flags, stream_id)
            if total < _JOIN_BELOW_BYTES:
                out.append(header + view[offset:end])
            else:
                out += (header, view[offset:end])
            offset = end

    def _credit_connection(self, length: int) -> None:
        self._credit += length
        if self._credit >= self._connection_window >> 2:
            self._receive_window += self._credit
            self._out.append(f.window_update_frame(0, self._credit))
            self._credit = 0

    def _close_local(self, stream: Stream) -> None:
        stream.is_local_open = False
        if not stream.is_remote_open:
            self._streams.pop(stream.stream_id, None)
