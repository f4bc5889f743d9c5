"""The edge's end of one connector connection: HTTP/2 client on an accepted TLS socket (tunnel-edge.md 5).

HANDSHAKE --registered--> SERVING --unregistered or drain--> DRAINING --last stream gone--> CLOSED
    |  10 s, refused          |  control stream ended, no PING answer, revoked                 ^
    +-------------------------+---------------------------------------------------------------+
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from typing import Protocol, cast

from dataplane.edge.certificates import server_name
from dataplane.edge.keepalive import Keepalive
from dataplane.edge.registration import Registration, State
from dataplane.edge.tunnelstream import StreamHandler, TunnelStream
from dataplane.transport import SharedReader
from dataplane.wire.h2 import ErrorCode, H2Connection, H2ProtocolError, StreamClosedError
from dataplane.wire.h2events import (
    DataReceived,
    Event,
    GoawayReceived,
    HeadersReceived,
    PingAcked,
    SettingsReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from dataplane.wire.headers import Header
from dataplane.wire.names import H_UPGRADE, SNI_PROBE, SNI_TUNNEL, UPGRADE_CONTROL
from dataplane.wire.rpc import (
    RegisterConnection,
    RpcAborted,
    RpcError,
    RpcServerSession,
    UnregisterConnection,
    UpdateLocalConfiguration,
)

logger = logging.getLogger(__name__)

REGISTER_TIMEOUT_SECONDS = 10.0
PROBE_TIMEOUT_SECONDS = 10.0
# What is left to write when a connection is refused: the RPC answer must still get out.
CLOSE_GRACE_SECONDS = 1.0
STREAM_WINDOW_BYTES = 2 * 1024 * 1024
MAX_STREAMS = 512
# Every stream may be stalled with a full window and the connection still moves: the windows never couple
# streams.
CONNECTION_WINDOW_BYTES = STREAM_WINDOW_BYTES * MAX_STREAMS
MAX_FRAME_BYTES = 1024 * 1024
# cloudflared grants 1 MiB for the whole connection: one stalled stream must not take it all (tunnel-edge.md
# 0.7).
UNACKED_BYTES = 256 * 1024
# A connector with a connection window of at least this much has room for larger shares.
LARGE_CONNECTION_WINDOW_BYTES = 32 * 1024 * 1024
LARGE_UNACKED_BYTES = 4 * 1024 * 1024
WRITE_HIGH_WATER_BYTES = 512 * 1024
WRITE_LOW_WATER_BYTES = 128 * 1024


class Owner(Protocol):
    """What a connection needs from the edge around it."""

    def register(self, connection: "TunnelConnection", request: RegisterConnection) -> None: ...
    def local_configuration(self, connection: "TunnelConnection", config: bytes) -> None: ...
    def changed(self, connection: "TunnelConnection") -> None: ...
    def closed(self, connection: "TunnelConnection") -> None: ...


class TunnelConnection(SharedReader):
    def __init__(self, owner: Owner, peer_ip: str, on_closed: Callable[[], None]) -> None:
        self.id = str(uuid.uuid4())
        self.peer_ip = peer_ip
        self.opened_at = time.time()
        self.state = State.HANDSHAKE
        self.registration: Registration | None = None
        self._owner = owner
        self._on_closed = on_closed
        self._transport: asyncio.Transport | None = None
        self._h2 = H2Connection(
            "client",
            max_frame_size=MAX_FRAME_BYTES,
            stream_window=STREAM_WINDOW_BYTES,
            connection_window=CONNECTION_WINDOW_BYTES,
            unacked_limit=UNACKED_BYTES,
        )
        self._rpc = RpcServerSession()
        self._control_stream_id = 0
        self._is_registering = False
        self._streams: dict[int, TunnelStream] = {}
        self._touched: dict[int, TunnelStream] = {}
        self._blocked: dict[int, TunnelStream] = {}
        self._is_writable = True
        self._is_dispatching = False
        self._timer: asyncio.TimerHandle | None = None
        self._keepalive = Keepalive(self._send_ping, self._vanished)
        self._granted_bytes = 0

    # ---- asyncio
    # ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio.Transport, they only look like it.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(WRITE_HIGH_WATER_BYTES, WRITE_LOW_WATER_BYTES)
        name = server_name(transport.get_extra_info("ssl_object"))
        if name == SNI_PROBE:
            logger.debug("probe from %s", self.peer_ip)
            self._set_timer(PROBE_TIMEOUT_SECONDS, self.abort)
            return
        if name != SNI_TUNNEL:
            logger.info("connector port: %s asked for server name %r, closed", self.peer_ip, name[:80])
            self.abort()
            return
        self._h2.initiate()
        self._control_stream_id = self._h2.open_stream(
            [
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", SNI_TUNNEL),
                (":path", "/"),
                (H_UPGRADE, UPGRADE_CONTROL),
            ]
        )
        self._flush()
        self._set_timer(REGISTER_TIMEOUT_SECONDS, self._registration_timed_out)

    def bytes_received(self, data: memoryview) -> None:
        if self.state is State.CLOSED or not self._control_stream_id:
            return
        self._is_dispatching = True
        try:
            for event in self._h2.receive_data(data):
                self._dispatch(event)
            self._flush_touched()
        except (H2ProtocolError, RpcError) as error:
            logger.warning("connection %s from %s broke the protocol: %s", self.id, self.peer_ip, error)
            self._flush()
            self.close("protocol error")
        except Exception:
            # One connection's surprise must not take the process with it.
            logger.exception("connection %s from %s failed", self.id, self.peer_ip)
            self.abort()
        finally:
            self._is_dispatching = False
        self._flush()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("connector connection lost")

    def pause_writing(self) -> None:
        self._is_writable = False

    def resume_writing(self) -> None:
        self._is_writable = True
        self._wake_blocked()

    # ---- the edge's side
    # ----------------------------------------------------------------------------------------

    @property
    def stream_count(self) -> int:
        return len(self._streams)

    @property
    def takes_streams(self) -> bool:
        return self.state is State.SERVING and len(self._streams) < MAX_STREAMS and self._h2.can_open_stream

    def open(self, headers: list[Header], handler: StreamHandler, *, end_stream: bool) -> TunnelStream:
        """Raises StreamClosedError when the connection cannot take it (any more)."""
        stream = TunnelStream(self, self._h2.open_stream(headers, end_stream=end_stream), handler)
        self._streams[stream.stream_id] = stream
        self._flush()
        return stream

    def send(self, stream: TunnelStream, data: bytes | memoryview) -> int:
        if stream.stream_id not in self._streams:
            return len(data)
        accepted = 0
        if self._is_writable:
            try:
                accepted = self._h2.send_data(stream.stream_id, data)
            except StreamClosedError:
                return len(data)
            self._flush()
        if accepted < len(data):
            self._blocked[stream.stream_id] = stream
        return accepted

    def end(self, stream: TunnelStream) -> None:
        if stream.stream_id in self._streams:
            try:
                self._h2.send_data(stream.stream_id, b"", end_stream=True)
            except StreamClosedError:
                return
            self._flush()

    def acknowledge(self, stream: TunnelStream, length: int) -> None:
        self._h2.acknowledge(stream.stream_id, length)
        self._flush()

    def cancel(self, stream: TunnelStream, code: ErrorCode) -> None:
        if self._forget(stream.stream_id) is not None:
            self._h2.reset(stream.stream_id, code)
            self._flush()

    def answer(self, message: bytes) -> None:
        """Sends an RPC message on the control stream. They are tiny: a window that is full of them means
        abuse."""
        if self.state is State.CLOSED:
            return
        try:
            if self._h2.send_data(self._control_stream_id, message) < len(message):
                self.close("control stream window exhausted")
        except StreamClosedError:
            self.close("control stream closed")
        self._flush()

    @property
    def rpc(self) -> RpcServerSession:
        return self._rpc

    def serve(self, registration: Registration) -> None:
        """Registration succeeded: streams may be opened from now on."""
        self.registration = registration
        self.state = State.SERVING
        self._stop_timer()
        self._keepalive.start()

    def drain(self) -> None:
        """Takes no new streams; closes once the last one is gone. The connector then reconnects elsewhere."""
        if self.state is State.SERVING:
            self.state = State.DRAINING
            self._owner.changed(self)
        if self.state is State.HANDSHAKE or not self._streams:
            self.close("drained")

    async def check_alive(self, timeout: float) -> bool:
        """Sends a PING and waits for its answer."""
        return self.is_open and await self._keepalive.check(timeout) and self.is_open

    @property
    def rtt_seconds(self) -> float | None:
        """Round trip to the connector's machine, as PINGs measure it."""
        return self._keepalive.rtt_seconds

    @property
    def is_open(self) -> bool:
        return self.state is not State.CLOSED

    def close(self, reason: str) -> None:
        """Ends streams now, lets queued bytes out, then closes the TCP connection."""
        if self.state is State.CLOSED:
            return
        logger.info("connection %s closed: %s", self.id, reason)
        self._end(reason)
        self._is_dispatching = False
        self._flush()
        if self._transport is not None:
            self._transport.close()
            asyncio.get_running_loop().call_later(CLOSE_GRACE_SECONDS, self._transport.abort)

    def abort(self) -> None:
        self._end("aborted")
        if self._transport is not None:
            self._transport.abort()

    # ---- events
    # -------------------------------------------------------------------------------------------------

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            self._take_data(event)
        elif isinstance(event, WindowUpdated):
            self._wake(event.stream_id)
            if not event.stream_id:
                self._granted(event.increment)
        elif isinstance(event, HeadersReceived):
            stream = self._streams.get(event.stream_id)
            if stream is not None and not event.is_trailers and event.headers[0][1] >= "200":
                stream.handler.stream_answered(event.headers)
        elif isinstance(event, StreamEnded):
            self._stream_ended(event.stream_id)
        elif isinstance(event, StreamReset):
            self._stream_reset(event)
        elif isinstance(event, PingAcked):
            self._keepalive.answered(event.payload)
        elif isinstance(event, SettingsReceived):
            self._wake_blocked()
        elif isinstance(event, GoawayReceived):
            logger.info("connection %s: GOAWAY from the connector", self.id)
            self.drain()

    def _take_data(self, event: DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self._touched[event.stream_id] = stream
            stream.handler.stream_data(event.data)
            return
        self._h2.acknowledge(event.stream_id, event.flow_length)
        if event.stream_id == self._control_stream_id:
            self._take_rpc(bytes(event.data))

    def _flush_touched(self) -> None:
        if self._touched:
            touched, self._touched = self._touched, {}
            for stream in touched.values():
                stream.handler.stream_flush()

    def _take_rpc(self, data: bytes) -> None:
        for call in self._rpc.receive_data(data):
            if isinstance(call, RegisterConnection):
                if self.state is not State.HANDSHAKE or self._is_registering:
                    self.answer(self._rpc.respond_error(call.question_id, "already registered", 0, False))
                    continue
                # One at a time: each costs a task, and for an unknown tunnel a question to the control plane.
                self._is_registering = True
                self._owner.register(self, call)
            elif isinstance(call, UnregisterConnection):
                self.answer(self._rpc.respond_empty(call.question_id))
                self.drain()
            elif isinstance(call, UpdateLocalConfiguration):
                self.answer(self._rpc.respond_empty(call.question_id))
                if self.state is State.SERVING:
                    self._owner.local_configuration(self, call.config)
            elif isinstance(call, RpcAborted) and self.state is not State.DRAINING:
                self.close("the connector aborted the control session")
        pending = self._rpc.data_to_send()
        if pending:
            self.answer(pending)

    def _stream_ended(self, stream_id: int) -> None:
        if stream_id == self._control_stream_id:
            self._control_stream_lost()
            return
        stream = self._streams.get(stream_id)
        if stream is not None:
            # Data of this batch first: the handler may finish on stream_ended.
            self._touched.pop(stream_id, None)
            stream.handler.stream_flush()
            stream.handler.stream_ended()

    def _stream_reset(self, event: StreamReset) -> None:
        if event.stream_id == self._control_stream_id:
            self._control_stream_lost()
            return
        stream = self._forget(event.stream_id)
        if stream is not None:
            stream.handler.stream_flush()
            stream.handler.stream_lost("stream_reset" if event.by_peer else "connector_protocol_error")

    def _control_stream_lost(self) -> None:
        # After an unregistration streams in flight go on; otherwise the connector waits for us to close
        # (tunnel-edge.md 0.3).
        if self.state is not State.DRAINING or not self._streams:
            self.close("control stream ended")

    def _forget(self, stream_id: int) -> TunnelStream | None:
        stream = self._streams.pop(stream_id, None)
        self._blocked.pop(stream_id, None)
        self._touched.pop(stream_id, None)
        if self.state is State.DRAINING and not self._streams:
            asyncio.get_running_loop().call_soon(self.close, "drained")
        return stream

    # ---- flow
    # ---------------------------------------------------------------------------------------------------

    def _granted(self, increment: int) -> None:
        """A connector that grants a large connection window may have more in flight per stream."""
        if self._h2.unacked_limit == UNACKED_BYTES and self._granted_bytes < LARGE_CONNECTION_WINDOW_BYTES:
            self._granted_bytes = max(self._granted_bytes, increment)
            if self._granted_bytes >= LARGE_CONNECTION_WINDOW_BYTES:
                self._h2.unacked_limit = LARGE_UNACKED_BYTES

    def _wake(self, stream_id: int) -> None:
        if not stream_id:
            self._wake_blocked()
            return
        stream = self._blocked.pop(stream_id, None)
        if stream is not None:
            stream.handler.stream_writable()

    def _wake_blocked(self) -> None:
        if self._blocked:
            # Taken whole: a stream that blocks again goes to the end, so that none starves.
            blocked, self._blocked = self._blocked, {}
            for stream in blocked.values():
                stream.handler.stream_writable()

    def _flush(self) -> None:
        if self._is_dispatching:
            return  # once, at the end of the batch
        pieces = self._h2.data_to_send()
        if pieces and self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(pieces)

    # ---- life
    # ---------------------------------------------------------------------------------------------------

    def _set_timer(self, seconds: float, callback: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, callback)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _registration_timed_out(self) -> None:
        self.close(f"not registered within {REGISTER_TIMEOUT_SECONDS:.0f} s")

    def _send_ping(self, payload: bytes) -> None:
        self._h2.ping(payload)
        self._flush()

    def _vanished(self) -> None:
        logger.warning("connection %s from %s does not answer PING", self.id, self.peer_ip)
        self.abort()

    def _end(self, reason: str) -> None:
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        self._stop_timer()
        self._keepalive.stop()
        streams, self._streams = self._streams, {}
        self._blocked.clear()
        self._touched.clear()
        for stream in streams.values():
            stream.handler.stream_lost("connector_lost")
        self._on_closed()
        self._owner.closed(self)
