"""Log lines of a connector by way of the edge: a real edge, and `sallyport tunnel run` as a process."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dataplane.edge import logwatch
from dataplane.wire.credentials import TunnelCredentials
from tests.dataplane.connector.lab import ConnectorProcess, connector
from tests.dataplane.edge.conftest import Stage
from tests.dataplane.edge.fakes import EDGE_TOKEN, ORG, SECRET, TUNNEL_ID


async def ask(stage: Stage, client_id: str, level: str = "info", token: str = EDGE_TOKEN) -> tuple[int, dict[str, Any]]:
    host, _, port = stage.edge.control.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    content = json.dumps({"tunnel_id": TUNNEL_ID, "client_id": client_id, "level": level}).encode()
    head = f"POST /logs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    answer = await asyncio.wait_for(reader.read(-1), 30)
    writer.close()
    return int(answer.split(b" ")[1]), json.loads(answer.partition(b"\r\n\r\n")[2])


async def lines_with(stage: Stage, client_id: str, text: str, level: str = "info") -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            _, document = await ask(stage, client_id, level)
            if any(text in line["message"] for line in document["lines"]):
                return document
            await asyncio.sleep(0.05)


async def streaming(stage: Stage, client_id: str) -> None:
    """Returns when the connector sends: what it logged before is not told afterwards."""
    async with asyncio.timeout(30):
        while (await ask(stage, client_id))[1]["state"] != "streaming":
            await asyncio.sleep(0.05)


@pytest.fixture
async def running(stage: Stage, tmp_path: Path) -> AsyncIterator[ConnectorProcess]:
    folder = tmp_path / "connector"
    folder.mkdir()
    credentials = folder / "credentials.json"
    credentials.write_text(TunnelCredentials(ORG, SECRET, uuid.UUID(TUNNEL_ID)).to_file_json())
    credentials.chmod(0o600)
    config = {
        "tunnel": TUNNEL_ID,
        "credentials-file": str(credentials),
        "edge": [f"127.0.0.1:{stage.edge.tunnel_address[1]}"],
        "cacert": str(tmp_path / "ca.pem"),
        "ha-connections": 2,
        "ingress": [{"service": "http_status:404"}],
    }
    async with connector(folder, config=config) as process:
        await stage.until(lambda: len(stage.edge.tunnels.registered()) == 2)
        yield process


def client_of(stage: Stage) -> str:
    registration = stage.edge.tunnels.registered()[0].registration
    assert registration is not None
    return registration.client_id


async def test_lines_come_while_somebody_asks_and_stop_afterwards(
    stage: Stage, running: ConnectorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logwatch, "IDLE_SECONDS", 1.5)
    client_id = client_of(stage)
    assert len(stage.edge.log_watches) == 0
    status, document = await ask(stage, client_id)
    assert (status, document["lines"]) == (200, [])
    await streaming(stage, client_id)
    version = stage.control.change_tunnel(config_version=9)
    await stage.until(lambda: stage.edge.snapshots.current.version == version)
    document = await lines_with(stage, client_id, "configuration version 9 applied")
    assert document["state"] == "streaming"
    assert len(stage.edge.log_watches) == 1
    await stage.until(lambda: len(stage.edge.log_watches) == 0)


async def test_a_lower_level_is_asked_for_anew(stage: Stage, running: ConnectorProcess) -> None:
    client_id = client_of(stage)
    await ask(stage, client_id, "error")
    await streaming(stage, client_id)
    stage.control.change_tunnel(config_version=9)
    await lines_with(stage, client_id, "configuration version 9 applied")
    _, document = await ask(stage, client_id, "error")
    assert not any("version 9" in line["message"] for line in document["lines"])


async def test_who_cannot_be_watched_is_named(stage: Stage) -> None:
    silent = await stage.connector()
    assert (await ask(stage, str(silent.client_id)))[1]["reason"] == "not_offered"
    assert (await ask(stage, str(uuid.uuid4())))[1]["reason"] == "not_connected"
    assert (await ask(stage, "nonsense"))[0] == 400
    assert (await ask(stage, str(silent.client_id), token="wrong"))[0] == 401
    assert silent.requests == []


async def test_a_flood_is_cut(stage: Stage, running: ConnectorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logwatch, "MAX_LINES_PER_SECOND", 0)
    client_id = client_of(stage)
    await ask(stage, client_id)
    await stage.until(lambda: len(stage.edge.log_watches) == 1)

    async def left_out() -> int:
        return int((await ask(stage, client_id))[1]["left_out"])

    version = stage.control.change_tunnel(config_version=9)
    await stage.until(lambda: stage.edge.snapshots.current.version == version)
    async with asyncio.timeout(30):
        while not await left_out():
            await asyncio.sleep(0.05)
    assert (await ask(stage, client_id))[1]["lines"] == []


async def test_a_connector_that_goes_ends_its_watch(stage: Stage, running: ConnectorProcess) -> None:
    client_id = client_of(stage)
    await ask(stage, client_id)
    running.process.kill()
    await stage.until(lambda: len(stage.edge.log_watches) == 0)
    assert (await ask(stage, client_id))[1]["reason"] == "not_connected"
