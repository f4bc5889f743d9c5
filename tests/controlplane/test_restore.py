"""Fault 48: a copy of the database and the keys are the whole installation: what is restored signs."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from django.db import connection, connections

from access.models import Application, Certificate
from accounts.models import AccessSession
from tests.access.makers import make_application, make_session, sign
from tests.factories import make_cast

pytestmark = pytest.mark.django_db(transaction=True)


def test_fault_48_a_copy_made_while_it_is_used_is_restored_and_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cast = make_cast()
    application, session = make_application(cast.widgetcorp), make_session(cast.widgetcorp)
    first = sign(application, session).json()
    copy = tmp_path / "copy.sqlite3"
    # As docs/operations.md says; the connection that goes on writing stays open.
    with sqlite3.connect(str(connection.settings_dict["NAME"])) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    sign(application, session)
    known = Certificate.objects.count()

    connection.close()
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", str(copy))
    try:
        assert Certificate.objects.count() == known - 1, "this is the copy"
        restored = Application.objects.select_related("organization").get(pk=application.pk)
        again = sign(restored, AccessSession.objects.select_related("identity").get(pk=session.pk)).json()
        rows = {str(row.pk): row for row in Certificate.objects.select_related("authority")}
        assert rows[again["id"]].authority == rows[first["id"]].authority, "hosts trust it already"
        assert rows[again["id"]].serial != rows[first["id"]].serial
    finally:
        connection.close()
