"""Carries remote configuration to connectors and remembers which version each one applied (tunnel-edge.md
5.5)."""

import asyncio
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from dataplane.edge.snapshot import Snapshot, Tunnel
from dataplane.edge.snapshots import SnapshotStore
from dataplane.edge.tunnelconnection import TunnelConnection
from dataplane.edge.tunnels import Tunnels
from dataplane.edge.tunnelstream import TunnelStream
from dataplane.transport import spawn
from dataplane.wire.h2 import StreamClosedError
from dataplane.wire.headers import Header
from dataplane.wire.names import H_UPGRADE, UPGRADE_CONFIGURATION

logger = logging.getLogger(__name__)

PUSH_TIMEOUT_SECONDS = 4.0
RETRY_SECONDS = 15.0
MAX_ANSWER_BYTES = 64 * 1024
MAX_ERROR_CHARACTERS = 500
MAX_VERSION = 2**31 - 1


@dataclass(frozen=True, slots=True)
class PushResult:
    connection_id: str
    tunnel_id: str
    applied_version: int | None
    error: str | None


class _PushStream:
    """Collects the connector's answer to one push."""

    def __init__(self, body: bytes) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.stream: TunnelStream | None = None
        self._unsent = memoryview(body)
        self._status = ""
        self._received = bytearray()
        self._batch_bytes = 0

    def stream_answered(self, headers: list[Header]) -> None:
        self._status = dict(headers)[":status"]

    def stream_data(self, data: memoryview) -> None:
        self._received += data
        self._batch_bytes += len(data)
        if len(self._received) > MAX_ANSWER_BYTES:
            self._finish("the answer is too long")

    def stream_flush(self) -> None:
        if self.stream is not None:
            self.stream.acknowledge(self._batch_bytes)
        self._batch_bytes = 0

    def stream_ended(self) -> None:
        self._finish(None if self._status == "200" else f"the connector answered {self._status}")

    def stream_lost(self, reason: str) -> None:
        self._finish(reason)

    def stream_writable(self) -> None:
        if self.stream is None:
            return
        self._unsent = self._unsent[self.stream.send(self._unsent) :]
        if not self._unsent:
            self.stream.end()

    def _finish(self, error: str | None) -> None:
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(bytes(self._received))
        else:
            self.answer.set_exception(PushFailed(error))


class PushFailed(Exception):
    """The connector did not apply the configuration; the text says why."""


class ConfigPusher:
    """Pushes after every registration and whenever a snapshot brings a newer version. One push per connection
    at a time; the newest version wins."""

    def __init__(self, tunnels: Tunnels, snapshots: SnapshotStore) -> None:
        self._tunnels = tunnels
        self._snapshots = snapshots
        self._locks: dict[str, asyncio.Lock] = {}
        tunnels.on_registered(self._registered)
        snapshots.on_change(self._snapshot_changed)

    async def push_tunnels(self, tunnel_ids: Iterable[str]) -> list[PushResult]:
        """Every connection of these tunnels, at the same time; never raises for a connector that fails."""
        connections = [c for tunnel_id in tunnel_ids for c in self._tunnels.of_tunnel(tunnel_id)]
        await asyncio.gather(*(self.push(connection) for connection in connections))
        return [
            PushResult(c.id, c.registration.tunnel_id, c.registration.applied_version, c.registration.config_error)
            for c in connections
            if c.registration is not None
        ]

    async def push(self, connection: TunnelConnection) -> None:
        """Brings one connection to the current version, unless it is there already. The outcome is in its
        registration and in the next report."""
        registration = connection.registration
        if registration is None:
            return
        lock = self._locks.setdefault(connection.id, asyncio.Lock())
        try:
            async with lock:
                tunnel = self._snapshots.current.tunnels.get(registration.tunnel_id)
                if tunnel is None or not _is_due(tunnel, connection):
                    return
                assert tunnel.config_version is not None
                try:
                    registration.applied_version = await _push(connection, tunnel)
                    registration.config_error = None
                except PushFailed as error:
                    registration.config_error = str(error)[:MAX_ERROR_CHARACTERS]
                    logger.warning(
                        "connection %s did not apply configuration %d: %s",
                        connection.id,
                        tunnel.config_version,
                        registration.config_error,
                    )
        finally:
            if not lock.locked():
                self._locks.pop(connection.id, None)
        self._tunnels.changed(connection)

    async def retry_forever(self) -> None:
        """A push can be lost to a timeout; the next round finds the connection still behind."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            self._snapshot_changed(self._snapshots.current)

    def _registered(self, connection: TunnelConnection) -> None:
        spawn(self.push(connection), name="push-config")

    def _snapshot_changed(self, snapshot: Snapshot) -> None:
        for connection in self._tunnels.registered():
            registration = connection.registration
            tunnel = snapshot.tunnels.get(registration.tunnel_id) if registration is not None else None
            if tunnel is not None and _is_due(tunnel, connection):
                spawn(self.push(connection), name="push-config")


def _is_due(tunnel: Tunnel, connection: TunnelConnection) -> bool:
    registration = connection.registration
    if registration is None or not tunnel.is_remote or tunnel.config_version is None or tunnel.config is None:
        return False
    applied = registration.applied_version
    return applied is None or applied < tunnel.config_version


async def _push(connection: TunnelConnection, tunnel: Tunnel) -> int:
    """The version the connector says it runs. Raises PushFailed."""
    body = json.dumps({"version": tunnel.config_version, "config": tunnel.config}, separators=(",", ":")).encode()
    handler = _PushStream(body)
    headers = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "configuration"),
        (":path", "/"),
        (H_UPGRADE, UPGRADE_CONFIGURATION),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
    ]
    try:
        handler.stream = connection.open(headers, handler, end_stream=False)
    except StreamClosedError as error:
        raise PushFailed("the connection takes no more streams") from error
    handler.stream_writable()
    try:
        async with asyncio.timeout(PUSH_TIMEOUT_SECONDS):
            answer = await handler.answer
    except TimeoutError as error:
        raise PushFailed(f"no answer within {PUSH_TIMEOUT_SECONDS:.0f} s") from error
    finally:
        handler.stream.cancel()
    return _read_answer(answer, tunnel.config_version or 0)


def _read_answer(answer: bytes, version: int) -> int:
    try:
        document = json.loads(answer)
        applied, error = document["lastAppliedVersion"], document.get("err")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
        raise PushFailed("the connector's answer cannot be read") from cause
    if error is not None:
        # cloudflared serializes a Go error, usually as {}: any non-null value is a refusal (tunnel-edge.md
        # 5.5).
        text = error if isinstance(error, str) else json.dumps(error)
        raise PushFailed(f"refused by the connector: {text}" if text not in ("{}", "") else "refused by the connector")
    if isinstance(applied, bool) or not isinstance(applied, int) or not -1 <= applied <= MAX_VERSION:
        raise PushFailed("the connector's answer cannot be read")
    if applied < version:
        raise PushFailed(f"the connector stays at version {applied}")
    return applied
