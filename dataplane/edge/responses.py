"""Writes one HTTP/1.1 response body with the right framing (RFC 9112 section 6)."""

from dataplane.edge.heads import RequestHead
from dataplane.edge.public import PublicConnection
from dataplane.wire.headers import Header

_BODYLESS_STATUSES = frozenset({204, 304})


class ResponseWriter:
    """start() once, then write() any number of times, then finish(). `is_broken` after an answer whose length
    was not what it declared: the client must be cut off, or it would read the next answer as part of this
    one."""

    def __init__(self, client: PublicConnection, head: RequestHead) -> None:
        self._client = client
        self._head = head
        self._remaining: int | None = None
        self._is_chunked = False
        self._has_no_body = False
        self.is_broken = False
        self.sent_bytes = 0

    def start(self, status: int, headers: list[Header], length: int | None) -> None:
        self._has_no_body = self._head.method == "HEAD" or status in _BODYLESS_STATUSES
        framing: list[Header] = []
        if length is not None and status != 204:
            framing.append(("content-length", str(length)))
            self._remaining = 0 if self._has_no_body else length
        elif not self._has_no_body and self._head.minor_version == 1:
            self._is_chunked = True
            framing.append(("transfer-encoding", "chunked"))
        elif not self._has_no_body:
            self._client.is_last = True
        if not self._client.keeps_alive:
            self._client.is_last = True
            framing.append(("connection", "close"))
        elif self._head.minor_version == 0:
            framing.append(("connection", "keep-alive"))
        self._client.send_head(status, headers + framing)

    def write(self, data: bytes | memoryview) -> None:
        if self._has_no_body or self.is_broken or not data:
            return
        if self._remaining is not None:
            if len(data) > self._remaining:
                self.is_broken = True
                return
            self._remaining -= len(data)
        self.sent_bytes += len(data)
        if self._is_chunked:
            self._client.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
        else:
            self._client.write(data)

    def finish(self) -> None:
        if self._remaining:
            self.is_broken = True
        elif self._is_chunked:
            self._client.write(b"0\r\n\r\n")
