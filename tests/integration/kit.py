"""Real installations: control plane, worker, edge, identity provider, sshd, connector.

One serves a whole folder, because starting one costs more than most tests do with it. So its tests share an
organization: each makes applications, people and providers under names of its own, and leaves the others' alone.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from demo.browser import Browser
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
from tests.databases import Template
from tools.services import free_port, redis_server

# A cut is promised within five seconds, which `make demo` holds a quiet machine to. On one full of tests it may take
# longer; without the push that these tests are about it would take a minute.
CUT_SECONDS = 20.0


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


@contextlib.contextmanager
def house(base: Path, template: Template, *allowed_hosts: str) -> Iterator[Installation]:
    """An installation on a database that is migrated already, with an identity provider process it may reach."""
    port = free_port()
    with identity_provider(port) as issuer, _data(base / "var", template) as services:
        allowed = ",".join([f"127.0.0.1:{port}", *allowed_hosts])
        with installation(base / "var", FETCH_ALLOWED_PRIVATE_HOSTS=allowed, **services) as running:
            (running.state / "issuer").write_text(issuer)
            (running.state / "database-url").write_text(services.get("DATABASE_URL", ""))
            yield running


@contextlib.contextmanager
def _data(state: Path, template: Template) -> Iterator[dict[str, str]]:
    """In the PostgreSQL-and-Redis run: a database of its own on that server, and a Redis of its own."""
    url = os.environ.get("DATABASE_URL", "")
    if not url.startswith("postgres"):
        state.mkdir(parents=True, mode=0o700)
        template.copy_to_file(state / "sallyport.sqlite3")
        yield {}
        return
    name = f"installation_{secrets.token_hex(4)}"
    template.copy_to_database(name)
    # A Redis of its own: test processes empty their caches in the shared one, and would take each other's jobs.
    with redis_server() as redis_url:
        yield {"DATABASE_URL": f"{url.rpartition('/')[0]}/{name}", "REDIS_URL": redis_url}


@contextlib.contextmanager
def tutorial(here: Installation) -> Iterator[Workshop]:
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
        wait_until(lambda: _healthy(here, tunnel_id), "a healthy tunnel", 60)
        yield Workshop(here, issuer, server, operator, application, tunnel_id, base)


def _healthy(here: Installation, tunnel_id: str) -> bool:
    return here.api("GET", f"/accounts/{{account}}/cfd_tunnel/{tunnel_id}")["status"] == "healthy"


def until_served(here: Installation, hostname: str) -> None:
    """A new or moved application reaches the edge by a push, or a second later: until it sends people to a login."""
    host, _, port = here.facts["edge_address"].rpartition(":")

    def is_served() -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            page = Browser(edge=(host, int(port)), ca_file=here.facts["edge_ca"]).get(f"https://{hostname}:{port}/")
            return urlsplit(page.url).hostname != hostname
        return False

    wait_until(is_served, f"{hostname} at the edge")


def query(here: Installation, sql: str) -> list[Any]:
    """Straight to the installation's own database: for what no page and no API call shows, or can do."""
    url = (here.state / "database-url").read_text()
    if url:
        with psycopg.connect(url, autocommit=True) as connection:
            done = connection.execute(sql)
            return done.fetchall() if done.description else []
    with contextlib.closing(sqlite3.connect(here.state / "sallyport.sqlite3", timeout=20)) as database, database:
        return database.execute(sql).fetchall()
