"""One HTTP/2 stream from the edge, as the code behind it sees it."""

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Protocol

from dataplane.wire.h2frames import ErrorCode
from dataplane.wire.h2streams import StreamClosedError
from dataplane.wire.headers import META_ORIGIN, Header, ResponseMeta, serialize_headers
from dataplane.wire.names import H_RESPONSE_HEADERS, H_RESPONSE_META

if TYPE_CHECKING:
    from dataplane.connector.edgeconnection import EdgeConnection


class StreamHandler(Protocol):
    """Callbacks of one stream, all from the read callback of its connection."""

    def stream_data(self, data: memoryview) -> None:
        """Copy it or write it out before returning; owes acknowledge(len(data))."""

    def stream_ended(self) -> None:
        """The edge sends no more; the response direction stays open."""

    def stream_lost(self) -> None:
        """Reset, or the connection is gone. The last callback."""

    def stream_drained(self) -> None:
        """All that send() kept back has gone out: read from the origin again."""

    def stream_finished(self) -> None:
        """END_STREAM of our side has gone out; the edge may still be sending."""

    def keep_alive(self, now: float) -> None:
        """Called about every 10 s with the loop's clock."""


class EdgeStream:
    """Open until forgotten by its connection; then every call is a harmless no-op (but for acknowledge)."""

    __slots__ = (
        "_can_send",
        "_connection",
        "_is_finishing",
        "_pending",
        "_trailers",
        "handler",
        "is_open",
        "stream_id",
    )

    def __init__(self, connection: "EdgeConnection", stream_id: int) -> None:
        self._connection = connection
        self.stream_id = stream_id
        self.handler: StreamHandler | None = None
        self.is_open = True
        self._pending: deque[bytes] = deque()
        self._can_send = True
        self._is_finishing = False
        self._trailers: list[Header] = []

    def respond(
        self,
        status: int,
        headers: list[Header],
        *,
        meta: ResponseMeta = META_ORIGIN,
        content_length: str | None = None,
        end_stream: bool = False,
    ) -> None:
        """101 travels as 200 (tunnel-edge.md 5.7); `headers` are those of the origin."""
        fields = [
            (":status", str(200 if status == 101 else status)),
            (H_RESPONSE_HEADERS, serialize_headers(headers)),
            (H_RESPONSE_META, str(meta)),
        ]
        if content_length is not None:
            fields.append(("content-length", content_length))
        self.send_headers(fields, end_stream=end_stream)

    def send_headers(self, headers: list[Header], *, end_stream: bool = False) -> None:
        if not self._can_send:
            return
        with contextlib.suppress(StreamClosedError):
            self._connection.h2.send_headers(self.stream_id, headers, end_stream=end_stream)
        self._connection.flush()
        if end_stream:
            self._sent_end()

    def send(self, data: bytes | memoryview) -> bool:
        """True when all of it is on its way. False: the rest was copied; send no more before stream_drained."""
        if not self._can_send:
            return True
        if self._pending:
            self._pending.append(bytes(data))
            return False
        accepted = self._connection.send_data(self.stream_id, data)
        if accepted == len(data):
            return True
        self._pending.append(bytes(data[accepted:]))
        self._connection.block(self)
        return False

    def finish(self, trailers: list[Header] | None = None) -> None:
        """Ends the response once everything has gone out; the request direction lives on."""
        self._is_finishing = True
        self._trailers = trailers or []
        if not self._pending:
            self._send_end()

    def writable(self) -> None:
        """The connection calls this when windows or buffers have room again."""
        while self._pending:
            data = self._pending.popleft()
            accepted = self._connection.send_data(self.stream_id, data)
            if accepted < len(data):
                self._pending.appendleft(data[accepted:])
                self._connection.block(self)
                return
        if self._is_finishing:
            self._send_end()
        elif self.handler is not None and self._can_send:
            self.handler.stream_drained()

    def acknowledge(self, length: int) -> None:
        """Valid in every state: the connection window is shared, so its bytes must come back."""
        if length:
            self._connection.h2.acknowledge(self.stream_id, length)
            self._connection.flush()

    def reset(self, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Ends both directions now. NO_ERROR after a complete response: the rest of the request is not wanted."""
        if self.is_open:
            self._connection.h2.reset(self.stream_id, code)
            self._connection.flush()
            self._connection.forget(self)

    def reset_rest(self) -> None:
        """The response is complete: tells the edge that the rest of its request is not wanted."""
        if not self._can_send:
            self.reset(ErrorCode.NO_ERROR)

    def forgotten(self) -> None:
        """The connection dropped this stream."""
        self.is_open = self._can_send = False
        self._pending.clear()

    @property
    def is_blocked(self) -> bool:
        return bool(self._pending)

    @property
    def can_send(self) -> bool:
        return self._can_send

    def _send_end(self) -> None:
        if not self._can_send:
            return
        with contextlib.suppress(StreamClosedError):
            if self._trailers:
                self._connection.h2.send_headers(self.stream_id, self._trailers, end_stream=True)
            else:
                self._connection.h2.send_data(self.stream_id, b"", end_stream=True)
        self._connection.flush()
        self._sent_end()

    def _sent_end(self) -> None:
        self._can_send = False
        if not self._connection.response_ended(self) and self.handler is not None:
            self.handler.stream_finished()
