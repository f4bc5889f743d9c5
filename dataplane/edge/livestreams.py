"""Everything that is open right now, and its end when access is revoked (design.md flow F: within 5 s)."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from dataplane.edge.agent import AgentApi, Allowed
from dataplane.edge.httpclient import ControlPlaneUnreachableError
from dataplane.edge.snapshot import Snapshot
from dataplane.edge.snapshots import SnapshotStore
from dataplane.wire.websocket import CLOSE_POLICY

logger = logging.getLogger(__name__)

RECHECK_SECONDS = 60.0
RETRY_SECONDS = 1.0
MAX_STREAMS_PER_CALL = 1000


@dataclass(slots=True)
class LiveStream:
    allowed: Allowed
    client_ip: str
    service_token_id: str | None
    # Snapshot version of the last check; taken before the question was asked, so that no change falls in
    # between.
    checked_version: int
    cut: Callable[[int, str], None]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    opened_at: float = field(default_factory=time.monotonic)

    def to_document(self) -> dict[str, object]:
        return {
            "stream_id": self.id,
            "application_id": self.allowed.application_id,
            "session_nonce": self.allowed.session_nonce,
            "service_token_id": self.service_token_id,
            "client_ip": self.client_ip,
            "destination": self.allowed.destination,
            # An age, not an instant: the clocks of edge and control plane may differ.
            "age_seconds": round(time.monotonic() - self.opened_at, 3),
            "evidence": self.allowed.evidence,
        }


class LiveStreams:
    def __init__(self, agent: AgentApi, snapshots: SnapshotStore) -> None:
        self._agent = agent
        self._snapshots = snapshots
        self._streams: dict[str, LiveStream] = {}
        self._wake = asyncio.Event()
        self._cut_listeners: list[Callable[[Allowed], None]] = []
        snapshots.on_change(self._snapshot_changed)

    def __len__(self) -> int:
        return len(self._streams)

    def on_cut(self, listener: Callable[[Allowed], None]) -> None:
        """Called for each stream that the control plane has cut."""
        self._cut_listeners.append(listener)

    def add(self, stream: LiveStream) -> None:
        self._streams[stream.id] = stream
        if stream.checked_version != self._snapshots.current.version:
            self._wake.set()

    def remove(self, stream: LiveStream) -> None:
        self._streams.pop(stream.id, None)

    def cut_all(self, code: int, reason: str) -> None:
        for stream in list(self._streams.values()):
            stream.cut(code, reason)

    async def recheck_forever(self) -> None:
        while True:
            is_periodic = False
            try:
                async with asyncio.timeout(RECHECK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                is_periodic = True
            self._wake.clear()
            if not await self._recheck(everything=is_periodic):
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def _recheck(self, *, everything: bool) -> bool:
        """False when the control plane gave no answer: live streams live on and are asked about again."""
        version = self._snapshots.current.version
        due = [s for s in self._streams.values() if everything or s.checked_version != version]
        for start in range(0, len(due), MAX_STREAMS_PER_CALL):
            batch = due[start : start + MAX_STREAMS_PER_CALL]
            try:
                cuts = await self._agent.recheck([stream.to_document() for stream in batch])
            except ControlPlaneUnreachableError as error:
                logger.warning("live streams cannot be rechecked: %s", error)
                return False
            for stream in batch:
                stream.checked_version = version
            for cut in cuts:
                found = self._streams.get(cut.stream_id)
                if found is not None:
                    logger.info("stream %s cut: %s", cut.stream_id, cut.reason)
                    for listener in self._cut_listeners:
                        listener(found.allowed)
                    found.cut(CLOSE_POLICY, f"{cut.reason}: {cut.message}" if cut.message else cut.reason)
        return True

    def _snapshot_changed(self, snapshot: Snapshot) -> None:
        self._wake.set()
