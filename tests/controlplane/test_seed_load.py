"""manage.py seed_load: large, the same every time, and never by accident among real people's data."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import Client

from access.models import AccessRequest, Application, ApplicationPolicy, Certificate, Group
from accounts.actions.audit_chains import verify_all
from accounts.models import AuditEvent, Identity, Organization
from tests.factories import Cast
from tests.pages_kit import browser, shown

SMALL: dict[str, Any] = {"applications": 8, "groups": 4, "identities": 9, "log_rows": 200}
UNTIL = datetime(2026, 11, 22, 12, tzinfo=UTC)


def seed(**options: Any) -> str:
    out = StringIO()
    call_command("seed_load", **{**SMALL, "until": UNTIL, **options}, stdout=out)
    return out.getvalue()


def rows() -> list[Any]:
    decisions = AccessRequest.objects.order_by("created_at").values_list("pk", "email", "allowed", "created_at")
    certificates = Certificate.objects.order_by("created_at").values_list("pk", "serial", "valid_before")
    events = AuditEvent.objects.filter(actor_kind="identity").order_by("created_at").values_list("name", "actor_label")
    return [*decisions, *certificates, *events, *Application.objects.values_list("pk", "hostname", "aud")]


def test_makes_what_was_asked_for(db: None) -> None:
    said = seed()
    organization = Organization.objects.get(team_name="loadcorp")
    assert Application.objects.for_organization(organization).count() == 8
    assert Group.objects.for_organization(organization).count() == 4
    assert Identity.objects.for_organization(organization).count() == 9
    counts = [model.objects.for_organization(organization).count() for model in (AccessRequest, Certificate)]
    assert counts == [110, 30]
    assert AuditEvent.objects.for_organization(organization).count() == 60 + 1  # and the organization's own
    assert "110 decisions, 30 certificates, 60 audit events" in said
    assert ApplicationPolicy.objects.filter(application__organization=organization).count() >= 8


def test_the_same_seed_makes_the_same_rows(db: None) -> None:
    with transaction.atomic():
        seed()
        first = rows()
        transaction.set_rollback(True)
    seed()
    assert rows() == first
    assert max(row.created_at for row in AccessRequest.objects.all()) <= UNTIL


def test_its_owner_can_sign_in_and_look(db: None) -> None:
    password = seed().split("with the password ")[1].strip()
    client: Client = browser()
    assert client.login(email="owner@load.test", password=password)
    assert "Platform host 0" in shown(client, "/o/loadcorp/access/applications/")
    assert "Engineers get in" in shown(client, f"/o/loadcorp/access/log/{AccessRequest.objects.all()[0].pk}/")


def test_refuses_where_there_is_real_data(cast: Cast) -> None:
    with pytest.raises(CommandError, match="has organizations"):
        seed()
    assert Organization.objects.count() == 2
    seed(among_real_data=True)
    assert Organization.objects.count() == 3
    with pytest.raises(CommandError, match="there already"):
        seed(among_real_data=True)


def test_its_audit_log_is_a_whole_chain(db: None) -> None:
    seed()
    assert [found.problem for found in verify_all(now=UNTIL).values()] == [""]
