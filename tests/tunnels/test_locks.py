"""Changes that meet, on PostgreSQL: neither ends the other with "deadlock detected". SQLite, which knows one writer at
a time, has only to do both.

Both are held where each has what it locks first; the one that comes second waits for the database there instead, in
the order that docs/architecture.md ("Locks") gives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from access.actions.applications import create_application
from access.actions.groups import create_group, update_group
from accounts import audit, factor_mail, totp
from accounts.actions import second_factor
from accounts.actions.authenticators import begin_totp, finish_totp, remove_authenticator, totp_secret
from accounts.actions.identities import disable_identity
from accounts.actions.sessions import revoke_session
from tests.access.makers import ACTOR, make_session
from tests.factories import Cast, make_cast
from tunnels.actions.records import create_record, update_record
from tunnels.actions.zones import create_zone, delete_zone

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE = 30.0


class Meeting:
    """Two threads wait for each other, unless the other one waits for the database or has ended. The polite one then
    lets the other go first."""

    def __init__(self) -> None:
        self.pids: dict[int, int] = {}
        self.polite = 0
        self.ended: set[int] = set()
        self.here: set[int] = set()
        self.began = threading.Barrier(2, timeout=PATIENCE)

    def call(self, action: Callable[[], object], is_polite: bool) -> str:
        me = threading.get_ident()
        try:
            if is_polite:
                self.polite = me
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_backend_pid()")
                    self.pids[me] = cursor.fetchone()[0]
            self.began.wait()
            action()
            return ""
        except Exception as error:  # noqa: BLE001 - told to the test
            return f"{type(error).__name__}: {error}"
        finally:
            self.ended.add(me)
            connection.close()

    def wait(self) -> None:
        me = threading.get_ident()
        if me not in self.pids or me in self.here:
            return
        self.here.add(me)
        (other,) = self.pids.keys() - {me}
        self._until(lambda: other in self.here or self._is_out_of_the_way(other))
        if me == self.polite:
            self._until(lambda: self._is_out_of_the_way(other))

    def _is_out_of_the_way(self, thread: int) -> bool:
        if thread in self.ended:
            return True
        with connection.cursor() as cursor:
            cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [self.pids[thread]])
            return bool(cursor.fetchone()[0])

    @staticmethod
    def _until(condition: Callable[[], bool]) -> None:
        limit = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < limit, "the other one neither came nor waits for the database"
            time.sleep(0.01)


def together(monkeypatch: pytest.MonkeyPatch, places: list[tuple[Any, str]], *actions: Callable[[], object]) -> None:
    """Both actions, each held where it comes to one of the places (module, function) first; then the second leads."""
    meeting = Meeting()
    for module, name in places:
        held = getattr(module, name)

        def call(*args: Any, held: Any = held, **kwargs: Any) -> Any:
            meeting.wait()
            return held(*args, **kwargs)

        monkeypatch.setattr(module, name, call)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(meeting.call, actions, (True, False)))
    assert not [answer for answer in answers if answer and not answer.startswith("NotFound")], answers


@pytest.fixture
def team() -> Cast:
    return make_cast()


EVENT = [(audit, "_append")]


def test_deleting_a_zone_while_a_record_in_it_is_edited(team: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    zone = create_zone(team.widgetcorp, name="locks.localhost", actor=ACTOR)
    record = create_record(zone, type="A", name="www", content="192.0.2.1", actor=ACTOR)
    together(
        monkeypatch,
        EVENT,
        lambda: delete_zone(zone, actor=ACTOR),
        lambda: update_record(record, content="192.0.2.2", actor=ACTOR),
    )


def test_adding_an_application_while_somebody_is_disabled(team: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    create_zone(team.widgetcorp, name="locks.localhost", actor=ACTOR)
    identity = make_session(team.widgetcorp).identity
    values: dict[str, Any] = {"name": "ssh", "domain": "ssh.locks.localhost"}
    together(
        monkeypatch,
        EVENT,
        lambda: create_application(team.widgetcorp, actor=ACTOR, **values),
        lambda: disable_identity(identity, actor=ACTOR),
    )


def test_editing_a_group_while_a_session_is_ended(team: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event names the organization, whose row the edit of a group holds."""
    group = create_group(team.widgetcorp, actor=ACTOR, name="staff", include=[{"everyone": {}}])
    session = make_session(team.widgetcorp)
    together(
        monkeypatch,
        EVENT,
        lambda: update_group(group, actor=ACTOR, name="people"),
        lambda: revoke_session(session, actor=ACTOR),
    )


def test_a_code_while_its_authenticator_is_removed(team: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    session = make_session(team.widgetcorp)
    now = timezone.now()
    challenge = begin_totp(session, now=now)
    secret = totp_secret(session, challenge.pk, now=now)
    assert secret is not None
    code = totp.code_at(secret, int(now.timestamp()) // totp.STEP_SECONDS)
    enrolled = finish_totp(session, challenge_id=challenge.pk, code=code, name="", now=now, actor=ACTOR)
    assert enrolled is not None
    following = totp.code_at(secret, int(now.timestamp()) // totp.STEP_SECONDS + 1)
    together(
        monkeypatch,
        [(second_factor, "remember"), (factor_mail, "tell_person")],
        lambda: remove_authenticator(session, enrolled.authenticator, now=now, actor=ACTOR),
        lambda: second_factor.check_code(session, text=following, now=now, actor=ACTOR),
    )
