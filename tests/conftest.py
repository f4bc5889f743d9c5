"""Shared fixtures: the cast, and commit hooks that run as they would in production."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import _state as celery_state
from django.conf import settings as django_settings
from django.core.cache import cache
from django.db import transaction
from django.db.transaction import Atomic
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

from tests.databases import database_template, django_db_setup
from tests.dns_server import DnsServer
from tests.factories import Cast, make_cast
from tests.lock_order import _events_come_last, _lock_watch
from tests.shared_rows import module_transaction, own_savepoint
from tests.token_keys import ready_made_token_keys
from tunnels.tasks import spent_seconds

__all__ = [
    "_events_come_last",
    "_lock_watch",
    "database_template",
    "django_db_setup",
    "module_transaction",
    "own_savepoint",
    "ready_made_token_keys",
]

# What runs on SQLite only; docs/testing.md says which question each of these answers, and where PostgreSQL is asked.
_ONCE = ("dataplane/", "browser/", "integration/people/")
_ONCE_FILES = (
    # Files, source and processes.
    "test_architecture.py",
    "test_canaries.py",
    "test_docs.py",
    "test_make_run.py",
    # Copies the file of SQLite.
    "test_restore.py",
    # Permutations of requests over views that both databases see (_BOTH asks for each of them).
    "test_api_sdk.py",
    "test_api_sdk_people.py",
    "test_api_sdk_policies.py",
    "test_every_url.py",
    "test_query_budgets.py",
    "test_scim_client.py",
    # What other people's providers say: signatures, claims, time-outs.
    "test_login_cloud_providers.py",
    "test_login_oidc.py",
    "test_login_saml.py",
    "test_login_somebody_elses_oidc.py",
    "test_provider_pages.py",
    "test_provider_places.py",
    # Texts and drawings made of rows that others store and read.
    "test_api_buttons.py",
    "test_api_forms.py",
    "test_api_forms_all.py",
    "test_asks_first.py",
    "test_host_setup.py",
    "test_look.py",
    "test_navigation.py",
    "test_page_weight.py",
    "test_policy_terms.py",
    "test_words.py",
)
_BOTH = ("test_pages_open_exactly_for_the_roles_that_may[owner]",)
# Tests here use cache or broker without the database.
_BROKER_FILES = ("test_jobs.py", "test_repeats.py", "test_framework.py", "test_authorize.py", "test_authorities.py")


# The longest first, so that no worker is left alone with one at the end.
_LONG = ("integration/streams/", "integration/people/", "integration/", "browser/", "test_every_url.py")


def _place(item: pytest.Item) -> str:
    return item.path.relative_to(Path(__file__).parent).as_posix()


# The same examples in every run, however slow the machine: what a run finds must not depend on chance.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("suite", patient, derandomize=True)
settings.register_profile("explore", patient)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The second run leaves these out anyway (-m "not once"): then they need not even be imported."""
    if config.getoption("markexpr") != "not once":
        return None
    place = collection_path.relative_to(Path(__file__).parent).as_posix() + "/"
    unneeded = collection_path.name in _ONCE_FILES and collection_path.name != "test_every_url.py"
    return True if unneeded or place.startswith(_ONCE) else None


def pytest_sessionstart() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    """Five thousand tests are two million objects, which live to the end: looking through them again and again for
    garbage takes a tenth of the run."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: [not _place(item).startswith(long) for long in _LONG])
    for item in items:
        listed = _place(item).startswith(_ONCE) or item.path.name in _ONCE_FILES
        if (listed and item.name not in _BOTH) or not _touches_services(item):
            item.add_marker(pytest.mark.once)


def _touches_services(item: pytest.Item) -> bool:
    """Without a fixture of the database pytest-django refuses queries; installations bring a database of their own."""
    fixtures = set(getattr(item, "fixturenames", ()))
    return (
        _place(item).startswith("integration/")
        or item.path.name in _BROKER_FILES
        or item.get_closest_marker("django_db") is not None
        or not fixtures.isdisjoint({"db", "transactional_db"})
    )


class _Scheduling(LoadFileScheduling):
    """A file's tests go to one process (--dist loadfile), and so do files that share an installation."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", 1)[0]
        folder = path.rpartition("/")[0]
        return folder if folder.endswith(("integration/streams", "integration/people")) else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    return _Scheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _commit_hooks_run() -> Iterator[None]:
    """Run on_commit callbacks when the code's own outermost atomic block ends.

    pytest-django wraps a test in a transaction that never commits, so callbacks (tasks sent after commit) would never
    run. Blocks that belong to the test (or to its module) are marked so by whoever opened them.
    """
    leave = Atomic.__exit__

    def leave_and_run(self: Atomic, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        leave(self, exc_type, exc_value, traceback)
        connection = transaction.get_connection(self.using)
        if exc_type is not None or not connection.in_atomic_block:
            return
        if not all(block._from_testcase for block in connection.atomic_blocks):
            return
        while connection.run_on_commit and not connection.needs_rollback:
            _, callback, _ = connection.run_on_commit.pop(0)
            callback()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Atomic, "__exit__", leave_and_run)
        yield


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> None:
    # A real worker of an earlier test marks its whole process as "inside a task", where waiting is refused.
    celery_state._set_task_join_will_block(False)
    cache.clear()
    spent_seconds.clear()


@pytest.fixture
def cast(db: None) -> Cast:
    """alice owns Widget Corp, bob views it, erin edits it; mallory owns another tenant with the same names."""
    return make_cast()


@pytest.fixture(scope="session", autouse=True)
def _loopback_dns() -> Iterator[DnsServer]:
    """Tasks run where they are called, so adding a zone asks DNS: ask a server of our own, never the network."""
    server = DnsServer()
    server.start()
    django_settings.DNS_RESOLVERS = [server.address]
    yield server
    server.stop()


@pytest.fixture
def dns_server(_loopback_dns: DnsServer) -> Iterator[DnsServer]:
    """The server every lookup of the suite asks; empty (NXDOMAIN for all) until a test adds records."""
    _loopback_dns.clear()
    yield _loopback_dns
    _loopback_dns.clear()
