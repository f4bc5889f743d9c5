"""Joins one client request with one stream toward a connector, in both directions, as HTTP or as a WebSocket
relay.

No queue and no coroutine per chunk: bytes go from one transport to the other inside the receive callback.
What cannot go on is held once (at most one receive buffer) while the source is paused.
"""

import asyncio
import logging
from collections import deque

from dataplane.edge.errors import Refusal
from dataplane.edge.heads import RequestHead
from dataplane.edge.hygiene import declared_length, response_headers
from dataplane.edge.public import PublicConnection
from dataplane.edge.responses import ResponseWriter
from dataplane.edge.tunnelstream import TunnelStream
from dataplane.edge.webframes import FrameBoundary
from dataplane.wire.headers import Header, HeaderError, ResponseMeta, parse_headers, parse_response_meta
from dataplane.wire.names import H_RESPONSE_HEADERS, H_RESPONSE_META
from dataplane.wire.websocket import accept_key, encode_close

logger = logging.getLogger(__name__)

# A cut waits this long for the end of the frame in progress; then the connection is closed without a close
# frame.
CUT_BOUNDARY_SECONDS = 1.0
# And this long for the client to read the close frame.
CUT_LINGER_SECONDS = 3.0
CLIENT_CLOSED = "client_closed"


class TunnelExchange:
    """`done` resolves when everything is over: with None, or with a Refusal when nothing had been answered
    yet."""

    def __init__(self, client: PublicConnection, head: RequestHead, *, no_rule_status: int | None) -> None:
        self.done: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_relaying = False
        self.bytes_up = 0
        self.bytes_down = 0
        self.end_reason = "completed"
        self._client = client
        self._head = head
        # The status the catch-all rule gives: an answer with it means that no ingress rule serves the host.
        self._no_rule_status = no_rule_status
        self._stream: TunnelStream | None = None
        self._writer = ResponseWriter(client, head)
        self._boundary = FrameBoundary()
        self._up: deque[memoryview] = deque()
        self._is_up_ended = False
        self._down: list[memoryview] = []
        self._owed = 0
        self._cut: tuple[int, str] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, stream: TunnelStream) -> None:
        self._stream = stream
        self._client.begin_body(self)

    # ---- from the client
    # ----------------------------------------------------------------------------------------

    def client_data(self, data: bytes | memoryview) -> None:
        if self._stream is None:
            return
        self.bytes_up += len(data)
        accepted = 0 if self._up else self._stream.send(data)
        if accepted < len(data):
            self._up.append(memoryview(bytes(data[accepted:])))
            self._client.pause_body()

    def client_body_ended(self) -> None:
        self._is_up_ended = True
        if self._stream is not None and not self._up and self._head.has_body:
            self._stream.end()

    def client_writable(self) -> None:
        if self._stream is not None and self._owed:
            owed, self._owed = self._owed, 0
            self._stream.acknowledge(owed)

    def client_lost(self) -> None:
        self._end(CLIENT_CLOSED)

    # ---- from the connector
    # -------------------------------------------------------------------------------------

    def stream_answered(self, headers: list[Header]) -> None:
        fields = dict(headers)
        status = int(fields[":status"])
        meta = parse_response_meta(fields.get(H_RESPONSE_META))
        try:
            origin_headers = parse_headers(fields.get(H_RESPONSE_HEADERS, ""))
        except HeaderError as error:
            logger.warning("request %s: %s", self._client.reference, error)
            self._refuse(Refusal(502, "bad_origin_answer", "The origin's answer headers are malformed."))
            return
        if meta.source != "origin" and status >= 400:
            self._refuse(_connector_refusal(status, meta))
        elif status == self._no_rule_status:
            self._refuse(Refusal(status, "no_ingress_rule", "No ingress rule of the tunnel serves this address."))
        elif self._head.is_websocket and status in (101, 200):
            self._switch_protocols(origin_headers)
        else:
            self._start_response(status, origin_headers, declared_length(headers))

    def stream_data(self, data: memoryview) -> None:
        self._down.append(data)

    def stream_flush(self) -> None:
        if not self._down or self._stream is None:
            self._down.clear()
            return
        # Joined: one TLS write for the batch instead of one per frame; connectors send a 4-byte frame per
        # message.
        data = self._down[0] if len(self._down) == 1 else b"".join(self._down)
        self._down.clear()
        self.bytes_down += len(data)
        if self.is_relaying:
            self._relay_down(data)
        else:
            self._writer.write(data)
            if self._writer.is_broken:
                self._break_off("answer_too_long")
        if self._stream is None:
            return
        if self._client.is_write_paused:
            self._owed += len(data)
        else:
            self._stream.acknowledge(len(data))

    def stream_ended(self) -> None:
        if not self.answered.done():
            self._refuse(Refusal(502, "connector_no_answer", "The connector ended the request without an answer."))
            return
        if not self.is_relaying:
            self._writer.finish()
            if self._writer.is_broken:
                self._break_off("answer_too_short")
                return
        self._end("completed")

    def stream_lost(self, reason: str) -> None:
        self._stream = None
        if not self.answered.done():
            self._refuse(Refusal(502, reason, "The connection to the connector broke before an answer."))
        elif self.is_relaying:
            self._end(reason)
        else:
            self._break_off(reason)

    def stream_writable(self) -> None:
        while self._up and self._stream is not None:
            piece = self._up[0]
            accepted = self._stream.send(piece)
            if accepted < len(piece):
                self._up[0] = piece[accepted:]
                return
            self._up.popleft()
        if self._is_up_ended and self._stream is not None:
            if self._head.has_body:
                self._stream.end()
        else:
            self._client.resume_body()

    # ---- from the edge
    # ------------------------------------------------------------------------------------------

    def cut(self, code: int, reason: str) -> None:
        """Ends a live exchange now. A relay gets a close frame, once the frame in progress has ended."""
        if self.done.done():
            return
        if not self.is_relaying:
            if self.answered.done():
                self._break_off(reason)
            else:
                self._refuse(Refusal(403, "access_revoked", reason))
            return
        if self._cut is None:
            self._cut = (code, reason)
            self._timer = asyncio.get_running_loop().call_later(CUT_BOUNDARY_SECONDS, self._cut_off)
            self._finish_cut()

    def time_out(self) -> None:
        self._refuse(Refusal(504, "origin_timeout", "The origin did not answer in time."))

    # ---- inside
    # -------------------------------------------------------------------------------------------------

    def _switch_protocols(self, headers: list[Header]) -> None:
        fields = {name.lower(): value for name, value in headers}
        key = self._head.get("sec-websocket-key") or ""
        if fields.get("upgrade", "").lower() != "websocket" or fields.get("sec-websocket-accept") != accept_key(key):
            self._refuse(Refusal(502, "origin_no_websocket", "The origin did not accept the WebSocket upgrade."))
            return
        kept = [
            item
            for item in response_headers(headers, is_from_origin=True)
            if item[0].lower() not in ("upgrade", "connection")
        ]
        self._client.send_head(101, [("Connection", "Upgrade"), ("Upgrade", "websocket"), *kept])
        self.is_relaying = True
        self.answered.set_result(None)
        self._client.upgrade(self)

    def _start_response(self, status: int, headers: list[Header], h2_length: int | None) -> None:
        length = declared_length(headers)
        kept = response_headers(headers, is_from_origin=True)
        kept.append(("cf-ray", self._client.reference))
        self._writer.start(status, kept, h2_length if length is None else length)
        self.answered.set_result(None)

    def _relay_down(self, data: bytes | memoryview) -> None:
        self._boundary.feed(data)
        self._client.write(data)
        if self._cut is not None:
            self._finish_cut()

    def _finish_cut(self) -> None:
        if self._cut is None or not self._boundary.is_between_frames:
            return
        code, reason = self._cut
        self._client.write(encode_close(code, reason, mask=None))
        client = self._client
        asyncio.get_running_loop().call_later(CUT_LINGER_SECONDS, client.abort)
        self._end("cut")

    def _cut_off(self) -> None:
        if not self.done.done():
            self._end("cut")
            self._client.abort()

    def _refuse(self, refusal: Refusal) -> None:
        if not self.answered.done():
            self.answered.set_result(None)
        if not self.done.done():
            self.end_reason = refusal.reason
            self.done.set_result(refusal)
        self._release()

    def _break_off(self, reason: str) -> None:
        """The client has part of an answer: closing without the rest is the only way to say that it is not
        whole."""
        self._end(reason)
        self._client.abort()

    def _end(self, reason: str) -> None:
        if not self.answered.done():
            self.answered.set_result(None)
        if not self.done.done():
            self.end_reason = reason
            self.done.set_result(None)
        self._release()

    def _release(self) -> None:
        stream, self._stream = self._stream, None
        if self._timer is not None:
            self._timer.cancel()
        self._up.clear()
        self._down.clear()
        if stream is not None:
            stream.cancel()


def _connector_refusal(status: int, meta: ResponseMeta) -> Refusal:
    """The connector could not reach the origin. cloudflared gives no reason; ours does, as a stable code."""
    if meta.is_flow_rate_limited:
        return Refusal(503, "connector_flow_limit", "The connector serves as many flows as it may.")
    reason = meta.reason or "origin_refused"
    if not (reason.isascii() and reason.replace("_", "").isalnum() and reason.islower()):
        reason = "origin_refused"
    message = meta.detail or "The connector could not reach the origin (connection refused or host unreachable)."
    return Refusal(status if 400 <= status <= 599 else 502, reason, "".join(c for c in message if c.isprintable()))
