"""The edge's own small HTTP listener for the control plane: push hints, log lines, health. Loopback, bearer token."""

import asyncio
import hmac
import json
import logging
import uuid
from typing import Any

from dataplane.edge.configpush import ConfigPusher
from dataplane.edge.errors import STATUS_TEXT
from dataplane.edge.heads import END_OF_HEAD, MAX_HEAD_BYTES, HeadError, RequestHead, parse_request_head
from dataplane.edge.logwatch import LogWatches
from dataplane.edge.snapshots import SnapshotStore

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
REQUEST_TIMEOUT_SECONDS = 10.0
MAX_BODY_BYTES = 256 * 1024
MAX_TUNNELS = 1000
MAX_CONNECTIONS = 64


class ControlListener:
    def __init__(self, token: str, snapshots: SnapshotStore, pusher: ConfigPusher, watches: LogWatches) -> None:
        self._authorization = f"Bearer {token}".encode()
        self._snapshots = snapshots
        self._pusher = pusher
        self._watches = watches
        self._server: asyncio.Server | None = None
        self._open = 0
        self.url = ""
        self.is_draining = False

    async def start(self, port: int) -> None:
        """Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._serve, HOST, port, limit=MAX_HEAD_BYTES)
        self.url = f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= MAX_CONNECTIONS:
                async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                    status, document = await self._answer(reader)
                    writer.write(_response(status, document))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        except Exception:
            logger.exception("control request failed")
        finally:
            self._open -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
        data = await reader.readuntil(END_OF_HEAD)
        try:
            head = parse_request_head(data[: -len(END_OF_HEAD)])
        except HeadError as error:
            return error.status, {"reason": error.reason}
        sent = (head.get("authorization") or "").encode("latin-1")
        if not hmac.compare_digest(sent, self._authorization):
            return 401, {"reason": "unauthorized"}
        if (head.method, head.path) == ("GET", "/healthz"):
            return self._health()
        if (head.method, head.path) == ("POST", "/push"):
            return await self._push(head, reader)
        if (head.method, head.path) == ("POST", "/logs"):
            return await self._logs(head, reader)
        return 404, {"reason": "not_found"}

    async def _logs(self, head: RequestHead, reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
        """The newest log lines of one connector; asking keeps its stream open."""
        if head.is_chunked or head.content_length is None or head.content_length > MAX_BODY_BYTES:
            return 413, {"reason": "body_length_required"}
        question = _parse_logs(await reader.readexactly(head.content_length))
        if question is None:
            return 400, {"reason": "bad_question"}
        return 200, self._watches.read(*question)

    def _health(self) -> tuple[int, dict[str, Any]]:
        version = self._snapshots.current.version
        is_ready = version >= 0 and not self.is_draining
        return (200 if is_ready else 503), {"ready": is_ready, "snapshot_version": version}

    async def _push(self, head: RequestHead, reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
        if head.is_chunked or head.content_length is None or head.content_length > MAX_BODY_BYTES:
            return 413, {"reason": "body_length_required"}
        tunnel_ids = _parse_push(await reader.readexactly(head.content_length))
        if tunnel_ids is None:
            return 400, {"reason": "bad_push"}
        # The push is a hint: what is applied comes from the snapshot, pulled now.
        await self._snapshots.refresh()
        results = await self._pusher.push_tunnels(tunnel_ids)
        return 200, {
            "snapshot_version": self._snapshots.current.version,
            "connections": [
                {
                    "id": result.connection_id,
                    "tunnel_id": result.tunnel_id,
                    "applied_version": result.applied_version,
                    "error": result.error,
                }
                for result in results
            ],
        }


def _parse_push(body: bytes) -> list[str] | None:
    try:
        tunnels = json.loads(body)["tunnels"]
        return [str(uuid.UUID(tunnel)) for tunnel in tunnels][:MAX_TUNNELS]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _parse_logs(body: bytes) -> tuple[str, str, str] | None:
    try:
        document = json.loads(body)
        return str(uuid.UUID(document["tunnel_id"])), str(uuid.UUID(document["client_id"])), str(document["level"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _response(status: int, document: dict[str, Any]) -> bytes:
    body = json.dumps(document).encode()
    head = (
        f"HTTP/1.1 {status} {STATUS_TEXT.get(status, '')}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
