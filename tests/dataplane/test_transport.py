"""The shared asyncio helpers."""

import asyncio
import ipaddress
import logging

import pytest

from dataplane.transport import SharedReader, resolve, run_event_loop, spawn, tune_allocator


class Recorder(SharedReader):
    def __init__(self, inner: "Recorder | None" = None) -> None:
        self.inner = inner
        self.seen: list[bytes] = []

    def bytes_received(self, data: memoryview) -> None:
        if self.inner is not None:
            feed(self.inner, b"inner")
        self.seen.append(bytes(data))


def feed(reader: SharedReader, data: bytes) -> None:
    buffer = reader.get_buffer(-1)
    buffer[: len(data)] = data
    reader.buffer_updated(len(data))


def test_nested_read_leaves_the_outer_slices_intact() -> None:
    inner = Recorder()
    outer = Recorder(inner)
    feed(outer, b"outer data")
    feed(outer, b"again")
    assert outer.seen == [b"outer data", b"again"]
    assert inner.seen == [b"inner", b"inner"]


def test_buffer_is_shared_when_reads_do_not_nest() -> None:
    assert Recorder().get_buffer(-1) is Recorder().get_buffer(-1)


async def test_spawned_failure_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("surprise")

    with caplog.at_level(logging.ERROR):
        task = spawn(fail(), name="doomed")
        await asyncio.wait({task})
        await asyncio.sleep(0)
    assert "task doomed failed" in caplog.text
    assert "surprise" in caplog.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "app.widgetcorp.localhost"])
async def test_localhost_names_are_loopback(host: str) -> None:
    addresses = await resolve(host, 22, timeout_seconds=1)
    assert addresses == [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]


async def test_literals_are_not_asked_for() -> None:
    assert await resolve("10.0.0.5", 22, timeout_seconds=1) == [ipaddress.ip_address("10.0.0.5")]
    assert await resolve("2001:db8::1", 22, timeout_seconds=1) == [ipaddress.ip_address("2001:db8::1")]


def test_event_loop_returns_the_result() -> None:
    async def answer() -> int:
        return 42

    tune_allocator()
    assert run_event_loop(answer()) == 42
