"""Everything that is open right now, and its end when access is revoked (design.md flow F: within 5 s)."""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dataplane.edge.agent import AgentApi, Allowed, Cut
from dataplane.edge.httpclient import ControlPlaneUnreachableError
from dataplane.edge.snapshot import Snapshot
from dataplane.edge.snapshots import SnapshotStore
from dataplane.wire.websocket import CLOSE_POLICY

logger = logging.getLogger(__name__)

RECHECK_SECONDS = 60.0
RETRY_SECONDS = 1.0
MAX_STREAMS_PER_CALL = 250
MAX_CALLS_AT_ONCE = 16
# Older than every snapshot: to be asked about again.
UNCHECKED = -2
MAX_PATH_CHARACTERS = 1000
MAX_REFERENCE_CHARACTERS = 32
# A control frame's 125 bytes, less the close code.
MAX_CLOSE_REASON_BYTES = 123
# How long a stream whose yes has run out waits for a control plane that does not answer. Everything else that is
# unanswered lives on; here the last answer said that it ends now.
UNCONFIRMED_SECONDS = 3.0
UNCONFIRMED = "access_not_confirmed: Your access has run out, and it could not be checked whether you have it again."


@dataclass(slots=True)
class LiveStream:
    allowed: Allowed
    client_ip: str
    service_token_id: str | None
    # Snapshot version of the last check; taken before the question was asked, so that no change falls in
    # between.
    checked_version: int
    cut: Callable[[int, str], None]
    organization_id: str = ""
    hostname: str = ""
    path: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    opened_at: float = field(default_factory=time.monotonic)
    # Until when the last answer counts; None: until something changes.
    ends_at: float | None = None
    # Seconds of a round trip to the client, as its connection tells.
    round_trip: Callable[[], float | None] = lambda: None

    def __post_init__(self) -> None:
        self.ends_at = self.allowed.ends_at

    def to_document(self) -> dict[str, object]:
        return {
            "stream_id": self.id,
            "application_id": self.allowed.application_id,
            "session_nonce": self.allowed.session_nonce,
            "service_token_id": self.service_token_id,
            "client_ip": self.client_ip,
            "destination": self.allowed.destination,
            "hostname": self.hostname,
            "path": self.path[:MAX_PATH_CHARACTERS],
            # An age, not an instant: the clocks of edge and control plane may differ.
            "age_seconds": round(time.monotonic() - self.opened_at, 3),
            "evidence": self.allowed.evidence,
        }


class LiveStreams:
    """Asks about streams again when their organization's version has risen, when their own time is over, and all of
    them every RECHECK_SECONDS."""

    def __init__(self, agent: AgentApi, snapshots: SnapshotStore) -> None:
        self._agent = agent
        self._snapshots = snapshots
        self._streams: dict[str, LiveStream] = {}
        # The instant up to which recheck_forever sleeps, for those that are added meanwhile.
        self._asleep_until = math.inf
        self._wake = asyncio.Event()
        self._cut_listeners: list[Callable[[Allowed], None]] = []
        self._add_listeners: list[Callable[[LiveStream], None]] = []
        snapshots.on_change(self._snapshot_changed)

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[LiveStream]:
        """Oldest first."""
        return iter(self._streams.values())

    def on_add(self, listener: Callable[[LiveStream], None]) -> None:
        self._add_listeners.append(listener)

    def on_cut(self, listener: Callable[[Allowed], None]) -> None:
        """Called for each stream that the control plane has cut."""
        self._cut_listeners.append(listener)

    def add(self, stream: LiveStream) -> None:
        self._streams[stream.id] = stream
        for listener in self._add_listeners:
            listener(stream)
        if self._is_outdated(stream) or (stream.ends_at is not None and stream.ends_at < self._asleep_until):
            self._wake.set()

    def remove(self, stream: LiveStream) -> None:
        self._streams.pop(stream.id, None)

    def cut_all(self, code: int, reason: str) -> None:
        for stream in list(self._streams.values()):
            stream.cut(code, reason)

    async def recheck_forever(self) -> None:
        next_round = time.monotonic() + RECHECK_SECONDS
        while True:
            await self._wait(next_round)
            is_round = time.monotonic() >= next_round
            next_round = time.monotonic() + RECHECK_SECONDS if is_round else next_round
            if await self._recheck(everything=is_round):
                continue
            self._cut_unconfirmed()
            await asyncio.sleep(RETRY_SECONDS)
            self._wake.set()

    async def _wait(self, next_round: float) -> None:
        """Until something has changed, a stream's time is over, or the next round is due."""
        ends = (stream.ends_at for stream in self._streams.values() if stream.ends_at is not None)
        self._asleep_until = min(next_round, min(ends, default=math.inf))
        try:
            async with asyncio.timeout(max(0.0, self._asleep_until - time.monotonic())):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _recheck(self, *, everything: bool) -> bool:
        """False when some calls gave no answer: their streams live on and are asked about again. A call speaks of one
        organization, so that what is slow about one (its external evaluators) delays the ends of no other's streams."""
        version = self._snapshots.current.version
        due: dict[str, list[LiveStream]] = {}
        for stream in list(self._streams.values()) if everything else list(self._due(time.monotonic())):
            due.setdefault(stream.organization_id, []).append(stream)
        slots = asyncio.Semaphore(MAX_CALLS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            calls = [
                group.create_task(self._ask(streams[start : start + MAX_STREAMS_PER_CALL], version, slots))
                for streams in due.values()
                for start in range(0, len(streams), MAX_STREAMS_PER_CALL)
            ]
        return all(call.result() for call in calls)

    async def _ask(self, batch: list[LiveStream], version: int, slots: asyncio.Semaphore) -> bool:
        async with slots:
            try:
                answer = await self._agent.recheck([stream.to_document() for stream in batch])
            except ControlPlaneUnreachableError as error:
                logger.warning("live streams cannot be rechecked: %s", error)
                for stream in batch:
                    stream.checked_version = UNCHECKED
                return False
        for stream in batch:
            stream.checked_version = version
            stream.ends_at = answer.ends_at.get(stream.id)
        for cut in answer.cuts:
            self._cut(cut)
        return True

    def _due(self, now: float) -> Iterator[LiveStream]:
        for stream in self._streams.values():
            if self._is_outdated(stream) or _is_over(stream, now):
                yield stream

    def _is_outdated(self, stream: LiveStream) -> bool:
        """Something about the stream's organization changed since it was checked."""
        return stream.checked_version < self._snapshots.current.changed_at(stream.organization_id)

    def _cut(self, cut: Cut) -> None:
        found = self._streams.get(cut.stream_id)
        if found is None:
            return
        logger.info("stream %s cut: %s", cut.stream_id, cut.reason)
        for listener in self._cut_listeners:
            listener(found.allowed)
        found.cut(CLOSE_POLICY, _told(cut))

    def _cut_unconfirmed(self) -> None:
        latest = time.monotonic() - UNCONFIRMED_SECONDS
        for stream in list(self._streams.values()):
            if _is_over(stream, latest):
                logger.info("stream %s cut: its time is over, and the control plane does not answer", stream.id)
                stream.cut(CLOSE_POLICY, UNCONFIRMED)

    def _snapshot_changed(self, snapshot: Snapshot) -> None:
        self._wake.set()


def _told(cut: Cut) -> str:
    """What fits into a close frame: of a long message the end is left out, never the reference."""
    text = f"{cut.reason}: {cut.message}" if cut.message else cut.reason
    if not cut.reference:
        return text
    reference = f" (reference {cut.reference[:MAX_REFERENCE_CHARACTERS]})"
    room = MAX_CLOSE_REASON_BYTES - len(reference.encode())
    if len(text.encode()) > room:
        text = text.encode()[: room - len("…".encode())].decode("utf-8", "ignore").rstrip() + "…"
    return text + reference


def _is_over(stream: LiveStream, now: float) -> bool:
    return stream.ends_at is not None and now >= stream.ends_at
