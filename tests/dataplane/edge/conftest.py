"""A real edge on loopback over real TLS, between a fake control plane and fake connectors."""

import asyncio
import concurrent.futures
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from dataplane.edge.server import Edge
from dataplane.edge.settings import EdgeSettings, read_settings
from tests.dataplane.edge.eyeball import Eyeball
from tests.dataplane.edge.fakes import EDGE_TOKEN, SSH_HOST, FakeConnector, FakeControlPlane


class EdgeThread:
    """The edge on its own uvloop, as in production, in a thread of the test process."""

    def __init__(self, settings: EdgeSettings) -> None:
        self.edge: Edge
        self.loop: asyncio.AbstractEventLoop
        self._settings = settings
        self._ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._grace_seconds = 0.0
        self._thread = threading.Thread(target=self._run, name="edge")

    async def start(self) -> None:
        self._thread.start()
        await asyncio.wait_for(asyncio.wrap_future(self._ready), 10)

    async def stop(self, grace_seconds: float = 0.0) -> None:
        self._grace_seconds = grace_seconds
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stopping.set)
        await asyncio.to_thread(self._thread.join, 20)
        assert not self._thread.is_alive(), "the edge did not stop"

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        try:
            self.edge = Edge(self._settings)
            await self.edge.start()
        except BaseException as error:
            self._ready.set_exception(error)
            raise
        self._ready.set_result(None)
        await self._stopping.wait()
        await self.edge.stop(self._grace_seconds)


class Stage:
    """The cast of one test, and short ways to bring them on."""

    def __init__(self, thread: EdgeThread, control: FakeControlPlane, state_dir: Path) -> None:
        self.thread, self.edge, self.control = thread, thread.edge, control
        self.tls = ssl.create_default_context(cafile=state_dir / "ca.pem")
        self._opened: list[Any] = []

    async def connector(self, *, waits: bool = True, **options: Any) -> FakeConnector:
        connector = FakeConnector(**options)
        await connector.start(self.edge.tunnel_address, self.tls)
        self._opened.append(connector.stop)
        if waits:
            await connector.registered()
        return connector

    async def eyeball(self, hostname: str = SSH_HOST, server_name: str | None = None) -> Eyeball:
        eyeball = Eyeball(self.edge.public_address, self.tls, hostname)
        await eyeball.connect(server_name)
        self._opened.append(eyeball.close)
        return eyeball

    async def until(self, condition: Callable[[], object], timeout: float = 30) -> None:
        """Polls: the condition is about state on the other side of a socket."""
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        for close in self._opened:
            await close()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    control = FakeControlPlane()
    await control.start()
    thread = EdgeThread(edge_settings(tmp_path, control))
    await thread.start()
    stage = Stage(thread, control, tmp_path)
    yield stage
    await stage.close()
    await thread.stop()
    await control.stop()


def edge_settings(state_dir: Path, control: FakeControlPlane, **environ: str) -> EdgeSettings:
    return read_settings(
        {
            "EDGE_PORT": "0",
            "TUNNEL_PORT": "0",
            "CONTROL_PLANE_URL": control.url,
            "EDGE_TOKEN": EDGE_TOKEN,
            "EDGE_STATE_DIR": str(state_dir),
            "EDGE_NAME": "edge-test",
            **environ,
        }
    )
