"""Notices a connector that vanished: it answers PINGs but never sends any (tunnel-edge.md 5.1). Their round trips are
the latency that reports tell."""

import asyncio
import os
import time
from collections.abc import Callable

PING_INTERVAL_SECONDS = 12.0
PING_TIMEOUT_SECONDS = 10.0


class Keepalive:
    """`send_ping(8 bytes)` puts a PING on the wire; `on_dead` is called once when one stays unanswered."""

    def __init__(self, send_ping: Callable[[bytes], None], on_dead: Callable[[], None]) -> None:
        self._send_ping = send_ping
        self._on_dead = on_dead
        # Of the newest PING that was answered; None until one is.
        self.rtt_seconds: float | None = None
        self._sent: tuple[bytes, float] = (b"", 0.0)
        self._is_awaited = False
        self._waiters: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """The first PING goes out at once: a latency is known before anybody looks."""
        self._ping()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wake()

    def answered(self, payload: bytes) -> None:
        """Any answer proves life, whichever PING it belongs to; only the newest one's measures the way."""
        if payload == self._sent[0]:
            self.rtt_seconds = time.monotonic() - self._sent[1]
        self._wake()
        if self._is_awaited:
            self._is_awaited = False
            self._schedule(PING_INTERVAL_SECONDS, self._ping)

    async def check(self, timeout: float) -> bool:
        """Asks now. False when nothing answers in time; True as well when stop() ended the wait."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._send()
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            return False
        return True

    def _ping(self) -> None:
        self._is_awaited = True
        self._schedule(PING_TIMEOUT_SECONDS, self._on_dead)
        self._send()

    def _send(self) -> None:
        self._sent = (os.urandom(8), time.monotonic())
        self._send_ping(self._sent[0])

    def _schedule(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, callback)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
