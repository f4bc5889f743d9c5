"""Keeps the connections of one connector alive, for as long as the process lives."""

import asyncio
import contextlib
import ipaddress
import json
import logging
import platform
import random
import socket
import ssl
import uuid
from typing import Any

from dataplane.connector.edgeconnection import EdgeConnection, State
from dataplane.connector.lastgood import LastGood
from dataplane.connector.liveconfig import LiveConfiguration
from dataplane.connector.serving import StreamServer
from dataplane.connector.settings import EdgeAddress, Settings
from dataplane.transport import client_tls_context, enable_keepalive, resolve, spawn
from dataplane.wire.names import (
    FEATURE_MANAGEMENT_LOGS,
    FEATURE_REMOTE_CONFIG,
    FEATURE_SERIALIZED_HEADERS,
    SNI_TUNNEL,
)
from dataplane.wire.rpc import ConnectionOptions, Registered, RegistrationRefused

logger = logging.getLogger(__name__)

VERSION = "sallyport/0.1.0"
CONNECT_TIMEOUT_SECONDS = 10.0
EDGE_KEEPALIVE_SECONDS = 15.0
# A lost edge is tried again at once, then every 1.5 to 3 s: it must be found within 3 s of its return.
FIRST_RETRY_SECONDS = 0.3
MAX_RETRY_SECONDS = 3.0
# A refusal is an answer: somebody has to change something first.
MAX_REFUSED_RETRY_SECONDS = 10.0
MAX_FINAL_RETRY_SECONDS = 30.0
CLOSE_TIMEOUT_SECONDS = 2.0


class Connector:
    """One process: one client id, one configuration, several connections. Raises OSError or ssl.SSLError when the
    CA file cannot be used, IngressError for rules this connector does not offer."""

    def __init__(self, settings: Settings) -> None:
        self.client_id = uuid.uuid4()
        self.configuration = LiveConfiguration(settings.ingress, LastGood.for_tunnel(settings))
        self.server = StreamServer(
            self.configuration,
            str(self.client_id),
            metrics_port=settings.metrics.port if settings.metrics else None,
            remote_logs=settings.remote_logs,
        )
        self._settings = settings
        self._tls = client_tls_context(settings.ca_file)
        self._stopping = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._first_registered = asyncio.Event()
        self._connections: dict[int, EdgeConnection] = {}

    @property
    def ready_count(self) -> int:
        """Connections that serve right now."""
        return sum(connection.state is State.SERVING for connection in self._connections.values())

    @property
    def stream_count(self) -> int:
        return sum(connection.stream_count for connection in self._connections.values())

    def stop(self) -> None:
        """First call: unregister and let streams finish. Second call: now."""
        if self._stopping.is_set():
            self._stop_now.set()
        self._stopping.set()

    async def run(self) -> None:
        """Returns after stop()."""
        logger.info(
            "tunnel %s: connecting to %s",
            self._settings.credentials.tunnel_id,
            ", ".join(map(str, self._settings.edges)),
            extra={"connector_id": self.client_id},
        )
        keepers = [
            spawn(self._keep_connected(index), name=f"connection-{index}")
            for index in range(self._settings.connections)
        ]
        await self._stopping.wait()
        await self._drain()
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        logger.info("stopped")

    async def _drain(self) -> None:
        connections = list(self._connections.values())
        count = sum(connection.stream_count for connection in connections)
        logger.info("stopping: %d streams may finish within %g s", count, self._settings.grace_seconds)
        for connection in connections:
            connection.unregister()
        hurried = spawn(self._stop_now.wait(), name="second-stop")
        done = spawn(_all_done([connection.closed for connection in connections]), name="drain")
        tasks: list[asyncio.Future[Any]] = [done, hurried]
        await asyncio.wait(tasks, timeout=self._settings.grace_seconds, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        done.cancel()
        for connection in connections:
            connection.close("the grace period is over")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await _all_done([connection.lost for connection in connections])

    # ---- one connection ----------------------------------------------------------------------------------------

    async def _keep_connected(self, index: int) -> None:
        if index:
            # The first connection finds out whether credentials and edge are right; one error is enough.
            await self._first_registered.wait()
        failures = 0
        while not self._stopping.is_set():
            address = self._settings.edges[(index + failures) % len(self._settings.edges)]
            try:
                delay = await self._connect_once(index, address, failures)
            except Exception:
                # Whatever it is, a connector comes back: a dead keeper would be a tunnel that is down for good.
                logger.exception("connection %d failed", index)
                delay = MAX_RETRY_SECONDS
            failures = 0 if delay is None else failures + 1
            await self._pause(random.uniform(0.05, FIRST_RETRY_SECONDS) if delay is None else delay)  # noqa: S311

    async def _connect_once(self, index: int, address: EdgeAddress, failures: int) -> float | None:
        """Serves until the connection ends. None after it had been registered, else seconds to wait."""
        try:
            connection = await self._dial(index, address, failures)
        except (OSError, TimeoutError, ssl.SSLError) as error:
            logger.warning("connection %d: cannot reach edge %s: %s", index, address, _reason(error))
            return _backoff(failures, MAX_RETRY_SECONDS)
        self._connections[index] = connection
        try:
            return await self._serve(connection, address, failures)
        finally:
            if connection.state is not State.CLOSED:
                connection.abort("no longer supervised")
            del self._connections[index]

    async def _serve(self, connection: EdgeConnection, address: EdgeAddress, failures: int) -> float | None:
        either: list[asyncio.Future[Any]] = [connection.outcome, connection.closed]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        outcome = None if connection.outcome.cancelled() else connection.outcome.result()
        if isinstance(outcome, Registered):
            self._registered(connection, address, outcome)
            reason = await asyncio.shield(connection.closed)
            logger.log(
                logging.INFO if self._stopping.is_set() else logging.WARNING,
                "connection %d to %s ended: %s",
                connection.index,
                address,
                reason,
            )
            return None
        if isinstance(outcome, RegistrationRefused):
            return await self._refused(connection, address, outcome, failures)
        reason = connection.closed.result()
        logger.warning("connection %d: edge %s did not register it: %s", connection.index, address, reason)
        return _backoff(failures, MAX_RETRY_SECONDS)

    def _registered(self, connection: EdgeConnection, address: EdgeAddress, outcome: Registered) -> None:
        logger.info(
            "connection %d registered",
            connection.index,
            extra={"edge": address, "location": outcome.location, "connection_id": outcome.connection_id},
        )
        self._first_registered.set()
        if not outcome.remotely_managed and connection.index == 0:
            document = json.dumps(self.configuration.ingress.to_document()).encode()
            connection.send_local_configuration(document)

    async def _refused(
        self, connection: EdgeConnection, address: EdgeAddress, outcome: RegistrationRefused, failures: int
    ) -> float:
        limit = MAX_REFUSED_RETRY_SECONDS if outcome.should_retry else MAX_FINAL_RETRY_SECONDS
        seconds = max(_backoff(failures, limit), min(outcome.retry_after_seconds, MAX_FINAL_RETRY_SECONDS))
        logger.error(
            "connection %d: edge %s refused the registration: %s; next try in %.1f s",
            connection.index,
            address,
            outcome.cause,
            seconds,
        )
        connection.close("the registration was refused")
        return seconds

    async def _dial(self, index: int, address: EdgeAddress, failures: int) -> EdgeConnection:
        """Raises OSError, TimeoutError or ssl.SSLError. Names are resolved anew each time: edges move."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(2 * CONNECT_TIMEOUT_SECONDS):
            connected = await _connect_tcp(address)
            options = ConnectionOptions(
                self.client_id,
                _features(self._settings),
                VERSION,
                f"{platform.system().lower()}_{platform.machine()}",
                _packed_ip(connected),
                previous_attempts=failures,
            )
            try:
                _, connection = await loop.create_connection(
                    lambda: EdgeConnection(index, self._settings.credentials, options, self.server.dispatch),
                    sock=connected,
                    ssl=self._tls,
                    server_hostname=SNI_TUNNEL,
                    ssl_handshake_timeout=CONNECT_TIMEOUT_SECONDS,
                    ssl_shutdown_timeout=CLOSE_TIMEOUT_SECONDS,
                )
            except BaseException:
                connected.close()
                raise
        return connection

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def _features(settings: Settings) -> tuple[str, ...]:
    always = (FEATURE_REMOTE_CONFIG, FEATURE_SERIALIZED_HEADERS)
    return (*always, FEATURE_MANAGEMENT_LOGS) if settings.remote_logs else always


async def _all_done(futures: list[asyncio.Future[Any]]) -> None:
    """Waits without cancelling any of them when it is cancelled itself."""
    if futures:
        await asyncio.wait(futures)


async def _connect_tcp(address: EdgeAddress) -> socket.socket:
    """A connected socket to the first address of the name that answers. Raises OSError or TimeoutError."""
    loop = asyncio.get_running_loop()
    addresses = await resolve(address.host, address.port, timeout_seconds=CONNECT_TIMEOUT_SECONDS)
    failure: OSError | TimeoutError = OSError(f"{address.host} has no address")
    for ip in addresses:
        connecting = socket.socket(socket.AF_INET6 if ip.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
        connecting.setblocking(False)
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        enable_keepalive(connecting, EDGE_KEEPALIVE_SECONDS)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS / 2):
                await loop.sock_connect(connecting, (str(ip), address.port))
        except (OSError, TimeoutError) as error:
            connecting.close()
            failure = failure if isinstance(failure, ConnectionRefusedError) else error
        except BaseException:
            connecting.close()
            raise
        else:
            return connecting
    raise failure


def _packed_ip(connected: socket.socket) -> bytes:
    """16 bytes, IPv4 mapped (tunnel-edge.md 5.4)."""
    address = ipaddress.ip_address(connected.getsockname()[0].partition("%")[0])
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def _backoff(failures: int, limit: float) -> float:
    """Doubling with jitter, so that many connectors do not come back in step."""
    return random.uniform(0.5, 1.0) * min(FIRST_RETRY_SECONDS * 2.0 ** min(failures, 10), limit)  # noqa: S311


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted ({error.verify_message}); is --cacert the edge's ca.pem?"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
