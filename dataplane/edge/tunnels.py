"""All connector connections of this edge: who may register, which one carries a stream, which must go."""

import asyncio
import hashlib
import hmac
import json
import logging
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from dataplane.edge.registration import Registration, State
from dataplane.edge.snapshot import Snapshot, Tunnel
from dataplane.edge.snapshots import SnapshotStore
from dataplane.edge.tunnelconnection import TunnelConnection
from dataplane.transport import spawn
from dataplane.wire.rpc import RegisterConnection

logger = logging.getLogger(__name__)

# The connector waits 5 s for its answer (tunnel-edge.md 5.4); an alive duplicate answers a PING long before.
DUPLICATE_PING_SECONDS = 2.0
MAX_CONNECTIONS_PER_TUNNEL = 128
MAX_LOCAL_CONFIG_BYTES = 256 * 1024
MAX_LOCAL_CONFIG_DEPTH = 32
# A connector that keeps failing is answered later and later, up to this long (AC-71).
MAX_REFUSAL_DELAY_SECONDS = 4.0
REFUSAL_DELAY_STEP_SECONDS = 0.125
FREE_REFUSALS = 3
REFUSAL_MEMORY_SECONDS = 60.0
RETRY_AFTER_NS = 10_000_000_000
MAX_TRACKED_REFUSALS = 4096


class RegistrationRefused(Exception):
    """`cause` is sent to the connector. With "Unauthorized" in it cloudflared tries again later
    (tunnel-edge.md 4.3)."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class Tunnels:
    def __init__(self, snapshots: SnapshotStore, location: str) -> None:
        self._snapshots = snapshots
        self._location = location
        self._all: set[TunnelConnection] = set()
        self._by_tunnel: dict[str, dict[tuple[str, int], TunnelConnection]] = {}
        self._refusals: Counter[tuple[str, str]] = Counter()
        self._refusals_reset_at = 0.0
        self._listeners: list[Callable[[], None]] = []
        self._registered_listeners: list[Callable[[TunnelConnection], None]] = []
        self._is_draining = False
        snapshots.on_change(self._close_revoked)

    def connect(self, peer_ip: str, on_closed: Callable[[], None]) -> TunnelConnection:
        """Protocol factory of the connector port."""
        connection = TunnelConnection(self, peer_ip, on_closed)
        self._all.add(connection)
        return connection

    def on_change(self, listener: Callable[[], None]) -> None:
        """Called after any change that a report should show."""
        self._listeners.append(listener)

    def on_registered(self, listener: Callable[[TunnelConnection], None]) -> None:
        self._registered_listeners.append(listener)

    # ---- use
    # ----------------------------------------------------------------------------------------------------

    def pick(self, tunnel_id: str) -> TunnelConnection | None:
        """The connection with the fewest streams; ties are broken at random."""
        usable = [c for c in self._by_tunnel.get(tunnel_id, {}).values() if c.takes_streams]
        if not usable:
            return None
        fewest = min(c.stream_count for c in usable)
        return random.choice([c for c in usable if c.stream_count == fewest])  # noqa: S311 - not a secret

    def of_tunnel(self, tunnel_id: str) -> list[TunnelConnection]:
        return list(self._by_tunnel.get(tunnel_id, {}).values())

    def registered(self) -> list[TunnelConnection]:
        return [connection for group in self._by_tunnel.values() for connection in group.values()]

    def local_config(self, tunnel_id: str) -> dict[str, object] | None:
        """The newest ingress a connector of this tunnel reported. Replicas may differ; the newest speaks for
        all."""
        found = [
            c.registration
            for c in self.of_tunnel(tunnel_id)
            if c.registration is not None and c.registration.local_config is not None
        ]
        return max(found, key=lambda r: r.registered_at).local_config if found else None

    def drain(self) -> None:
        """Idle connections close at once, the others when their last stream ends; connectors go elsewhere."""
        self._is_draining = True
        for connection in list(self._all):
            connection.drain()

    def close_all(self, reason: str) -> None:
        for connection in list(self._all):
            connection.close(reason)

    # ---- Owner
    # --------------------------------------------------------------------------------------------------

    def register(self, connection: TunnelConnection, request: RegisterConnection) -> None:
        spawn(self._register(connection, request), name="register-connection")

    def local_configuration(self, connection: TunnelConnection, config: bytes) -> None:
        registration = connection.registration
        if registration is None:
            return
        document = parse_local_config(config)
        if document is None:
            logger.warning("connection %s reported a configuration that cannot be used", connection.id)
            return
        registration.local_config = document
        registration.local_config_bytes = len(config)
        self.changed(connection)

    def changed(self, connection: TunnelConnection) -> None:
        for listener in self._listeners:
            listener()

    def closed(self, connection: TunnelConnection) -> None:
        self._all.discard(connection)
        registration = connection.registration
        if registration is None:
            return
        group = self._by_tunnel.get(registration.tunnel_id, {})
        key = (registration.client_id, registration.index)
        if group.get(key) is connection:
            del group[key]
            if not group:
                self._by_tunnel.pop(registration.tunnel_id, None)
        self.changed(connection)

    # ---- registration
    # -------------------------------------------------------------------------------------------

    async def _register(self, connection: TunnelConnection, request: RegisterConnection) -> None:
        tunnel_id = str(request.tunnel_id)
        key = (connection.peer_ip, tunnel_id)
        try:
            await self._admit(connection, request, tunnel_id)
        except RegistrationRefused as refused:
            logger.warning(
                "registration from %s for tunnel %s refused: %s", connection.peer_ip, tunnel_id, refused.cause
            )
            await asyncio.sleep(self._refusal_delay(key))
            connection.answer(
                connection.rpc.respond_error(
                    request.question_id, refused.cause, RETRY_AFTER_NS, "Unauthorized" in refused.cause
                )
            )
            connection.close("registration refused")
            return
        self._refusals.pop(key, None)

    async def _admit(self, connection: TunnelConnection, request: RegisterConnection, tunnel_id: str) -> None:
        await self._find(tunnel_id)
        self._authorized(request, tunnel_id)
        if self._is_draining:
            raise RegistrationRefused("Unauthorized: this edge is restarting, try another one")
        await self._settle_duplicate(request, tunnel_id)
        # Once more, now that nothing is awaited any longer: the snapshot may have changed meanwhile. From here on
        # every newer one is compared with what is remembered of this one.
        tunnel = self._authorized(request, tunnel_id)
        registration = _registration(request, tunnel)
        group = self._by_tunnel.setdefault(tunnel_id, {})
        if len(group) >= MAX_CONNECTIONS_PER_TUNNEL:
            raise RegistrationRefused("Unauthorized: too many connections for this tunnel")
        if connection.state is not State.HANDSHAKE:
            return
        group[registration.client_id, registration.index] = connection
        connection.serve(registration)
        connection.answer(
            connection.rpc.respond_registered(
                request.question_id, uuid.UUID(connection.id), self._location, tunnel.is_remote
            )
        )
        logger.info(
            "connection %s: tunnel %s, connector %s, index %d, from %s",
            connection.id,
            tunnel_id,
            registration.client_id,
            registration.index,
            connection.peer_ip,
        )
        self.changed(connection)
        for listener in self._registered_listeners:
            listener(connection)

    async def _find(self, tunnel_id: str) -> None:
        """A tunnel may be seconds old: ask the control plane once before saying that it does not exist."""
        if tunnel_id not in self._snapshots.current.tunnels:
            await self._snapshots.refresh()

    def _authorized(self, request: RegisterConnection, tunnel_id: str) -> Tunnel:
        """The tunnel by the snapshot of this moment. Raises RegistrationRefused."""
        tunnel = self._snapshots.current.tunnels.get(tunnel_id)
        if tunnel is None or not _is_authorized(tunnel, request):
            raise RegistrationRefused("Unauthorized: tunnel, account or secret is not valid")
        return tunnel

    async def _settle_duplicate(self, request: RegisterConnection, tunnel_id: str) -> None:
        """The same connector and index twice: a living first one stays, a dead one makes room."""
        key = (str(request.options.client_id), request.conn_index)
        first = self._by_tunnel.get(tunnel_id, {}).get(key)
        if first is None:
            return
        if not request.options.replace_existing and await first.check_alive(DUPLICATE_PING_SECONDS):
            raise RegistrationRefused("EDUPCONN")
        first.close("replaced by a new connection of the same connector")

    def _refusal_delay(self, key: tuple[str, str]) -> float:
        now = time.monotonic()
        if now > self._refusals_reset_at or len(self._refusals) > MAX_TRACKED_REFUSALS:
            self._refusals.clear()
            self._refusals_reset_at = now + REFUSAL_MEMORY_SECONDS
        self._refusals[key] += 1
        excess = min(self._refusals[key] - FREE_REFUSALS, 10)
        return min(REFUSAL_DELAY_STEP_SECONDS * 2**excess, MAX_REFUSAL_DELAY_SECONDS) if excess > 0 else 0.0

    # ---- revocation
    # ---------------------------------------------------------------------------------------------

    def _close_revoked(self, snapshot: Snapshot) -> None:
        for connection in self.registered():
            registration = connection.registration
            if registration is not None and self._is_revoked(registration):
                connection.close("revoked: tunnel gone, or its connections cut")

    def _is_revoked(self, registration: Registration) -> bool:
        """The tunnel is gone, or somebody cut this tunnel's or this connector's connections after this one came. A
        secret that is no longer accepted keeps new connections out and leaves this one alone (fault 40): rotating in
        two steps, or cutting in one, is the administrator's choice."""
        tunnel = self._snapshots.current.tunnels.get(registration.tunnel_id)
        if tunnel is None:
            return True
        marks = zip(tunnel.revocation_marks(registration.client_id), registration.revocation_marks, strict=True)
        return any(now > then for now, then in marks)


def _is_authorized(tunnel: Tunnel, request: RegisterConnection) -> bool:
    """Constant time in the secret: every accepted digest is compared, whatever the others say."""
    digest = hashlib.sha256(request.secret).hexdigest()
    is_account = hmac.compare_digest(request.account_tag.encode(), tunnel.organization_id.encode())
    is_secret = False
    for accepted in tunnel.secret_sha256:
        is_secret |= hmac.compare_digest(digest.encode(), accepted.encode())
    return is_account and is_secret


def _registration(request: RegisterConnection, tunnel: Tunnel) -> Registration:
    options = request.options
    client_id = str(options.client_id)
    return Registration(
        tunnel_id=tunnel.id,
        client_id=client_id,
        index=request.conn_index,
        version=options.version,
        arch=options.arch,
        features=options.features,
        registered_at=time.time(),
        revocation_marks=tunnel.revocation_marks(client_id),
    )


def parse_local_config(config: bytes) -> dict[str, Any] | None:
    """What a connector reports travels on in this edge's report, together with everybody else's: whatever JSON readers
    or databases disagree about (NaN, infinities, NUL, lone surrogates, deep nesting) is refused here."""
    if len(config) > MAX_LOCAL_CONFIG_BYTES:
        return None
    try:
        document = json.loads(config)
        encoded = json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or b"\\u0000" in encoded or _depth(document) > MAX_LOCAL_CONFIG_DEPTH:
        return None
    return document


def _depth(value: object) -> int:
    level, current = 0, [value]
    while current:
        level += 1
        current = [
            item
            for container in current
            if isinstance(container, dict | list)
            for item in (container.values() if isinstance(container, dict) else container)
        ]
    return level
