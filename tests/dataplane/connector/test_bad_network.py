"""Fault 27: a link that is slow, splits everything and stalls. Sessions over it are slow, not cut, not garbled."""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.dataplane.connector.lab import LabEdge, connector, echo, tcp_server, within

DELAY_SECONDS = 0.15  # each way: a round trip of 300 ms
STALL_SECONDS = 1.0
SEGMENT_BYTES = 536
Config = dict[str, Any]


class BadLink:
    """Relays to `port`: every byte late, in pieces of random sizes, and nothing at all while it is stalled."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.random = random.Random(27)
        self.is_up = asyncio.Event()
        self.is_up.set()
        self.count = 0
        self.tasks: list[asyncio.Task[Any]] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._carry(reader, far_writer))
                tasks.create_task(self._carry(far_reader, writer))
        finally:
            for side in (far_writer, writer):
                side.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def deliver() -> None:
            data = b"x"
            while data:
                due, data = await late.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self.is_up.wait()
                writer.write(data)
                with contextlib.suppress(ConnectionError):
                    await writer.drain()
            writer.close()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(deliver())
            data = b"x"
            while data:
                try:
                    data = await reader.read(self.random.randint(1, SEGMENT_BYTES))
                except ConnectionError:
                    data = b""
                late.put_nowait((loop.time() + DELAY_SECONDS, data))


@contextlib.asynccontextmanager
async def bad_link(port: int) -> AsyncIterator[tuple[BadLink, int]]:
    link = BadLink(port)
    server = await asyncio.start_server(link.accept, "127.0.0.1", 0)
    try:
        yield link, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in link.tasks:
            task.cancel()
        await asyncio.gather(*link.tasks, return_exceptions=True)


async def test_fault_27_a_late_splitting_and_stalling_link_cuts_and_garbles_nothing(
    edge: LabEdge, base: Config, tmp_path: Path
) -> None:
    sent = os.urandom(100_000)
    async with tcp_server(echo) as origin, bad_link(edge.port) as (link, port):
        ingress = [{"service": f"tcp://127.0.0.1:{origin}"}]
        async with connector(tmp_path, config={**base, "edge": [f"localhost:{port}"], "ingress": ingress}):
            connection = await edge.registered()
            stream = connection.open_websocket("ssh.example.com")
            assert await stream.status() == 200
            for start in range(0, len(sent), 8192):
                await stream.send_message(sent[start : start + 8192])
            first = await stream.read_messages(len(sent) // 2)
            link.is_up.clear()
            asyncio.get_running_loop().call_later(STALL_SECONDS, link.is_up.set)
            assert first + await within(stream.read_messages(len(sent) - len(first))) == sent
            assert link.count == 1, "the one connection lived through it"
