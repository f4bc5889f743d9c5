"""Notices a connector that vanished: it answers PINGs but never sends any (tunnel-edge.md 5.1)."""

import asyncio
import os
from collections.abc import Callable

PING_INTERVAL_SECONDS = 12.0
PING_TIMEOUT_SECONDS = 10.0


class Keepalive:
    """`send_ping(8 bytes)` puts a PING on the wire; `on_dead` is called once when one stays unanswered."""

    def __init__(self, send_ping: Callable[[bytes], None], on_dead: Callable[[], None]) -> None:
        self._send_ping = send_ping
        self._on_dead = on_dead
        self._is_awaited = False
        self._waiters: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._schedule(PING_INTERVAL_SECONDS, self._ping)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wake()

    def answered(self) -> None:
        """Any answer proves life, whichever PING it belongs to."""
        self._wake()
        if self._is_awaited:
            self._is_awaited = False
            self._schedule(PING_INTERVAL_SECONDS, self._ping)

    async def check(self, timeout: float) -> bool:
        """Asks now. False when nothing answers in time; True as well when stop() ended the wait."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._send_ping(os.urandom(8))
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            return False
        return True

    def _ping(self) -> None:
        self._is_awaited = True
        self._schedule(PING_TIMEOUT_SECONDS, self._on_dead)
        self._send_ping(os.urandom(8))

    def _schedule(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, callback)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
