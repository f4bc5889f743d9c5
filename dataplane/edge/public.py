"""One connection from the public: HTTP/1.1 requests one after the other, or one WebSocket, over TLS.

The protocol only moves bytes and keeps time. What a request means is decided by the `serve` coroutine of the
edge; where body bytes go is decided by the Exchange that coroutine installs.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, cast

from dataplane.edge.certificates import server_name
from dataplane.edge.errors import STATUS_TEXT, Refusal, render
from dataplane.edge.evidence import ClientCertificate, client_certificate
from dataplane.edge.heads import (
    END_OF_HEAD,
    MAX_HEAD_BYTES,
    BodyDecoder,
    HeadError,
    RequestHead,
    parse_request_head,
)
from dataplane.edge.pages import PAGE_POLICY
from dataplane.edge.tcpinfo import round_trip_seconds
from dataplane.transport import SharedReader, spawn
from dataplane.wire.headers import Header

logger = logging.getLogger(__name__)

FIRST_HEAD_SECONDS = 10.0
HEAD_SECONDS = 10.0
IDLE_SECONDS = 75.0
# A body must bring at least this many bytes in each period; slower ones are cut (slow-loris).
BODY_PERIOD_SECONDS = 30.0
BODY_PERIOD_BYTES = 1024
# A reader of a response may stall this long. WebSockets may stall for ever: back-pressure bounds what they
# hold.
STALLED_RESPONSE_SECONDS = 120.0
MAX_AHEAD_BYTES = 64 * 1024
WRITE_HIGH_WATER_BYTES = 256 * 1024
WRITE_LOW_WATER_BYTES = 64 * 1024


class Exchange(Protocol):
    """Who gets the bytes of the client. None of the methods may raise, except HeadError from nothing."""

    def client_data(self, data: bytes | memoryview) -> None:
        """A memoryview is valid during the call only."""

    def client_body_ended(self) -> None: ...

    def client_writable(self) -> None: ...

    def client_lost(self) -> None: ...


class PublicConnection(SharedReader):
    def __init__(
        self,
        serve: Callable[["PublicConnection", RequestHead], Awaitable[None]],
        peer_ip: str,
        on_closed: Callable[["PublicConnection"], None],
    ) -> None:
        self.peer_ip = peer_ip
        self.server_name = ""
        self.certificate: ClientCertificate | None = None
        self.reference = ""
        self.is_response_started = False
        self.is_write_paused = False
        self.is_lost = False
        # Set while the edge drains: the response in flight is the last one.
        self.is_last = False
        self.deadline = 0.0
        self._serve = serve
        self._on_closed = on_closed
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._inbox = bytearray()
        self._head: RequestHead | None = None
        self._task: asyncio.Task[None] | None = None
        self._exchange: Exchange | None = None
        self._decoder: BodyDecoder | None = None
        self._is_upgraded = False
        self._is_body_paused = False
        self._is_reading_paused = False
        self._is_lingering = False
        # No byte of the next head is here yet.
        self._is_waiting = True
        self._period_bytes = 0
        self._drained: asyncio.Future[None] | None = None

    # ---- asyncio
    # ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio.Transport, they only look like it.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(WRITE_HIGH_WATER_BYTES, WRITE_LOW_WATER_BYTES)
        tls = transport.get_extra_info("ssl_object")
        self.server_name = server_name(tls)
        self.certificate = client_certificate(tls)
        self._expect(FIRST_HEAD_SECONDS)

    def bytes_received(self, data: memoryview) -> None:
        if self._is_upgraded and self._exchange is not None:
            self._exchange.client_data(data)
            return
        if self._is_lingering or self.is_lost:
            return
        self._inbox += data
        self._advance()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        self.deadline = 0.0
        self._wake_drained()
        if self._exchange is not None:
            self._exchange.client_lost()
        if self._task is not None:
            self._task.cancel()
        self._on_closed(self)

    def pause_writing(self) -> None:
        self.is_write_paused = True
        if not self._is_upgraded:
            self._expect(STALLED_RESPONSE_SECONDS)

    def resume_writing(self) -> None:
        self.is_write_paused = False
        if not self._is_upgraded:
            self.deadline = 0.0
        self._wake_drained()
        if self._exchange is not None:
            self._exchange.client_writable()

    # ---- for those who serve
    # ------------------------------------------------------------------------------------

    def round_trip(self) -> float | None:
        """Seconds, as the kernel measured them on this connection."""
        return None if self.is_lost else round_trip_seconds(self._transport)

    @property
    def is_idle(self) -> bool:
        return self._task is None

    def write(self, data: bytes | memoryview) -> None:
        if self._transport is not None and not self.is_lost:
            self._transport.write(data)

    def writelines(self, pieces: Iterable[bytes | memoryview]) -> None:
        if self._transport is not None and not self.is_lost:
            self._transport.writelines(pieces)

    async def drain(self) -> None:
        """Waits until the client has read enough. Returns at once when it is gone."""
        if self.is_write_paused and not self.is_lost:
            self._drained = self._loop.create_future()
            await self._drained

    def begin_body(self, exchange: Exchange) -> None:
        """From now on the request body goes to `exchange`, whose end of the connection's life it hears of
        too."""
        assert self._head is not None
        self._exchange = exchange
        self._decoder = BodyDecoder(self._head.content_length, is_chunked=self._head.is_chunked)
        if self._head.has_body:
            if self._head.expects_continue:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._period_bytes = 0
            self._expect(BODY_PERIOD_SECONDS)
        self._loop.call_soon(self._advance)

    def pause_body(self) -> None:
        self._is_body_paused = True
        self._adjust_reading()

    def resume_body(self) -> None:
        if not self._is_body_paused:
            return
        self._is_body_paused = False
        self._adjust_reading()
        if not self._is_upgraded:
            self._loop.call_soon(self._advance)

    def upgrade(self, exchange: Exchange) -> None:
        """After the 101: bytes pass verbatim, and time no longer runs."""
        self._exchange = exchange
        self._is_upgraded = True
        self.deadline = 0.0
        ahead = bytes(self._inbox)
        self._inbox.clear()
        if ahead:
            exchange.client_data(ahead)
        self._adjust_reading()

    def send_head(self, status: int, headers: Iterable[Header]) -> None:
        """Values must have been checked: no control characters."""
        self.is_response_started = True
        lines = [f"HTTP/1.1 {status} {STATUS_TEXT.get(status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers]
        self.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace"))

    def send_response(self, status: int, headers: list[Header], body: bytes) -> None:
        is_head = self._head is not None and self._head.method == "HEAD"
        if not self.keeps_alive:
            self.is_last = True
            headers = [*headers, ("connection", "close")]
        self.send_head(status, [*headers, ("content-length", str(len(body)))])
        if body and not is_head:
            self.write(body)

    def send_refusal(self, refusal: Refusal) -> None:
        accept = (self._head.get("accept") if self._head is not None else None) or ""
        content_type, body = render(refusal, accept, self.reference)
        headers = [
            ("content-type", content_type),
            ("sallyport-error", refusal.reason),
            ("cf-ray", self.reference),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        ]
        if refusal.status in (429, 502, 503):
            headers.append(("retry-after", "2"))
        if content_type.startswith("text/html"):
            headers.append(("content-security-policy", PAGE_POLICY))
        if refusal.is_final:
            self.is_last = True
        if refusal.location:
            self.send_response(302, [*headers, ("location", refusal.location)], body)
            return
        self.send_response(refusal.status, headers, body)

    @property
    def keeps_alive(self) -> bool:
        """Whether another request may follow: only when this one's body was, or will be, read to its end."""
        if self._head is None or self.is_last or not self._head.wants_keep_alive:
            return False
        return not self._head.has_body or (self._decoder is not None and self._decoder.is_complete)

    def close(self) -> None:
        """Lets queued bytes out. The TLS layer reads on and discards meanwhile, bounded by the listener's
        shutdown timeout: closing a socket with unread input would reset it and destroy what the client has
        not read yet."""
        if self.is_lost or self._transport is None or self._is_lingering:
            return
        self._is_lingering = True
        self._is_upgraded = False
        self._exchange = None
        self.deadline = 0.0
        self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def check_deadline(self, now: float) -> None:
        """Called every second by the edge."""
        if not self.deadline or now < self.deadline or self.is_lost:
            return
        if self._is_receiving_body and self._period_bytes >= BODY_PERIOD_BYTES and not self.is_write_paused:
            self._period_bytes = 0
            self._expect(BODY_PERIOD_SECONDS)
            return
        self.deadline = 0.0
        if self.is_write_paused or self.is_response_started or not (self._inbox or self._head):
            self.abort()
            return
        self.is_last = True
        self.send_refusal(Refusal(408, "request_timeout", "The request did not arrive in time."))
        self.close()

    # ---- inside
    # -------------------------------------------------------------------------------------------------

    @property
    def _is_receiving_body(self) -> bool:
        return self._decoder is not None and not self._decoder.is_complete

    def _advance(self) -> None:
        """Goes on with what is in the inbox: the body of the request being served, or the next head."""
        if self.is_lost or self._is_lingering or self._is_upgraded:
            return
        if self._head is not None:
            self._advance_body()
            self._adjust_reading()
            return
        while self._inbox.startswith(b"\r\n"):
            del self._inbox[:2]  # RFC 9112 section 2.2
        end = self._inbox.find(END_OF_HEAD, 0, MAX_HEAD_BYTES)
        if end >= 0:
            self._begin_request(end)
        elif len(self._inbox) >= MAX_HEAD_BYTES:
            self._reject_head(HeadError(431, "head_too_large", f"The request head exceeds {MAX_HEAD_BYTES} bytes."))
        elif self._inbox and self._is_waiting:
            self._is_waiting = False
            self._expect(HEAD_SECONDS)

    def _adjust_reading(self) -> None:
        """What is not wanted yet (a paused body, pipelined requests) waits in the socket, not in memory."""
        if self._transport is None or self.is_lost or self._is_lingering:
            return
        is_wanted = not self._is_body_paused if self._is_upgraded else len(self._inbox) <= MAX_AHEAD_BYTES
        if is_wanted and self._is_reading_paused:
            self._transport.resume_reading()
        elif not is_wanted and not self._is_reading_paused:
            self._transport.pause_reading()
        self._is_reading_paused = not is_wanted

    def _begin_request(self, end: int) -> None:
        data = bytes(self._inbox[:end])
        del self._inbox[: end + len(END_OF_HEAD)]
        try:
            self._head = parse_request_head(data)
        except HeadError as error:
            self._reject_head(error)
            return
        self.deadline = 0.0
        self._task = spawn(self._run(self._head), name="public-request")

    def _reject_head(self, error: HeadError) -> None:
        self.is_last = True
        self.send_refusal(Refusal(error.status, error.reason, error.message))
        self.close()

    def _advance_body(self) -> None:
        if self._decoder is None or self._exchange is None or self._is_body_paused or self._decoder.is_complete:
            return
        try:
            content = self._decoder.take(self._inbox)
        except HeadError as error:
            self._fail_body(error)
            return
        if content:
            self._period_bytes += len(content)
            self._exchange.client_data(content)
        if self._decoder.is_complete:
            self.deadline = 0.0
            self._exchange.client_body_ended()

    def _fail_body(self, error: HeadError) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_lost()
        if not self.is_response_started:
            self.send_refusal(Refusal(error.status, error.reason, error.message, is_final=True))
        self.close()

    async def _run(self, head: RequestHead) -> None:
        try:
            await self._serve(self, head)
        except Refusal as refusal:
            if self.is_response_started:
                self.abort()
            elif not self._is_lingering:
                self.send_refusal(refusal)
        except Exception:
            logger.exception("request %s failed", self.reference)
            if self.is_response_started:
                self.abort()
            else:
                self.send_refusal(Refusal(500, "internal_error", "The edge could not serve this request."))
        finally:
            self._task = None
            self._finish_request()

    def _finish_request(self) -> None:
        if self.is_lost:
            return
        if self._is_upgraded or not self.keeps_alive:
            self.close()
            return
        self._head = self._decoder = self._exchange = None
        self.is_response_started = False
        self._is_waiting = True
        self._expect(IDLE_SECONDS)
        self._is_body_paused = False
        self._loop.call_soon(self._advance)
        self._loop.call_soon(self._adjust_reading)

    def _expect(self, seconds: float) -> None:
        self.deadline = self._loop.time() + seconds

    def _wake_drained(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None
