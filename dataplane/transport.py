"""Asyncio helpers shared by edge, connector and client: tasks that are never lost, a shared receive buffer,
TLS contexts, allocator tuning, name resolution."""

import asyncio
import contextlib
import ctypes
import ipaddress
import logging
import socket
import ssl
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar, cast

import uvloop

logger = logging.getLogger(__name__)

READ_BUFFER_BYTES = 256 * 1024
WRITE_HIGH_WATER_BYTES = 1 << 20
WRITE_LOW_WATER_BYTES = 256 * 1024
KEEPALIVE_INTERVAL_SECONDS = 5
KEEPALIVE_PROBES = 3

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MMAP_THRESHOLD_BYTES = 32 << 20  # glibc's own upper limit for this setting
_TRIM_THRESHOLD_BYTES = 64 << 20

T = TypeVar("T")
_tasks: set[asyncio.Task[Any]] = set()


def spawn(coroutine: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
    """Starts a task that is kept alive until done and whose failure is logged."""
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    _tasks.add(task)
    task.add_done_callback(_finished)
    return task


def _finished(task: asyncio.Task[Any]) -> None:
    _tasks.discard(task)
    if task.cancelled():
        return
    error = task.exception()
    if error is not None:
        logger.error("task %s failed", task.get_name(), exc_info=error)


def run_event_loop(main: Coroutine[Any, Any, T]) -> T:
    """Runs `main` on uvloop with the allocator tuned for large buffers."""
    tune_allocator()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def tune_allocator() -> None:
    """Keeps glibc from mapping memory anew at every 256 KiB read: up to 1.6 x throughput (performance.md 3)."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):  # musl has no mallopt
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)


class _SharedBuffer:
    """One buffer for all connections of the loop: an idle connection costs no buffer at all."""

    view = memoryview(bytearray(READ_BUFFER_BYTES))
    is_busy = False


class SharedReader(asyncio.BufferedProtocol):
    """A protocol that reads into a shared buffer and hands slices to bytes_received.

    A slice is valid only inside bytes_received. Reads can nest: closing a TLS transport inside bytes_received lets
    asyncio deliver what that transport had decrypted; the nested read then gets a buffer of its own, so the outer
    slices stay intact. asyncio and uvloop fill the buffer and call buffer_updated without turning the loop between.
    """

    _read_view: memoryview = _SharedBuffer.view

    def get_buffer(self, sizehint: int) -> memoryview:
        if _SharedBuffer.is_busy:
            self._read_view = memoryview(bytearray(READ_BUFFER_BYTES))
        else:
            self._read_view = _SharedBuffer.view
        return self._read_view

    def buffer_updated(self, nbytes: int) -> None:
        if self._read_view is not _SharedBuffer.view:
            self.bytes_received(self._read_view[:nbytes])
            return
        _SharedBuffer.is_busy = True
        try:
            self.bytes_received(self._read_view[:nbytes])
        finally:
            _SharedBuffer.is_busy = False

    def bytes_received(self, data: memoryview) -> None:
        """`data` must be used or copied before this returns.

        A plain TCP transport of uvloop keeps what it is given until the loop turns: write bytes(data) there. TLS
        transports encrypt at once."""
        raise NotImplementedError


def stream_transport(transport: asyncio.BaseTransport) -> asyncio.Transport:
    """What connection_made gets on a stream; uvloop's transports do not inherit from asyncio's classes."""
    return cast(asyncio.Transport, transport)


def client_tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Verifies chain and name; with `ca_file` only that authority is trusted, else the system's.
    Raises OSError or ssl.SSLError for an unusable file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cafile=ca_file)
    return context


def enable_keepalive(connected: socket.socket, idle_seconds: float) -> None:
    """A vanished peer is noticed after about `idle_seconds` + 15 s of silence. 0 leaves keepalive off."""
    if idle_seconds <= 0:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(idle_seconds)))
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_LOOPBACK: tuple[IPAddress, ...] = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))


async def resolve(host: str, port: int, *, timeout_seconds: float) -> list[IPAddress]:
    """Addresses of `host`, in the order to try. localhost and *.localhost are loopback without asking DNS
    (RFC 6761 section 6.3). Raises OSError (also socket.gaierror) or TimeoutError."""
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return list(_LOOPBACK)
    with contextlib.suppress(ValueError):
        return [ipaddress.ip_address(name)]
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_seconds):
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))
