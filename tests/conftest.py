"""Shared fixtures: the cast, and commit hooks that run as they would in production."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache
from django.db import transaction
from django.db.transaction import Atomic

from tests.factories import Cast, make_cast


@pytest.fixture(autouse=True)
def _commit_hooks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run on_commit callbacks when the code's own outermost atomic block ends.

    pytest-django wraps a test in a transaction that never commits, so callbacks (tasks sent after commit) would never
    run. Two blocks belong to the test case: the class's transaction and the test's savepoint.
    """
    leave = Atomic.__exit__

    def leave_and_run(self: Atomic, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        leave(self, exc_type, exc_value, traceback)
        connection = transaction.get_connection(self.using)
        if exc_type is not None or not connection.in_atomic_block or len(connection.savepoint_ids) > 1:
            return
        while connection.run_on_commit and not connection.needs_rollback:
            _, callback, _ = connection.run_on_commit.pop(0)
            callback()

    monkeypatch.setattr(Atomic, "__exit__", leave_and_run)
    cache.clear()



@pytest.fixture
def cast(db: None) -> Cast:
    """alice owns Widget Corp, bob views it, erin edits it; mallory owns another tenant with the same names."""
    return make_cast()
