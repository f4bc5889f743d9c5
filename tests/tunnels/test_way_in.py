"""The picture of the way in: what each hop says for what is known, and the page that shows it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from tests.factories import Cast
from tests.pages_kit import login, shown
from tests.world import World, make_world
from tunnels.models import Connection, Connector, Dial, DnsRecord, Edge, TunnelConfiguration
from tunnels.way_in import ConnectorFacts, DialFacts, EdgeFacts, HopState, WayFacts, picture, shown_ms, summary

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
WORKS = WayFacts(
    hostname="ssh.widgetcorp.tech",
    is_served=True,
    record_state="ok",
    record_answer="",
    edges=[EdgeFacts("edge-1", "LIS", NOW - timedelta(seconds=3))],
    tunnel_name="ssh-pool",
    was_connected=True,
    connectors=[ConnectorFacts("0a1b2c3d-e", "2026.8.2", "198.51.100.7", 4, [12.0, 18.4], [3, 3, 3, 3])],
    config_version=3,
    serves_hostname=True,
    service="ssh://10.0.0.5:22",
    dial=DialFacts(NOW - timedelta(minutes=2), 21.0),
)


def hops(**changed: Any) -> dict[str, Any]:
    return {hop.key: hop for hop in picture(replace(WORKS, **changed), NOW)}


def test_a_way_that_works() -> None:
    found = picture(WORKS, NOW)
    assert [hop.state for hop in found] == [HopState.GOOD] * 4
    assert summary(found) == (HopState.GOOD, "The way in works to its end.")
    _, tunnel, connectors, host = found
    assert (tunnel.link_ms, host.link_ms) == (12.0, 21.0)
    assert "round trips of 12 ms to 18 ms" in tunnel.details
    assert connectors.details == (
        ["0a1b2c3d, 2026.8.2, 198.51.100.7, 4 connections, 12 ms to 18 ms, configuration 3 of 3"]
    )
    assert "measured 2 minutes ago, on a real request" in host.details


def edge(name: str = "edge-1", **known: Any) -> EdgeFacts:
    return EdgeFacts(name, "LIS", NOW - timedelta(seconds=3), **known)


def test_the_way_from_people_to_the_edge_is_measured_on_their_streams() -> None:
    assert hops()["edge"].link_ms is None
    far = edge(streams=3, rtt_ms=48.0, measured_at=NOW)
    near = edge("edge-2", streams=1, rtt_ms=2.0, measured_at=NOW)
    hop = hops(edges=[near, far])["edge"]
    assert (hop.link_ms, hop.link_text) == (48.0, "round trip from person to edge, median of 3 live streams")
    assert hop.details == [
        "edge-2 in LIS, reported 3 s ago, 1 live stream of this application",
        "edge-1 in LIS, reported 3 s ago, 3 live streams of this application",
    ]
    over = edge(streams=0, rtt_ms=5.0, measured_at=NOW - timedelta(minutes=4))
    hop = hops(edges=[over])["edge"]
    assert (hop.link_ms, hop.link_text) == (5.0, "round trip from person to edge, of the last stream, 4 minutes ago")
    assert "no live streams of this application" in hop.details[0]
    # Shown also where the way is broken; and a silent edge says nothing about now.
    assert hops(edges=[far], record_state="")["edge"].link_ms == 48.0
    silent = replace(far, last_seen_at=NOW - timedelta(minutes=1))
    assert "live" not in hops(edges=[silent])["edge"].details[0]
    assert "of the last stream" in hops(edges=[silent])["edge"].link_text


@pytest.mark.parametrize(
    ("changed", "hop", "state", "words"),
    [
        ({"is_served": False}, "edge", "bad", "proof that the domain is yours is missing"),
        ({"edges": [EdgeFacts("e", "", NOW - timedelta(seconds=40))]}, "edge", "bad", "No edge has reported"),
        ({"record_state": ""}, "edge", "bad", "No DNS record leads"),
        ({"record_state": "mismatch", "record_answer": "192.0.2.1"}, "edge", "bad", "192.0.2.1"),
        ({"record_state": "pending"}, "edge", "unknown", "DNS is being asked"),
        ({"tunnel_name": ""}, "tunnel", "bad", "points at none of your tunnels"),
        ({"connectors": []}, "tunnel", "bad", "Was connected and is not any more"),
        ({"connectors": [], "was_connected": False}, "tunnel", "bad", "No connector has ever connected"),
        ({"connectors": [replace(WORKS.connectors[0], connections=2)]}, "tunnel", "warn", "A healthy tunnel has 4"),
        ({"connectors": [replace(WORKS.connectors[0], config_error="no rules")]}, "connectors", "bad", "no rules"),
        ({"connectors": [replace(WORKS.connectors[0], applied=[2, 3])]}, "connectors", "warn", "version 3"),
        ({"serves_hostname": False}, "host", "bad", "no service for ssh.widgetcorp.tech"),
        ({"dial": None}, "host", "unknown", "nothing is measured"),
        (
            {"dial": DialFacts(NOW, 1.0, "origin_refused", "connection refused by 10.0.0.5:22")},
            "host",
            "bad",
            "connection refused by 10.0.0.5:22",
        ),
        ({"dial": DialFacts(NOW, 1.0, "something_new")}, "host", "bad", "something_new"),
    ],
)
def test_where_it_is_broken_it_says_what_and_what_to_do(
    changed: dict[str, Any], hop: str, state: str, words: str
) -> None:
    found = hops(**changed)[hop]
    assert found.state == state
    assert words in found.text
    assert found.fix or state in {"unknown", "good"}
    overall, text = summary(picture(replace(WORKS, **changed), NOW))
    assert overall == state or overall is HopState.BAD
    assert "works to its end" not in text


def test_nothing_is_measured_that_nobody_measured() -> None:
    silent = hops(connectors=[replace(WORKS.connectors[0], rtts_ms=[])], dial=None)
    assert silent["tunnel"].link_ms is None and silent["host"].link_ms is None
    assert "round trip not measured yet" in silent["tunnel"].details
    assert silent["edge"].link_ms is None


@pytest.mark.parametrize(("milliseconds", "text"), [(0.42, "0.4 ms"), (12.4, "12 ms"), (1234.0, "1.2 s")])
def test_milliseconds_for_people(milliseconds: float, text: str) -> None:
    assert shown_ms(milliseconds) == text


# --- The page -----------------------------------------------------------------------------------------------
@pytest.fixture
def world(cast: Cast) -> World:
    return make_world(cast.widgetcorp, domain="widgetcorp.tech")


def address(world: World) -> str:
    return reverse("application_way_in", args=["widgetcorp", world.application.pk])


def dial(world: World, **values: Any) -> Dial:
    given = {"hostname": world.application.hostname, "latency_ms": 7.5, "at": timezone.now(), **values}
    return Dial.objects.create(organization=world.organization, tunnel=world.tunnel, **given)


def test_the_page_shows_what_edges_reported(cast: Cast, world: World) -> None:
    Connection.objects.update(rtt_ms=3.2)
    dial(world)
    page = shown(login(cast.bob), address(world))
    assert "The way in works to its end." in page
    assert '<span class="hop-time">3.2 ms</span>' in page and '<span class="hop-time">7.5 ms</span>' in page
    assert "service ssh://localhost:22" in page
    assert re.search(r"As of \d\d:\d\d:\d\d UTC", page)


def test_the_page_follows_a_failure_of_each_hop(cast: Cast, world: World) -> None:
    client = login(cast.alice)
    dial(world, reason="origin_refused", message="connection refused by localhost:22")
    assert "The way in is broken at: Host." in shown(client, address(world))
    TunnelConfiguration.objects.filter(tunnel=world.tunnel).update(config={"ingress": [{"service": "http_status:404"}]})
    assert "no service for ssh-bastion.widgetcorp.tech" in shown(client, address(world))
    Connection.objects.update(config_error="unknown service")
    assert "The way in is broken at: Connector." in shown(client, address(world))
    Connection.objects.update(closed_at=timezone.now())
    assert "The way in is broken at: Tunnel ssh-pool." in shown(client, address(world))
    DnsRecord.objects.all().delete()
    assert "The way in is broken at: Edge." in shown(client, address(world))


def test_a_wildcard_application_has_a_result_of_its_own(cast: Cast, world: World) -> None:
    type(world.application).objects.filter(pk=world.application.pk).update(hostname="*.widgetcorp.tech")
    DnsRecord.objects.update(name="*.widgetcorp.tech")
    rules = [{"hostname": "*.widgetcorp.tech", "service": "ssh://localhost:22"}, {"service": "http_status:404"}]
    TunnelConfiguration.objects.filter(tunnel=world.tunnel).update(config={"ingress": rules})
    dial(world, hostname="*.widgetcorp.tech", latency_ms=9.0)
    dial(world, hostname="a.widgetcorp.tech", reason="origin_refused")
    assert "9.0 ms" in shown(login(cast.alice), address(world))


def test_polling_slows_down_while_nothing_changes(cast: Cast, world: World) -> None:
    client, pauses = login(cast.alice), []
    url = address(world)
    for _ in range(8):
        page = shown(client, url)
        asked = re.search(r'hx-get="([^"]+)" hx-trigger="every (\d+)s', page)
        assert asked is not None
        url, pause = asked.group(1).replace("&amp;", "&"), int(asked.group(2))
        pauses.append(pause)
    assert pauses == [4, 6, 10, 20, 40, 60, 60, 60]
    dial(world)
    page = shown(client, url)
    assert 'hx-trigger="every 4s' in page
    assert 'hx-trigger="every 4s' in shown(client, address(world) + "?mark=x&pause=99999999")


def test_other_organizations_use_of_the_edge_is_not_told(cast: Cast, world: World) -> None:
    make_world(cast.evilcorp, domain="evilcorp.tech")
    Edge.objects.update(streams=4711)
    page = shown(login(cast.alice), address(world))
    assert "4711" not in page and "evilcorp" not in page


def test_a_fixed_number_of_queries(
    cast: Cast, world: World, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    edge = Edge.objects.get()
    for number in range(20):
        connector = Connector.objects.create(
            organization=world.organization,
            tunnel=world.tunnel,
            client_id=uuid4(),
            version=f"1.{number}",
            last_seen_at=timezone.now(),
        )
        for index in range(4):
            Connection.objects.create(
                id=uuid4(),
                organization=world.organization,
                connector=connector,
                edge=edge,
                index=index,
                opened_at=timezone.now(),
                last_seen_at=timezone.now(),
            )
    client = login(cast.alice)
    shown(client, address(world))
    with django_assert_max_num_queries(22):
        page = shown(client, address(world))
    assert "84 connections to the edge." in page
