"""Live log lines for the dashboard: only while somebody watches, bounded, redacted, of our own modules only.

Nothing is collected before a stream starts and nothing is kept after it ended. Lines that do not fit are counted, not
queued: logging must never slow a connector down.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime

from dataplane.connector.edgestream import EdgeStream
from dataplane.connector.logs import extras
from dataplane.wire import websocket as ws
from dataplane.wire.headers import Header
from dataplane.wire.management import MAX_MESSAGE_CHARACTERS, LogLine, logs_message, read_start
from dataplane.wire.redaction import redact

MAX_STREAMS = 4
MAX_QUEUED_LINES = 500
MAX_LINES_PER_SEND = 50
SEND_SECONDS = 0.25
MAX_REQUEST_BYTES = 4096
# Our own modules: libraries below us log headers and frames when asked for everything.
LOGGER_NAME = "dataplane"
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_open_streams: set["LogStream"] = set()


class _Tap(logging.Handler):
    """Copies what is logged into one stream's queue. Called from any thread."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.queue: deque[LogLine] = deque()
        self.left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.queue) >= MAX_QUEUED_LINES:
            self.left_out += 1
            return
        self.queue.append(_line(record))

    def take(self) -> list[LogLine]:
        lines = [self.queue.popleft() for _ in range(min(len(self.queue), MAX_LINES_PER_SEND))]
        if lines and self.left_out:
            missing, self.left_out = self.left_out, 0
            lines.append(LogLine(_now(), "warn", f"{missing} lines left out: too many at once"))
        return lines


class LogStream:
    """Server side of one WebSocket of the management host. The first start_streaming decides the level; a later one
    changes it."""

    def __init__(self, stream: EdgeStream, answer: list[Header]) -> None:
        self._stream = stream
        self._parser = ws.FrameParser(expects_mask=True, max_message_bytes=MAX_REQUEST_BYTES)
        self._message = bytearray()
        self._tap: _Tap | None = None
        self._timer: asyncio.TimerHandle | None = None
        stream.handler = self
        _open_streams.add(self)
        stream.respond(101, answer)

    def stream_data(self, data: memoryview) -> None:
        self._stream.acknowledge(len(data))
        try:
            for event in self._parser.receive_data(data):
                self._take(event)
        except ws.WebSocketError as error:
            self._close(error.close_code)

    def stream_ended(self) -> None:
        self._close(ws.CLOSE_NORMAL)

    def stream_lost(self) -> None:
        self._stop()

    def stream_drained(self) -> None:
        """The timer sends what waits."""

    def stream_finished(self) -> None:
        """Nothing is left to send."""

    def keep_alive(self, now: float) -> None:
        """Whoever watches asks again by itself; a dead edge ends the connection."""

    def _take(self, event: ws.Event) -> None:
        if isinstance(event, ws.PayloadReceived):
            self._message += event.data
            if event.is_message_end:
                level = read_start(bytes(self._message))
                self._message.clear()
                if level is not None:
                    self._start(level)
        elif isinstance(event, ws.PingReceived):
            self._stream.send(ws.encode_frame(ws.PONG, event.payload, mask=None))
        elif isinstance(event, ws.CloseReceived):
            self._close(ws.CLOSE_NORMAL)

    def _start(self, level: str) -> None:
        self._detach()
        self._tap = _Tap(_LEVELS[level])
        logger = logging.getLogger(LOGGER_NAME)
        logger.addHandler(self._tap)
        _adjust_level(logger)
        if self._timer is None:
            self._send_waiting()

    def _send_waiting(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SEND_SECONDS, self._send_waiting)
        if self._tap is None or self._stream.is_blocked:
            return
        lines = self._tap.take()
        if lines:
            self._stream.send(ws.encode_frame(ws.TEXT, logs_message(lines), mask=None))

    def _close(self, code: int) -> None:
        self._stop()
        self._stream.send(ws.encode_close(code, mask=None))
        self._stream.finish()

    def _stop(self) -> None:
        _open_streams.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._detach()

    def _detach(self) -> None:
        if self._tap is not None:
            logger = logging.getLogger(LOGGER_NAME)
            logger.removeHandler(self._tap)
            self._tap = None
            _adjust_level(logger)


def has_room() -> bool:
    return len(_open_streams) < MAX_STREAMS


def _adjust_level(logger: logging.Logger) -> None:
    """As low as the lowest watcher asks; the process's own lines keep their level, which is their handlers'."""
    wanted = [handler.level for handler in logger.handlers if isinstance(handler, _Tap)]
    logger.setLevel(min([logging.getLogger().level, *wanted]) if wanted else logging.NOTSET)


def _line(record: logging.LogRecord) -> LogLine:
    fields: Mapping[str, object] = extras(record)
    message = record.getMessage()
    if record.exc_info and record.exc_info[0] is not None:
        message = f"{message} ({record.exc_info[0].__name__})"
    level = {"WARNING": "warn", "CRITICAL": "error"}.get(record.levelname, record.levelname.lower())
    return LogLine(
        time=datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        level=level,
        message=redact(message)[:MAX_MESSAGE_CHARACTERS],
        fields=_redacted(fields),
    )


def _redacted(fields: Mapping[str, object]) -> dict[str, str]:
    """The name counts too: `token` with a short value is still a token."""
    found = {}
    for key, value in fields.items():
        text = redact(f"{key}={value}")
        found[key] = text.partition("=")[2]
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
