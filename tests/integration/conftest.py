"""A real installation per module: control plane, worker, edge, identity provider, sshd, connector."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.first_login import (
    HOSTNAME,
    build_application,
    create_tunnel,
    identity_provider,
    operator_cli,
    run_tunnel,
    wait_until,
)
from demo.installation import Installation, installation
from demo.person import Person
from demo.sshd import Sshd, sshd
from tools.services import free_port, redis_server


@dataclass
class Workshop:
    """The tutorial done up to step 4; tests are people who use it."""

    here: Installation
    issuer: str
    server: Sshd
    operator: Person
    application: dict[str, Any]
    tunnel_id: str
    base: Path

    def person(self, name: str, *, configured: bool = True) -> Person:
        person = Person.at(name, self.base / secrets.token_hex(4), self.here)
        if configured:
            person.configure(HOSTNAME)
        return person

    @property
    def remote(self) -> str:
        return f"{self.server.account}@{HOSTNAME}"


@pytest.fixture(scope="module")
def data_services() -> Iterator[dict[str, str]]:
    """In the PostgreSQL-and-Redis run: a database of its own on that server, and a Redis of its own."""
    url = os.environ.get("DATABASE_URL", "")
    if not url.startswith("postgres"):
        yield {}
        return
    name = f"installation_{secrets.token_hex(4)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    # A Redis of its own: test processes empty their caches in the shared one, and would take each other's jobs.
    with redis_server() as redis_url:
        yield {"DATABASE_URL": f"{url.rpartition('/')[0]}/{name}", "REDIS_URL": redis_url}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, data_services: dict[str, str]) -> Iterator[Installation]:
    """An installation with an identity provider process its control plane may reach."""
    base = tmp_path_factory.mktemp("installation")
    port = free_port()
    with identity_provider(port) as issuer:
        environment = {"FETCH_ALLOWED_PRIVATE_HOSTS": f"127.0.0.1:{port}", **data_services}
        with installation(base / "var", **environment) as running:
            (running.state / "issuer").write_text(issuer)
            (running.state / "database-url").write_text(data_services.get("DATABASE_URL", ""))
            yield running


@pytest.fixture(scope="module")
def workshop(here: Installation) -> Iterator[Workshop]:
    base = here.state.parent
    issuer = (here.state / "issuer").read_text()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(sshd(base / "sshd", principals=["alice", "pat"]))
        application = build_application(here, issuer, [f"127.0.0.1:{server.port}"])
        operator = Person.at("operator", base, here)
        tunnel_id = create_tunnel(operator)
        stack.enter_context(run_tunnel(operator, tunnel_id))
        routed = operator_cli(operator, "tunnel", "route", "dns", "ssh-pool", HOSTNAME)
        assert routed.returncode == 0, routed.stderr
        authority = here.api("POST", f"/accounts/{{account}}/access/apps/{application['id']}/ca")
        server.ca_file.write_text(authority["public_key"] + "\n")
        wait_until(lambda: _healthy(here, tunnel_id), "a healthy tunnel")
        yield Workshop(here, issuer, server, operator, application, tunnel_id, base)


def _healthy(here: Installation, tunnel_id: str) -> bool:
    return here.api("GET", f"/accounts/{{account}}/cfd_tunnel/{tunnel_id}")["status"] == "healthy"


def query(here: Installation, sql: str) -> list[Any]:
    """Straight to the installation's own database: for what no page and no API call shows, or can do."""
    url = (here.state / "database-url").read_text()
    if url:
        with psycopg.connect(url, autocommit=True) as connection:
            done = connection.execute(sql)
            return done.fetchall() if done.description else []
    with contextlib.closing(sqlite3.connect(here.state / "sallyport.sqlite3", timeout=20)) as database, database:
        return database.execute(sql).fetchall()
