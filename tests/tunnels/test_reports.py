"""What edges report: connectors, connections, health, and what happens when they fall silent."""

from __future__ import annotations

import threading
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection as db_connection
from django.utils import timezone

from access.models import Application
from accounts.actor import Actor
from accounts.audit import edge_version
from accounts.errors import Conflict, NotFound
from accounts.models import AuditEvent
from tests.access.makers import make_application
from tests.factories import Cast, make_cast
from tests.tunnels.helpers import CONFIG, Agent, actor_of, connection, events_of, make_tunnel, report
from tunnels import tasks
from tunnels.actions.configurations import current_configuration, publish_configuration
from tunnels.actions.connectors import disconnect_connectors, tunnel_status
from tunnels.actions.sweeps import CLOSED_CONNECTIONS_KEPT, CONNECTORS_KEPT, forget_old_connections
from tunnels.actions.tunnels import delete_tunnel
from tunnels.models import Connection, Connector, Dial, Edge, EdgeUse, Tunnel
from tunnels.snapshots import load_snapshot
from tunnels.status import statuses


@pytest.fixture
def alice(cast: Cast) -> Actor:
    return actor_of(cast.alice)


@pytest.fixture
def tunnel(cast: Cast) -> Tunnel:
    return make_tunnel(cast.widgetcorp, cast.alice)


@pytest.fixture
def agent(db: None) -> Agent:
    return Agent()


def send(agent: Agent, document: dict[str, Any]) -> None:
    response = agent.post("report", document)
    assert response.status_code == 200, response.content
    assert response.json() == {"ok": True, "snapshot_version": edge_version()}


def four(tunnel: Tunnel, client_id: uuid.UUID, **extra: Any) -> list[dict[str, Any]]:
    return [connection(tunnel, client_id, index=index, **extra) for index in range(4)]


def open_ids() -> set[str]:
    return {str(pk) for pk in Connection.objects.filter(closed_at=None).values_list("pk", flat=True)}


def test_a_report_becomes_rows_and_repeating_it_changes_nothing(agent: Agent, tunnel: Tunnel) -> None:
    client_id = uuid.uuid4()
    document = report(*four(tunnel, client_id), control_url="http://127.0.0.1:9000/")
    send(agent, document)
    connector = Connector.objects.get()
    assert (connector.organization_id, connector.client_id) == (tunnel.organization_id, client_id)
    assert (connector.version, connector.origin_ip) == ("2026.8.2", "198.51.100.7")
    assert connector.features == ["allow_remote_config"]
    first = Connection.objects.order_by("index").first()
    assert first is not None
    assert first.opened_at.timestamp() == 1_700_000_000.5
    assert Edge.objects.get().control_url == "http://127.0.0.1:9000"
    before = list(Connection.objects.order_by("pk").values("pk", "opened_at", "closed_at", "applied_version"))
    send(agent, document)
    assert list(Connection.objects.order_by("pk").values("pk", "opened_at", "closed_at", "applied_version")) == before
    assert Connector.objects.count() == 1
    assert events_of(tunnel.organization).count("tunnels.connector.appeared") == 1
    event = AuditEvent.objects.get(name="tunnels.connector.appeared")
    assert (event.actor_kind, event.actor_label, event.new["origin_ip"]) == ("edge", "edge-1", "198.51.100.7")


def test_a_connection_missing_in_its_edges_report_is_closed(agent: Agent, tunnel: Tunnel) -> None:
    here, there = four(tunnel, uuid.uuid4()), four(tunnel, uuid.uuid4())
    send(agent, report(*here))
    send(agent, report(*there, edge_id="edge-2"))
    send(agent, report(here[0]))
    assert open_ids() == {here[0]["id"], *(row["id"] for row in there)}
    send(agent, report(edge_id="edge-2"))
    assert open_ids() == {here[0]["id"]}
    send(agent, report(*here))
    assert len(open_ids()) == 4, "a report that arrives late is put right by the next one"


def test_status_follows_the_connections(agent: Agent, tunnel: Tunnel) -> None:
    now = timezone.now()
    rows = four(tunnel, uuid.uuid4())
    seen = [tunnel_status(tunnel, now)]
    for document in (report(*rows), report(*rows[:3]), report()):
        send(agent, document)
        seen.append(tunnel_status(tunnel, timezone.now()))
    assert seen == ["inactive", "healthy", "degraded", "down"]


def test_statuses_of_many_tunnels_take_one_query(
    cast: Cast, agent: Agent, tunnel: Tunnel, django_assert_num_queries: Any
) -> None:
    tunnels = [tunnel, *(make_tunnel(cast.widgetcorp, cast.alice, f"t{number}") for number in range(5))]
    send(agent, report(*four(tunnel, uuid.uuid4()), connection(tunnels[1])))
    with django_assert_num_queries(1):
        found = statuses(tunnels, timezone.now())
    assert [found[row.pk] for row in tunnels] == ["healthy", "degraded", *["inactive"] * 4]


def test_connections_of_a_silent_edge_are_closed(agent: Agent, tunnel: Tunnel) -> None:
    send(agent, report(*four(tunnel, uuid.uuid4())))
    assert tasks.sweep_connections.delay().get() == 0
    assert tunnel_status(tunnel, timezone.now() + timedelta(seconds=16)) == "down"
    Connection.objects.update(last_seen_at=timezone.now() - timedelta(seconds=16))
    assert tasks.sweep_connections.delay().get() == 4
    assert tunnel_status(tunnel, timezone.now()) == "down"
    assert tasks.sweep_connections.delay().get() == 0


def test_old_rows_are_forgotten_but_a_tunnels_last_connector_stays(agent: Agent, tunnel: Tunnel) -> None:
    rows = [connection(tunnel), connection(tunnel)]
    send(agent, report(*rows))
    send(agent, report())
    now = timezone.now()
    Connection.objects.update(closed_at=now - CLOSED_CONNECTIONS_KEPT - timedelta(seconds=1))
    old: datetime = now - CONNECTORS_KEPT
    for offset, connector in enumerate(Connector.objects.order_by("pk")):
        Connector.objects.filter(pk=connector.pk).update(last_seen_at=old - timedelta(hours=offset + 1))
    forget_old_connections(now=now)
    assert not Connection.objects.exists()
    assert Connector.objects.count() == 1
    assert tunnel_status(tunnel, now) == "down"


def test_connections_of_unknown_and_deleted_tunnels_are_left_out(cast: Cast, agent: Agent, tunnel: Tunnel) -> None:
    gone = make_tunnel(cast.widgetcorp, cast.alice, "gone")
    delete_tunnel(gone, cascade=False, actor=actor_of(cast.alice))
    stranger = connection(tunnel, tunnel_id=str(uuid.uuid4()))
    send(agent, report(connection(tunnel), connection(gone), stranger))
    assert Connection.objects.count() == 1


def test_a_connection_id_cannot_be_moved_to_another_tenants_tunnel(cast: Cast, agent: Agent, tunnel: Tunnel) -> None:
    mine = connection(tunnel)
    send(agent, report(mine))
    foreign = make_tunnel(cast.evilcorp, cast.mallory)
    send(agent, report({**connection(foreign), "id": mine["id"]}, edge_id="edge-2"))
    row = Connection.objects.select_related("connector").get(pk=mine["id"])
    assert (row.connector.tunnel_id, row.edge_id) == (tunnel.pk, "edge-1")
    assert tunnel_status(foreign, timezone.now()) == "down"


def test_delete_tunnel_is_refused_while_connected_unless_cascade(
    cast: Cast, agent: Agent, tunnel: Tunnel, alice: Actor
) -> None:
    send(agent, report(*four(tunnel, uuid.uuid4())))
    with pytest.raises(Conflict) as refused:
        delete_tunnel(tunnel, cascade=False, actor=alice)
    assert (refused.value.code, "4 active connections" in refused.value.message) == ("tunnel_connected", True)
    delete_tunnel(tunnel, cascade=True, actor=alice)
    assert open_ids() == set()
    assert AuditEvent.objects.latest("id").old == {"name": "ssh-pool", "connections": 4}


def test_disconnect_connectors(cast: Cast, agent: Agent, tunnel: Tunnel, alice: Actor) -> None:
    one, two = uuid.uuid4(), uuid.uuid4()
    send(agent, report(connection(tunnel, one), connection(tunnel, two)))
    before = edge_version()
    disconnect_connectors(tunnel, client_id=one, actor=alice)
    row = load_snapshot()["tunnels"][0]
    assert edge_version() > before
    assert list(row["connectors"]) == [str(one)]
    assert (row["connectors"][str(one)] > 1_700_000_000, row["min_registered_at"]) == (True, 0.0)
    disconnect_connectors(tunnel, actor=alice)
    assert load_snapshot()["tunnels"][0]["min_registered_at"] > 1_700_000_000
    assert events_of(tunnel.organization).count("tunnels.connectors.disconnected") == 2

    foreign = make_tunnel(cast.evilcorp, cast.mallory)
    for unknown in (uuid.uuid4(), "nonsense", one):
        with pytest.raises(NotFound):
            disconnect_connectors(foreign, client_id=unknown, actor=actor_of(cast.mallory))


def test_a_local_configuration_is_kept_as_a_version(agent: Agent, tunnel: Tunnel, alice: Actor) -> None:
    rows = four(tunnel, uuid.uuid4())
    rows[0]["local_config"] = CONFIG  # only index 0 is told
    send(agent, report(*rows))
    send(agent, report(*rows))
    assert Connector.objects.get().local_config == CONFIG
    current = current_configuration(tunnel)
    assert current is not None
    assert (current.version, current.source, current.config) == (1, "local", CONFIG)
    replica = connection(tunnel, local_config=CONFIG)
    send(agent, report(*rows, replica))
    assert tunnel.configurations.count() == 1
    row = load_snapshot()["tunnels"][0]
    assert (row["remote"], row["config_version"], row["config"]) == (False, None, None)

    published = publish_configuration(tunnel, config=CONFIG, actor=alice)
    assert published.version == 2
    send(agent, report(connection(tunnel, local_config={"ingress": []})))
    assert current_configuration(tunnel) == published, "a remote tunnel's connectors do not change it"


def test_the_applied_version_and_a_refusal_are_kept(agent: Agent, tunnel: Tunnel) -> None:
    row = connection(tunnel)
    send(agent, report(row))
    send(agent, report({**row, "applied_version": 3}))
    assert Connection.objects.get().applied_version == 3
    send(agent, report({**row, "applied_version": 3, "config_error": "bad\x1b[31m rule" + "x" * 600}))
    stored = Connection.objects.get().config_error
    assert stored.startswith("bad [31m rule")
    assert len(stored) == 500


def faulty(tunnel: Tunnel, **changes: Any) -> dict[str, Any]:
    return report({**connection(tunnel), **changes})


def test_reports_with_a_fault_change_nothing(agent: Agent, tunnel: Tunnel) -> None:
    good = connection(tunnel)
    documents: list[Any] = [
        {},
        [],
        "x",
        b"{",
        b"[" * 100_000,
        report() | {"edge": None},
        report() | {"connections": {}},
        report() | {"connections": [None]},
        report() | {"snapshot_version": "1"},
        report() | {"streams": -1},
        report(good, good),
        report(edge_id=" "),
        report(control_url="ftp://127.0.0.1"),
        report(control_url="http://user:pass@127.0.0.1"),
        report(control_url="http://127.0.0.1/?x=1"),
        report(control_url="http://[::1"),
        report(control_url="file:///etc/passwd"),
        report(control_url="http://a b"),
        faulty(tunnel, id="x"),
        faulty(tunnel, tunnel_id=1),
        faulty(tunnel, client_id=None),
        faulty(tunnel, index=256),
        faulty(tunnel, index=True),
        faulty(tunnel, opened_at="now"),
        faulty(tunnel, opened_at=float("inf")),
        faulty(tunnel, applied_version="3"),
    ]
    for document in documents:
        response = agent.post("report", document)
        assert response.status_code == 400, document
        assert response.json()["reason"] == "invalid_request"
    assert not Edge.objects.exists()
    assert not Connection.objects.exists()


def test_odd_details_do_not_refuse_a_report(agent: Agent, tunnel: Tunnel) -> None:
    row = connection(
        tunnel,
        origin_ip="not an address",
        features=["a", 1, None],
        version="v" * 200,
        local_config={"x": "y" * 70_000},
    )
    send(agent, report(row))
    connector = Connector.objects.get()
    assert (connector.origin_ip, connector.features, len(connector.version)) == (None, ["a"], 50)
    assert connector.local_config is None


def test_a_large_report_takes_few_queries(agent: Agent, tunnel: Tunnel, django_assert_max_num_queries: Any) -> None:
    client_id = uuid.uuid4()
    rows = [connection(tunnel, client_id, index=number % 4) for number in range(400)]
    with django_assert_max_num_queries(40):
        send(agent, report(*rows))
    with django_assert_max_num_queries(25):
        send(agent, report(*rows))
    assert len(open_ids()) == 400


@pytest.mark.django_db(transaction=True)
def test_two_edges_report_the_same_connectors_at_the_same_time() -> None:
    cast = make_cast()
    tunnel = make_tunnel(cast.widgetcorp, cast.alice)
    clients = [uuid.uuid4() for _ in range(8)]
    barrier = threading.Barrier(2)
    statuses_seen: list[int] = []

    def report_from(edge_id: str, order: list[uuid.UUID]) -> None:
        try:
            for _ in range(3):
                rows = [connection(tunnel, client_id) for client_id in order]
                barrier.wait(timeout=10)
                statuses_seen.append(Agent().post("report", report(*rows, edge_id=edge_id)).status_code)
        finally:
            db_connection.close()

    threads = [
        threading.Thread(target=report_from, args=("edge-1", clients)),
        threading.Thread(target=report_from, args=("edge-2", clients[::-1])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert statuses_seen == [200] * 6
    assert Connector.objects.count() == 8
    assert len(open_ids()) == 16
    assert AuditEvent.objects.filter(name="tunnels.connector.appeared").count() == 8


def dial(tunnel: Tunnel, **changed: Any) -> dict[str, Any]:
    return {
        "tunnel_id": str(tunnel.pk),
        "hostname": "ssh.widgetcorp.localhost",
        "connection_id": str(uuid.uuid4()),
        "destination": "",
        "reason": "",
        "message": "",
        "ms": 12.5,
        "at": 1_700_000_100.0,
        **changed,
    }


def test_the_newest_result_of_a_hostname_is_kept_whoever_tells_it(agent: Agent, tunnel: Tunnel) -> None:
    send(agent, {**report(), "dials": [dial(tunnel), dial(tunnel, reason="origin_refused", at=1_700_000_050.0)]})
    row = Dial.objects.get(tunnel=tunnel)
    assert (row.reason, row.latency_ms, row.organization) == ("", 12.5, tunnel.organization)
    send(agent, {**report(), "dials": [dial(tunnel, reason="origin_timeout", at=1_700_000_000.0)]})
    send(agent, {**report(), "dials": [dial(tunnel, reason="origin_refused", at=1_700_000_200.0)]})
    assert Dial.objects.get(tunnel=tunnel).reason == "origin_refused"


def test_results_of_unknown_tunnels_are_left_out_and_the_future_counts_as_now(agent: Agent, tunnel: Tunnel) -> None:
    strange = {**dial(tunnel), "tunnel_id": str(uuid.uuid4())}
    send(agent, {**report(), "dials": [strange, dial(tunnel, at=4_000_000_000.0)]})
    assert Dial.objects.get().at <= timezone.now()


def test_latency_is_stored_and_small_changes_are_not_written_again(agent: Agent, tunnel: Tunnel) -> None:
    one = connection(tunnel, rtt_ms=20.0)
    send(agent, report(one))
    send(agent, report({**one, "rtt_ms": 22.0}))
    assert Connection.objects.get().rtt_ms == 20.0
    send(agent, report({**one, "rtt_ms": 80.0}))
    assert Connection.objects.get().rtt_ms == 80.0
    send(agent, report({**one, "rtt_ms": "fast"}))
    assert Connection.objects.get().rtt_ms is None


class TestUses:
    """Streams of an application over an edge, and how far away their people are."""

    def way(self, application: Application, streams: int, rtt_ms: float | None = None) -> dict[str, Any]:
        return {"application_id": str(application.pk), "streams": streams, "rtt_ms": rtt_ms}

    def test_are_kept_per_application_and_edge(self, agent: Agent, cast: Cast) -> None:
        mine = make_application(cast.widgetcorp, hostname="a.widgetcorp.test", authority=False)
        other = make_application(cast.evilcorp, hostname="a.evilcorp.test", authority=False)
        strange = {"application_id": str(uuid.uuid4()), "streams": 9, "rtt_ms": 1.0}
        send(agent, {**report(), "ways": [self.way(mine, 3, 48.0), self.way(other, 1), strange]})
        rows = {use.application_id: use for use in EdgeUse.objects.select_related("organization")}
        assert set(rows) == {mine.pk, other.pk}
        assert (rows[mine.pk].organization, rows[mine.pk].streams, rows[mine.pk].rtt_ms) == (cast.widgetcorp, 3, 48.0)
        assert (rows[other.pk].organization, rows[other.pk].rtt_ms) == (cast.evilcorp, None)
        # The streams are over; what they measured stays, with its time.
        send(agent, {**report(), "ways": []})
        assert EdgeUse.objects.filter(streams__gt=0).count() == 0
        assert EdgeUse.objects.get(application=mine).rtt_ms == 48.0

    def test_edges_that_do_not_tell_change_nothing(self, agent: Agent, cast: Cast) -> None:
        mine = make_application(cast.widgetcorp, hostname="a.widgetcorp.test", authority=False)
        send(agent, {**report(), "ways": [self.way(mine, 3, 48.0)]})
        send(agent, report())
        assert EdgeUse.objects.get().streams == 3

    def test_the_same_again_is_not_written(self, agent: Agent, cast: Cast) -> None:
        mine = make_application(cast.widgetcorp, hostname="a.widgetcorp.test", authority=False)
        send(agent, {**report(), "ways": [self.way(mine, 3, 48.0)]})
        first = EdgeUse.objects.get().measured_at
        send(agent, {**report(), "ways": [self.way(mine, 3, 48.6)]})
        assert (EdgeUse.objects.get().rtt_ms, EdgeUse.objects.get().measured_at) == (48.0, first)
        send(agent, {**report(), "ways": [self.way(mine, 3, 90.0)]})
        assert EdgeUse.objects.get().rtt_ms == 90.0

    @pytest.mark.parametrize("streams", [-1, "3", None])
    def test_nonsense_is_refused(self, agent: Agent, cast: Cast, streams: object) -> None:
        way = {"application_id": str(uuid.uuid4()), "streams": streams}
        assert agent.post("report", {**report(), "ways": [way]}).status_code == 400
