"""The push hint: who is called, what is believed of the answer, and that a failing edge delays nobody."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from access.actions.groups import create_group
from accounts.audit import edge_version
from tests.factories import Cast
from tests.tunnels.edge_listener import EdgeListener
from tests.tunnels.helpers import CONFIG, Agent, actor_of, connection, make_tunnel, report
from tunnels import tasks
from tunnels.actions.configurations import publish_configuration
from tunnels.models import Connection, Edge, Tunnel


@pytest.fixture
def listener() -> Iterator[EdgeListener]:
    server = EdgeListener()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def tunnel(cast: Cast) -> Tunnel:
    return make_tunnel(cast.widgetcorp, cast.alice)


@pytest.fixture
def row(tunnel: Tunnel, listener: EdgeListener) -> dict[str, Any]:
    """A connection of the tunnel, held by an edge whose control listener is `listener`."""
    held = connection(tunnel)
    assert Agent().post("report", report(held, control_url=listener.url)).status_code == 200
    return held


def reply(row: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"id": row["id"], "tunnel_id": row["tunnel_id"], "applied_version": 1, "error": None, **changes}


def applied(row: dict[str, Any]) -> tuple[int | None, str]:
    found = Connection.objects.get(pk=row["id"])
    return found.applied_version, found.config_error


def test_publishing_pushes_and_keeps_the_applied_version(
    cast: Cast, tunnel: Tunnel, row: dict[str, Any], listener: EdgeListener
) -> None:
    listener.replies = [reply(row)]
    publish_configuration(tunnel, config=CONFIG, actor=actor_of(cast.alice))
    assert listener.pushes == [
        ("/push", "Bearer edge-token-for-tests", {"snapshot_version": edge_version(), "tunnels": [str(tunnel.pk)]})
    ]
    assert applied(row) == (1, "")


def test_a_refusal_is_kept_for_people(tunnel: Tunnel, row: dict[str, Any], listener: EdgeListener) -> None:
    listener.replies = [reply(row, applied_version=None, error="the connector answered 502")]
    assert tasks.push_configuration.delay(str(tunnel.pk)).get() == 1
    assert applied(row) == (None, "the connector answered 502")


def test_an_edge_speaks_only_for_its_own_connections_of_the_pushed_tunnel(
    cast: Cast, tunnel: Tunnel, row: dict[str, Any], listener: EdgeListener
) -> None:
    elsewhere = connection(tunnel)
    foreign_tunnel = make_tunnel(cast.evilcorp, cast.mallory)
    foreign = connection(foreign_tunnel)
    Agent().post("report", report(elsewhere, edge_id="edge-2"))
    Agent().post("report", report(row, foreign, control_url=listener.url))
    listener.replies = [
        reply(row),
        reply(elsewhere),
        reply(foreign),
        reply(foreign, tunnel_id=str(tunnel.pk)),
        reply(row, id=str(uuid.uuid4())),
    ]
    assert tasks.push_configuration.delay(str(tunnel.pk)).get() == 1
    assert applied(row) == (1, "")
    assert applied(elsewhere) == applied(foreign) == (None, "")


def test_only_edges_that_hold_the_tunnel_are_called(
    cast: Cast, tunnel: Tunnel, row: dict[str, Any], listener: EdgeListener
) -> None:
    other = make_tunnel(cast.widgetcorp, cast.alice, "other")
    assert tasks.push_configuration.delay(str(other.pk)).get() == 0
    Agent().post("report", report(control_url=listener.url))
    assert tasks.push_configuration.delay(str(tunnel.pk)).get() == 0
    assert listener.pushes == []


@pytest.mark.parametrize(
    "changes",
    [
        {"status": 500},
        {"status": 302, "location": "http://127.0.0.1:1/"},
        {"body": b"not json"},
        {"body": b"[]"},
        {"body": b'{"connections": 3}'},
        {"body": b'{"connections": [{"id": "x", "tunnel_id": "%s"}]}'},
        {"body": b'{"connections": [{"id": "x", "tunnel_id": "%s", "applied_version": "1"}]}'},
        {"body": b"[" * 100_000},
        {"body": b" " * (1024 * 1024 + 1)},
    ],
)
def test_a_senseless_answer_changes_nothing(
    cast: Cast, tunnel: Tunnel, row: dict[str, Any], listener: EdgeListener, changes: dict[str, Any]
) -> None:
    for key, value in changes.items():
        if isinstance(value, bytes):
            value = value.replace(b"%s", str(tunnel.pk).encode())
        setattr(listener, key, value)
    configuration = publish_configuration(tunnel, config=CONFIG, actor=actor_of(cast.alice))
    assert configuration.version == 1
    assert len(listener.pushes) == 1
    assert applied(row) == (None, "")


def test_an_edge_that_does_not_answer_costs_a_bounded_wait_and_no_other_edge(
    cast: Cast, tunnel: Tunnel, row: dict[str, Any], listener: EdgeListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunnels.pushes.PUSH_TIMEOUT_SECONDS", 0.3)
    listener.replies = [reply(row)]
    stuck, dead = EdgeListener(), EdgeListener()
    stuck.hold.clear()
    stuck.start()
    dead.start()
    dead.stop()
    try:
        Agent().post("report", report(connection(tunnel), edge_id="a-stuck", control_url=stuck.url))
        Agent().post("report", report(connection(tunnel), edge_id="b-dead", control_url=dead.url))
        started = time.monotonic()
        assert tasks.push_configuration.delay(str(tunnel.pk)).get() == 1
        assert time.monotonic() - started < 20
    finally:
        stuck.stop()
    assert applied(row) == (1, "")
    assert Edge.objects.count() == 3


def test_every_change_an_edge_must_know_pokes_the_edges(
    cast: Cast, row: dict[str, Any], listener: EdgeListener
) -> None:
    before = len(listener.pokes)
    create_group(cast.widgetcorp, name="All", include=[{"everyone": {}}], actor=actor_of(cast.alice))
    assert listener.pokes[before:] == [
        ("/push", "Bearer edge-token-for-tests", {"snapshot_version": edge_version(), "tunnels": []})
    ]


def test_edges_that_are_silent_are_not_poked(cast: Cast, row: dict[str, Any], listener: EdgeListener) -> None:
    Edge.objects.update(last_seen_at=timezone.now() - timedelta(minutes=1))
    before = len(listener.pokes)
    create_group(cast.widgetcorp, name="All", include=[{"everyone": {}}], actor=actor_of(cast.alice))
    assert len(listener.pokes) == before
