"""Fault 46: a burst of deactivations, scaled down. `python -m bench.scim` shows the full size on a real server."""

from __future__ import annotations

from accounts.models import AccessSession, Identity
from tests.access.makers import make_session
from tests.accounts.scim_kit import PATCH, make_scim
from tests.factories import Cast

USERS = 60


def test_a_burst_of_deactivations(cast: Cast) -> None:
    scim = make_scim(cast.widgetcorp)
    paths = []
    for number in range(USERS):
        email = f"u{number}@widgetcorp.test"
        make_session(cast.widgetcorp, email, provider=scim.provider)
        paths.append(f"/Users/{scim.user(email, externalId=email)['id']}")
    body = {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "active", "value": False}]}
    for path in paths:
        assert scim.send("PATCH", path, body).status_code == 200
    assert Identity.objects.filter(disabled_at=None).count() == 0
    assert AccessSession.objects.filter(revoked_at=None).count() == 0
