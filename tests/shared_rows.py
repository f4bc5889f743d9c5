"""Rows made once per module: made in one transaction, and what a test does to them is undone by a savepoint.

For modules whose tests each need a costly world. A module asks for it by overriding two fixtures:

    @pytest.fixture(scope="module")
    def made(module_transaction: None) -> ...:   # the rows, made once

    @pytest.fixture
    def db(module_transaction: None, own_savepoint: None) -> None:   # instead of pytest-django's

Such a module cannot hold tests marked transactional_db: they empty tables that are in use here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction


@contextlib.contextmanager
def _undone() -> Iterator[None]:
    block = transaction.atomic()
    # As in django.test.TestCase: code that insists on the outermost transaction counts from inside this one.
    block._from_testcase = True  # type: ignore[attr-defined]
    block.__enter__()
    try:
        yield
    finally:
        transaction.set_rollback(True)
        block.__exit__(None, None, None)


@pytest.fixture(scope="module")
def module_transaction(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        with _undone():
            yield
        connection.close()


@pytest.fixture
def own_savepoint(module_transaction: None, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock(), _undone():
        yield
        if not connection.needs_rollback:
            connection.check_constraints()  # deferred until a commit that never comes
