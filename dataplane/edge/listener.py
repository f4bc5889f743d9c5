"""Accepts TLS connections under caps: total, per address, and while the handshake is still going on."""

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from dataplane.edge.clienthello import MAX_HELLO_BYTES, IncompleteError, server_name_of
from dataplane.transport import enable_keepalive, spawn

logger = logging.getLogger(__name__)

BACKLOG = 1024
ACCEPTS_PER_WAKEUP = 64
HANDSHAKE_TIMEOUT_SECONDS = 10.0
# How long queued bytes may take to reach a slow reader after we close.
SHUTDOWN_TIMEOUT_SECONDS = 30.0
# Pause when the process is out of file descriptors: accepting again at once would only burn CPU.
EXHAUSTED_PAUSE_SECONDS = 0.5
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# A peer that vanished while nothing is in flight is noticed about 15 s later, 30 s in all.
KEEPALIVE_IDLE_SECONDS = 15


# Between two looks at a ClientHello that came only in part.
PEEK_PAUSE_SECONDS = 0.02


async def _peek(accepted: socket.socket) -> bytes:
    """What has arrived, once something has; it stays in the socket. b"" at the end."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(BlockingIOError, InterruptedError):
        return accepted.recv(MAX_HELLO_BYTES, socket.MSG_PEEK)
    readable = asyncio.Event()
    loop.add_reader(accepted.fileno(), readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(accepted.fileno())
    return accepted.recv(MAX_HELLO_BYTES, socket.MSG_PEEK)


@dataclass(frozen=True, slots=True)
class Limits:
    total: int
    per_address: int
    handshakes: int


class Listener:
    """One listening socket. `factory(peer_address, on_closed)` makes the protocol; it calls on_closed exactly
    once, when its connection is gone."""

    def __init__(
        self,
        name: str,
        context: ssl.SSLContext,
        limits: Limits,
        factory: Callable[[str, Callable[[], None]], asyncio.BaseProtocol],
        context_for: Callable[[str], ssl.SSLContext] | None = None,
    ) -> None:
        """`context_for` chooses the TLS settings by the name a client asks for, before the handshake. None, or a
        listener whose `is_choosing` is False: always `context`."""
        self._name = name
        self._context_for = context_for
        self.is_choosing: Callable[[], bool] = lambda: context_for is not None
        self._context = context
        self._limits = limits
        self._factory = factory
        self._socket: socket.socket | None = None
        self._per_address: Counter[str] = Counter()
        self._handshakes = 0
        self.connection_count = 0

    def start(self, host: str, port: int) -> tuple[str, int]:
        """Binds and listens; returns the address actually bound. Raises OSError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
        listening.setblocking(False)
        self._socket = listening
        asyncio.get_running_loop().add_reader(listening.fileno(), self._accept)
        bound = listening.getsockname()
        return str(bound[0]), int(bound[1])

    def stop(self) -> None:
        """Takes no new connections; those that exist are not touched."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_WAKEUP):
            if self._socket is None:
                return
            try:
                accepted, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause_after(error)
                return
            self._admit(accepted, address[0])

    def _admit(self, accepted: socket.socket, address: str) -> None:
        is_full = (
            self.connection_count >= self._limits.total
            or self._per_address[address] >= self._limits.per_address
            or self._handshakes >= self._limits.handshakes
        )
        if is_full:
            logger.warning("%s port: connection from %s refused, limit reached", self._name, address)
            accepted.close()
            return
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        enable_keepalive(accepted, KEEPALIVE_IDLE_SECONDS)
        self._per_address[address] += 1
        self.connection_count += 1
        self._handshakes += 1
        spawn(self._handshake(accepted, address), name=f"{self._name}-handshake")

    async def _handshake(self, accepted: socket.socket, address: str) -> None:
        is_open = True

        def closed() -> None:
            nonlocal is_open
            if is_open:
                is_open = False
                self._forget(address)

        try:
            context = await self._context_of(accepted)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._factory(address, closed),
                accepted,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_SECONDS,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_SECONDS,
            )
        except (OSError, ssl.SSLError) as error:
            # Scanners, health checks and wrong clients are daily business.
            logger.debug("%s port: handshake with %s failed: %s", self._name, address, error)
            closed()
        except BaseException:
            closed()
            raise
        finally:
            self._handshakes -= 1

    async def _context_of(self, accepted: socket.socket) -> ssl.SSLContext:
        """Looks at the ClientHello without taking it from the socket. Raises OSError when none comes in time."""
        if self._context_for is None or not self.is_choosing():
            return self._context
        try:
            return await self._chosen(accepted, self._context_for)
        except BaseException:
            # The transport that will own the socket does not exist yet.
            accepted.close()
            raise

    async def _chosen(self, accepted: socket.socket, context_for: Callable[[str], ssl.SSLContext]) -> ssl.SSLContext:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_SECONDS):
            while True:
                data = await _peek(accepted)
                try:
                    return context_for(server_name_of(data))
                except IncompleteError:
                    if not data:
                        raise ConnectionResetError("closed before the handshake") from None
                    if len(data) >= MAX_HELLO_BYTES:
                        return self._context
                # Readable stays readable while nothing is taken: wait a moment instead of spinning.
                await asyncio.sleep(PEEK_PAUSE_SECONDS)

    def _forget(self, address: str) -> None:
        self.connection_count -= 1
        self._per_address[address] -= 1
        if self._per_address[address] <= 0:
            del self._per_address[address]

    def _pause_after(self, error: OSError) -> None:
        if error.errno not in _EXHAUSTED or self._socket is None:
            logger.warning("%s port: accept failed: %s", self._name, error)
            return
        logger.error("%s port: out of resources (%s), accepting pauses", self._name, error.strerror)
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        loop.call_later(EXHAUSTED_PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept)
