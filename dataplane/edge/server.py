"""Puts the parts of the edge together, and takes them apart again on SIGTERM."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from dataplane.edge.agent import AgentApi
from dataplane.edge.certificates import CertificateStore
from dataplane.edge.configpush import ConfigPusher
from dataplane.edge.control import ControlListener
from dataplane.edge.dials import Dials
from dataplane.edge.gate import Gate
from dataplane.edge.gateway import Gateway
from dataplane.edge.httpclient import HttpClient
from dataplane.edge.listener import Limits, Listener
from dataplane.edge.livestreams import LiveStreams
from dataplane.edge.logwatch import LogWatches
from dataplane.edge.public import PublicConnection
from dataplane.edge.reports import Reporter
from dataplane.edge.settings import EdgeSettings
from dataplane.edge.snapshots import SnapshotStore
from dataplane.edge.transfers import Transfers
from dataplane.edge.tunnels import Tunnels
from dataplane.edge.upstream import ControlPlaneProxy
from dataplane.edge.ways import Ways
from dataplane.transport import spawn
from dataplane.wire.names import SNI_PROBE, SNI_QUIC, SNI_TUNNEL
from dataplane.wire.websocket import CLOSE_GOING_AWAY

logger = logging.getLogger(__name__)

PUBLIC_LIMITS = Limits(total=8192, per_address=1024, handshakes=512)
TUNNEL_LIMITS = Limits(total=4096, per_address=512, handshakes=128)
SWEEP_SECONDS = 1.0
# Certificates in EDGE_CERT_DIR are looked at this often.
CERTIFICATE_SWEEPS = 10
# After the grace: time for the close frames to reach their clients.
CLOSE_FRAME_SECONDS = 0.5
STOP_SECONDS = 2.0
RESTART_SECONDS = 1.0


class Edge:
    """start(), then run until stop(); stop() drains. One instance per process (or per test)."""

    def __init__(self, settings: EdgeSettings) -> None:
        self._settings = settings
        self._http = HttpClient(settings.control_plane_url)
        agent = AgentApi(self._http, settings.token)
        self.snapshots = SnapshotStore(agent, settings.state_dir)
        self.tunnels = Tunnels(self.snapshots, settings.location)
        self.streams = LiveStreams(agent, self.snapshots)
        self.pusher = ConfigPusher(self.tunnels, self.snapshots)
        self.log_watches = LogWatches(self.tunnels)
        self.control = ControlListener(settings.token, self.snapshots, self.pusher, self.log_watches)
        dials = Dials()
        self.reporter = Reporter(
            agent,
            settings,
            self.tunnels,
            self.streams,
            self.snapshots,
            dials,
            Ways(self.streams),
            lambda: self.control.url,
        )
        gate = Gate(agent, settings.outage_grace_seconds)
        self.streams.on_cut(gate.forget)
        gateway = Gateway(
            self.snapshots,
            gate,
            self.tunnels,
            self.streams,
            ControlPlaneProxy(self._http, settings.token),
            Transfers(agent),
            dials,
        )
        self._serve = gateway.serve
        self.certificates = CertificateStore(
            settings.state_dir,
            settings.certificate_dir,
            lambda hostname: self.snapshots.current.is_known_host(hostname),
            lambda hostname: self.snapshots.current.roots_for(hostname),
        )
        self._clients: set[PublicConnection] = set()
        self._background: list[asyncio.Task[None]] = []
        self._public = Listener(
            "public",
            self.certificates.server_context(),
            PUBLIC_LIMITS,
            self._new_client,
            self.certificates.public_context_for,
        )
        self._public.is_choosing = lambda: bool(self.snapshots.current.client_roots)
        tunnel_context = self.certificates.fixed_context((SNI_TUNNEL, SNI_QUIC, SNI_PROBE))
        self._connectors = Listener("connector", tunnel_context, TUNNEL_LIMITS, self.tunnels.connect)
        self.public_address = ("", 0)
        self.tunnel_address = ("", 0)

    async def start(self) -> None:
        """Raises OSError when a port is taken. A control plane that is down does not stop the edge from
        serving."""
        await self.snapshots.refresh()
        await self.control.start(self._settings.control_port)
        self.public_address = self._public.start(self._settings.host, self._settings.port)
        self.tunnel_address = self._connectors.start(self._settings.host, self._settings.tunnel_port)
        for name, work in (
            ("poll-snapshots", self.snapshots.poll_forever),
            ("recheck-streams", self.streams.recheck_forever),
            ("report", self.reporter.report_forever),
            ("retry-pushes", self.pusher.retry_forever),
            ("sweep", self._sweep_forever),
        ):
            self._background.append(spawn(_keep_running(name, work), name=name))

    async def stop(self, grace_seconds: float) -> None:
        """Drains: nothing new, what runs may end within the grace, the rest is told and closed."""
        logger.info("draining: %d streams, at most %.0f s", len(self.streams), grace_seconds)
        self.control.is_draining = True
        self._public.stop()
        self._connectors.stop()
        for client in list(self._clients):
            client.is_last = True
            if client.is_idle:
                client.close()
        self.tunnels.drain()
        await self._wait_until_idle(grace_seconds)
        if len(self.streams):
            self.streams.cut_all(CLOSE_GOING_AWAY, "the edge is restarting")
            await asyncio.sleep(CLOSE_FRAME_SECONDS)
        await self._close()

    async def _wait_until_idle(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while len(self.streams) and loop.time() < deadline:
            await asyncio.sleep(0.05)

    async def _close(self) -> None:
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background, timeout=STOP_SECONDS)
        self.log_watches.close_all()
        self.tunnels.close_all("the edge stops")
        for client in list(self._clients):
            client.abort()
        await self.reporter.report()
        self.control.stop()
        self._http.close()
        # One round for connection_lost callbacks.
        await asyncio.sleep(0)

    def _new_client(self, peer_ip: str, on_closed: Callable[[], None]) -> PublicConnection:
        def closed(client: PublicConnection) -> None:
            self._clients.discard(client)
            on_closed()

        client = PublicConnection(self._serve, peer_ip, closed)
        self._clients.add(client)
        return client

    async def _sweep_forever(self) -> None:
        sweeps = 0
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = asyncio.get_running_loop().time()
            for client in list(self._clients):
                client.check_deadline(now)
            sweeps += 1
            if sweeps % CERTIFICATE_SWEEPS == 0:
                self._reload_certificates()

    def _reload_certificates(self) -> None:
        try:
            self.certificates.reload_configured()
        except OSError as error:
            logger.error("EDGE_CERT_DIR cannot be read: %s", error)


async def _keep_running(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """None of the edge's loops may die of one bad round: each is needed for revocation to reach this edge."""
    while True:
        try:
            await work()
        except Exception:
            logger.exception("%s failed, starting again", name)
        await asyncio.sleep(RESTART_SECONDS)
