"""How long each page takes on PostgreSQL with a large organization (manage.py seed_load).

    .venv/bin/python -m bench.pages [LOG_ROWS]

Walks the URL conf, so new pages are measured by being there; the public pages and the API's lists come after them.
Every page is asked for through all middleware in this process, several times. Two figures of each page do not depend on
what else the machine does: the best round, and the CPU time of this process and of PostgreSQL's. Beside them stand the
median round, queries, size, and the ratio to two anchors of the same run (bench/page_addresses.py).

With BENCH_DATABASE_URL the database is kept and filled only when it is empty. BENCH_ONLY measures the pages whose name
has that text in it; BENCH_PROFILE=NAME prints a profile of one page. Exits with 1 when a page takes longer than the
product promises.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdb_writer import MMDBWriter
from netaddr import IPSet

from bench.page_addresses import Page, all_pages
from tools.services import services

ROUNDS = 5
# More rounds for a page that is slow on the wall while its CPU time says that it need not be: the machine is busy.
MOST_ROUNDS = 25
BOUND_MS = 300.0
ORDINARY_MS = 50.0


def main() -> int:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    kept = os.environ.get("BENCH_DATABASE_URL")
    if kept:
        return measure({"DATABASE_URL": kept})
    with services() as variables:
        return measure(variables)


def measure(variables: dict[str, str]) -> int:
    with tempfile.NamedTemporaryFile(suffix=".mmdb") as countries:
        _write_countries(Path(countries.name))
        return _measure({**variables, "GEOIP_DATABASE": countries.name})


def _write_countries(path: Path) -> None:
    """Without any country a third of the load's groups could not be answered, which refuses everybody early."""
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="Load-Country")
    writer.insert_network(IPSet(["203.0.0.0/16"]), {"country": {"iso_code": "PT"}})
    writer.to_db_file(str(path))


def _measure(variables: dict[str, str]) -> int:
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
    from django.utils import timezone

    from tunnels.actions.activity import count_hours

    count_hours(now=timezone.now())  # what a worker does every hour

    load = os.getloadavg()[0]
    started = time.perf_counter()
    with transaction.atomic():
        results = list(_measure_pages())
        transaction.set_rollback(True)
    print(f"load {load:.1f} before and {os.getloadavg()[0]:.1f} after, {time.perf_counter() - started:.0f} s")
    return _report(results)


@dataclass
class Result:
    """Milliseconds; the least of all rounds, but for `median`."""

    page: Page
    status: int
    best: float
    median: float
    own_cpu: float
    database_cpu: float
    sql: float
    queries: int
    kilobytes: float

    @property
    def cpu(self) -> float:
        return self.own_cpu + self.database_cpu


def _measure_pages() -> Iterator[Result]:
    from accounts.models import Organization

    backend = Backend()
    wanted, profiled = os.environ.get("BENCH_ONLY", ""), os.environ.get("BENCH_PROFILE", "")
    for page in all_pages(Organization.objects.get(team_name="loadcorp")):
        if profiled:
            if page.name == profiled:
                _profile(page)
        elif wanted in page.name or page.name.startswith("anchor"):
            yield _time(page, backend)


class Backend:
    """CPU time of the PostgreSQL process that serves this one, where it runs on this machine."""

    def __init__(self) -> None:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            self._file = Path(f"/proc/{cursor.fetchone()[0]}/schedstat")

    def milliseconds(self) -> float:
        try:
            return int(self._file.read_text().split()[0]) / 1e6
        except OSError:
            return 0.0


def _time(page: Page, backend: Backend) -> Result:
    page.ask()
    times, own, database, sql, queries = [], [], [], [], 0
    while len(times) < ROUNDS or (len(times) < MOST_ROUNDS and min(times) > ORDINARY_MS > min(own) + min(database)):
        with _counted() as counter:
            start, cpu, theirs = time.perf_counter(), time.process_time(), backend.milliseconds()
            answer = page.ask()
            body = b"".join(answer.streaming_content) if answer.streaming else answer.content
            own.append((time.process_time() - cpu) * 1000)
            times.append((time.perf_counter() - start) * 1000)
            database.append(backend.milliseconds() - theirs)
        sql.append(counter.seconds * 1000)
        queries = counter.queries
    return Result(
        page=page,
        status=answer.status_code,
        best=min(times),
        median=statistics.median(times),
        own_cpu=min(own),
        database_cpu=min(database),
        sql=min(sql),
        queries=queries,
        kilobytes=len(body) / 1000,
    )


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
            if "BENCH_PROFILE" in os.environ:
                print(f"{(time.perf_counter() - start) * 1000:8.1f} ms  {sql[:1500]}  {str(params)[:300]}")


@contextmanager
def _counted() -> Iterator[Counter]:
    from django.db import connection

    counter = Counter()
    with connection.execute_wrapper(counter):
        yield counter


def _profile(page: Page) -> None:
    page.ask()
    with _counted():
        page.ask()
    profile = cProfile.Profile(time.process_time)
    profile.runcall(page.ask)
    pstats.Stats(profile).sort_stats("cumulative").print_stats(70)
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)


def _report(results: list[Result]) -> int:
    if not results:
        return 0
    healthz, frame = (
        min((item for item in results if item.page.name == name), key=lambda item: item.best)
        for name in ("anchor: healthz", "anchor: frame")
    )
    pages = [item for item in results if item.status != 405 and not item.page.name.startswith("anchor")]
    pages.sort(key=lambda item: -item.best)
    print(
        f"{'page':46} {'status':>6} {'best ms':>8} {'median':>7} {'CPU ms':>7} {'own':>6} {'SQL ms':>7} {'SQL CPU':>7}"
        f" {'queries':>7} {'kB':>6} {'x healthz':>9} {'x frame':>7}"
    )
    for item in [*pages, healthz, frame]:
        print(
            f"{item.page.name:46} {item.status:6} {item.best:8.1f} {item.median:7.1f} {item.cpu:7.1f}"
            f" {item.own_cpu:6.1f} {item.sql:7.1f} {item.database_cpu:7.1f} {item.queries:7} {item.kilobytes:6.1f}"
            f" {item.best / healthz.best:9.1f} {item.best / frame.best:7.1f}"
        )
    slow = [item for item in pages if item.best > BOUND_MS]
    print(
        f"{len(pages)} pages; within {ORDINARY_MS:.0f} ms: {_within(pages, 'best')} in their best round,"
        f" {_within(pages, 'median')} in the median, {_within(pages, 'cpu')} by CPU time;"
        f" over {BOUND_MS:.0f} ms: {len(slow)}"
    )
    # The edge's certificate authority is a file of a running installation.
    odd = [item for item in pages if item.status != item.page.status and item.page.name != "tunnel_edge_authority"]
    for item in odd:
        print(f"not answered as it should be: {item.status} {item.page.address}")
    return 1 if slow or odd else 0


def _within(pages: list[Result], figure: str) -> int:
    return sum(getattr(item, figure) <= ORDINARY_MS for item in pages)


if __name__ == "__main__":
    sys.exit(main())
