"""A connector's page: diagnosis, and its log while somebody watches."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from tests.factories import Cast
from tests.pages_kit import EVIL_NAME, event_names, last_event, login, shown
from tests.tunnels.edge_listener import EdgeListener
from tests.world import World, make_world
from tunnels.models import Connection, Edge

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
LINES = [
    {
        "time": "2026-11-22T10:00:00.000Z",
        "level": "info",
        "message": "connection 0 registered",
        "fields": {"edge": "a:1"},
    },
    {"time": "2026-11-22T10:00:01.000Z", "level": "warn", "message": f"{EVIL_NAME} {JWT}", "fields": {"token": "abc"}},
]


@pytest.fixture
def world(cast: Cast) -> World:
    return make_world(cast.widgetcorp, domain="widgetcorp.tech")


@pytest.fixture
def alice(cast: Cast) -> Client:
    return login(cast.alice)


@pytest.fixture
def listener(world: World) -> Iterator[EdgeListener]:
    server = EdgeListener()
    server.start()
    Edge.objects.update(control_url=server.url)
    server.body = json.dumps({"state": "streaming", "reason": "", "lines": LINES, "left_out": 3}).encode()
    yield server
    server.stop()


def url(world: World, name: str) -> str:
    return reverse(name, args=["widgetcorp", world.tunnel.pk, world.connector.client_id])


class TestDiagnosis:
    def test_a_healthy_connector(
        self, alice: Client, world: World, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        with django_assert_max_num_queries(10):
            page = shown(alice, url(world, "connector_detail"))
        assert "4 connections are open." in page
        assert "Serves configuration version 1." in page
        assert "All connections go to one edge" in page

    def test_what_is_wrong_is_said(self, alice: Client, world: World) -> None:
        Connection.objects.filter(index__gt=0).update(closed_at=timezone.now())
        Connection.objects.update(config_error=f"cannot serve {EVIL_NAME}")
        world.tunnel.token_rotated_at = timezone.now()
        world.tunnel.save()
        page = shown(alice, url(world, "connector_detail"))
        assert "1 of 4 connections are open." in page
        assert "Refused the newest configuration: cannot serve &lt;script&gt;" in page
        assert "Connected before the token was rotated" in page
        Connection.objects.update(closed_at=timezone.now())
        assert "Not connected." in shown(alice, url(world, "connector_detail"))

    def test_another_tunnels_connector_is_not_there(self, alice: Client, world: World) -> None:
        address = reverse("connector_detail", args=["widgetcorp", world.tunnel.pk, world.tunnel.pk])
        assert alice.get(address).status_code == 404


class TestLogs:
    def test_nothing_is_asked_before_somebody_watches(
        self, alice: Client, world: World, listener: EdgeListener
    ) -> None:
        assert "Watch the log" in shown(alice, url(world, "connector_detail"))
        shown(alice, url(world, "connector_logs"))
        assert listener.questions == []

    def test_watching_shows_redacted_lines_and_is_audited(
        self, alice: Client, world: World, listener: EdgeListener
    ) -> None:
        answer = alice.post(url(world, "connector_logs_watch"), {"level": "warn"})
        assert answer["Location"] == url(world, "connector_detail") + "#logs"
        event = last_event(world.organization)
        assert event.name == "tunnels.connector.logs_viewed"
        assert event.new == {"connector": str(world.connector.client_id), "level": "warn"}
        for name in ("connector_detail", "connector_logs"):
            page = shown(alice, url(world, name))
            assert "connection 0 registered" in page
            assert "&lt;script&gt;" in page
            assert JWT not in page
            assert "token=[redacted]" in page
            assert "3 lines were left out" in page
            assert 'data-poll="1"' in page
        path, authorization, question = listener.questions[0]
        assert (path, authorization) == ("/logs", "Bearer edge-token-for-tests")
        assert question["level"] == "warn"
        assert event_names(world.organization).count("tunnels.connector.logs_viewed") == 1

    def test_watching_ends(self, alice: Client, world: World, listener: EdgeListener) -> None:
        alice.post(url(world, "connector_logs_watch"), {"level": "nonsense"})
        shown(alice, url(world, "connector_logs"))
        assert listener.questions[0][2]["level"] == "info"
        alice.post(url(world, "connector_logs_stop"))
        assert "Watch the log" in shown(alice, url(world, "connector_logs"))
        alice.post(url(world, "connector_logs_watch"))
        cache.clear()
        assert "data-poll" not in shown(alice, url(world, "connector_logs")).split('id="logs"')[1][:200]

    def test_a_watch_is_its_owners(self, cast: Cast, alice: Client, world: World, listener: EdgeListener) -> None:
        alice.post(url(world, "connector_logs_watch"))
        assert "Watch the log" in shown(login(cast.erin), url(world, "connector_logs"))
        bob = login(cast.bob)
        assert bob.post(url(world, "connector_logs_watch")).status_code == 403
        assert 'id="logs"' not in shown(bob, url(world, "connector_detail"))

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            (b"nonsense", "The edge did not answer"),
            (b'{"state": "unavailable", "reason": "not_offered"}', "does not offer its log"),
            (b'{"state": "unavailable", "reason": "??"}', "The edge did not answer"),
            (b'{"state": "starting", "lines": []}', "Asking the connector"),
            (b'{"state": "streaming", "lines": []}', "Nothing was logged"),
        ],
    )
    def test_why_there_is_nothing(
        self, alice: Client, world: World, listener: EdgeListener, body: bytes, text: str
    ) -> None:
        listener.body = body
        alice.post(url(world, "connector_logs_watch"))
        assert text in shown(alice, url(world, "connector_logs"))

    def test_an_edge_without_an_address(self, alice: Client, world: World) -> None:
        alice.post(url(world, "connector_logs_watch"))
        assert "No edge that can be asked" in shown(alice, url(world, "connector_logs"))
