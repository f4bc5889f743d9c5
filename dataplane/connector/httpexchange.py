"""One HTTP request to an origin: head and body out over HTTP/1.1, answer back on the edge stream."""

import asyncio

from dataplane.connector.edgestream import EdgeStream
from dataplane.connector.http1 import (
    CHUNK_END,
    BodyReceived,
    Event,
    Http1Error,
    RequestHead,
    ResponseHead,
    ResponseParser,
    chunk,
)
from dataplane.transport import WRITE_HIGH_WATER_BYTES, WRITE_LOW_WATER_BYTES, SharedReader, stream_transport
from dataplane.wire.h2frames import ErrorCode
from dataplane.wire.headers import Header, connector_failure, strip_from_origin

# How long an origin may think before the head of its answer; long polls stay below.
ANSWER_TIMEOUT_SECONDS = 300.0


class HttpExchange(SharedReader):
    """Origin protocol and stream handler in one. An upgraded exchange relays raw bytes both ways.

    The request body is passed on as it comes, before or after the origin has answered."""

    def __init__(self, stream: EdgeStream, method: str, request: RequestHead, *, has_body: bool) -> None:
        self._stream = stream
        self._request = request
        self._parser = ResponseParser(method)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._is_starting = True
        self._early: list[bytes] = []
        self._owed_bytes = 0
        self._is_congested = False
        self._has_body = has_body
        self._is_body_complete = not has_body
        self._is_answered = False
        self._timer: asyncio.TimerHandle | None = None
        self.dialing: asyncio.Task[None] | None = None
        stream.handler = self

    # ---- origin side -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = stream_transport(transport)
        self._transport.set_write_buffer_limits(WRITE_HIGH_WATER_BYTES, WRITE_LOW_WATER_BYTES)
        self._start()

    def _start(self) -> None:
        """Sends the request and what of its body has come."""
        assert self._transport is not None
        self._is_starting = False
        early, self._early = self._early, []
        if not self._stream.is_open:
            self._stream.acknowledge(sum(map(len, early)))
            self._drop_origin()
            return
        self._timer = self._loop.call_later(ANSWER_TIMEOUT_SECONDS, self._answer_timed_out)
        self._transport.write(self._request.data)
        for data in early:
            self.stream_data(memoryview(data))
        if self._has_body and self._is_body_complete:
            self._end_body()

    def bytes_received(self, data: memoryview) -> None:
        if self._parser.is_done:
            self._relay(data)
            return
        try:
            for event in self._parser.receive_data(data):
                self._take(event)
        except Http1Error as error:
            self._fail("origin_protocol", str(error))
            return
        rest = self._parser.take_rest() if self._parser.is_upgraded else b""
        if rest:
            self._relay(memoryview(rest))

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._is_congested = True

    def resume_writing(self) -> None:
        self._is_congested = False
        owed, self._owed_bytes = self._owed_bytes, 0
        self._stream.acknowledge(owed)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._stop_timer()
        self.resume_writing()
        if self._parser.is_upgraded:
            self._stream.finish()
            self._close_if_finished()
            return
        try:
            for event in self._parser.receive_eof():
                self._take(event)
        except Http1Error as error:
            self._fail("origin_protocol", str(exc or error))

    # ---- edge side ---------------------------------------------------------------------------------------------

    def stream_data(self, data: memoryview) -> None:
        if self._is_starting:
            self._early.append(bytes(data))  # bounded by the stream window: not acknowledged yet
            return
        if self._transport is None or self._transport.is_closing():
            self._stream.acknowledge(len(data))
            return
        is_framed = self._request.is_chunked and not self._parser.is_upgraded
        # bytes(): a plain TCP transport may keep what it gets, and `data` is only lent.
        self._transport.write(chunk(data) if is_framed else bytes(data))
        if self._is_congested:
            self._owed_bytes += len(data)
        else:
            self._stream.acknowledge(len(data))

    def stream_ended(self) -> None:
        self._is_body_complete = True
        if not self._is_starting:
            self._end_body()

    def stream_lost(self) -> None:
        self.abandon()
        if self.dialing is not None:
            self.dialing.cancel()
        self._drop_origin()

    def stream_finished(self) -> None:
        self._close_if_finished()

    def stream_drained(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def keep_alive(self, now: float) -> None:
        """Origin and eyeball frame and ping each other."""

    def abandon(self) -> None:
        """Nobody wants the rest of the request."""
        self._is_starting = False
        self._stream.acknowledge(sum(map(len, self._early)))
        self._early.clear()

    # ---- answer ------------------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        if isinstance(event, ResponseHead):
            self._stop_timer()
            self._is_answered = True
            headers = strip_from_origin(event.headers)
            self._stream.respond(event.status, headers, content_length=event.content_length)
        elif isinstance(event, BodyReceived):
            self._relay(event.data)
        else:
            self._stream.finish([(name.lower(), value) for name, value in event.trailers])
            self._drop_origin()

    def _relay(self, data: memoryview) -> None:
        if not self._stream.send(data) and self._transport is not None:
            self._transport.pause_reading()

    def _end_body(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._parser.is_upgraded:
            self._transport.close()
        elif self._request.is_chunked:
            self._transport.write(CHUNK_END)

    def _fail(self, reason: str, detail: str) -> None:
        self._stop_timer()
        if not self._is_answered and self._stream.is_open:
            self._is_answered = True
            meta = connector_failure(reason, detail)
            self._stream.respond(502, [], meta=meta, content_length="0", end_stream=True)
        else:
            self._stream.reset(ErrorCode.INTERNAL_ERROR)
        self._drop_origin()

    def _answer_timed_out(self) -> None:
        self._fail("origin_timeout", f"the origin did not answer within {ANSWER_TIMEOUT_SECONDS:.0f} s")

    def _close_if_finished(self) -> None:
        if not self._stream.can_send:
            self._stream.reset(ErrorCode.NO_ERROR)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop_origin(self) -> None:
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()


def request_header(headers: list[Header], name: str) -> str:
    """First value of a lower-case header name, or empty."""
    return next((value for key, value in headers if key == name), "")
