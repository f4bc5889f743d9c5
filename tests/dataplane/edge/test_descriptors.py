"""Fault 30: no file descriptors left. New connections wait, those that exist go on, and then all goes on."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from dataplane.edge import listener
from dataplane.edge.certificates import CertificateStore
from dataplane.edge.listener import Limits, Listener


class Exhausted:
    """The listening socket of a process that has no descriptor left, for the next `times` connections."""

    def __init__(self, real: socket.socket, times: int) -> None:
        self.real, self.times = real, times

    def accept(self) -> Any:
        if self.times:
            self.times -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self.real.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def test_fault_30_accepting_pauses_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(listener.logger, "error", lambda text, *values: told.append(text % values))
    monkeypatch.setattr(listener, "EXHAUSTED_PAUSE_SECONDS", 0.05)
    context = CertificateStore(tmp_path, None, lambda _: True).server_context()
    trusting = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    listening = Listener("public", context, Limits(10, 10, 10), lambda address, closed: Echo())
    host, port = listening.start("127.0.0.1", 0)

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(host, port, ssl=trusting, server_hostname="localhost")

    async def says(pair: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
        pair[1].write(b"hello")
        return await pair[0].readexactly(5)

    async with asyncio.timeout(30):
        before = await connect()
        exhausted = Exhausted(listening._socket, times=3)  # type: ignore[arg-type]
        listening._socket = exhausted  # type: ignore[assignment]
        waiting = asyncio.ensure_future(connect())
        while exhausted.times == 3:
            assert await says(before) == b"hello"
        assert await says(before) == b"hello", "what is connected is not touched"
        after = await waiting
        assert await says(after) == b"hello"
        for _, writer in (before, after):
            writer.close()
            await writer.wait_closed()
    assert exhausted.times == 0
    assert told == ["public port: out of resources (Too many open files), accepting pauses"] * 3
    listening.stop()
