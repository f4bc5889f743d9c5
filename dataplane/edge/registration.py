"""What a connector connection is: its state, and who registered on it."""

import enum
from dataclasses import dataclass
from typing import Any

from dataplane.wire.names import FEATURE_REMOTE_CONFIG


class State(enum.Enum):
    HANDSHAKE = enum.auto()
    SERVING = enum.auto()
    DRAINING = enum.auto()
    CLOSED = enum.auto()


@dataclass(slots=True)
class Registration:
    """Who this connection is, as proved at registration, and what it told since."""

    tunnel_id: str
    client_id: str
    index: int
    version: str
    arch: str
    features: tuple[str, ...]
    # Epoch seconds by this machine's clock: for people, and to tell the newest of several.
    registered_at: float
    # Tunnel.revocation_marks of the snapshot that admitted this connection.
    revocation_marks: tuple[float, float]
    applied_version: int | None = None
    config_error: str | None = None
    local_config: dict[str, Any] | None = None
    local_config_bytes: int = 0

    @property
    def takes_remote_config(self) -> bool:
        return FEATURE_REMOTE_CONFIG in self.features
