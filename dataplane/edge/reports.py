"""Tells the control plane which connections and streams this edge holds: every 5 s and soon after a
change."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from dataplane.edge.agent import AgentApi
from dataplane.edge.dials import Dial, Dials
from dataplane.edge.httpclient import ControlPlaneUnreachableError
from dataplane.edge.livestreams import LiveStreams
from dataplane.edge.registration import Registration
from dataplane.edge.settings import EdgeSettings
from dataplane.edge.snapshots import SnapshotStore
from dataplane.edge.tunnelconnection import TunnelConnection
from dataplane.edge.tunnels import Tunnels
from dataplane.edge.ways import Way, Ways

logger = logging.getLogger(__name__)

REPORT_SECONDS = 5.0
# Changes come in bursts (four connections at once): one report for the burst, still within 200 ms.
GATHER_SECONDS = 0.1
VERSION = "0.1.0"
# Local configurations are reported for people to read. They come from connectors: no tenant's may grow a
# report so large that the control plane refuses it, and with it every other tenant's connections.
MAX_LOCAL_CONFIG_BYTES = 64 * 1024
MAX_LOCAL_CONFIGS_BYTES = 4 * 1024 * 1024


class Reporter:
    def __init__(
        self,
        agent: AgentApi,
        settings: EdgeSettings,
        tunnels: Tunnels,
        streams: LiveStreams,
        snapshots: SnapshotStore,
        dials: Dials,
        ways: Ways,
        control_url: Callable[[], str],
    ) -> None:
        self._agent = agent
        self._settings = settings
        self._tunnels = tunnels
        self._streams = streams
        self._snapshots = snapshots
        self._dials = dials
        self._ways = ways
        self._control_url = control_url
        self._changed = asyncio.Event()
        self._is_reachable = True
        tunnels.on_change(self._changed.set)

    async def report_forever(self) -> None:
        while True:
            await self.report()
            started = time.monotonic()
            try:
                async with asyncio.timeout(REPORT_SECONDS):
                    await self._changed.wait()
                await asyncio.sleep(max(0.0, GATHER_SECONDS - (time.monotonic() - started)))
            except TimeoutError:
                pass
            self._changed.clear()

    async def report(self) -> None:
        fresh, ways = self._dials.fresh(), self._ways.current()
        try:
            await self._agent.report(self.document(fresh, ways))
        except ControlPlaneUnreachableError as error:
            if self._is_reachable:
                logger.warning("report not delivered: %s", error)
            self._is_reachable = False
            return
        self._is_reachable = True
        self._dials.told(fresh)
        self._ways.told(ways)

    def document(self, dials: Sequence[Dial] = (), ways: Sequence[Way] = ()) -> dict[str, Any]:
        settings = self._settings
        connections = self._tunnels.registered()
        told = choose_local_configs([c.registration for c in connections if c.registration is not None])
        return {
            "edge": {
                "id": settings.edge_id,
                "name": settings.name,
                "location": settings.location,
                "version": VERSION,
                "control_url": self._control_url(),
            },
            "snapshot_version": self._snapshots.current.version,
            "connections": [_describe(connection, told) for connection in connections],
            "streams": len(self._streams),
            "dials": [_describe_dial(dial) for dial in dials],
            "ways": [_describe_way(way) for way in ways],
        }


def choose_local_configs(registrations: Sequence[Registration]) -> set[int]:
    """id() of the registrations whose local configuration fits into the report, smallest first."""
    chosen: set[int] = set()
    left = MAX_LOCAL_CONFIGS_BYTES
    for registration in sorted(registrations, key=lambda r: r.local_config_bytes):
        left -= registration.local_config_bytes
        if registration.local_config_bytes > MAX_LOCAL_CONFIG_BYTES or left < 0:
            break
        chosen.add(id(registration))
    return chosen


def _describe(connection: TunnelConnection, told: set[int]) -> dict[str, Any]:
    registration = connection.registration
    assert registration is not None
    return {
        "id": connection.id,
        "tunnel_id": registration.tunnel_id,
        "client_id": registration.client_id,
        "index": registration.index,
        "version": registration.version,
        "arch": registration.arch,
        "features": list(registration.features),
        "origin_ip": connection.peer_ip,
        "opened_at": registration.registered_at,
        "applied_version": registration.applied_version,
        "config_error": registration.config_error,
        "local_config": registration.local_config if id(registration) in told else None,
        "rtt_ms": None if connection.rtt_seconds is None else round(connection.rtt_seconds * 1000, 1),
    }


def _describe_way(way: Way) -> dict[str, Any]:
    rtt_ms = None if way.rtt_seconds is None else round(way.rtt_seconds * 1000, 3)
    return {"application_id": way.application_id, "streams": way.streams, "rtt_ms": rtt_ms}


def _describe_dial(dial: Dial) -> dict[str, Any]:
    return {
        "tunnel_id": dial.tunnel_id,
        "hostname": dial.hostname,
        "connection_id": dial.connection_id,
        "destination": dial.destination,
        "reason": dial.reason,
        "message": dial.message,
        "ms": round(dial.seconds * 1000, 1),
        "at": dial.at,
    }
