"""One HTTP/2 stream toward a connector, and who listens to it."""

from typing import TYPE_CHECKING, Protocol

from dataplane.wire.h2 import ErrorCode
from dataplane.wire.headers import Header

if TYPE_CHECKING:
    from dataplane.edge.tunnelconnection import TunnelConnection


class StreamHandler(Protocol):
    """Callbacks of one stream, all from the read callback of its connection. None of them may raise."""

    def stream_answered(self, headers: list[Header]) -> None:
        """Response headers, once; informational answers and trailers are not passed on."""

    def stream_data(self, data: memoryview) -> None:
        """Valid only until stream_flush: write it out or copy it there. Owed to acknowledge() afterwards."""

    def stream_flush(self) -> None:
        """End of a batch in which stream_data was called."""

    def stream_ended(self) -> None:
        """The connector has sent everything."""

    def stream_lost(self, reason: str) -> None:
        """Reset by the connector, or its connection is gone. Last callback."""

    def stream_writable(self) -> None:
        """send() accepted less than it was given; now it may accept more."""


class TunnelStream:
    """What a handler does with its stream. After cancel() or stream_lost() every call is a harmless no-op."""

    __slots__ = ("_connection", "handler", "stream_id")

    def __init__(self, connection: "TunnelConnection", stream_id: int, handler: StreamHandler) -> None:
        self._connection = connection
        self.stream_id = stream_id
        self.handler = handler

    def send(self, data: bytes | memoryview) -> int:
        """Bytes accepted; after a short count wait for stream_writable()."""
        return self._connection.send(self, data)

    def end(self) -> None:
        """Ends the request body. Never used on a relay: a connector takes it as the end of both directions
        (tunnel-edge.md 0.5)."""
        self._connection.end(self)

    def acknowledge(self, length: int) -> None:
        """This many bytes reached the client: the connector may send as many more."""
        self._connection.acknowledge(self, length)

    def cancel(self, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Ends the stream both ways; the connector closes the origin connection. No callback follows."""
        self._connection.cancel(self, code)
