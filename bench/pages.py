"""How long each page of the dashboard takes on PostgreSQL with a large organization (manage.py seed_load).

    .venv/bin/python -m bench.pages [LOG_ROWS]

Walks the URL conf, so new pages are measured by being there. Every page is asked for through all middleware in this
process; the table has the slowest first, with its queries and their share of the time, beside an anchor: /healthz, one
SELECT 1 without session and template. With BENCH_DATABASE_URL the database is kept and filled only when it is empty.
Exits with 1 when a page takes longer than the product promises.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.services import services

ROUNDS = 7
BOUND_MS = 300.0
ORDINARY_MS = 50.0
ANCHOR = "/healthz"


def main() -> int:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    kept = os.environ.get("BENCH_DATABASE_URL")
    if kept:
        return measure({"DATABASE_URL": kept})
    with services() as variables:
        return measure(variables)


def measure(variables: dict[str, str]) -> int:
    os.environ.update(variables)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django

    django.setup()
    from django.core.management import call_command

    from accounts.models import Organization

    call_command("migrate", verbosity=0)
    if not Organization.objects.filter(team_name="loadcorp").exists():
        call_command("seed_load", log_rows=int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
    from django.db import transaction

    with transaction.atomic():
        results = list(_measure_pages())
        transaction.set_rollback(True)
    return _report(results)


@dataclass
class Result:
    name: str
    status: int
    milliseconds: float
    database: float
    queries: int
    kilobytes: float
    address: str = field(repr=False, default="")


def _measure_pages() -> Iterator[Result]:
    from django.test import Client

    from accounts.models import Organization, User

    organization = Organization.objects.get(team_name="loadcorp")
    client = Client(headers={"host": "testserver"})
    client.force_login(User.objects.get(email="owner@load.test"))
    yield _time(client, "anchor", ANCHOR)
    wanted = os.environ.get("BENCH_ONLY", "")
    for name, address in _addresses(organization):
        if wanted not in name:
            continue
        yield _time(client, name, address)


def _addresses(organization: Any) -> Iterator[tuple[str, str]]:
    """Each page twice where it has arguments: of an object made just now, and of the busiest one of its kind."""
    from django.urls import reverse

    from tests.test_every_url import team_routes

    world = _world(organization)
    arguments = world.url_arguments()
    busy = {**arguments, **_busiest(organization)}
    for route in team_routes():
        names = [part.partition(":")[2] for part in route.path.replace(">", "<").split("<") if ":" in part]
        values = {name: arguments[name] for name in names}
        if "token_id" in values and str(route.name).startswith("api_token"):
            values["token_id"] = world.api_token.pk
        if route.name in {"policy_edit", "policy_delete"}:
            values["policy_id"] = world.reusable.pk
        yield str(route.name), reverse(str(route.name), kwargs=values)
        if len(names) == 2 and names[1] in _busiest(organization):
            yield f"{route.name} (busiest)", reverse(str(route.name), kwargs={n: busy[n] for n in names})
    for name, query in _SEARCHES:
        yield f"{name} ?{query}", f"{reverse(name, args=[organization.team_name])}?{query}"


_SEARCHES = (
    ("access_log", "q=lena.fischer"),
    ("access_log", "q=no-such-thing"),
    ("access_log", "decision=denied"),
    ("access_log", "page=400"),
    ("certificates", "q=user00042"),
    ("certificates", "q=no-such-thing"),
    ("certificates", "state=revoked"),
    ("audit_log", "q=no-such-thing"),
    ("audit_log", "area=access.policy"),
    ("applications", "q=payments"),
    ("users", "q=karim"),
)


def _world(organization: Any) -> Any:
    """One of everything beside the load, rolled back at the end."""
    from tests.world import make_world

    organization.identity_providers.filter(name="One-time PIN").update(name="PIN of the load")
    return make_world(organization, domain="world.load.test")


def _busiest(organization: Any) -> dict[str, Any]:
    from access.models import Application, Group
    from accounts.models import Identity
    from tunnels.models import Tunnel, Zone

    return {
        "application_id": Application.objects.filter(organization=organization).order_by("-created_at")[1].pk,
        "identity_id": Identity.objects.filter(organization=organization).order_by("email").first().pk,
        "group_id": Group.objects.filter(organization=organization).order_by("-name").first().pk,
        "tunnel_id": Tunnel.objects.filter(organization=organization).order_by("name").last().pk,
        "zone_id": Zone.objects.filter(organization=organization).order_by("name").last().pk,
    }


def _time(client: Any, name: str, address: str) -> Result:
    client.get(address)
    times, shares, queries = [], [], 0
    for _ in range(ROUNDS):
        with _counted() as counter:
            start = time.perf_counter()
            answer = client.get(address)
            body = b"".join(answer.streaming_content) if answer.streaming else answer.content
            times.append((time.perf_counter() - start) * 1000)
        shares.append(counter.seconds * 1000)
        queries = counter.queries
    median = statistics.median(times)
    kilobytes = len(body) / 1000
    return Result(name, answer.status_code, median, statistics.median(shares), queries, kilobytes, address)


@dataclass
class Counter:
    queries: int = 0
    seconds: float = 0.0

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        start = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            self.queries += 1
            self.seconds += time.perf_counter() - start


@contextmanager
def _counted() -> Iterator[Counter]:
    from django.db import connection

    counter = Counter()
    with connection.execute_wrapper(counter):
        yield counter


def _report(results: list[Result]) -> int:
    anchor, pages = results[0], [item for item in results[1:] if item.status not in {405}]
    pages.sort(key=lambda item: -item.milliseconds)
    print(f"{'page':48} status {'ms':>8} {'of it SQL':>10} {'queries':>8} {'kB':>7} {'x anchor':>9}")
    for item in [*pages, anchor]:
        ratio = item.milliseconds / anchor.milliseconds
        print(
            f"{item.name:48} {item.status:6} {item.milliseconds:8.1f} {item.database:10.1f} {item.queries:8}"
            f" {item.kilobytes:7.1f} {ratio:9.1f}"
        )
    slow = [item for item in pages if item.milliseconds > BOUND_MS]
    ordinary = [item for item in pages if item.milliseconds <= ORDINARY_MS]
    print(f"{len(pages)} pages: {len(ordinary)} within {ORDINARY_MS:.0f} ms, {len(slow)} over {BOUND_MS:.0f} ms")
    # The edge's certificate authority is a file of a running installation.
    expected = {"tunnel_edge_authority"}
    broken = [item.address for item in pages if item.status >= 400 and item.name not in expected]
    if broken:
        print("not answered:", *broken, sep="\n  ")
    return 1 if slow or broken else 0


if __name__ == "__main__":
    sys.exit(main())
