"""The last configuration that was pushed and could be served, on disk: a connector that starts while no control plane
answers serves by it (F-38).

    <state directory>/<tunnel id>.config.json     {"tunnel": ..., "version": 7, "config": {...}}     0600

Written whole or not at all. A file that cannot be read or served is as good as none: the edge pushes again.
"""

import json
import logging
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataplane.connector.settings import Settings
from dataplane.errors import CommandError
from dataplane.state import State

logger = logging.getLogger(__name__)


class LastGood:
    def __init__(self, directory: Path, tunnel_id: uuid.UUID) -> None:
        self._state = State(directory)
        self._tunnel_id = str(tunnel_id)
        self._name = f"{tunnel_id}.config.json"

    @classmethod
    def for_tunnel(cls, settings: Settings) -> "LastGood | None":
        if settings.state_directory is None:
            return None
        return cls(settings.state_directory, settings.credentials.tunnel_id)

    def load(self) -> tuple[int, Mapping[str, Any]] | None:
        try:
            text = self._state.read(self._name)
            document = json.loads(text) if text else None
        except (CommandError, ValueError, RecursionError) as error:
            logger.warning("last good configuration not used: %s", error)
            return None
        if not isinstance(document, dict) or document.get("tunnel") != self._tunnel_id:
            return None
        version, config = document.get("version"), document.get("config")
        if not isinstance(version, int) or isinstance(version, bool) or version < 0 or not isinstance(config, dict):
            return None
        return version, config

    def save(self, version: int, config: Mapping[str, Any]) -> None:
        """A full or read-only disk costs the copy, never the tunnel."""
        document = {"tunnel": self._tunnel_id, "version": version, "config": config}
        try:
            self._state.write(self._name, json.dumps(document, separators=(",", ":")))
        except CommandError as error:
            logger.warning("last good configuration not kept: %s", error)
