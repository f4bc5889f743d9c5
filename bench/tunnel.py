"""The whole way of a stream against a direct connection, in the same run.

    .venv/bin/python -m bench.tunnel [MiB per transfer]

client (TLS, WebSocket) -> `sallyport edge run` -> `sallyport tunnel run` -> origin (TCP sink, source, echo), each in a
process of its own, on loopback. Anchors of the same run: client and origin without anything in between, over TCP and
over TLS, and with two haproxy in place of edge and connector (bench/haproxy.py). "near" and "far" are megabytes per
second of CPU time of the first and the second relay. Ratios travel between machines, absolute figures do not.
"""

import asyncio
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import uvloop

from bench.haproxy import HOSTNAME as HAPROXY_NAME
from bench.haproxy import relays
from dataplane.edge.certificates import CertificateStore
from dataplane.transport import SharedReader, tune_allocator
from dataplane.wire.credentials import TunnelCredentials
from dataplane.wire.websocket import BINARY, encode_frame
from tests.dataplane.edge.fakes import EDGE_TOKEN, ORG, SECRET, SSH_HOST, TUNNEL_ID, FakeControlPlane, make_token

CHUNK = bytes(256 * 1024)
MESSAGE_BYTES = 16 * 1024
ECHO_BYTES = 64
ECHO_ROUNDS = 3000
OPEN_ROUNDS = 100
IDLE_SESSIONS = 500
PASSES = 3
ORIGIN_NAME = "origin.localhost"
DIRECT = ("direct TCP", "direct TLS")


# ---- origin ----------------------------------------------------------------------------------------------------------


class Origin(SharedReader):
    """First 9 bytes: mode and count. "d": sends count bytes. "u": reads count bytes, then answers one. "e": echoes."""

    def __init__(self) -> None:
        self.mode, self.left, self.is_paused = b"", 0, False
        self.head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def bytes_received(self, data: memoryview) -> None:
        if len(self.head) < 9:
            taken = 9 - len(self.head)
            self.head, data = self.head + bytes(data[:taken]), data[taken:]
            if len(self.head) < 9:
                return
            self.mode, self.left = self.head[:1], int.from_bytes(self.head[1:])
            self.pump()
        if self.mode == b"e":
            self.transport.write(bytes(data))
        elif self.mode == b"u":
            self.left -= len(data)
            if self.left <= 0:
                self.transport.write(b"!")

    def pump(self) -> None:
        while self.mode == b"d" and not self.is_paused and self.left > 0:
            self.transport.write(CHUNK[: self.left])
            self.left -= min(len(CHUNK), self.left)

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        self.pump()


async def run_origin(state_dir: str) -> None:
    loop = asyncio.get_running_loop()
    context = CertificateStore(Path(state_dir), None, lambda _: True).server_context()
    plain = await loop.create_server(Origin, "127.0.0.1", 0)
    tls = await loop.create_server(Origin, "127.0.0.1", 0, ssl=context)
    print(plain.sockets[0].getsockname()[1], tls.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


# ---- client ----------------------------------------------------------------------------------------------------------


class Client(SharedReader):
    """Counts what comes in and pumps what goes out; `frame` is how this path carries a message."""

    def __init__(self, request: bytes, frame: Callable[[bytes], bytes]) -> None:
        self.frame = frame
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.expected, self.block, self.blocks = 0, b"", 0
        self.is_paused = False
        self._request = request
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(1 << 20)
        if not self._request:
            self.opened.set_result(None)
        self.transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        for waiter in (self.opened, self.finished):
            if not waiter.done():
                waiter.set_exception(ConnectionError(f"the connection broke: {self._head[:80]!r}"))
                waiter.exception()

    def bytes_received(self, data: memoryview) -> None:
        if not self.opened.done():
            self._head += data
            if b"\r\n\r\n" in self._head:
                assert self._head.startswith(b"HTTP/1.1 101"), self._head
                self.opened.set_result(None)
            return
        self.expected -= len(data)
        if self.expected <= 0 and not self.finished.done():
            self.finished.set_result(None)

    def send(self, message: bytes) -> None:
        self.transport.write(self.frame(message))

    def expect(self, count: int) -> asyncio.Future[None]:
        self.expected = count
        self.finished = asyncio.get_running_loop().create_future()
        return self.finished

    def pump(self) -> None:
        while self.blocks and not self.is_paused:
            self.blocks -= 1
            self.transport.write(self.block)

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        self.pump()


@dataclass(frozen=True)
class Way:
    """One way to the origin."""

    name: str
    port: int
    context: ssl.SSLContext | None
    hostname: str | None
    is_tunnel: bool = False
    pids: tuple[int, ...] = ()  # of the relays on the way, first the one next to the client

    async def open(self, token: str) -> Client:
        request, frame = b"", bytes
        if self.is_tunnel:
            request = (
                f"GET / HTTP/1.1\r\nHost: {SSH_HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
                f"Cf-Access-Token: {token}\r\n\r\n"
            ).encode()
            frame = _masked  # type: ignore[assignment]
        _, client = await asyncio.get_running_loop().create_connection(
            lambda: Client(request, frame), "127.0.0.1", self.port, ssl=self.context, server_hostname=self.hostname
        )
        await asyncio.wait_for(client.opened, 10)
        return client


def _masked(message: bytes) -> bytes:
    return encode_frame(BINARY, message, mask=b"\x37\xfa\x21\x3d")


def _order(mode: bytes, count: int) -> bytes:
    return mode + count.to_bytes(8)


async def download(way: Way, token: str, total: int) -> float:
    client = await way.open(token)
    began = time.perf_counter()
    done = client.expect(total)
    client.send(_order(b"d", total))
    await asyncio.wait_for(done, 120)
    seconds = time.perf_counter() - began
    client.transport.abort()
    return seconds


async def upload(way: Way, token: str, total: int) -> float:
    client = await way.open(token)
    messages = CHUNK if not way.is_tunnel else b""
    # Framed once: the cost of masking is the client's, not the path's.
    client.block = messages or client.frame(CHUNK[:MESSAGE_BYTES]) * (len(CHUNK) // MESSAGE_BYTES)
    began = time.perf_counter()
    client.send(_order(b"u", total))
    done = client.expect(1)
    client.blocks = total // len(CHUNK)
    client.pump()
    await asyncio.wait_for(done, 120)
    seconds = time.perf_counter() - began
    client.transport.abort()
    return seconds


async def echo(way: Way, token: str) -> list[float]:
    client = await way.open(token)
    client.send(_order(b"e", 0))
    samples = []
    overhead = 2 if way.is_tunnel else 0
    for _ in range(ECHO_ROUNDS):
        began = time.perf_counter()
        done = client.expect(ECHO_BYTES + overhead)
        client.send(bytes(ECHO_BYTES))
        await asyncio.wait_for(done, 10)
        samples.append(time.perf_counter() - began)
    client.transport.abort()
    return sorted(samples[ECHO_ROUNDS // 10 :])


async def opening(way: Way, token: str) -> float:
    samples = []
    for _ in range(OPEN_ROUNDS):
        began = time.perf_counter()
        client = await way.open(token)
        done = client.expect(1)
        client.send(_order(b"u", 0))
        await asyncio.wait_for(done, 10)
        samples.append(time.perf_counter() - began)
        client.transport.abort()
    return statistics.median(samples)


# ---- processes -------------------------------------------------------------------------------------------------------


def start(arguments: list[str], ready: Callable[[str], bool], **environ: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert ready(line), f"{arguments}: {line!r}"
    return process, line


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


async def measure(ways: list[Way], token: str, total: int) -> None:
    tunnel, anchor = ways[-1], ways[-2]
    await measure_throughput(ways, token, total)
    print(f"\n{'64-byte echo':<20}{'p50 us':>9}{'p99 us':>9}{'added p50 to TLS, us':>22}")
    medians: dict[str, float] = {}
    for way in ways:
        samples = await echo(way, token)
        medians[way.name] = statistics.median(samples) * 1e6
        added = f"{medians[way.name] - medians['direct TLS']:>22.0f}" if way.pids else ""
        print(f"{way.name:<20}{medians[way.name]:>9.0f}{samples[len(samples) * 99 // 100] * 1e6:>9.0f}{added}")
    gain, reference = (medians[way.name] - medians["direct TLS"] for way in (tunnel, anchor))
    print(f"added by {tunnel.name} / added by {anchor.name}: {gain / reference:.2f}; p50 / p50: ", end="")
    print(f"{medians[tunnel.name] / medians[anchor.name]:.2f}")
    print(f"\n{'open to first byte':<20}{'p50 ms':>9}")
    for way in ways:
        print(f"{way.name:<20}{await opening(way, token) * 1e3:>9.2f}")
    before_kib = resident_kib(tunnel.pids[0])
    sessions = [await tunnel.open(token) for _ in range(IDLE_SESSIONS)]
    print(f"\nedge memory per idle session: {(resident_kib(tunnel.pids[0]) - before_kib) / IDLE_SESSIONS:.1f} KiB")
    for client in sessions:
        client.transport.abort()


async def measure_throughput(ways: list[Way], token: str, total: int) -> None:
    tunnel, anchor = ways[-1], ways[-2]
    names = ("MB/s", "of TCP", "of TLS", "near", "far")
    print(f"{'one stream':<20}" + "".join(f"{name:>9}" for name in names) + "   (near, far: MB per CPU second)")
    transfers: list[tuple[str, Callable[[Way, str, int], Awaitable[float]]]] = [("up", upload), ("down", download)]
    for name, transfer in transfers:
        rates: dict[str, float] = {}
        per_cpu: dict[str, list[float]] = {}
        for way in ways:
            before = [cpu_seconds(pid) for pid in way.pids]
            runs = [await transfer(way, token, total) for _ in range(PASSES)]
            spent = [cpu_seconds(pid) - first for pid, first in zip(way.pids, before, strict=True)]
            rates[way.name] = total / 1e6 / statistics.median(runs)
            per_cpu[way.name] = [PASSES * total / 1e6 / max(seconds, 0.01) for seconds in spent]
            shares = [rates[way.name] / rates[direct] if direct in rates else 1.0 for direct in DIRECT]
            costs = "".join(f"{value:>9.0f}" for value in per_cpu[way.name])
            print(f"{way.name + ' ' + name:<20}{rates[way.name]:>9.0f}{shares[0]:>9.2f}{shares[1]:>9.2f}{costs}")
        ratios = [ours / theirs for ours, theirs in zip(per_cpu[tunnel.name], per_cpu[anchor.name], strict=True)]
        print(f"{name}: edge / near haproxy {ratios[0]:.2f}, connector / far haproxy {ratios[1]:.2f}, ", end="")
        print(f"tunnel / {anchor.name} MB/s {rates[tunnel.name] / rates[anchor.name]:.2f}")


def start_edge(control: FakeControlPlane, state_dir: Path) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """The process, and the addresses it is reached at."""
    edge, line = start(
        ["dataplane.cli", "edge", "run"],
        lambda text: text.startswith("edge ready"),
        EDGE_PORT="0",
        TUNNEL_PORT="0",
        CONTROL_PLANE_URL=control.url,
        EDGE_TOKEN=EDGE_TOKEN,
        EDGE_STATE_DIR=str(state_dir),
        EDGE_LOG_LEVEL="ERROR",
        EDGE_DRAIN_SECONDS="0",
    )
    return edge, dict(word.split("=", 1) for word in line.split() if "=" in word)


def start_connector(tunnel_address: str, ca_file: Path, home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dataplane.cli", "tunnel", "run", "--ha-connections", "1", "--loglevel", "error"],
        env={
            **os.environ,
            "HOME": str(home),
            "TUNNEL_TOKEN": TunnelCredentials(ORG, SECRET, uuid.UUID(TUNNEL_ID)).to_token(),
            "TUNNEL_EDGE": tunnel_address,
            "TUNNEL_CACERT": str(ca_file),
        },
        text=True,
    )


async def run(state: Path, control: FakeControlPlane, children: list[subprocess.Popen[str]], total: int) -> None:
    """Starts what a stream goes through, and measures; `children` are the caller's to end."""
    origin, line = start(["bench.tunnel", "origin", str(state / "origin")], bool)
    children.append(origin)
    plain_port, tls_port = (int(text) for text in line.split())
    control.change_tunnel(config={"ingress": [{"service": f"tcp://127.0.0.1:{plain_port}"}]})
    # In a thread: the edge asks this very process for its snapshot before it is ready.
    edge, facts = await asyncio.to_thread(start_edge, control, state / "edge")
    children.append(edge)
    connector = start_connector(facts["tunnel"], state / "edge" / "ca.pem", state / "home")
    children.append(connector)
    async with asyncio.timeout(20):
        while not any(c["applied_version"] == 3 for r in control.reports[-1:] for c in r["connections"]):
            await asyncio.sleep(0.05)
    origin_tls = ssl.create_default_context(cafile=state / "origin" / "ca.pem")
    edge_tls = ssl.create_default_context(cafile=state / "edge" / "ca.pem")
    public_port = int(facts["public"].rpartition(":")[2])
    with relays(state / "haproxy", plain_port) as haproxy:
        haproxy_tls = ssl.create_default_context(cafile=haproxy.ca_file)
        both = (haproxy.near_pid, haproxy.far_pid)
        ways = [
            Way(DIRECT[0], plain_port, None, None),
            Way(DIRECT[1], tls_port, origin_tls, ORIGIN_NAME),
            Way("haproxy", haproxy.far_port, haproxy_tls, HAPROXY_NAME, pids=(haproxy.far_pid,)),
            Way("haproxy twice", haproxy.near_port, haproxy_tls, HAPROXY_NAME, pids=both),
            Way("tunnel", public_port, edge_tls, SSH_HOST, is_tunnel=True, pids=(edge.pid, connector.pid)),
        ]
        await measure(ways, make_token(), total)


async def main(mebibytes: int) -> None:
    control = FakeControlPlane()
    await control.start()
    children: list[subprocess.Popen[str]] = []
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory)
        for name in ("origin", "edge", "home"):
            (state / name).mkdir()
        try:
            await run(state, control, children, mebibytes << 20)
        finally:
            for child in reversed(children):
                child.terminate()
            for child in children:
                await asyncio.to_thread(child.wait, 15)
            await control.stop()


if __name__ == "__main__":
    tune_allocator()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if sys.argv[1:2] == ["origin"]:
            runner.run(run_origin(sys.argv[2]))
        else:
            runner.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 256))
