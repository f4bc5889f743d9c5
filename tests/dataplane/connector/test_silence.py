"""Edges that accept and say nothing, or go silent later: noticed, reported, tried again."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dataplane.connector import edgeconnection
from dataplane.connector.settings import load_settings
from dataplane.connector.supervisor import Connector
from tests.dataplane.connector.lab import CREDENTIALS, LabEdge, within


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(edgeconnection, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(edgeconnection, "SILENCE_BEFORE_PING_SECONDS", 0.1)
    monkeypatch.setattr(edgeconnection, "SILENCE_BEFORE_CLOSE_SECONDS", 1.5)
    monkeypatch.setattr(edgeconnection, "REGISTER_TIMEOUT_SECONDS", 0.3)


def make_connector(port: int, ca_file: Path, monkeypatch: pytest.MonkeyPatch, directory: Path) -> Connector:
    monkeypatch.setenv("HOME", str(directory))
    environment = {
        "TUNNEL_TOKEN": CREDENTIALS.to_token(),
        "TUNNEL_EDGE": f"localhost:{port}",
        "TUNNEL_CACERT": str(ca_file),
    }
    return Connector(load_settings(["--ha-connections", "1"], environment))


async def test_edge_that_never_opens_a_control_stream(
    hurried: None, authority: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accepted = 0
    twice = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        if accepted == 2:
            twice.set()
        try:
            await reader.read()
        except OSError:
            pass
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0, ssl=authority[1])
    connector = make_connector(server.sockets[0].getsockname()[1], authority[0], monkeypatch, tmp_path)
    running = asyncio.get_running_loop().create_task(connector.run())
    await within(twice.wait())
    connector.stop()
    await within(running)
    server.close()
    assert "not registered within" in caplog.text


async def test_edge_that_goes_silent_is_left(
    hurried: None,
    edge: LabEdge,
    authority: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    connector = make_connector(edge.port, authority[0], monkeypatch, tmp_path)
    running = asyncio.get_running_loop().create_task(connector.run())
    first = await edge.registered()
    await asyncio.sleep(2.5)  # longer than the limit: an edge that answers PING is not silent
    assert connector.ready_count == 1
    assert len(edge.connections) == 1
    first.transport.pause_reading()
    await edge.wait_for(lambda: len(edge.connections) == 2)
    await edge.registered(2)
    assert "was silent for" in caplog.text
    connector.stop()
    await within(running)
