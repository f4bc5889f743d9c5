"""One HTTP/2 connection, sans-io: bytes in, events and bytes out (RFC 9113).

Made for relaying: DATA payloads are handed on as slices of the receive buffer, piece by piece, and sent as
the slices they arrive in. Requests and responses are not interpreted beyond what the protocol demands.

    receive_data(bytes) -> events          data_to_send() -> list of bytes-like, write them in order
    acknowledge(stream_id, n) credits the peer, in quarter-window batches
    send_data(stream_id, view) -> bytes accepted; the rest waits for WindowUpdated

Driver's duty: after any call, write what data_to_send returns. After H2ProtocolError write it, then close.
"""

from typing import Literal

from dataplane.wire import h2frames as f
from dataplane.wire.h2events import (
    DataReceived,
    Event,
    GoawayReceived,
    HeadersReceived,
    PingAcked,
    PingReceived,
    SettingsReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from dataplane.wire.h2frames import ErrorCode, H2ProtocolError, Setting
from dataplane.wire.h2headers import MalformedHeaders, check_request, check_response, check_trailers
from dataplane.wire.h2parser import FrameParser
from dataplane.wire.h2send import Buffer, H2Sender
from dataplane.wire.h2streams import Stream, StreamClosedError
from dataplane.wire.headers import Header

__all__ = ["ErrorCode", "H2Connection", "H2ProtocolError", "StreamClosedError"]

MAX_HEADER_BLOCK_BYTES = 256 * 1024


class H2Connection(H2Sender):
    """See H2Sender for the parameters and the sending methods; this half receives."""

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
        super().__init__(
            role,
            max_frame_size=max_frame_size,
            stream_window=stream_window,
            connection_window=connection_window,
            max_concurrent_streams=max_concurrent_streams,
            unacked_limit=unacked_limit,
        )
        self._parser = FrameParser(self, max_frame_size, expects_preface=role == "server")
        self._header_stream_id = 0
        self._header_flags = 0
        self._header_block = bytearray()
        self._events: list[Event] = []

    def receive_data(self, data: Buffer) -> list[Event]:
        """Raises H2ProtocolError after queueing the GOAWAY; events parsed before the fault are lost."""
        if self.is_terminated:
            return []
        self._events = []
        try:
            self._parser.parse(memoryview(data))
        except H2ProtocolError as error:
            self.is_terminated = True
            self.goaway(error.code, error.message.encode())
            raise
        events, self._events = self._events, []
        return events

    # ---- parser side: called by FrameParser ----------------------------------------------------------------

    def begin_data(self, stream_id: int, length: int) -> Stream | None:
        """Flow control of one DATA frame; None when its payload is to be dropped."""
        if stream_id == 0:
            raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "DATA on stream 0")
        self._receive_window -= length
        if self._receive_window < 0:
            raise H2ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the connection window was overrun")
        stream = self._streams.get(stream_id)
        if stream is None:
            if self._is_idle(stream_id):
                raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "DATA on an idle stream")
            return None
        if not stream.is_remote_open:
            self._fail_stream(stream, ErrorCode.STREAM_CLOSED)
            return None
        if not stream.has_headers:
            self._fail_stream(stream, ErrorCode.PROTOCOL_ERROR)
            return None
        stream.receive_window -= length
        if stream.receive_window < 0:
            raise H2ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, f"the window of {stream_id} was overrun")
        return stream

    def take_data(self, stream: Stream | None, piece: memoryview) -> None:
        if stream is not None and stream.is_remote_open:
            self._events.append(DataReceived(stream.stream_id, piece, len(piece)))
        else:
            self._credit_connection(len(piece))

    def drop_padding(self, stream: Stream | None, length: int) -> None:
        if stream is not None:
            self.acknowledge(stream.stream_id, length)
        else:
            self._credit_connection(length)

    def end_data(self, stream: Stream | None) -> None:
        if stream is not None and stream.is_remote_open:
            self._end_remote(stream)

    def take_frame(self, frame_type: int, flags: int, stream_id: int, payload: memoryview) -> None:
        """A whole frame that is not DATA. Unknown types are ignored (RFC 9113 section 5.5)."""
        handler = _HANDLERS.get(frame_type)
        if handler is not None:
            handler(self, flags, stream_id, payload)

    # ---- frames --------------------------------------------------------------------------------------------

    def _take_headers(self, flags: int, stream_id: int, payload: memoryview) -> None:
        if stream_id == 0 or not stream_id & 1:
            raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}")
        body = f.unpad(payload, flags, "HEADERS")
        if flags & f.FLAG_PRIORITY:
            if len(body) < 5:
                raise H2ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "HEADERS is too short for its priority")
            body = body[5:]
        self._header_stream_id, self._header_flags = stream_id, flags
        self._header_block = bytearray(body)
        self._take_header_fragment(flags)

    def _take_continuation(self, flags: int, stream_id: int, payload: memoryview) -> None:
        if not self._parser.continuation_stream_id:
            raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        if not payload and not flags & f.FLAG_END_HEADERS:
            raise H2ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "empty CONTINUATION")
        self._header_block += payload
        self._take_header_fragment(flags)

    def _take_header_fragment(self, flags: int) -> None:
        if len(self._header_block) > MAX_HEADER_BLOCK_BYTES:
            raise H2ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "header block is too large")
        if not flags & f.FLAG_END_HEADERS:
            self._parser.continuation_stream_id = self._header_stream_id
            return
        self._parser.continuation_stream_id = 0
        # Decoded even when the stream is gone: the compression context is shared by all streams.
        headers = self._codec.decode(bytes(self._header_block))
        self._header_block = bytearray()
        is_end = bool(self._header_flags & f.FLAG_END_STREAM)
        stream_id = self._header_stream_id
        stream = self._streams.get(stream_id)
        if stream is None and self.role == "server" and stream_id > self._last_peer_stream_id:
            stream = self._accept_stream(stream_id)
        elif stream is None and self._is_idle(stream_id):
            raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "HEADERS on an idle stream")
        if stream is not None:
            self._deliver_headers(stream, headers, is_end=is_end)

    def _accept_stream(self, stream_id: int) -> Stream | None:
        self._last_peer_stream_id = stream_id
        if self._is_goaway_sent or len(self._streams) >= self._max_concurrent_streams:
            self._out.append(f.reset_frame(stream_id, ErrorCode.REFUSED_STREAM))
            return None
        stream = Stream(stream_id, self._peer_initial_window, self._stream_window)
        self._streams[stream_id] = stream
        return stream

    def _deliver_headers(self, stream: Stream, headers: list[Header], *, is_end: bool) -> None:
        if not stream.is_remote_open:
            self._fail_stream(stream, ErrorCode.STREAM_CLOSED)
            return
        is_trailers = stream.has_headers
        try:
            if is_trailers:
                check_trailers(headers)
            elif self.role == "server":
                check_request(headers)
                stream.has_headers = True
            else:
                stream.has_headers = check_response(headers) >= 200
        except MalformedHeaders:
            self._fail_stream(stream, ErrorCode.PROTOCOL_ERROR)
            return
        if (not is_end and is_trailers) or (is_end and not stream.has_headers):
            self._fail_stream(stream, ErrorCode.PROTOCOL_ERROR)
            return
        self._events.append(HeadersReceived(stream.stream_id, headers, is_end, is_trailers))
        if is_end:
            self._end_remote(stream)

    def _take_priority(self, _flags: int, stream_id: int, payload: memoryview) -> None:
        if stream_id == 0:
            raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise H2ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY length is not 5")

    def _take_reset(self, _flags: int, stream_id: int, payload: memoryview) -> None:
        code = f.parse_u32(payload, "RST_STREAM")
        if stream_id == 0 or self._is_idle(stream_id):
            raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            stream.is_local_open = stream.is_remote_open = False
            self._events.append(StreamReset(stream_id, code))

    def _take_settings(self, flags: int, stream_id: int, payload: memoryview) -> None:
        if stream_id:
            raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & f.FLAG_ACK:
            if payload:
                raise H2ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
            return
        settings = f.parse_settings(payload)
        if Setting.INITIAL_WINDOW_SIZE in settings:
            self._move_send_windows(settings[Setting.INITIAL_WINDOW_SIZE])
        if Setting.HEADER_TABLE_SIZE in settings:
            self._codec.limit_table(settings[Setting.HEADER_TABLE_SIZE])
        self._peer_max_frame = settings.get(Setting.MAX_FRAME_SIZE, self._peer_max_frame)
        self._peer_max_streams = settings.get(Setting.MAX_CONCURRENT_STREAMS, self._peer_max_streams)
        self._out.append(f.SETTINGS_ACK_FRAME)
        self._events.append(SettingsReceived(settings))

    def _move_send_windows(self, initial: int) -> None:
        delta = initial - self._peer_initial_window
        self._peer_initial_window = initial
        for stream in self._streams.values():
            stream.send_window += delta  # may go below zero (RFC 9113 section 6.9.2)
            if stream.send_window > f.MAX_WINDOW_BYTES:
                raise H2ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "a stream window grew too large")

    def _take_push_promise(self, _flags: int, _stream_id: int, _payload: memoryview) -> None:
        raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE is switched off")

    def _take_ping(self, flags: int, stream_id: int, payload: memoryview) -> None:
        if stream_id:
            raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise H2ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "PING length is not 8")
        octets = bytes(payload)
        if flags & f.FLAG_ACK:
            self._events.append(PingAcked(octets))
            return
        self._out.append(f.ping_frame(octets, f.FLAG_ACK))
        self._events.append(PingReceived(octets))

    def _take_goaway(self, _flags: int, stream_id: int, payload: memoryview) -> None:
        if stream_id:
            raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        last_stream_id, code, debug = f.parse_goaway(payload)
        self._is_goaway_received = True
        self._events.append(GoawayReceived(last_stream_id, code, debug))

    def _take_window_update(self, _flags: int, stream_id: int, payload: memoryview) -> None:
        increment = f.parse_u32(payload, "WINDOW_UPDATE") & f.MAX_WINDOW_BYTES
        if stream_id == 0:
            if not increment:
                raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            self._send_window += increment
            if self._send_window > f.MAX_WINDOW_BYTES:
                raise H2ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "the connection window grew too large")
            self._events.append(WindowUpdated(0, increment))
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            if self._is_idle(stream_id):
                raise H2ProtocolError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
            return
        if not increment:
            self._fail_stream(stream, ErrorCode.PROTOCOL_ERROR)
            return
        stream.send_window += increment
        if stream.send_window > f.MAX_WINDOW_BYTES:
            self._fail_stream(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return
        self._events.append(WindowUpdated(stream_id, increment))

    # ---- helpers ------------------------------------------------------------------------------------------

    def _is_idle(self, stream_id: int) -> bool:
        if not stream_id & 1:
            return True  # even streams are server pushes, which never exist here
        last = self._last_peer_stream_id if self.role == "server" else self._next_stream_id - 2
        return stream_id > last

    def _fail_stream(self, stream: Stream, code: ErrorCode) -> None:
        self.reset(stream.stream_id, code)
        self._events.append(StreamReset(stream.stream_id, code, by_peer=False))

    def _end_remote(self, stream: Stream) -> None:
        stream.is_remote_open = False
        self._events.append(StreamEnded(stream.stream_id))
        if not stream.is_local_open:
            self._streams.pop(stream.stream_id, None)


_HANDLERS = {
    f.HEADERS: H2Connection._take_headers,
    f.PRIORITY: H2Connection._take_priority,
    f.RST_STREAM: H2Connection._take_reset,
    f.SETTINGS: H2Connection._take_settings,
    f.PUSH_PROMISE: H2Connection._take_push_promise,
    f.PING: H2Connection._take_ping,
    f.GOAWAY: H2Connection._take_goaway,
    f.WINDOW_UPDATE: H2Connection._take_window_update,
    f.CONTINUATION: H2Connection._take_continuation,
}
