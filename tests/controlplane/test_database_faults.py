"""Fault 8: a database that refuses. The answer is a bounded error that says so, and nothing is half done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import InternalError, OperationalError, connection

from access.models import Tag
from tests.controlplane.api_kit import make_api
from tests.factories import Cast
from tests.pages_kit import login, shown, text_of

ADD = "/o/widgetcorp/access/tags/add/"


@pytest.fixture
def read_only(cast: Cast) -> Iterator[Callable[[], None]]:
    """What happens from the call on finds a database that only reads."""

    def begin() -> None:
        connection.check_constraints()  # PostgreSQL locks rows for that, which it refuses afterwards
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA query_only = ON" if connection.vendor == "sqlite" else "SET TRANSACTION READ ONLY")

    yield begin
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA query_only = OFF")


def test_fault_8_a_read_only_database_is_read_and_refuses_changes_plainly(
    cast: Cast, read_only: Callable[[], None]
) -> None:
    client = login(cast.alice)
    assert "Add a tag" in shown(client, ADD)
    read_only()
    assert "Add a tag" in shown(client, ADD), "pages can still be read"
    response = client.post(ADD, {"name": "Databases"})
    assert response.status_code == 503
    assert "does not take changes right now" in text_of(response)
    assert not Tag.objects.exists()


@pytest.mark.parametrize(
    "refused",
    [
        OperationalError("database or disk is full"),
        OperationalError("canceling statement due to statement timeout"),
        OperationalError("deadlock detected"),
        InternalError("cannot execute INSERT in a read-only transaction"),
    ],
    ids=["full", "slow", "deadlock", "read-only"],
)
def test_fault_8_programs_are_told_to_come_back(
    cast: Cast, refused: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = make_api(cast.widgetcorp)

    def refuse(*_: Any, **__: Any) -> None:
        raise refused

    monkeypatch.setattr("access.api_tags.create_tag", refuse)
    error = api.refused("POST", f"{api.account}/access/tags", {"name": "Databases"}, status=503)
    assert str(refused) not in str(error)
