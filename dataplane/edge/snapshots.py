"""Keeps the newest snapshot: polls the control plane, falls back to the copy on disk, tells listeners about
changes."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from dataplane.edge.agent import AgentApi
from dataplane.edge.files import write_private
from dataplane.edge.httpclient import ControlPlaneUnreachableError
from dataplane.edge.snapshot import EMPTY_SNAPSHOT, Snapshot, SnapshotError, parse_snapshot

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
CACHE_NAME = "snapshot.json"


class SnapshotStore:
    """`current` is always usable: before the first answer it is the copy on disk, or empty (everything
    refused)."""

    def __init__(self, agent: AgentApi, state_dir: Path) -> None:
        self._agent = agent
        self._cache_path = state_dir / CACHE_NAME
        self._listeners: list[Callable[[Snapshot], None]] = []
        self._lock = asyncio.Lock()
        self._is_reachable = True
        self._last_asked = float("-inf")
        # A copy from disk is served, but never offered as the version we have: the first poll fetches in
        # full.
        self._known_version: int | None = None
        self.current = self._load_cached()

    def on_change(self, listener: Callable[[Snapshot], None]) -> None:
        self._listeners.append(listener)

    async def refresh(self) -> bool:
        """Asks once, now; whoever waits meanwhile shares the next answer. False when the control plane gave no usable
        one; the current snapshot then stays."""
        wanted = time.monotonic()
        async with self._lock:
            if self._last_asked >= wanted:
                return self._is_reachable
            self._last_asked = time.monotonic()
            try:
                document = await self._agent.fetch_snapshot(self._known_version)
                if document is not None:
                    self._accept(document)
            except (ControlPlaneUnreachableError, SnapshotError) as error:
                if self._is_reachable:
                    logger.warning("snapshot not refreshed, version %d stays: %s", self.current.version, error)
                self._is_reachable = False
                return False
        if not self._is_reachable:
            logger.info("control plane reachable again, snapshot version %d", self.current.version)
        self._is_reachable = True
        return True

    async def poll_forever(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.refresh()

    def _accept(self, document: object) -> None:
        snapshot = parse_snapshot(document)
        if self._known_version is not None and snapshot.version < self._known_version:
            logger.warning("snapshot version %d is older than %d, ignored", snapshot.version, self._known_version)
            return
        self._known_version = snapshot.version
        self.current = snapshot
        try:
            write_private(self._cache_path, json.dumps(document).encode())
        except OSError as error:
            logger.error("snapshot cannot be cached on disk: %s", error)
        for listener in self._listeners:
            listener(snapshot)

    def _load_cached(self) -> Snapshot:
        try:
            snapshot = parse_snapshot(json.loads(self._cache_path.read_bytes()))
        except FileNotFoundError:
            return EMPTY_SNAPSHOT
        except (OSError, ValueError) as error:
            logger.error("cached snapshot cannot be used: %s", error)
            return EMPTY_SNAPSHOT
        logger.info("serving snapshot version %d from disk until the control plane answers", snapshot.version)
        return snapshot
