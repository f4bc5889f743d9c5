"""AC-102: one flood is stopped at who makes it; everybody else is served."""

from __future__ import annotations

import pytest
from django.conf import LazySettings

from accounts.models import AuditEvent
from tests.access.makers import make_application, make_session, sign
from tests.factories import Cast


@pytest.fixture(autouse=True)
def _one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a test in one window, wherever in the minute it starts."""
    monkeypatch.setattr("access.signing_limits.WINDOW_SECONDS", 10**6)


def test_ac_102_a_person_who_floods_is_stopped_and_told_and_others_are_served(
    cast: Cast, settings: LazySettings
) -> None:
    settings.SIGNING_LIMIT_PER_IDENTITY = 3
    application = make_application(cast.widgetcorp)
    flooding, other = make_session(cast.widgetcorp), make_session(cast.widgetcorp, "bob@widgetcorp.test")
    assert [sign(application, flooding).status_code for _ in range(3)] == [200, 200, 200]

    refused = [sign(application, flooding) for _ in range(4)]

    assert {answer.status_code for answer in refused} == {429}
    assert refused[0].json()["reason"] == "too_many_certificates"
    assert "3 a minute" in refused[0].json()["message"]
    assert 0 < int(refused[0]["Retry-After"]) <= 10**6
    assert sign(application, other).status_code == 200
    event = AuditEvent.objects.get(name="access.certificate.limit_reached")
    assert event.new == {"limit_of": "asker", "per_minute": 3}
    assert event.actor_label == "alice@widgetcorp.test"


def test_ac_102_one_organization_never_uses_up_anothers(cast: Cast, settings: LazySettings) -> None:
    settings.SIGNING_LIMIT_PER_ORGANIZATION = 4
    ours, theirs = make_application(cast.widgetcorp), make_application(cast.evilcorp, hostname="ssh.evilcorp.test")
    flood = [make_session(cast.evilcorp, f"m{number}@evilcorp.test") for number in range(6)]
    assert [sign(theirs, session).status_code for session in flood] == [200] * 4 + [429] * 2
    assert sign(ours, make_session(cast.widgetcorp)).status_code == 200
    assert AuditEvent.objects.get(name="access.certificate.limit_reached").organization == cast.evilcorp


def test_ac_102_a_stopped_person_does_not_use_up_the_organizations_limit(cast: Cast, settings: LazySettings) -> None:
    settings.SIGNING_LIMIT_PER_IDENTITY, settings.SIGNING_LIMIT_PER_ORGANIZATION = 2, 3
    application, flooding = make_application(cast.widgetcorp), make_session(cast.widgetcorp)
    for _ in range(10):
        sign(application, flooding)
    assert sign(application, make_session(cast.widgetcorp, "bob@widgetcorp.test")).status_code == 200
