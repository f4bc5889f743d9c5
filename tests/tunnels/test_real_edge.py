"""The agent API with a real edge at its other end, and a connector that speaks the tunnel protocol."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from accounts.models import AuditEvent
from dataplane.edge.settings import read_settings
from dataplane.wire.credentials import TunnelCredentials
from dataplane.wire.rpc import Registered, RegistrationRefused
from tests.dataplane.edge.conftest import EdgeThread
from tests.dataplane.edge.fakes import FakeConnector
from tests.factories import Cast, make_cast
from tests.tunnels.helpers import CONFIG, EDGE_TOKEN, SECRET, actor_of, make_tunnel
from tunnels.actions.configurations import current_configuration, publish_configuration
from tunnels.actions.connectors import disconnect_connectors, tunnel_status
from tunnels.actions.tunnels import delete_tunnel, rotate_tunnel_token, tunnel_token
from tunnels.models import Connection, Edge, Tunnel

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.integration]
_T = TypeVar("_T")


class Loop:
    """An event loop in a thread: these tests use the ORM, which an event loop's own thread must not."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="connectors")
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Stage:
    def __init__(self, loop: Loop, edge: EdgeThread, state_dir: Path, cast: Cast, tunnel: Tunnel) -> None:
        self.cast, self.tunnel, self.actor = cast, tunnel, actor_of(cast.alice)
        self._loop, self._edge = loop, edge
        self._tls = ssl.create_default_context(cafile=state_dir / "ca.pem")
        self._connectors: list[FakeConnector] = []

    def connect(
        self, credentials: TunnelCredentials, index: int = 0
    ) -> tuple[FakeConnector, Registered | RegistrationRefused]:
        async def start() -> tuple[FakeConnector, Registered | RegistrationRefused]:
            connector = FakeConnector(index=index)
            connector.credentials = credentials
            self._connectors.append(connector)
            await connector.start(self._edge.edge.tunnel_address, self._tls)
            return connector, await connector.registered()

        return self._loop.run(start())

    def credentials(self, secret: bytes = SECRET) -> TunnelCredentials:
        return TunnelCredentials(self.tunnel.organization_id, secret, self.tunnel.pk)

    def wait_closed(self, connector: FakeConnector) -> None:
        self._loop.run(asyncio.wait_for(connector.closed.wait(), 10))

    def open_rows(self) -> list[Connection]:
        return list(Connection.objects.filter(closed_at=None).order_by("index"))

    def close(self) -> None:
        for connector in self._connectors:
            self._loop.run(connector.stop())


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Polls: the condition is a row that another process's report writes."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def stage(live_server: Any, tmp_path: Path) -> Iterator[Stage]:
    cast = make_cast()
    tunnel = make_tunnel(cast.widgetcorp, cast.alice)
    settings = read_settings(
        {
            "EDGE_PORT": "0",
            "TUNNEL_PORT": "0",
            "CONTROL_PLANE_URL": live_server.url,
            "EDGE_TOKEN": EDGE_TOKEN,
            "EDGE_STATE_DIR": str(tmp_path),
            "EDGE_NAME": "edge-test",
        }
    )
    loop, edge = Loop(), EdgeThread(settings)
    loop.run(edge.start())
    stage = Stage(loop, edge, tmp_path, cast, tunnel)
    yield stage
    stage.close()
    loop.run(edge.stop())
    loop.stop()


def test_from_registration_to_pushed_configuration_to_deletion(stage: Stage) -> None:
    connector, answer = stage.connect(stage.credentials())
    assert isinstance(answer, Registered)
    assert not answer.remotely_managed
    until(stage.open_rows)
    (row,) = stage.open_rows()
    assert str(row.pk) == str(answer.connection_id)
    edge = Edge.objects.get()
    assert (edge.name, edge.control_url.startswith("http://127.0.0.1:")) == ("edge-test", True)
    assert tunnel_status(stage.tunnel, row.last_seen_at) == "degraded"
    assert AuditEvent.objects.filter(name="tunnels.connector.appeared").count() == 1

    # The push is synchronous here (tasks run where they are called): applied before publish returns.
    configuration = publish_configuration(stage.tunnel, config=CONFIG, actor=stage.actor)
    row.refresh_from_db()
    assert (row.applied_version, row.config_error) == (configuration.version, "")
    assert connector.configs == [{"version": 1, "config": CONFIG}]

    connector.config_answer = {"lastAppliedVersion": 1, "err": "no such service"}
    publish_configuration(stage.tunnel, config=CONFIG, actor=stage.actor)
    row.refresh_from_db()
    assert (row.applied_version, "no such service" in row.config_error) == (1, True)

    delete_tunnel(stage.tunnel, cascade=True, actor=stage.actor)
    stage.wait_closed(connector)
    assert stage.open_rows() == []


def test_a_local_configuration_reaches_the_control_plane(stage: Stage) -> None:
    connector, _ = stage.connect(stage.credentials())
    stage.connect(stage.credentials(), index=1)
    connector.report_local(CONFIG)
    until(lambda: current_configuration(stage.tunnel))
    found = current_configuration(stage.tunnel)
    assert found is not None
    assert (found.source, found.config) == ("local", CONFIG)


def test_wrong_and_rotated_secrets_are_refused_and_a_cut_reaches_live_connections(stage: Stage) -> None:
    _, refused = stage.connect(stage.credentials(b"x" * 32))
    assert isinstance(refused, RegistrationRefused)
    other = TunnelCredentials(stage.cast.evilcorp.pk, SECRET, stage.tunnel.pk)
    _, refused = stage.connect(other)
    assert isinstance(refused, RegistrationRefused)
    assert not Connection.objects.exists()

    by_file, answer = stage.connect(stage.credentials())
    assert isinstance(answer, Registered)
    by_token, answer = stage.connect(TunnelCredentials.from_token(tunnel_token(stage.tunnel)))
    assert isinstance(answer, Registered)
    until(lambda: len(stage.open_rows()) == 2)
    # Without a cut the old secrets are refused, and those who came with them stay (fault 40).
    rotate_tunnel_token(stage.tunnel, cut=False, actor=stage.actor)
    until(lambda: isinstance(stage.connect(stage.credentials())[1], RegistrationRefused))
    assert not by_file.closed.is_set()
    assert not by_token.closed.is_set()
    rotated = rotate_tunnel_token(stage.tunnel, cut=True, actor=stage.actor)
    for connector in (by_file, by_token):
        stage.wait_closed(connector)
    until(lambda: not stage.open_rows())
    _, refused = stage.connect(stage.credentials())
    assert isinstance(refused, RegistrationRefused)
    _, answer = stage.connect(TunnelCredentials.from_token(tunnel_token(rotated)))
    assert isinstance(answer, Registered)


def test_one_connector_is_disconnected_and_the_other_stays(stage: Stage) -> None:
    first, _ = stage.connect(stage.credentials())
    second, _ = stage.connect(stage.credentials())
    until(lambda: len(stage.open_rows()) == 2)
    disconnect_connectors(stage.tunnel, client_id=first.client_id, actor=stage.actor)
    stage.wait_closed(first)
    until(lambda: len(stage.open_rows()) == 1)
    assert not second.closed.is_set()
    assert stage.open_rows()[0].connector.client_id == second.client_id
