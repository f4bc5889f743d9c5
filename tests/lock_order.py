"""Every action that a test runs is watched: after its event is written nothing else may be locked.

The head of the audit chain stays locked until the commit. Who locks a row after that may wait for somebody who has it
and waits for the chain: PostgreSQL ends one of the two with "deadlock detected" (docs/architecture.md, "Locks").
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from django.db.backends.utils import CursorWrapper
from django.db.transaction import Atomic

_WRITE = re.compile(r'\s*(?:INSERT INTO|UPDATE|DELETE FROM) "(\w+)"')
_LOCK = re.compile(r'FOR (?:NO KEY )?UPDATE(?: OF "(\w+)")?')
_FROM = re.compile(r'FROM "(\w+)"')
_HEAD = "accounts_auditchain"
# What is locked after the head, in this order: by accounts.audit alone.
_AFTER = frozenset({_HEAD, "accounts_edgeversion", "accounts_edgechange"})
_found: list[str] = []
# Pages that show a request run the action and whatever the view does after it in one transaction, and roll it back.
_SHOWN_REQUESTS = frozenset({"test_api_forms.py", "test_api_forms_all.py", "test_api_buttons.py"})
_transaction = threading.local()


def _locked_by(sql: str) -> str | None:
    """The table whose rows a statement locks."""
    if "pg_advisory_xact_lock" in sql:
        return "advisory"
    written = _WRITE.match(sql)
    if written is not None:
        return written[1]
    locked = _LOCK.search(sql)
    if locked is None:
        return None
    named = locked[1] or ((_FROM.search(sql) or [None, None])[1])
    return str(named)


def _blocks() -> list[Atomic]:
    """Of the code under test, outermost first."""
    return [block for block in transaction.get_connection().atomic_blocks if not block._from_testcase]


def _watch(sql: str) -> None:
    # Most statements only read, outside of any action: they are let by before anything costs time.
    if (sql.startswith("SELECT") and " FOR " not in sql and "pg_advisory" not in sql) or not _blocks():
        return
    table = _locked_by(sql)
    if table is None:
        return
    seen: set[str] = _transaction.__dict__.setdefault("seen", set())
    # What was locked before the head may be written again: an API call that is several actions on one object.
    is_new = sql.lstrip().startswith("INSERT")
    if _HEAD in seen and not is_new and table not in seen | _AFTER:
        _found.append(sql[:200])
    seen.add(table)


@pytest.fixture(scope="session", autouse=True)
def _lock_watch() -> Iterator[None]:
    execute, enter = CursorWrapper.execute, Atomic.__enter__

    def watched(self: CursorWrapper, sql: Any, params: Any = None) -> Any:
        if isinstance(sql, str):
            _watch(sql)
        return execute(self, sql, params)

    def entered(self: Atomic) -> None:
        # One object serves every call of a decorated function.
        if not _blocks():
            _transaction.__dict__.clear()
        enter(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CursorWrapper, "execute", watched)
        patch.setattr(Atomic, "__enter__", entered)
        yield


@pytest.fixture(autouse=True)
def _events_come_last(request: pytest.FixtureRequest) -> Iterator[None]:
    _found.clear()
    yield
    assert request.node.path.name in _SHOWN_REQUESTS or not _found, f"locked after the action's event: {_found}"
