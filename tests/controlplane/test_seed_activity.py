"""manage.py seed_activity: days of life for a demo organization, counted by the code that counts real ones."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.models import Identity
from tests.factories import Cast
from tests.pages_kit import browser, shown
from tests.world import make_world
from tunnels.models import HourOfActivity


@pytest.mark.once
def test_home_shows_logins_sessions_and_certificates(cast: Cast) -> None:
    world = make_world(cast.widgetcorp, domain="widgetcorp.tech")
    said = StringIO()
    call_command("seed_activity", "widgetcorp", days=2, stdout=said)
    assert "logins" in said.getvalue() and "certificates in the last 2 days" in said.getvalue()
    hours = HourOfActivity.objects.for_organization(world.organization).filter(logins_allowed__gt=0)
    assert hours.count() > 20
    assert hours.filter(sessions_peak__gt=0, certificates__gt=0).exists()
    assert not HourOfActivity.objects.exclude(organization=world.organization).filter(logins_allowed__gt=0).exists()
    client = browser()
    client.force_login(cast.alice)
    page = shown(client, "/o/widgetcorp/?by=day")
    assert "nothing yet" not in page.partition("All applications")[0].partition("Tunnel health")[0]
    assert Identity.objects.for_organization(cast.widgetcorp).filter(email="ana.almeida@widgetcorp.test").exists()


def test_refuses_outside_of_a_demo(cast: Cast, settings: Any) -> None:
    with pytest.raises(CommandError, match="Generate an SSH certificate"):
        call_command("seed_activity", "widgetcorp")
    with pytest.raises(CommandError, match="no organization"):
        call_command("seed_activity", "nobody")
    settings.UNVERIFIED_ZONE_SUFFIX = ""
    with pytest.raises(CommandError, match="no demo installation"):
        call_command("seed_activity", "widgetcorp")
