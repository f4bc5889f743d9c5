"""The connector's end of one connection: HTTP/2 server on the TLS socket it dialled (tunnel-edge.md 5).

CONNECTED --control stream--> REGISTERING --accepted--> SERVING --stop()--> DRAINING --last stream--> CLOSED
    |  no control stream          |  refused, no answer     |  lost, silent                              ^
    +-----------------------------+-------------------------+--------------------------------------------+
"""

import asyncio
import logging
import uuid
from collections.abc import Callable
from enum import Enum

from dataplane.connector.edgestream import EdgeStream
from dataplane.transport import WRITE_HIGH_WATER_BYTES, WRITE_LOW_WATER_BYTES, SharedReader, stream_transport
from dataplane.wire.credentials import TunnelCredentials
from dataplane.wire.h2 import ErrorCode, H2Connection, H2ProtocolError
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
from dataplane.wire.h2streams import StreamClosedError
from dataplane.wire.headers import Header
from dataplane.wire.names import H_TCP_SRC, H_UPGRADE, UPGRADE_CONFIGURATION, UPGRADE_CONTROL, UPGRADE_WEBSOCKET
from dataplane.wire.rpc import (
    ConnectionOptions,
    LocalConfigurationAccepted,
    Registered,
    RegistrationRefused,
    RpcAborted,
    RpcClientSession,
    RpcError,
    Unregistered,
)

logger = logging.getLogger(__name__)

STREAM_WINDOW_BYTES = 8 << 20
# The memory bound of one connection: 32 streams may be stalled with a full window before others feel it, and our edge
# keeps no more than 4 MiB in flight per stream.
CONNECTION_WINDOW_BYTES = 256 << 20
MAX_STREAMS = 2048
REGISTER_TIMEOUT_SECONDS = 15.0
# The edge pings every 10 to 20 s; when it is silent we ask, so that a dead edge is noticed within 30 s.
SILENCE_BEFORE_PING_SECONDS = 15.0
SILENCE_BEFORE_CLOSE_SECONDS = 28.0
TICK_SECONDS = 5.0
UNREGISTER_TIMEOUT_SECONDS = 5.0


class State(Enum):
    """See the diagram above."""

    CONNECTED = "connected"
    REGISTERING = "registering"
    SERVING = "serving"
    DRAINING = "draining"
    CLOSED = "closed"


Dispatch = Callable[[EdgeStream, str, list[Header], bool], None]


class EdgeConnection(SharedReader):
    """`dispatch(stream, kind, headers, has_ended)` serves data streams; kind is websocket, tcp, http or config.

    `outcome` is done once registration was answered: Registered, or RegistrationRefused, or an OSError.
    `closed` is done when the connection serves no more, its result is the reason; `lost` when the socket is gone."""

    def __init__(
        self,
        index: int,
        credentials: TunnelCredentials,
        options: ConnectionOptions,
        dispatch: Dispatch,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.index = index
        self.state = State.CONNECTED
        self.connection_id: uuid.UUID | None = None
        self.outcome: asyncio.Future[Registered | RegistrationRefused] = loop.create_future()
        self.closed: asyncio.Future[str] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self.unregistered: asyncio.Future[None] = loop.create_future()
        self.h2 = H2Connection(
            "server",
            stream_window=STREAM_WINDOW_BYTES,
            connection_window=CONNECTION_WINDOW_BYTES,
            max_concurrent_streams=MAX_STREAMS,
        )
        self._credentials = credentials
        self._options = options
        self._dispatch_stream = dispatch
        self._rpc = RpcClientSession()
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._control: EdgeStream | None = None
        self._streams: dict[int, EdgeStream] = {}
        self._blocked: dict[int, EdgeStream] = {}
        self._is_writable = True
        self._is_batching = False
        self._heard_at = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._opened_at = loop.time()

    # ---- asyncio -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = stream_transport(transport)
        self._transport.set_write_buffer_limits(WRITE_HIGH_WATER_BYTES, WRITE_LOW_WATER_BYTES)
        self.h2.initiate()
        self.flush()
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def bytes_received(self, data: memoryview) -> None:
        self._heard_at = self._loop.time()
        self._is_batching = True
        try:
            for event in self.h2.receive_data(data):
                self._take(event)
        except (H2ProtocolError, RpcError) as error:
            self._is_batching = False
            self.close(f"the edge broke the protocol: {error}")
        except Exception:
            # One connection's surprise must not end the process: the supervisor dials again.
            logger.exception("connection %d failed", self.index)
            self.abort("internal error")
        finally:
            self._is_batching = False
        self.flush()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"the connection was lost: {exc}" if exc else "the edge closed the connection")
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        self._is_writable = False

    def resume_writing(self) -> None:
        self._is_writable = True
        self._wake_blocked()

    # ---- streams' side -----------------------------------------------------------------------------------------

    def send_data(self, stream_id: int, data: bytes | memoryview) -> int:
        """Bytes accepted; none while the socket is congested."""
        if not self._is_writable:
            return 0
        try:
            accepted = self.h2.send_data(stream_id, data)
        except StreamClosedError:
            return len(data)
        if accepted:
            self._write_out()  # at once: `data` may be a slice of the receive buffer
        return accepted

    def block(self, stream: EdgeStream) -> None:
        self._blocked[stream.stream_id] = stream

    def flush(self) -> None:
        if not self._is_batching:
            self._write_out()

    def forget(self, stream: EdgeStream) -> None:
        self._streams.pop(stream.stream_id, None)
        self._blocked.pop(stream.stream_id, None)
        stream.forgotten()
        self._close_if_drained()

    def response_ended(self, stream: EdgeStream) -> bool:
        """Our side is done; True when the edge's side was done too and the stream is gone."""
        if self.h2.has_stream(stream.stream_id):
            return False
        self.forget(stream)
        return True

    # ---- supervisor's side -------------------------------------------------------------------------------------

    @property
    def stream_count(self) -> int:
        return len(self._streams)

    def send_local_configuration(self, document: bytes) -> None:
        if self._control is not None:
            self._control.send(self._rpc.update_local_configuration(document))

    def unregister(self) -> None:
        """Tells the edge to open no more streams; `unregistered` is done when it agreed."""
        if self.state is not State.SERVING or self._control is None:
            self.close("stopped before it was registered")
            return
        self.state = State.DRAINING
        self._control.send(self._rpc.unregister())
        self._loop.call_later(UNREGISTER_TIMEOUT_SECONDS, self._unregistered)

    def close(self, reason: str) -> None:
        """Ends all streams, lets queued bytes out, closes."""
        if self.state is State.CLOSED:
            return
        if self._control is not None and self.state is State.DRAINING:
            self._control.send(self._rpc.close())
            self._control.finish()
        if not self.h2.is_terminated:
            self.h2.goaway(ErrorCode.NO_ERROR)
        self._write_out()
        self._end(reason)
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    # ---- events ------------------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            self._take_data(event)
        elif isinstance(event, WindowUpdated):
            if event.stream_id:
                stream = self._blocked.pop(event.stream_id, None)
                if stream is not None:
                    stream.writable()
            else:
                self._wake_blocked()
        elif isinstance(event, HeadersReceived):
            self._take_headers(event)
        elif isinstance(event, StreamEnded):
            self._take_end(event.stream_id)
        elif isinstance(event, StreamReset):
            self._take_reset(event.stream_id)
        elif isinstance(event, SettingsReceived):
            self._wake_blocked()
        elif isinstance(event, GoawayReceived):
            logger.info("connection %d: the edge takes it out of service", self.index)
        else:
            assert not isinstance(event, PingAcked) or event.payload  # answers only show that the edge lives

    def _take_headers(self, event: HeadersReceived) -> None:
        if event.is_trailers:
            return
        headers = event.headers
        upgrade = _value(headers, H_UPGRADE)
        stream = EdgeStream(self, event.stream_id)
        self._streams[event.stream_id] = stream
        if upgrade == UPGRADE_CONFIGURATION:
            self._dispatch_stream(stream, "config", headers, event.end_stream)
        elif upgrade == UPGRADE_WEBSOCKET:
            self._dispatch_stream(stream, "websocket", headers, event.end_stream)
        elif _value(headers, H_TCP_SRC):
            self._dispatch_stream(stream, "tcp", headers, event.end_stream)
        elif upgrade == UPGRADE_CONTROL:
            self._streams.pop(event.stream_id)
            self._begin_control(stream)
        else:
            self._dispatch_stream(stream, "http", headers, event.end_stream)

    def _begin_control(self, stream: EdgeStream) -> None:
        if self._control is not None or self.state is not State.CONNECTED:
            stream.reset(ErrorCode.REFUSED_STREAM)
            return
        self._control = stream
        self.state = State.REGISTERING
        stream.send_headers([(":status", "200"), ("content-type", "application/octet-stream")])
        stream.send(self._rpc.bootstrap_and_register(self._credentials, self.index, self._options))

    def _take_data(self, event: DataReceived) -> None:
        if self._control is not None and event.stream_id == self._control.stream_id:
            self._control.acknowledge(event.flow_length)
            self._take_rpc(event.data)
            return
        stream = self._streams.get(event.stream_id)
        if stream is None or stream.handler is None:
            self.h2.acknowledge(event.stream_id, event.flow_length)
            return
        stream.handler.stream_data(event.data)

    def _take_rpc(self, data: memoryview) -> None:
        assert self._control is not None
        for event in self._rpc.receive_data(data):
            if isinstance(event, Registered):
                self.connection_id = event.connection_id
                self.state = State.SERVING
                self._settle(event)
            elif isinstance(event, RegistrationRefused):
                self._settle(event)
            elif isinstance(event, Unregistered):
                self._unregistered()
            elif isinstance(event, RpcAborted):
                logger.warning("connection %d: the edge ended the control session: %s", self.index, event.reason)
                self.close("the edge ended the control session")
                return
            else:
                assert isinstance(event, LocalConfigurationAccepted)
                logger.debug("connection %d: the edge has the local configuration", self.index)
        answer = self._rpc.data_to_send()
        if answer:
            self._control.send(answer)

    def _take_end(self, stream_id: int) -> None:
        if self._control is not None and stream_id == self._control.stream_id:
            self.close("the edge ended the control stream")
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if stream.handler is not None:
            stream.handler.stream_ended()
        if not self.h2.has_stream(stream_id):
            self.forget(stream)

    def _take_reset(self, stream_id: int) -> None:
        if self._control is not None and stream_id == self._control.stream_id:
            self.close("the edge reset the control stream")
            return
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        self.forget(stream)
        if stream.handler is not None:
            stream.handler.stream_lost()

    # ---- life --------------------------------------------------------------------------------------------------

    def _settle(self, outcome: Registered | RegistrationRefused) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def _unregistered(self) -> None:
        """The edge agreed, or takes too long to: streams in flight go on, then the connection closes."""
        if not self.unregistered.done():
            self.unregistered.set_result(None)
        self._close_if_drained()

    def _close_if_drained(self) -> None:
        if self.state is State.DRAINING and self.unregistered.done() and not self._streams:
            self._loop.call_soon(self.close, "stopped")

    def _tick(self) -> None:
        now = self._loop.time()
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
        silence = now - self._heard_at
        if self.state in (State.CONNECTED, State.REGISTERING) and now - self._opened_at > REGISTER_TIMEOUT_SECONDS:
            self.abort(f"not registered within {REGISTER_TIMEOUT_SECONDS:.0f} s")
            return
        if silence > SILENCE_BEFORE_CLOSE_SECONDS:
            self.abort(f"the edge was silent for {silence:.0f} s")
            return
        if silence > SILENCE_BEFORE_PING_SECONDS:
            self.h2.ping(bytes(8))
            self.flush()
        for stream in list(self._streams.values()):
            if stream.handler is not None:
                stream.handler.keep_alive(now)

    def _wake_blocked(self) -> None:
        # Taken whole: a stream that blocks again goes to the end, so that none starves.
        blocked, self._blocked = self._blocked, {}
        for stream in blocked.values():
            stream.writable()

    def _write_out(self) -> None:
        pieces = self.h2.data_to_send()
        if pieces and self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(pieces)

    def _end(self, reason: str) -> None:
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        if self._timer is not None:
            self._timer.cancel()
        streams, self._streams = self._streams, {}
        self._blocked.clear()
        for stream in streams.values():
            stream.forgotten()
            if stream.handler is not None:
                stream.handler.stream_lost()
        for future in (self.outcome, self.unregistered):
            future.cancel()
        if not self.closed.done():
            self.closed.set_result(reason)


def _value(headers: list[Header], name: str) -> str:
    return next((value for key, value in headers if key == name), "")
