"""Search over all objects: finds each kind, keeps to the organization and the role, bounded, with and without htmx."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from access.models import Application
from accounts.models import User
from controlplane.search import KINDS, PER_KIND
from tests.factories import Cast
from tests.pages_kit import EVIL_NAME, browser, login, shown
from tests.world import World, make_world

SEARCH = "/o/widgetcorp/search/"


@pytest.fixture
def world(cast: Cast) -> World:
    return make_world(cast.widgetcorp, domain="widgetcorp.tech")


def find(client: Client, query: str, team: str = "widgetcorp") -> str:
    response = client.get(f"/o/{team}/search/", {"q": query}, headers={"HX-Request": "true"})
    assert response.status_code == 200
    return response.content.decode()


def titles(part: str) -> list[str]:
    return re.findall(r"<h2>([^<]+)</h2>", part)


def questions(world: World) -> dict[str, str]:
    """For each kind something only an object of that kind answers to."""
    return {
        "Applications": world.application.aud[:40],
        "Groups": "Engineering",
        "Policies": "Everybody of the comp",
        "Lists": "Contractors",
        "Tags": world.tag.name,
        "Tunnels": "ssh-pool",
        "Connectors": str(world.connector.client_id),
        "Zones": world.zone.pk,
        "DNS records": world.dns_record.pk,
        "Users": "carol@people",
        "Members": "alice@widgetcorp",
        "Login methods": "Keycloak",
        "Service tokens": "ansible",
        "Client certificates' roots": "Machines",
        "API tokens": "terraform",
        "Certificates": world.certificate.serial[:8],
        "Decisions": world.access_request.ray_id[:10],
    }


def test_finds_every_kind(cast: Cast, world: World) -> None:
    asked = questions(world)
    assert asked.keys() == {kind.title for kind in KINDS}
    client = login(cast.alice)
    for kind, query in asked.items():
        part = find(client, query).replace("&#x27;", "'")
        assert kind in titles(part), (kind, query)
        for address in re.findall(r'<a href="([^"]+)"', part):
            assert client.get(address.replace("&amp;", "&")).status_code == 200, address


def test_finds_nothing_of_another_tenant(cast: Cast, world: World) -> None:
    client = login(cast.mallory)
    for query in questions(world).values():
        part = find(client, query, "evilcorp")
        assert "widgetcorp" not in part.replace(query, "")
        assert titles(part) == []
    assert client.get(SEARCH, {"q": "ssh"}).status_code == 404


def test_ids_find_their_object(cast: Cast, world: World) -> None:
    client = login(cast.alice)
    for row, kind in ((world.application, "Applications"), (world.tunnel, "Tunnels"), (world.identity, "Users")):
        assert kind in titles(find(client, str(row.pk)))
        assert titles(find(login(cast.mallory), str(row.pk), "evilcorp")) == []


def test_a_role_finds_only_what_it_may_read(cast: Cast, world: World) -> None:
    asked = questions(world)
    viewer = login(cast.bob)
    for kind in ("API tokens", "Certificates", "Decisions"):
        assert kind not in titles(find(viewer, asked[kind]))
    assert "Applications" in titles(find(viewer, "ssh"))


def test_pages_of_the_menu_are_found(cast: Cast) -> None:
    part = find(login(cast.alice), "audit")
    assert 'href="/o/widgetcorp/logs/audit/"' in part
    assert 'href="/o/widgetcorp/logs/audit/"' not in find(login(cast.bob), "audit")


def test_the_page_works_without_scripts_and_keeps_the_query(cast: Cast, world: World) -> None:
    page = shown(login(cast.alice), f"{SEARCH}?q=bastion")
    assert 'value="bastion"' in page
    assert "SSH bastion" in page
    assert f'href="/o/widgetcorp/access/applications/{world.application.pk}/"' in page
    assert 'href="/o/widgetcorp/search/" data-palette' in page
    assert "Nothing is called" in shown(login(cast.alice), f"{SEARCH}?q=no-such-thing")


def test_names_of_strangers_are_text(cast: Cast) -> None:
    Application.objects.create(organization=cast.widgetcorp, name=EVIL_NAME, hostname="x.widgetcorp.tech")
    assert "<script>alert" not in find(login(cast.alice), "<script>")


@pytest.mark.parametrize("query", ["%", "_", "\\", "'; --", "\0", "a" * 5000, "%00", "ﷺ", "1e999", "--"])
def test_strange_queries_are_answered(cast: Cast, world: World, query: str) -> None:
    assert find(login(cast.alice), query)
    if query in {"%", "_"}:
        assert "Applications" not in titles(find(login(cast.alice), query))


def test_hits_and_queries_are_bounded(db: None) -> None:
    call_command("seed_load", applications=40, groups=20, identities=40, log_rows=200, verbosity=0)
    client: Any = browser()
    client.force_login(User.objects.get(email="owner@load.test"))
    with CaptureQueriesContext(connection) as captured:
        part = find(client, "o", "loadcorp")
    assert len(captured) <= len(KINDS) + 6
    assert max(section.count("<li>") for section in part.split("<section")) <= PER_KIND + 1 + 10
    assert "All applications with “o”" in part
