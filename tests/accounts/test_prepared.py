"""Prepared queries answer as the querysets they were made from, and see every change at once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import CharField, DateTimeField
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import AccessSession, AuditEvent, Organization
from accounts.prepared import Parameter, PreparedRows, PreparedUpdate, insert
from tests.access.makers import make_session
from tests.factories import Cast

ROWS = PreparedRows(
    lambda: AccessSession.objects.filter(
        organization=Parameter("organization", Organization._meta.pk), nonce=Parameter("nonce", CharField())
    ).select_related("identity__provider", "organization")
)
REVOKE = PreparedUpdate(
    lambda: AccessSession.objects.filter(nonce=Parameter("nonce", CharField()), revoked_at=None),
    revoked_at=Parameter("now", DateTimeField()),
)


def test_rows_equal_those_of_the_queryset(cast: Cast) -> None:
    session = make_session(cast.widgetcorp)
    expected = AccessSession.objects.select_related("identity__provider", "organization").get(pk=session.pk)
    for _ in range(2):  # compiled, then kept
        with CaptureQueriesContext(connection) as queries:
            found = ROWS.first(organization=cast.widgetcorp.pk, nonce=session.nonce)
            assert found is not None
            for kind in ("", "identity", "organization"):
                ours, theirs = (getattr(row, kind) if kind else row for row in (found, expected))
                assert {f.attname: getattr(ours, f.attname) for f in ours._meta.concrete_fields} == {
                    f.attname: getattr(theirs, f.attname) for f in theirs._meta.concrete_fields
                }
            assert found.identity.provider == expected.identity.provider
        assert len(queries) == 1
    assert ROWS.first(organization=cast.widgetcorp.pk, nonce="unknown") is None
    assert ROWS.first(organization="f" * 32, nonce=session.nonce) is None
    assert ROWS.first(organization=cast.widgetcorp.pk, nonce="' OR 1=1 --") is None


def test_update_changes_once_and_is_seen_at_once(cast: Cast) -> None:
    session, now = make_session(cast.widgetcorp), timezone.now()
    assert REVOKE.run(nonce=session.nonce, now=now) == 1
    assert REVOKE.run(nonce=session.nonce, now=now + timedelta(hours=1)) == 0
    found = ROWS.first(organization=cast.widgetcorp.pk, nonce=session.nonce)
    assert found is not None
    assert found.revoked_at == now


def test_insert_stores_what_create_would(cast: Cast) -> None:
    event = insert(AuditEvent(organization=cast.widgetcorp, name="x", actor_kind="system", new={"a": [1, None]}))
    stored = AuditEvent.objects.get(pk=event.pk)
    assert (stored.new, stored.old, stored.created_at) == ({"a": [1, None]}, None, event.created_at)
    event.name = "y"
    event.save(update_fields=["name"])
    assert AuditEvent.objects.filter(pk=event.pk, name="y").exists()


def test_insert_meets_constraints(cast: Cast) -> None:
    session = make_session(cast.widgetcorp)
    twin = AccessSession(
        organization=cast.widgetcorp, identity=session.identity, nonce=session.nonce, expires_at=timezone.now()
    )
    with pytest.raises(IntegrityError), transaction.atomic():
        insert(twin)
