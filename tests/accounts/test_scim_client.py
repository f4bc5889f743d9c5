"""Our SCIM service as clients of other people's making see it: the scim2-client library, and the scim2-tester suite.

Both are imported where they are used: that takes a second, which only the process that runs these tests has to spend.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections

from accounts.models import ScimUser
from tests.access.makers import CLIENT_IP
from tests.accounts.scim_kit import Scim, make_scim
from tests.factories import Cast


@pytest.fixture
def scim(cast: Cast) -> Scim:
    return make_scim(cast.widgetcorp)


@pytest.fixture
def client(scim: Scim) -> Iterator[Any]:
    """The application as a WSGI server runs it, but inside the test's transaction: the connection stays open."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield _client(scim)
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def _client(scim: Scim) -> Any:
    from scim2_client.engines.wsgi import WSGISCIMClient
    from scim2_models import ScimProvider

    edge = {"HTTP_SALLYPORT_EDGE_TOKEN": settings.EDGE_TOKEN, "HTTP_SALLYPORT_CLIENT_IP": CLIENT_IP}
    return WSGISCIMClient(
        get_wsgi_application(),
        base_url=f"https://{scim.provider.organization.team_domain}{scim.base}",
        headers={"Authorization": f"Bearer {scim.secret}"},
        environ=edge,
        provider=ScimProvider(),
    )


def test_the_compliance_suite_finds_no_error(client: Any) -> None:
    from scim2_tester import Status, check_server

    results = check_server(client)
    assert len(results) > 50
    failed = [f"{result.title}: {result.reason}" for result in results if result.status == Status.ERROR]
    assert failed == [], "\n".join(failed)


def test_a_client_that_discovers_everything(client: Any) -> None:
    from scim2_models import PatchOp, PatchOperation, SearchRequest

    client.discover()
    user_model, group_model = client.get_resource_model("User"), client.get_resource_model("Group")
    made = client.create(user_model(user_name="alice@widgetcorp.test", active=True))
    group = client.create(group_model(display_name="engineering", members=[{"value": made.id}]))
    off = PatchOp[user_model](operations=[PatchOperation(op="replace", path="active", value=False)])
    assert client.modify(user_model, made.id, off).active is False
    found = client.query(user_model, query_parameters=SearchRequest(filter='userName eq "ALICE@widgetcorp.test"'))
    assert [user.id for user in found.resources] == [made.id]
    client.delete(group_model, group.id)
    client.delete(user_model, made.id)
    assert not ScimUser.objects.exists()
