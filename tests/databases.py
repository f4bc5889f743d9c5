"""A migrated, empty database, made once per run: every test process and every installation starts from a copy.

Migrating takes five seconds of computing, and a run needs a dozen databases. tests/integration/test_make_run.py starts
from nothing; everything here begins with one real migration, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection


class Template:
    """SQLite: a file. PostgreSQL: a database on the run's server, named in a file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "template.sqlite3"
        self._name_file = folder / "template.name"
        with (folder / "template.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._file.exists() and not self._name_file.exists():
                self._make()

    def _make(self) -> None:
        if connection.vendor == "sqlite":
            unfinished = self._file.with_suffix(".new")
            with _connected_to(str(unfinished)):
                call_command("migrate", verbosity=0)
            # Written by way of a log (WAL), which a copy of the file alone would lose.
            with contextlib.closing(sqlite3.connect(unfinished)) as database:
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                database.execute("PRAGMA journal_mode=DELETE")
            unfinished.rename(self._file)
            return
        name = f"template_{secrets.token_hex(4)}"
        _administer(f"CREATE DATABASE {name}")
        with _connected_to(name):
            call_command("migrate", verbosity=0)
        self._name_file.write_text(name)

    def copy_to_file(self, path: Path) -> None:
        shutil.copyfile(self._file, path)
        path.chmod(0o600)

    def copy_to_database(self, name: str) -> None:
        _administer(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        _administer(f"CREATE DATABASE {name} TEMPLATE {self._name_file.read_text()}")


@contextlib.contextmanager
def _connected_to(name: str) -> Iterator[None]:
    before = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before


def _administer(statement: str) -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as administrator:
        administrator.execute(statement)


@pytest.fixture(scope="session")
def database_template(
    tmp_path_factory: pytest.TempPathFactory, django_test_environment: None, django_db_blocker: Any
) -> Template:
    folder = tmp_path_factory.getbasetemp()
    # pytest-xdist gives each worker a folder inside the run's own.
    with django_db_blocker.unblock():
        return Template(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)


@pytest.fixture(scope="session")
def django_db_setup(
    database_template: Template, django_db_modify_db_settings: None, django_db_blocker: Any
) -> Iterator[None]:
    """Instead of pytest-django's, which migrates in every process."""
    with django_db_blocker.unblock():
        name = connection.creation._get_test_db_name()
        connection.close()
        if connection.vendor == "sqlite":
            database_template.copy_to_file(Path(name))
        else:
            database_template.copy_to_database(name)
        settings.DATABASES["default"]["NAME"] = name
        connection.settings_dict["NAME"] = name
    yield
    with django_db_blocker.unblock():
        connection.close()
        if connection.vendor != "sqlite":
            _administer(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
