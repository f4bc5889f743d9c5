"""Joins a local byte stream (stdin/stdout, or a socket) to a WebSocket; one thread, non-blocking, bounded both ways.

    source --read--> _outgoing (frames) --> TLS         reading stops while _outgoing is full
    sink  <--write-- _incoming (pieces) <-- TLS         TLS is not read while _incoming is full

One thread, because OpenSSL does not allow reading and writing one connection from two.
"""

import os
import select
import ssl
import stat
import time
from collections import deque
from dataclasses import dataclass

from dataplane.client.websocket import Opened
from dataplane.https import describe
from dataplane.wire.websocket import (
    BINARY,
    CLOSE_GOING_AWAY,
    CLOSE_NORMAL,
    PING,
    PONG,
    CloseReceived,
    FrameParser,
    PayloadReceived,
    PingReceived,
    WebSocketError,
    encode_close,
    encode_frame,
)

# Payload and an 8-byte frame header fill exactly one TLS record, and stay below what connectors accept (16 KiB).
READ_BYTES = 16_384 - 8
MAX_BUFFERED_BYTES = 256 * 1024  # each way
PING_SECONDS = 30.0
SILENCE_SECONDS = 95.0  # three unanswered pings and a bit: the connection is gone
DRAIN_SECONDS = 30.0  # how long the server may be silent after our input has ended
GOODBYE_SECONDS = 0.5
_NO_STATUS = 1005
_BROKEN = select.POLLERR | select.POLLHUP | select.POLLNVAL


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the stream ended. `close_code` is None when the connection ended without a close frame."""

    close_code: int | None
    reason: str = ""

    @property
    def is_clean(self) -> bool:
        return self.close_code in (CLOSE_NORMAL, _NO_STATUS)


class Relay:
    """`source` and `sink` are file descriptors, which stay open and may be the same socket."""

    def __init__(self, opened: Opened, *, source: int, sink: int) -> None:
        self._tls = opened.tls
        self._source = source
        self._sink = sink
        self._parser = FrameParser(expects_mask=False)
        self._outgoing: deque[bytes] = deque()
        self._outgoing_bytes = 0
        self._incoming: deque[memoryview] = deque()
        self._incoming_bytes = 0
        self._is_source_open = True
        self._is_close_sent = False
        self._has_unread_tls = False
        self._tls_wants_write = False
        self._outcome: Outcome | None = None
        now = time.monotonic()
        self._heard_at = self._pinged_at = now
        self._rest = opened.rest

    def run(self) -> Outcome:
        """Returns when the server's last byte is written to the sink, or nobody is left to talk to."""
        changed = [fd for fd in {self._source, self._sink} if _make_non_blocking(fd)]
        self._tls.setblocking(False)
        try:
            self._receive(self._rest)
            while self._outcome is None or self._incoming:
                self._step()
            self._flush_briefly()
            return self._outcome
        except (KeyboardInterrupt, SystemExit):
            self._send_close(CLOSE_GOING_AWAY)
            self._flush_briefly()
            raise
        finally:
            for fd in changed:
                os.set_blocking(fd, True)
            self._tls.close()

    def _step(self) -> None:
        now = time.monotonic()
        self._keep_alive(now)
        ready = self._poll(now)
        sink_events = ready.get(self._sink, 0)
        if sink_events & (select.POLLOUT | _BROKEN):
            is_hangup_input = self._source == self._sink and self._is_source_open
            broken = _BROKEN & ~select.POLLHUP if is_hangup_input else _BROKEN
            self._write_sink(is_broken=bool(sink_events & broken))
        if self._may_read_source() and ready.get(self._source, 0) & ~select.POLLOUT:
            self._read_source()
        if self._outgoing:
            self._write_tls()
        if self._may_read_tls() and (self._has_unread_tls or ready.get(self._tls.fileno(), 0)):
            self._read_tls()

    def _poll(self, now: float) -> dict[int, int]:
        interest: dict[int, int] = {self._sink: select.POLLOUT if self._incoming else 0}
        if self._may_read_source():
            interest[self._source] = interest.get(self._source, 0) | select.POLLIN
        if self._outcome is None:
            wanted = select.POLLIN if self._may_read_tls() else 0
            if self._tls_wants_write:
                wanted |= select.POLLOUT
            interest[self._tls.fileno()] = wanted
        poller = select.poll()
        for fd, events in interest.items():
            poller.register(fd, events)
        is_waiting = not (self._has_unread_tls and self._may_read_tls())
        timeout = max(0.0, self._next_deadline() - now) if is_waiting else 0.0
        return dict(poller.poll(timeout * 1000))

    def _may_read_source(self) -> bool:
        return self._is_source_open and self._outcome is None and self._outgoing_bytes < MAX_BUFFERED_BYTES

    def _may_read_tls(self) -> bool:
        return self._outcome is None and self._incoming_bytes < MAX_BUFFERED_BYTES

    def _next_deadline(self) -> float:
        silence = SILENCE_SECONDS if self._is_source_open else DRAIN_SECONDS
        return min(self._pinged_at + PING_SECONDS, self._heard_at + silence)

    def _keep_alive(self, now: float) -> None:
        if not self._may_read_tls():
            self._heard_at = self._pinged_at = now  # Silence while we do not listen proves nothing.
            return
        if not self._is_source_open and now - self._heard_at >= DRAIN_SECONDS:
            self._outcome = Outcome(CLOSE_NORMAL)
        elif now - self._heard_at >= SILENCE_SECONDS:
            self._outcome = Outcome(None, f"the edge has been silent for {SILENCE_SECONDS:.0f} s")
        elif now - self._pinged_at >= PING_SECONDS:
            self._pinged_at = now
            if self._outgoing_bytes < MAX_BUFFERED_BYTES and not self._is_close_sent:
                self._queue(encode_frame(PING, b"", mask=os.urandom(4)))

    def _read_source(self) -> None:
        try:
            data = os.read(self._source, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._queue(encode_frame(BINARY, data, mask=os.urandom(4)))
            return
        # The close frame is the only end-of-input WebSocket knows; what the server still has to say is read to its end.
        self._is_source_open = False
        self._heard_at = time.monotonic()
        self._send_close(CLOSE_NORMAL)

    def _write_sink(self, *, is_broken: bool) -> None:
        try:
            while self._incoming and not is_broken:
                piece = self._incoming[0]
                written = os.write(self._sink, piece[:READ_BYTES])
                self._incoming_bytes -= written
                if written < len(piece):
                    self._incoming[0] = piece[written:]
                else:
                    self._incoming.popleft()
        except BlockingIOError:
            return
        except OSError:
            is_broken = True
        if is_broken:
            self._incoming.clear()
            self._incoming_bytes = 0
            self._send_close(CLOSE_GOING_AWAY)
            self._outcome = self._outcome or Outcome(CLOSE_NORMAL)

    def _write_tls(self) -> None:
        self._tls_wants_write = False
        try:
            while self._outgoing:
                # A frame that did not fit must be tried again whole (SSL_write's retry rule): frames are never joined.
                frame = self._outgoing[0]
                sent = self._tls.send(frame)
                self._outgoing_bytes -= sent
                if sent < len(frame):
                    self._outgoing[0] = frame[sent:]
                else:
                    self._outgoing.popleft()
        except (ssl.SSLWantWriteError, BlockingIOError):
            self._tls_wants_write = True
        except ssl.SSLWantReadError:
            return
        except OSError as error:
            # The server may have said why before it hung up: read that first.
            self._outgoing.clear()
            self._outgoing_bytes = 0
            self._is_source_open = False
            self._read_tls()
            self._outcome = self._outcome or self._lost(describe(error))

    def _read_tls(self) -> None:
        self._has_unread_tls = False
        try:
            while self._may_read_tls():
                data = self._tls.recv(65_536)
                if not data:
                    self._outcome = self._lost("the edge ended the connection without a close frame")
                    return
                self._heard_at = time.monotonic()
                self._receive(data)
            self._has_unread_tls = True
        except (ssl.SSLWantReadError, BlockingIOError):
            return
        except ssl.SSLWantWriteError:
            self._tls_wants_write = True
        except OSError as error:
            self._outcome = self._outcome or self._lost(describe(error))

    def _lost(self, reason: str) -> Outcome:
        return Outcome(CLOSE_NORMAL) if self._is_close_sent else Outcome(None, reason)

    def _receive(self, data: bytes) -> None:
        try:
            events = self._parser.receive_data(data)
        except WebSocketError as error:
            self._send_close(error.close_code, str(error))
            self._outcome = Outcome(None, f"the edge broke the WebSocket protocol: {error}")
            return
        for event in events:
            if isinstance(event, PayloadReceived):
                if event.data:
                    self._incoming.append(memoryview(event.data))
                    self._incoming_bytes += len(event.data)
            elif isinstance(event, PingReceived):
                if self._outgoing_bytes < MAX_BUFFERED_BYTES and not self._is_close_sent:
                    self._queue(encode_frame(PONG, event.payload, mask=os.urandom(4)))
            elif isinstance(event, CloseReceived):
                self._outcome = Outcome(event.code, event.reason)
                self._send_close(CLOSE_NORMAL if event.code == _NO_STATUS else event.code)

    def _send_close(self, code: int, reason: str = "") -> None:
        if not self._is_close_sent:
            self._is_close_sent = True
            self._queue(encode_close(code, reason, mask=os.urandom(4)))

    def _queue(self, frame: bytes) -> None:
        self._outgoing.append(frame)
        self._outgoing_bytes += len(frame)

    def _flush_briefly(self) -> None:
        """The close frame is a courtesy: worth half a second, not an error."""
        deadline = time.monotonic() + GOODBYE_SECONDS
        poller = select.poll()
        poller.register(self._tls.fileno(), select.POLLOUT)
        while self._outgoing and time.monotonic() < deadline:
            self._write_tls_quietly()
            if self._outgoing:
                poller.poll(50)

    def _write_tls_quietly(self) -> None:
        try:
            self._tls.send(self._outgoing[0])
            self._outgoing.popleft()
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
            return
        except OSError:
            self._outgoing.clear()


def _make_non_blocking(fd: int) -> bool:
    """Only pipes and sockets: a terminal is shared with the shell, a file never waits. True when it was changed."""
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)) or not os.get_blocking(fd):
        return False
    os.set_blocking(fd, False)
    return True
