"""A small HTTP/1.1 client for the control plane: keep-alive pool, streaming both ways, every wait bounded."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from dataplane.edge.heads import END_OF_HEAD, MAX_HEAD_BYTES, BodyDecoder, HeadError, parse_response_head
from dataplane.wire.headers import Header

CONNECT_TIMEOUT_SECONDS = 3.0
HEAD_TIMEOUT_SECONDS = 30.0
BODY_TIMEOUT_SECONDS = 30.0
MAX_IDLE_CONNECTIONS = 16
MAX_CONNECTIONS = 128
READ_BYTES = 64 * 1024
MAX_BUFFERED_BODY_BYTES = 32 * 1024 * 1024

_T = TypeVar("_T")


class ControlPlaneUnreachableError(Exception):
    """No usable answer from the control plane. The cause is chained; nothing secret is in the text."""


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Answer:
    """Status and headers of an answer whose body may still be on its way. Close it when done."""

    def __init__(
        self,
        client: "HttpClient",
        connection: _Connection,
        status: int,
        headers: tuple[Header, ...],
        method: str,
    ) -> None:
        self.status = status
        self.headers = headers
        self._client = client
        self._connection = connection
        self._decoder: BodyDecoder | None = None
        self._ends_at_eof = False
        self._buffer = bytearray()
        self._is_reusable = "close" not in (self.get("connection") or "").lower()
        self._frame_body(method)

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces. Raises ControlPlaneUnreachableError when it breaks off."""
        while self._decoder is None or not self._decoder.is_complete:
            if self._decoder is not None and self._buffer:
                piece = self._take()
                if piece:
                    yield piece
                if self._decoder.is_complete:
                    break
            data = await _bounded(self._connection.reader.read(READ_BYTES), BODY_TIMEOUT_SECONDS)
            if not data:
                if self._ends_at_eof:
                    return
                self._is_reusable = False
                raise ControlPlaneUnreachableError("the answer broke off")
            if self._decoder is None:
                yield data
            else:
                self._buffer += data

    async def read(self, limit: int = MAX_BUFFERED_BODY_BYTES) -> bytes:
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                self._is_reusable = False
                raise ControlPlaneUnreachableError("the answer is too large")
        return bytes(body)

    def close(self) -> None:
        is_complete = self._decoder is not None and self._decoder.is_complete and not self._buffer
        self._client.release(self._connection, is_reusable=is_complete and self._is_reusable)

    def _frame_body(self, method: str) -> None:
        if method == "HEAD" or self.status in (204, 304):
            self._decoder = BodyDecoder(0, is_chunked=False)
        elif "chunked" in (self.get("transfer-encoding") or "").lower():
            self._decoder = BodyDecoder(None, is_chunked=True)
        elif (self.get("content-length") or "").isdigit():
            self._decoder = BodyDecoder(int(self.get("content-length") or ""), is_chunked=False)
        else:
            self._ends_at_eof = True

    def _take(self) -> bytes:
        assert self._decoder is not None
        try:
            return self._decoder.take(self._buffer)
        except HeadError as error:
            self._is_reusable = False
            raise ControlPlaneUnreachableError("the answer is malformed") from error


class HttpClient:
    """Requests to one base URL. At most MAX_CONNECTIONS at a time; more wait for their turn."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        self._host = parts.hostname or ""
        self._is_tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._is_tls else 80)
        self._context = ssl.create_default_context() if self._is_tls else None
        self._idle: deque[_Connection] = deque()
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self.authority = parts.netloc

    async def open(
        self,
        method: str,
        target: str,
        headers: list[Header],
        body: bytes | AsyncIterator[bytes] = b"",
        *,
        head_timeout: float = HEAD_TIMEOUT_SECONDS,
    ) -> Answer:
        """Sends the request and returns when the answer's head is here. `headers` frame a streamed body
        themselves.

        A request on a kept connection that the server closed meanwhile is sent once more on a fresh one; only
        requests with a whole body, and only when no byte of an answer had arrived.
        """
        head = _request_head(method, target, headers, body)
        await _bounded(self._slots.acquire(), head_timeout)
        try:
            while self._idle and isinstance(body, bytes):
                connection = self._idle.popleft()
                if connection.reader.at_eof() or connection.writer.is_closing():
                    connection.writer.close()
                    continue
                answer = await self._try(connection, method, head, body, head_timeout, is_kept=True)
                if answer is not None:
                    return answer
            connection = await self._connect()
            answer = await self._try(connection, method, head, body, head_timeout, is_kept=False)
            assert answer is not None
            return answer
        except BaseException:
            self._slots.release()
            raise

    def release(self, connection: _Connection, *, is_reusable: bool) -> None:
        self._slots.release()
        if is_reusable and len(self._idle) < MAX_IDLE_CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.writer.close()

    def close(self) -> None:
        while self._idle:
            self._idle.popleft().writer.close()

    async def _connect(self) -> _Connection:
        opening = asyncio.open_connection(self._host, self._port, ssl=self._context, limit=MAX_HEAD_BYTES)
        return _Connection(*await _bounded(opening, CONNECT_TIMEOUT_SECONDS))

    async def _try(
        self,
        connection: _Connection,
        method: str,
        head: bytes,
        body: bytes | AsyncIterator[bytes],
        head_timeout: float,
        *,
        is_kept: bool,
    ) -> Answer | None:
        """None when a kept connection turned out to be closed before it answered."""
        try:
            await self._send(connection, head, body)
            status, headers = await self._read_head(connection, head_timeout)
        except _ClosedBeforeAnswerError as error:
            connection.writer.close()
            if is_kept:
                return None
            raise ControlPlaneUnreachableError("the connection was closed before an answer") from error
        except BaseException:
            connection.writer.close()
            raise
        return Answer(self, connection, status, headers, method)

    async def _send(self, connection: _Connection, head: bytes, body: bytes | AsyncIterator[bytes]) -> None:
        writer = connection.writer
        try:
            if isinstance(body, bytes):
                writer.write(head + body)
                await _drain(writer)
                return
            writer.write(head)
            async for piece in body:
                writer.write(piece)
                await _drain(writer)
        except TimeoutError as error:
            raise ControlPlaneUnreachableError("the control plane does not read") from error
        except OSError:
            # It may have answered before it stopped reading (413, say): the answer is read, or its absence
            # noticed.
            return

    async def _read_head(self, connection: _Connection, timeout: float) -> tuple[int, tuple[Header, ...]]:
        while True:
            try:
                async with asyncio.timeout(timeout):
                    data = await connection.reader.readuntil(END_OF_HEAD)
                status, headers = parse_response_head(data[: -len(END_OF_HEAD)])
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise ControlPlaneUnreachableError("the answer broke off") from error
                raise _ClosedBeforeAnswerError from error
            except TimeoutError as error:
                raise ControlPlaneUnreachableError("no answer in time") from error
            except (asyncio.LimitOverrunError, HeadError) as error:
                raise ControlPlaneUnreachableError("the answer is malformed") from error
            except OSError as error:
                raise _ClosedBeforeAnswerError from error
            if status >= 200:
                return status, headers


class _ClosedBeforeAnswerError(Exception):
    pass


async def _drain(writer: asyncio.StreamWriter) -> None:
    # Not wait_for: before Python 3.12 it can swallow a cancellation that arrives as the inner wait ends.
    async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
        await writer.drain()


def _request_head(method: str, target: str, headers: list[Header], body: bytes | AsyncIterator[bytes]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if isinstance(body, bytes) and (body or method not in ("GET", "HEAD")):
        lines.append(f"content-length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _bounded(awaitable: Awaitable[_T], seconds: float) -> _T:
    try:
        async with asyncio.timeout(seconds):
            return await awaitable
    except TimeoutError as error:
        raise ControlPlaneUnreachableError("no answer in time") from error
    except OSError as error:
        raise ControlPlaneUnreachableError("cannot connect or the connection broke") from error
