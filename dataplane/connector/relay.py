"""Joins an edge stream with a TCP origin: raw bytes, or WebSocket messages that the connector terminates.

Back-pressure goes both ways without a queue per chunk: bytes toward the origin are acknowledged to the edge only
while the origin's write buffer has room, and the origin is not read while the edge's windows are closed.
"""

import asyncio
from typing import Protocol

from dataplane.connector.edgestream import EdgeStream
from dataplane.transport import WRITE_HIGH_WATER_BYTES, WRITE_LOW_WATER_BYTES, SharedReader, stream_transport
from dataplane.wire import websocket as ws
from dataplane.wire.h2frames import ErrorCode
from dataplane.wire.headers import Header

# After the origin or the eyeball finished its direction, how long the other one may go on.
LINGER_SECONDS = 60.0
# cloudflared pings idle streams every 54 s; eyeballs may rely on traffic that often (tunnel-edge.md 5.6).
WEBSOCKET_PING_SECONDS = 50.0


class Codec(Protocol):
    """What travels on the edge stream, translated from and to origin bytes."""

    def decode(self, data: memoryview) -> "Decoded":
        """From the edge; raises WebSocketError."""

    def encode(self, data: memoryview) -> bytes | memoryview:
        """From the origin."""

    def last_words(self, error: ws.WebSocketError | None) -> bytes:
        """Sent before the response ends."""

    def ping(self) -> bytes:
        """Sent on an idle stream; empty for none."""


class Decoded:
    """Pieces for the origin, bytes to answer to the edge at once, and whether the eyeball is done."""

    __slots__ = ("answer", "is_closing", "pieces")

    def __init__(self) -> None:
        self.pieces: list[bytes | bytearray | memoryview] = []
        self.answer = b""
        self.is_closing = False


class RawCodec:
    """Raw TCP streams: nothing to translate."""

    def decode(self, data: memoryview) -> Decoded:
        decoded = Decoded()
        decoded.pieces.append(data)
        return decoded

    def encode(self, data: memoryview) -> bytes | memoryview:
        return data

    def last_words(self, error: ws.WebSocketError | None) -> bytes:
        return b""

    def ping(self) -> bytes:
        return b""


class WebSocketCodec:
    """Server side of RFC 6455: masked frames of any size come in, messages of at most 16 KiB go out."""

    def __init__(self) -> None:
        self._parser = ws.FrameParser(expects_mask=True)
        self._close = ws.encode_close(ws.CLOSE_NORMAL, mask=None)

    def decode(self, data: memoryview) -> Decoded:
        decoded = Decoded()
        for event in self._parser.receive_data(data):
            if isinstance(event, ws.PayloadReceived):
                # Text is dropped like cloudflared does: it is no part of the byte stream (tunnel-edge.md 5.6).
                if event.opcode == ws.BINARY and event.data:
                    decoded.pieces.append(event.data)
            elif isinstance(event, ws.PingReceived):
                decoded.answer += ws.encode_frame(ws.PONG, event.payload, mask=None)
            elif isinstance(event, ws.CloseReceived):
                decoded.is_closing = True
        return decoded

    def encode(self, data: memoryview) -> bytes | memoryview:
        size = len(data)
        limit = ws.MAX_TUNNEL_MESSAGE_BYTES
        if size <= limit:
            return ws.encode_frame(ws.BINARY, data, mask=None)
        pieces: list[bytes | memoryview] = []
        for offset in range(0, size, limit):
            piece = data[offset : offset + limit]
            pieces += (_FULL_HEADER if len(piece) == limit else _header(len(piece)), piece)
        return b"".join(pieces)

    def last_words(self, error: ws.WebSocketError | None) -> bytes:
        return self._close if error is None else ws.encode_close(error.close_code, str(error), mask=None)

    def ping(self) -> bytes:
        return ws.encode_frame(ws.PING, b"", mask=None)


def _header(length: int) -> bytes:
    return ws.frame_header(ws.BINARY, length, mask=None)


_FULL_HEADER = _header(ws.MAX_TUNNEL_MESSAGE_BYTES)


class Relay(SharedReader):
    """Origin protocol and stream handler in one. Bytes from the edge may arrive before the origin is connected."""

    def __init__(self, stream: EdgeStream, codec: Codec, answer: list[Header]) -> None:
        self._stream = stream
        self._codec = codec
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._is_starting = True
        self._early: list[bytes] = []
        self._owed_bytes = 0
        self._is_origin_congested = False
        self._is_edge_done = False
        self._is_origin_done = False
        self._sent_at = self._loop.time()
        self._linger: asyncio.TimerHandle | None = None
        self.dialing: asyncio.Task[None] | None = None
        stream.handler = self

    # ---- origin side -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = stream_transport(transport)
        self._transport.set_write_buffer_limits(WRITE_HIGH_WATER_BYTES, WRITE_LOW_WATER_BYTES)
        self._start()

    def bytes_received(self, data: memoryview) -> None:
        self._sent_at = self._loop.time()
        if not self._stream.send(self._codec.encode(data)) and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._end_response()
        # Half-close: the edge may still send, until it is done or the linger time is over.
        return not self._is_edge_done and self._stream.is_open

    def pause_writing(self) -> None:
        self._is_origin_congested = True

    def resume_writing(self) -> None:
        self._is_origin_congested = False
        owed, self._owed_bytes = self._owed_bytes, 0
        self._stream.acknowledge(owed)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._stop_linger()
        self.resume_writing()
        if exc is not None and not self._is_origin_done:
            self._origin_failed(exc)
        else:
            self._end_response()
        if not self._stream.can_send:
            self._stream.reset(ErrorCode.NO_ERROR)

    def _start(self) -> None:
        """In connection_made, before any origin byte can come: the response headers go first."""
        assert self._transport is not None
        if not self._stream.is_open:
            self._forget_early()
            self._drop_origin()
            return
        self._stream.respond(101, self._answer)
        self._is_starting = False
        early, self._early = self._early, []
        for data in early:
            self.stream_data(memoryview(data))
        if self._is_edge_done and not self._transport.is_closing():
            self._finish_origin()

    # ---- edge side ---------------------------------------------------------------------------------------------

    def stream_data(self, data: memoryview) -> None:
        if self._is_starting:
            self._early.append(bytes(data))  # bounded by the stream window: not acknowledged yet
            return
        if self._transport is None or self._transport.is_closing():
            self._stream.acknowledge(len(data))
            return
        try:
            decoded = self._codec.decode(data)
        except ws.WebSocketError as error:
            self._stream.acknowledge(len(data))
            self._refuse(error)
            return
        for piece in decoded.pieces:
            # A plain TCP transport may keep what it gets until the loop turns, and `data` is only lent.
            self._transport.write(bytes(piece) if isinstance(piece, memoryview) else piece)
        if decoded.answer and not self._stream.is_blocked:  # else a flood of pings would pile up pongs
            self._stream.send(decoded.answer)
        self._settle(len(data))
        if decoded.is_closing:
            self.stream_ended()

    def stream_ended(self) -> None:
        self._is_edge_done = True
        if self._transport is not None and not self._is_starting:
            self._finish_origin()

    def stream_lost(self) -> None:
        self._is_origin_done = True
        if self.dialing is not None:
            self.dialing.cancel()
        self._forget_early()
        self._drop_origin()

    def stream_finished(self) -> None:
        if self._transport is None:
            self._stream.reset(ErrorCode.NO_ERROR)

    def stream_drained(self) -> None:
        if self._transport is not None and not self._transport.is_closing() and not self._is_origin_done:
            self._transport.resume_reading()

    def keep_alive(self, now: float) -> None:
        if now - self._sent_at >= WEBSOCKET_PING_SECONDS and self._transport is not None:
            self._sent_at = now
            ping = self._codec.ping()
            if ping:
                self._stream.send(ping)

    # ---- ends --------------------------------------------------------------------------------------------------

    def _settle(self, length: int) -> None:
        if self._is_origin_congested:
            self._owed_bytes += length
        else:
            self._stream.acknowledge(length)

    def _finish_origin(self) -> None:
        assert self._transport is not None
        if self._is_origin_done:
            self._transport.close()
        elif self._transport.can_write_eof():
            self._transport.write_eof()
            self._start_linger()
        else:
            self._transport.close()

    def _end_response(self) -> None:
        if self._is_origin_done:
            return
        self._is_origin_done = True
        last_words = self._codec.last_words(None)
        if last_words:
            self._stream.send(last_words)
        self._stream.finish()
        self._start_linger()

    def _origin_failed(self, error: Exception) -> None:
        self._is_origin_done = True
        last_words = self._codec.last_words(ws.WebSocketError(ws.CLOSE_INTERNAL, f"origin connection lost: {error}"))
        if last_words:
            self._stream.send(last_words)
            self._stream.finish()
        else:
            self._stream.reset(ErrorCode.CONNECT_ERROR)

    def abandon(self) -> None:
        """The origin could not be reached and the failure has been answered."""
        self._is_origin_done = True
        self._forget_early()

    def _forget_early(self) -> None:
        self._is_starting = False
        for data in self._early:
            self._stream.acknowledge(len(data))
        self._early.clear()

    def _refuse(self, error: ws.WebSocketError) -> None:
        self._is_origin_done = True
        self._stream.send(self._codec.last_words(error))
        self._stream.finish()
        self._drop_origin()

    def _start_linger(self) -> None:
        self._stop_linger()
        self._linger = self._loop.call_later(LINGER_SECONDS, self._linger_over)

    def _stop_linger(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def _linger_over(self) -> None:
        self._drop_origin()
        self._stream.reset(ErrorCode.NO_ERROR)

    def _drop_origin(self) -> None:
        self._stop_linger()
        if self._transport is not None:
            self._transport.abort()
