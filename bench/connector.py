"""Throughput and CPU of the real connector between a bare edge and a bare origin, beside a direct connection.

    .venv/bin/python -m bench.connector [MiB]

One stream, TLS on loopback. "MB/cpu-s" counts the CPU time of the connector process only.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from dataplane.transport import SharedReader, tune_allocator
from dataplane.wire import h2events as e
from dataplane.wire import names, rpc
from dataplane.wire import websocket as ws
from dataplane.wire.h2 import H2Connection
from tests.dataplane.connector.lab import CREDENTIALS, make_authority

CHUNK = bytes(256 * 1024)


class Origin(SharedReader):
    """First byte "d": sends `total` bytes and closes. "u": counts `total` bytes and answers one. "e": echoes."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.mode = b""
        self.count = 0

    def connection_made(self, transport) -> None:
        self.transport = transport

    def bytes_received(self, data: memoryview) -> None:
        if not self.mode:
            self.mode, data = bytes(data[:1]), data[1:]
            if self.mode == b"d":
                self.resume_writing()
        if self.mode == b"e":
            self.transport.write(bytes(data))
        self.count += len(data)
        if self.mode == b"u" and self.count >= self.total:
            self.transport.write(b"!")

    is_paused = False

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        while self.mode == b"d" and not self.is_paused and self.count < self.total:
            self.transport.write(CHUNK)
            self.count += len(CHUNK)


class Edge(SharedReader):
    """One stream at a time, as lean as a sender and a counter can be."""

    def __init__(self) -> None:
        self.h2 = H2Connection("client", stream_window=8 << 20, connection_window=64 << 20)
        self.rpc = rpc.RpcServerSession()
        self.registered = asyncio.Event()
        self.on_data: Callable[[memoryview], None] = lambda _data: None
        self.on_writable: Callable[[], None] = lambda: None
        self.answered = asyncio.Event()
        self.is_writable = True

    def connection_made(self, transport) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(1 << 20)
        self.h2.initiate()
        self.control_id = self.open([(names.H_UPGRADE, names.UPGRADE_CONTROL)])

    def open(self, extra: list[tuple[str, str]], host: str = "x") -> int:
        pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", "/")]
        stream_id = self.h2.open_stream(pseudo + extra)
        self.flush()
        return stream_id

    def flush(self) -> None:
        pieces = self.h2.data_to_send()
        if pieces:
            self.transport.writelines(pieces)

    def pause_writing(self) -> None:
        self.is_writable = False

    def resume_writing(self) -> None:
        self.is_writable = True
        self.on_writable()

    def bytes_received(self, data: memoryview) -> None:
        is_unblocked = False
        for event in self.h2.receive_data(data):
            if isinstance(event, e.DataReceived):
                self.h2.acknowledge(event.stream_id, event.flow_length)
                if event.stream_id == self.control_id:
                    self.take_rpc(bytes(event.data))
                else:
                    self.on_data(event.data)
            elif isinstance(event, e.WindowUpdated):
                is_unblocked = True
            elif isinstance(event, e.HeadersReceived) and event.stream_id != self.control_id:
                assert dict(event.headers)[":status"] == "200", event.headers
                self.answered.set()
        self.flush()
        if is_unblocked:
            self.on_writable()

    def take_rpc(self, data: bytes) -> None:
        for event in self.rpc.receive_data(data):
            if isinstance(event, rpc.RegisterConnection):
                reply = self.rpc.respond_registered(event.question_id, CREDENTIALS.tunnel_id, "bench", True)
                self.h2.send_data(self.control_id, reply)
                self.registered.set()


async def start_stream(edge: Edge, kind: str, port: int) -> int:
    edge.answered.clear()
    if kind != "tcp":
        stream_id = edge.open([(names.H_UPGRADE, "websocket")])
    else:
        stream_id = edge.open([(names.H_TCP_SRC, "bench")], host=f"127.0.0.1:{port}")
    await edge.answered.wait()
    return stream_id


def framed(kind: str, data: bytes) -> bytes:
    if kind == "tcp":
        return data
    return ws.encode_frame(ws.BINARY, data, mask=os.urandom(4) if kind == "websocket" else bytes(4))


async def download(edge: Edge, kind: str, port: int, total: int) -> None:
    stream_id = await start_stream(edge, kind, port)
    done, count = asyncio.Event(), 0

    def take(data: memoryview) -> None:
        nonlocal count
        count += len(data)
        if count >= total:
            done.set()

    edge.on_data = take
    edge.h2.send_data(stream_id, framed(kind, b"d"))
    edge.flush()
    await asyncio.wait_for(done.wait(), 120)
    edge.h2.reset(stream_id)
    edge.flush()


async def upload(edge: Edge, kind: str, port: int, total: int) -> None:
    stream_id = await start_stream(edge, kind, port)
    done = asyncio.Event()
    edge.on_data = lambda _data: done.set()
    block = b"".join(framed(kind, CHUNK[:16384]) for _ in range(16))
    left, pending = total, memoryview(framed(kind, b"u"))

    def pump() -> None:
        nonlocal left, pending
        while edge.is_writable and (pending or left > 0):
            if not pending:
                pending = memoryview(block)
                left -= len(CHUNK)
            accepted = edge.h2.send_data(stream_id, pending)
            edge.flush()
            pending = pending[accepted:]
            if not accepted:
                return

    edge.on_writable = pump
    pump()
    await asyncio.wait_for(done.wait(), 120)
    edge.on_writable = lambda: None
    edge.h2.reset(stream_id)
    edge.flush()


async def round_trips(edge: Edge, kind: str, port: int, count: int) -> float:
    """Median seconds of a 64-byte echo."""
    stream_id = await start_stream(edge, kind, port)
    arrived = asyncio.Event()
    edge.on_data = lambda _data: arrived.set()
    edge.h2.send_data(stream_id, framed(kind, b"e"))
    samples = []
    for _ in range(count):
        began = time.perf_counter()
        arrived.clear()
        edge.h2.send_data(stream_id, framed(kind, bytes(64)))
        edge.flush()
        await arrived.wait()
        samples.append(time.perf_counter() - began)
    edge.h2.reset(stream_id)
    edge.flush()
    return sorted(samples)[count // 2]


async def direct(port: int, mode: bytes, total: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(mode)
    if mode == b"u":
        for _ in range(total // len(CHUNK)):
            writer.write(CHUNK)
            await writer.drain()
        await reader.readexactly(1)
    else:
        left = total
        while left > 0:
            left -= len(await reader.read(1 << 20))
    writer.close()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def main(mebibytes: int) -> None:
    total = mebibytes << 20
    loop = asyncio.get_running_loop()
    directory = Path(tempfile.mkdtemp())
    ca_file, context = make_authority(directory)
    edge = Edge()
    listener = await loop.create_server(lambda: edge, "127.0.0.1", 0, ssl=context)
    origin = await loop.create_server(lambda: Origin(total), "127.0.0.1", 0)
    port = origin.sockets[0].getsockname()[1]
    environment = {
        **os.environ,
        "HOME": str(directory),
        "TUNNEL_TOKEN": CREDENTIALS.to_token(),
        "TUNNEL_EDGE": f"127.0.0.1:{listener.sockets[0].getsockname()[1]}",
        "TUNNEL_CACERT": str(ca_file),
    }
    command = [sys.executable, "-m", "dataplane.cli", "tunnel", "run", "--ha-connections", "1"]
    process = subprocess.Popen([*command, "--loglevel", "error", "--url", f"tcp://127.0.0.1:{port}"], env=environment)
    try:
        await asyncio.wait_for(edge.registered.wait(), 15)
        await asyncio.sleep(0.1)
        print(f"{'path':<22}{'MB/s':>8}{'MB/cpu-s':>10}{'share of direct':>17}")
        rates = {}
        for mode, name in ((b"u", "up"), (b"d", "down")):
            began = time.perf_counter()
            await direct(port, mode, total)
            rates[name] = total / 1e6 / (time.perf_counter() - began)
            print(f"{'direct ' + name:<22}{rates[name]:>8.0f}{'':>10}{1:>17.2f}")
        for kind in ("websocket", "zero mask", "tcp"):
            for name, transfer in (("up", upload), ("down", download)):
                began, cpu = time.perf_counter(), cpu_seconds(process.pid)
                await transfer(edge, kind, port, total)
                rate = total / 1e6 / (time.perf_counter() - began)
                per_cpu = total / 1e6 / max(cpu_seconds(process.pid) - cpu, 0.01)
                print(f"{kind + ' ' + name:<22}{rate:>8.0f}{per_cpu:>10.0f}{rate / rates[name]:>17.2f}")
            median = await round_trips(edge, kind, port, 2000)
            print(f"{kind + ' 64 B echo p50':<22}{median * 1e6:>6.0f} us")
    finally:
        process.terminate()
        process.wait(10)
        listener.close()
        origin.close()


if __name__ == "__main__":
    tune_allocator()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1024))
