"""What Django and Celery must not do for strangers (AC-105, AC-108). Routes come from the URLconfs; none is listed."""

from __future__ import annotations

import pickle
import re
import uuid
from typing import Any

import pytest
from django.conf import settings
from django.core import mail
from django.test import Client
from django.urls import reverse
from kombu.exceptions import ContentDisallowed
from kombu.serialization import dumps, loads, prepare_accept_content

from controlplane.celery import app
from tests.access.edge_client import TEAM, EdgeBrowser
from tests.access.makers import HOSTNAME, make_application
from tests.factories import Cast
from tests.test_every_url import URLCONFS, Route, routes

# Programs call these, with credentials of their own in each request; no cookie counts there.
MACHINE = re.compile(r"client/v4/|agent/v1/|healthz$|cdn-cgi/access/(cert_sign|certs|metadata)$")
PARAMETER = re.compile(r"<(?:(\w+):)?\w+>")
EXAMPLES = {"uuid": str(uuid.UUID(int=1)), "int": "1"}
HOSTS = {
    "controlplane.urls": settings.DASHBOARD_HOSTS[0],
    "access.team_urls": TEAM,
    "access.app_urls": HOSTNAME,
}


def pages() -> list[tuple[str, Route]]:
    found = [(urlconf, route) for urlconf in URLCONFS for route in routes(urlconf)]
    # Regular expressions are Django admin's own catch-alls.
    return [(urlconf, route) for urlconf, route in found if not MACHINE.match(route.path) and "(?P" not in route.path]


def example_of(path: str) -> str:
    return "/" + PARAMETER.sub(lambda match: EXAMPLES.get(match[1] or "str", "x"), path)


@pytest.mark.django_db
def test_ac108_forms_of_people_need_their_csrf_token(cast: Cast) -> None:
    make_application(cast.widgetcorp, authority=False)
    clients = {urlconf: EdgeBrowser() for urlconf in HOSTS}
    clients["controlplane.urls"].client(HOSTS["controlplane.urls"]).force_login(cast.alice)
    before = mail.outbox[:]
    refused = 0
    for urlconf, route in pages():
        url = f"https://{HOSTS[urlconf]}{example_of(route.path)}"
        for origin in ("https://evil.example", f"https://{HOSTS[urlconf]}"):
            answer = clients[urlconf].request("POST", url, {"csrfmiddlewaretoken": "x" * 64}, HTTP_ORIGIN=origin)
            assert answer.status_code == 403, (url, origin, answer.status_code)
            refused += 1
    assert refused > 150
    assert mail.outbox == before


@pytest.mark.django_db
@pytest.mark.parametrize("host", ["evil.example", f"{settings.DASHBOARD_HOSTS[0]}@evil.example", "evil.example:8000"])
def test_ac108_a_foreign_host_header_gets_no_mail_sent(cast: Cast, host: str) -> None:
    """The link in a password mail is made from the Host header."""
    path = reverse("account_reset_password")
    own_name = settings.DASHBOARD_HOSTS[0]
    forwarded: list[dict[str, Any]] = [{}, {"HTTP_X_FORWARDED_HOST": own_name}]
    for headers in forwarded:
        refused = Client().post(path, {"email": cast.alice.email}, HTTP_HOST=host, **headers)
        assert refused.status_code in (400, 404)
    own: dict[str, Any] = {"HTTP_HOST": own_name, "HTTP_X_FORWARDED_HOST": "evil.example"}
    assert Client().post(path, {"email": cast.alice.email}, **own).status_code == 302
    assert [message.to for message in mail.outbox] == [[cast.alice.email]]
    assert "evil.example" not in mail.outbox[0].body


def test_ac105_only_json_is_taken_from_the_broker() -> None:
    accepted = prepare_accept_content(app.conf.accept_content)
    assert accepted == {"application/json"}
    assert app.conf.task_serializer == app.conf.result_serializer == "json"
    with pytest.raises(ContentDisallowed):
        loads(pickle.dumps([[], {}, {}]), "application/x-python-serialize", "binary", accept=accepted)
    with pytest.raises(ContentDisallowed):
        loads("!!python/object/apply:os.getcwd []", "application/x-yaml", "utf-8", accept=accepted)
    content_type, encoding, body = dumps([[], {}, {}], serializer="json")
    assert loads(body, content_type, encoding, accept=accepted) == [[], {}, {}]


@pytest.mark.django_db
def test_ac101_nul_in_addresses_and_forms_is_refused_before_the_database(cast: Cast) -> None:
    """PostgreSQL refuses NUL with an error of its own; nobody may turn that into a server error."""
    make_application(cast.widgetcorp, authority=False)
    team = EdgeBrowser(csrf=False)
    access = f"https://{TEAM}/cdn-cgi/access"
    for path in (
        "login/a%00b",
        "login/x?kid=%00",
        "ssh/%00/ca.pub",
        "pin/%00",
        "cli?host=%00&aud=x",
        "callback?state=%00",
    ):
        assert team.get(f"{access}/{path}").status_code == 404, path
    answer = team.request("POST", f"{access}/cli", {"host": "a\0b", "aud": "x", "token": "x"})
    assert answer.status_code == 404
