"""For tests of pages: a browser on the dashboard's host, sign-in, and what to look for in an answer."""

from __future__ import annotations

import re
from typing import Any

from django.apps import apps
from django.db import connection
from django.http import HttpResponse
from django.test import Client

from accounts.models import AuditEvent, Organization, User
from tests.factories import PASSWORD

EVIL_NAME = "<script>alert('x')</script>\"&{{ 7*7 }}"


def browser() -> Client:
    return Client(headers={"host": "testserver"})


def login(user: User) -> Client:
    client = browser()
    assert client.login(email=user.email, password=PASSWORD)
    return client


def text_of(response: Any) -> str:
    assert isinstance(response, HttpResponse)
    return response.content.decode()


def shown(client: Client, url: str) -> str:
    """The page at `url`, which has to be there."""
    response = client.get(url)
    assert response.status_code == 200, (url, response.status_code)
    return text_of(response)


def form_id(page: str) -> str:
    """The id of the first form of a page, as a browser would send it."""
    found = re.search(r'name="form_id" value="([^"]+)"', page)
    assert found is not None
    return found.group(1)


def last_event(organization: Organization) -> AuditEvent:
    event = AuditEvent.objects.for_organization(organization).order_by("-id").first()
    assert event is not None
    return event


def event_names(organization: Organization) -> list[str]:
    return list(AuditEvent.objects.for_organization(organization).order_by("id").values_list("name", flat=True))


def rows_of(organization: Organization) -> dict[str, list[Any]]:
    """Every row of an organization, to see that nothing changed."""
    found = {}
    with connection.cursor() as cursor:
        for model in apps.get_models():
            if any(field.name == "organization" for field in model._meta.fields):
                # Not through the models: hundreds of tests ask this, and building objects takes most of their time.
                key = Organization._meta.pk.get_db_prep_value(organization.pk, connection)
                table = connection.ops.quote_name(model._meta.db_table)
                cursor.execute(f"SELECT * FROM {table} WHERE organization_id = %s", [key])
                found[model.__name__] = sorted(map(repr, cursor.fetchall()))
    return found
