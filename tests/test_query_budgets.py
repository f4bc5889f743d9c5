"""No page asks the database once per object: every page of an organization needs as many queries for many objects as
for a few. Generic over routes, so a new page is covered by being there.
"""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.models import Organization, User
from tests.pages_kit import browser
from tests.test_every_url import team_routes, urls_of
from tests.world import make_world

# A page may need more than this only for a reason written here.
MOST_QUERIES = 22
FEW = {"applications": 6, "groups": 6, "identities": 6, "log_rows": 40}
MANY = {"applications": 60, "groups": 60, "identities": 60, "log_rows": 600}


def queries_of_pages(sizes: dict[str, int]) -> dict[str, int]:
    """Queries by page, in an installation that is forgotten afterwards."""
    found = {}
    with transaction.atomic():
        call_command("seed_load", **sizes, verbosity=0)
        organization = Organization.objects.get(team_name="loadcorp")
        organization.identity_providers.filter(name="One-time PIN").update(name="PIN of the load")
        world = make_world(organization, domain="world.load.test")
        client = browser()
        client.force_login(User.objects.get(email="owner@load.test"))
        for route in team_routes():
            for url in urls_of(world, route):
                client.get(url)  # what is only asked once per process is no matter here
                with CaptureQueriesContext(
                    connection,
                ) as captured:
                    status = client.get(url).status_code
                if status == 200:
                    found[str(route.name)] = len(captured)
        transaction.set_rollback(True)
    return found


@pytest.mark.django_db
def test_queries_do_not_grow_with_the_objects() -> None:
    few, many = queries_of_pages(FEW), queries_of_pages(MANY)
    assert few.keys() == many.keys()
    assert len(many) > 80
    assert {name: (few[name], many[name]) for name in few if many[name] > few[name]} == {}
    assert {name: count for name, count in many.items() if count > MOST_QUERIES} == {}
