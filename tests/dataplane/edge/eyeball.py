"""A small HTTP/1.1 and WebSocket client for tests: raw enough to send what no library would."""

import asyncio
import base64
import json
import os
import ssl
from dataclasses import dataclass
from typing import Any

from dataplane.wire.websocket import (
    BINARY,
    CloseReceived,
    FrameParser,
    PayloadReceived,
    encode_frame,
)

TIMEOUT = 30


@dataclass
class Response:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str | None:
        return self.get("sallyport-error")


class Eyeball:
    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, hostname: str) -> None:
        self._address, self._context, self.hostname = address, context, hostname
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def connect(self, server_name: str | None = None) -> "Eyeball":
        self.reader, self.writer = await asyncio.wait_for(
            asyncio.open_connection(
                *self._address, ssl=self._context, server_hostname=server_name or self.hostname, limit=1 << 22
            ),
            TIMEOUT,
        )
        return self

    async def request(
        self, method: str = "GET", target: str = "/", headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Response:
        await self.send_head(
            method, target, {**(headers or {}), **({"content-length": str(len(body))} if body else {})}
        )
        self.writer.write(body)
        return await self.response(method)

    async def send_head(self, method: str, target: str, headers: dict[str, str]) -> None:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {headers.pop('Host', self.hostname)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    async def response(self, method: str = "GET") -> Response:
        async with asyncio.timeout(TIMEOUT):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = [(k, v.strip()) for k, _, v in (line.partition(":") for line in lines)]
            response = Response(int(first.split(" ")[1]), headers, b"")
            if method != "HEAD" and response.status >= 200 and response.status not in (204, 304):
                response.body = await self._body(response)
            return response

    async def _body(self, response: Response) -> bytes:
        if response.get("transfer-encoding") == "chunked":
            body = bytearray()
            while size := int((await self.reader.readline()).strip(), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
            return bytes(body)
        length = response.get("content-length")
        if length is None:
            return await self.reader.read(-1)
        return await self.reader.readexactly(int(length))

    async def upgrade(self, target: str = "/", headers: dict[str, str] | None = None) -> Response:
        await self.send_head(
            "GET",
            target,
            {
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
                "Sec-WebSocket-Version": "13",
                **(headers or {}),
            },
        )
        return await self.response()

    def send_message(self, payload: bytes) -> None:
        self.writer.write(encode_frame(BINARY, payload, mask=os.urandom(4)))

    async def is_closed(self, timeout: float = TIMEOUT) -> bool:
        """True when the edge closes the connection within the time; what it sends before is thrown away."""
        try:
            async with asyncio.timeout(timeout):
                while await self.reader.read(1 << 16):
                    pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    async def close(self) -> None:
        self.writer.close()
        try:
            await asyncio.wait_for(self.writer.wait_closed(), TIMEOUT)
        except (OSError, TimeoutError):
            pass


class Messages:
    """Reads WebSocket payload from an upgraded connection."""

    def __init__(self, eyeball: Eyeball) -> None:
        self._reader = eyeball.reader
        self._parser = FrameParser(expects_mask=False)
        self.close: CloseReceived | None = None
        self._payload = bytearray()

    @property
    def left(self) -> int:
        return len(self._payload)

    async def read(self, count: int) -> bytes:
        async with asyncio.timeout(30):
            while len(self._payload) < count:
                assert await self._more(), "the connection ended early"
        data = bytes(self._payload[:count])
        del self._payload[:count]
        return data

    async def read_close(self, timeout: float = TIMEOUT) -> CloseReceived | None:
        """The close frame, or None when the connection ended without one."""
        async with asyncio.timeout(timeout):
            while self.close is None and await self._more():
                pass
        return self.close

    async def _more(self) -> bool:
        try:
            data = await self._reader.read(1 << 18)
        except OSError:
            return False
        for event in self._parser.receive_data(data):
            if isinstance(event, PayloadReceived):
                self._payload += event.data
            elif isinstance(event, CloseReceived):
                self.close = event
        return bool(data)
