"""A burst of SCIM deactivations through the edge (fault 46: 10,000 within 60 s).

    .venv/bin/python -m bench.scim [USERS]

An installation as `make run` starts it (SQLite, one web process), then one with PostgreSQL and Redis. Every user has an
identity with a live session, so each deactivation disables the identity, ends the session, writes its audit event and
raises the edges' version. Half of them one by one, half in bulk requests of BULK changes. The anchor is /healthz of the
same web process: a request that asks the database one thing.
"""

from __future__ import annotations

import contextlib
import http.client
import sqlite3
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from bench.certificates import cpu_seconds
from demo.installation import Installation, installation
from demo.scim import ScimPush, enable_scim
from tools.services import services

CALLERS = 4
BULK = 100
_ANCHOR_REQUESTS = 500
_PROVIDER = {
    "name": "Bench IdP",
    "type": "oidc",
    "config": {
        "client_id": "bench",
        "client_secret": "bench-secret",
        "auth_url": "https://idp.example.com/authorize",
        "token_url": "https://idp.example.com/token",
        "certs_url": "https://idp.example.com/jwks",
    },
}


def main() -> None:
    users = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    _measure("SQLite, embedded", users, {})
    with services() as variables:
        _measure("PostgreSQL, Redis", users, variables)


def _measure(name: str, users: int, variables: dict[str, str]) -> None:
    print(f"== {name}", flush=True)
    with tempfile.TemporaryDirectory() as folder, installation(Path(folder) / "var", **variables) as here:
        provider = here.api("POST", "/accounts/{account}/access/identity_providers", _PROVIDER)
        _run_sql(here, variables, list(_identities(here, provider["id"], users)))
        push = enable_scim(here, provider["id"])
        pushes = [push, *(push.another(here) for _ in range(CALLERS - 1))]
        ids: list[str] = []

        def create(caller: ScimPush, number: int) -> None:
            body = {"userName": f"u{number}@bench.test", "externalId": f"subject-{number}"}
            ids.append(caller.send("POST", "/Users", body)["id"])

        def deactivate(caller: ScimPush, number: int) -> None:
            caller.patch(f"/Users/{ids[number]}", {"op": "replace", "path": "active", "value": False})

        def deactivate_many(caller: ScimPush, number: int) -> None:
            first = half + number * BULK
            caller.bulk(_deactivation(identifier) for identifier in ids[first : first + BULK])

        half = users // 2 // BULK * BULK
        anchor = _anchor_ms(here)
        _report("created and matched", users, *_run(pushes, users, create), anchor)
        seconds, cpu = _run(pushes, half, deactivate)
        _report("deactivated singly", half, seconds, cpu, anchor)
        bulk_seconds, cpu = _run(pushes, (users - half + BULK - 1) // BULK, deactivate_many)
        _report(f"in bulks of {BULK}", users - half, bulk_seconds, cpu, anchor)
        live = _run_sql(here, variables, [("SELECT count(*) FROM accounts_accesssession WHERE revoked_at IS NULL", ())])
        singly, in_bulk = seconds / half * 10_000, bulk_seconds / (users - half) * 10_000
        print(f"live sessions left: {live}; 10,000 would take {singly:.0f} s, in bulks {in_bulk:.0f} s")


def _run(pushes: list[ScimPush], users: int, call: Callable[[ScimPush, int], None]) -> tuple[float, float]:
    """Seconds by the clock, and seconds of CPU that the installation and its servers spent."""

    def work(first: int, caller: ScimPush) -> None:
        for number in range(first, users, CALLERS):
            call(caller, number)

    started, cpu = time.perf_counter(), cpu_seconds()
    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(pushes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started, cpu_seconds() - cpu


def _deactivation(identifier: str) -> dict[str, Any]:
    operations = [{"op": "replace", "path": "active", "value": False}]
    return {"method": "PATCH", "path": f"/Users/{identifier}", "data": {"Operations": operations}}


def _anchor_ms(here: Installation) -> float:
    """CPU time of one request to /healthz, of all processes."""
    parts = urlsplit(here.facts["dashboard_url"])
    connection = http.client.HTTPConnection("127.0.0.1", parts.port or 80, timeout=15)
    with contextlib.closing(connection):
        before = cpu_seconds()
        for _ in range(_ANCHOR_REQUESTS):
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        return (cpu_seconds() - before) * 1000 / _ANCHOR_REQUESTS


def _report(what: str, users: int, seconds: float, cpu: float, anchor_ms: float) -> None:
    each = cpu / users * 1000
    rates = f"{users / seconds:6.0f} a second, {each:5.1f} ms of CPU each, {each / anchor_ms:4.1f} x /healthz"
    print(f"{what:20} {users:6} in {seconds:6.1f} s  {rates}", flush=True)


Statement = tuple[str, tuple[Any, ...]]


def _run_sql(here: Installation, variables: dict[str, str], statements: list[Statement]) -> int | None:
    """Straight into the database: ten thousand logins are not what is measured. The first column of a last SELECT."""
    if "DATABASE_URL" in variables:
        with psycopg.connect(variables["DATABASE_URL"].replace("postgres://", "postgresql://")) as database:
            cursor = database.cursor()
            for sql, values in statements:
                cursor.execute(sql.replace("?", "%s").encode(), values)
            return cursor.fetchone()[0] if cursor.description else None  # type: ignore[index]
    with contextlib.closing(sqlite3.connect(here.state / "sallyport.sqlite3", timeout=20)) as file, file:
        found = None
        for sql, values in statements:
            found = file.execute(sql, values)
        return found.fetchone()[0] if found is not None and found.description else None


def _identities(here: Installation, provider_id: str, users: int) -> Iterator[Statement]:
    now = datetime.now(UTC)
    stamp, end = (f"{moment:%Y-%m-%d %H:%M:%S.%f}" for moment in (now, now + timedelta(days=1)))
    account, provider = here.facts["account_id"], uuid.UUID(provider_id).hex
    for number in range(users):
        identity = uuid.uuid4().hex
        yield (
            "INSERT INTO accounts_identity (id, organization_id, provider_id, subject, email, email_verified, name,"
            " groups, claims, created_at, disabled_by_scim) VALUES (?, ?, ?, ?, ?, true, '', '[]', '{}', ?, false)",
            (identity, account, provider, f"subject-{number}", f"u{number}@bench.test", stamp),
        )
        yield (
            "INSERT INTO accounts_accesssession (id, organization_id, identity_id, nonce, created_at, expires_at,"
            " country, user_agent, authentication_methods, factors) VALUES (?, ?, ?, ?, ?, ?, '', '', '[]', '[]')",
            (uuid.uuid4().hex, account, identity, uuid.uuid4().hex, stamp, end),
        )


if __name__ == "__main__":
    main()
