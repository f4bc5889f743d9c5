"""Proxies team domains, dashboard hosts and /cdn-cgi/access/* to the control plane."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator

from dataplane.edge.errors import Refusal
from dataplane.edge.heads import RequestHead
from dataplane.edge.httpclient import Answer, ControlPlaneUnreachableError, HttpClient
from dataplane.edge.hygiene import control_plane_headers, declared_length, response_headers
from dataplane.edge.public import PublicConnection
from dataplane.edge.responses import ResponseWriter

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 1024 * 1024
# Small bodies are sent whole, on a kept connection; the others are streamed.
WHOLE_BODY_BYTES = 64 * 1024
ANSWER_TIMEOUT_SECONDS = 60.0


class BodyReader:
    """Exchange that hands a request body to a coroutine, at most one piece ahead."""

    def __init__(self, client: PublicConnection) -> None:
        self._client = client
        self._pieces: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._is_ended = False
        self._is_lost = False

    def client_data(self, data: bytes | memoryview) -> None:
        self._pieces.append(bytes(data))
        self._client.pause_body()
        self._changed.set()

    def client_body_ended(self) -> None:
        self._is_ended = True
        self._changed.set()

    def client_writable(self) -> None:
        pass

    def client_lost(self) -> None:
        self._is_lost = True
        self._changed.set()

    async def pieces(self, limit: int) -> AsyncIterator[bytes]:
        """Raises Refusal(413) beyond `limit` bytes, and Refusal(400) when the client breaks off."""
        total = 0
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                total += len(piece)
                if total > limit:
                    raise _too_large()
                yield piece
            if self._is_ended:
                return
            if self._is_lost:
                raise Refusal(400, "body_incomplete", "The request body broke off.", is_final=True)
            self._changed.clear()
            self._client.resume_body()
            await self._changed.wait()

    async def read(self, limit: int) -> bytes:
        return b"".join([piece async for piece in self.pieces(limit)])


class ControlPlaneProxy:
    def __init__(self, http: HttpClient, edge_token: str) -> None:
        self._http = http
        self._edge_token = edge_token

    async def serve(self, client: PublicConnection, head: RequestHead, target: str) -> None:
        headers = control_plane_headers(
            head, client_ip=client.peer_ip, reference=client.reference, edge_token=self._edge_token
        )
        if head.content_length is not None and head.content_length > MAX_BODY_BYTES:
            raise _too_large()
        body: bytes | AsyncIterator[bytes] = b""
        if head.has_body:
            reader = BodyReader(client)
            client.begin_body(reader)
            if head.content_length is not None and head.content_length <= WHOLE_BODY_BYTES:
                body = await reader.read(WHOLE_BODY_BYTES)
            elif head.content_length is not None:
                headers.append(("content-length", str(head.content_length)))
                body = reader.pieces(MAX_BODY_BYTES)
            else:
                # WSGI servers want a length; chunked bodies to the control plane are rare and bounded.
                body = await reader.read(MAX_BODY_BYTES)
        try:
            answer = await self._http.open(head.method, target, headers, body, head_timeout=ANSWER_TIMEOUT_SECONDS)
        except ControlPlaneUnreachableError as error:
            raise Refusal(
                503, "control_plane_unreachable", "The control plane does not answer; please try again."
            ) from error
        try:
            await _send_answer(client, head, answer)
        finally:
            answer.close()


async def _send_answer(client: PublicConnection, head: RequestHead, answer: Answer) -> None:
    writer = ResponseWriter(client, head)
    writer.start(answer.status, response_headers(answer.headers, is_from_origin=False), declared_length(answer.headers))
    try:
        async for chunk in answer.chunks():
            writer.write(chunk)
            await client.drain()
            if client.is_lost:
                return
    except ControlPlaneUnreachableError:
        logger.warning("request %s: the control plane's answer broke off", client.reference)
        client.abort()
        return
    writer.finish()
    if writer.is_broken:
        client.abort()


def _too_large() -> Refusal:
    return Refusal(413, "body_too_large", f"The request body exceeds {MAX_BODY_BYTES} bytes.", is_final=True)
