"""Live log lines of connectors, for people who watch in the dashboard.

Nothing runs while nobody watches: the first question about a connector opens a stream to its management service, each
further one keeps it, and when the questions stop it is closed. Bounded in lines, bytes, rate and number.
"""

import asyncio
import base64
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from dataplane.edge.tunnelconnection import TunnelConnection
from dataplane.edge.tunnels import Tunnels
from dataplane.edge.tunnelstream import TunnelStream
from dataplane.wire import websocket as ws
from dataplane.wire.h2 import StreamClosedError
from dataplane.wire.headers import Header
from dataplane.wire.management import LEVELS, level_number, logs_target, read_logs, start_message
from dataplane.wire.names import FEATURE_MANAGEMENT_LOGS, H_UPGRADE, MANAGEMENT_HOST, UPGRADE_WEBSOCKET

logger = logging.getLogger(__name__)

MAX_WATCHES = 64
MAX_LINES = 300
MAX_LINES_PER_SECOND = 100
MAX_MESSAGE_BYTES = 1024 * 1024
# Questions come every few seconds; a page that was closed asks no more.
IDLE_SECONDS = 20.0


class LogWatches:
    def __init__(self, tunnels: Tunnels) -> None:
        self._tunnels = tunnels
        self._watches: dict[tuple[str, str], _Watch] = {}

    def __len__(self) -> int:
        return len(self._watches)

    def read(self, tunnel_id: str, client_id: str, level: str) -> dict[str, Any]:
        """What has been logged since somebody began to watch, the newest lines. `state`: streaming, starting, or
        unavailable with a `reason`."""
        level = level if level in LEVELS else "info"
        key = (tunnel_id, client_id)
        known = self._watches.get(key)
        is_fit = known is not None and not known.is_over and level_number(known.level) <= level_number(level)
        watch = known if known is not None and is_fit else self._begin(key, level)
        if isinstance(watch, str):
            return {"state": "unavailable", "reason": watch, "lines": [], "left_out": 0}
        watch.keep()
        return watch.document(level)

    def close_all(self) -> None:
        for watch in list(self._watches.values()):
            watch.close()

    def _begin(self, key: tuple[str, str], level: str) -> "_Watch | str":
        old = self._watches.pop(key, None)
        if old is not None:
            old.close()
        connections = [
            c
            for c in self._tunnels.of_tunnel(key[0])
            if c.registration is not None and c.registration.client_id == key[1]
        ]
        if not connections:
            return "not_connected"
        able = [c for c in connections if c.registration and FEATURE_MANAGEMENT_LOGS in c.registration.features]
        if not able:
            return "not_offered"
        usable = [c for c in able if c.takes_streams]
        if not usable or len(self._watches) >= MAX_WATCHES:
            return "busy"
        watch = _Watch(level, lambda: self._forget(key, watch))
        try:
            watch.open(usable[0], key[0])
        except StreamClosedError:
            return "busy"
        # Lines seen before are not lost when only the level changes.
        if old is not None:
            watch.lines.extend(old.lines)
        self._watches[key] = watch
        return watch

    def _forget(self, key: tuple[str, str], watch: "_Watch") -> None:
        if self._watches.get(key) is watch:
            del self._watches[key]


class _Watch:
    """One WebSocket to a connector's management service."""

    def __init__(self, level: str, on_over: Callable[[], None]) -> None:
        self.level = level
        self.lines: deque[dict[str, Any]] = deque(maxlen=MAX_LINES)
        self.is_over = False
        self._on_over = on_over
        self._is_streaming = False
        self._left_out = 0
        self._second = 0
        self._in_second = 0
        self._message = bytearray()
        self._unsent = b""
        self._batch_bytes = 0
        self._stream: TunnelStream | None = None
        self._parser = ws.FrameParser(expects_mask=False, max_message_bytes=MAX_MESSAGE_BYTES)
        self._timer: asyncio.TimerHandle | None = None

    def open(self, connection: TunnelConnection, tunnel_id: str) -> None:
        """Raises StreamClosedError."""
        headers: list[Header] = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", MANAGEMENT_HOST),
            (":path", logs_target(tunnel_id, "sallyport")),
            (H_UPGRADE, UPGRADE_WEBSOCKET),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", base64.b64encode(os.urandom(16)).decode()),
        ]
        self._stream = connection.open(headers, self, end_stream=False)

    def keep(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self.close)

    def document(self, level: str) -> dict[str, Any]:
        least = level_number(level)
        return {
            "state": "streaming" if self._is_streaming else "starting",
            "reason": "",
            "lines": [line for line in self.lines if level_number(line["level"]) >= least],
            "left_out": self._left_out,
        }

    def close(self) -> None:
        if self.is_over:
            return
        if self._stream is not None:
            self._send(ws.encode_close(ws.CLOSE_NORMAL, mask=os.urandom(4)))
            self._stream.cancel()
        self._over()

    # ---- StreamHandler -----------------------------------------------------------------------------------------

    def stream_answered(self, headers: list[Header]) -> None:
        if dict(headers)[":status"] != "200":
            logger.info("a connector refused its log stream with status %s", dict(headers)[":status"])
            self.close()
            return
        self._is_streaming = True
        self._send(ws.encode_frame(ws.TEXT, start_message(self.level), mask=os.urandom(4)))

    def stream_data(self, data: memoryview) -> None:
        self._batch_bytes += len(data)
        if self.is_over:
            return
        try:
            for event in self._parser.receive_data(data):
                self._take(event)
        except ws.WebSocketError:
            self.close()

    def stream_flush(self) -> None:
        if self._stream is not None:
            self._stream.acknowledge(self._batch_bytes)
        self._batch_bytes = 0

    def stream_ended(self) -> None:
        self.close()

    def stream_lost(self, reason: str) -> None:
        self._over()

    def stream_writable(self) -> None:
        self._send(b"")

    # ---- private -----------------------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        if self._stream is not None:
            self._unsent += data
            self._unsent = self._unsent[self._stream.send(self._unsent) :]

    def _take(self, event: ws.Event) -> None:
        if isinstance(event, ws.PayloadReceived):
            self._message += event.data
            if event.is_message_end:
                message, self._message = bytes(self._message), bytearray()
                self._keep_lines(message)
        elif isinstance(event, ws.PingReceived):
            self._send(ws.encode_frame(ws.PONG, event.payload, mask=os.urandom(4)))
        elif isinstance(event, ws.CloseReceived):
            self.close()

    def _keep_lines(self, message: bytes) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._in_second = second, 0
        for line in read_logs(message):
            self._in_second += 1
            if self._in_second > MAX_LINES_PER_SECOND:
                self._left_out += 1
            else:
                self.lines.append(asdict(line))

    def _over(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._on_over()
