"""Authorize and recheck over the agent API: the whole way from an edge's question to rows in the access log."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.utils import timezone

from access import tokens
from access.actions.applications import create_application
from access.actions.policies import create_policy
from access.models import AccessRequest, Application
from accounts.actions.identities import disable_identity, record_login
from accounts.actions.identity_providers import create_provider
from accounts.actor import Actor
from accounts.models import AccessSession, IdentityProvider, Organization
from tests.factories import Cast
from tests.tunnels.helpers import Agent, actor_of, make_zone
from tunnels.models import Zone

HOST = "ssh.widgetcorp.localhost"


@pytest.fixture
def alice(cast: Cast) -> Actor:
    return actor_of(cast.alice)


def make_application(organization: Organization, actor: Actor, hostname: str) -> Application:
    application = create_application(organization, actor=actor, name="SSH", domain=hostname)
    create_policy(
        organization,
        actor=actor,
        name="people",
        decision="allow",
        include=[{"email": {"email": "dana@people.test"}}],
        application=application,
    )
    return application


@pytest.fixture
def application(cast: Cast, alice: Actor) -> Application:
    make_zone(cast.widgetcorp, cast.alice)
    return make_application(cast.widgetcorp, alice, HOST)


def log_in(organization: Organization, actor: Actor, email: str = "dana@people.test") -> AccessSession:
    provider = IdentityProvider.objects.filter(organization=organization, name="PIN").first()
    if provider is None:
        provider = create_provider(
            organization, type="onetimepin", name="PIN", config={}, client_secret=None, actor=actor
        )
    return record_login(
        provider, subject=email, email=email, email_verified=True, name="", groups=[], claims={}, amr=["otp"],
        ip="192.0.2.5", country="", user_agent="ssh", session_seconds=3600,
    )  # fmt: skip


def token_for(application: Application, session: AccessSession) -> str:
    return tokens.mint_application_token(
        application, session, now=timezone.now(), lifetime_seconds=600, country=session.country
    )


def question(**changes: Any) -> dict[str, Any]:
    return {
        "ray_id": "0123456789abcdef",
        "hostname": HOST,
        "path": "/",
        "query": "",
        "method": "GET",
        "websocket": True,
        "client_ip": "192.0.2.5",
        "user_agent": "sallyport",
        "token": None,
        "token_source": None,
        "app_session": None,
        "service_token_id": None,
        "service_token_secret": None,
        "destination": None,
        "xhr": False,
        "origin": None,
        **changes,
    }


def ask(**changes: Any) -> dict[str, Any]:
    response = Agent().post("authorize", question(**changes))
    assert response.status_code == 200, response.content
    answer: dict[str, Any] = response.json()
    return answer


def test_a_good_token_is_allowed_and_logged(cast: Cast, application: Application, alice: Actor) -> None:
    session = log_in(cast.widgetcorp, alice)
    token = token_for(application, session)
    answer = ask(token=token, token_source="header")
    assert set(json.loads(answer.pop("evidence"))["opened"]) == {"issued"}
    assert answer == {
        "outcome": "allow",
        "application_id": str(application.pk),
        "organization_id": cast.widgetcorp.pk,
        "session_nonce": session.nonce,
        "identity": "dana@people.test",
        "assertion": token,
        "destination": None,
        "cache_seconds": 0,
        "ends_in_seconds": None,
    }
    row = AccessRequest.objects.get()
    assert (row.allowed, row.email, row.ray_id) == (True, "dana@people.test", "0123456789abcdef")
    assert token not in json.dumps(row.trace)


def test_without_a_token_a_login_is_offered(cast: Cast, application: Application) -> None:
    answer = ask(websocket=False)
    assert answer["outcome"] == "login"
    assert answer["location"].startswith("https://widgetcorp.access.example.test/cdn-cgi/access/login/")
    assert len(answer["set_cookie"]) == 1


def test_refusals_have_a_reason(cast: Cast, application: Application, alice: Actor) -> None:
    stranger = token_for(application, log_in(cast.widgetcorp, alice, "eve@people.test"))
    make_zone(cast.evilcorp, cast.mallory, "evilcorp.localhost")
    theirs = make_application(cast.evilcorp, actor_of(cast.mallory), "ssh.evilcorp.localhost")
    foreign = token_for(theirs, log_in(cast.evilcorp, actor_of(cast.mallory)))
    for changes, status in [
        ({"token": stranger, "token_source": "header"}, 403),
        ({"token": "nonsense", "token_source": "header"}, 403),
        ({"token": foreign, "token_source": "header"}, 403),
        ({"hostname": "unknown.widgetcorp.localhost"}, 404),
        ({"service_token_id": "x.access", "service_token_secret": "y"}, 401),
    ]:
        answer = ask(**changes)
        assert (answer["outcome"], answer["status"]) == ("deny", status), changes
        assert answer["reason"]
        assert answer["message"]
        assert answer["reference"] == "0123456789abcdef"
    assert not AccessRequest.objects.filter(allowed=True).exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"hostname": None},
        {"hostname": "x" * 254},
        {"path": 3},
        {"path": "/\0"},
        {"client_ip": "somewhere"},
        {"token": 7},
        {"token": "x" * 40_000},
        {"token_source": "query"},
        {"websocket": "yes"},
        {"ray_id": "r" * 33},
    ],
)
def test_senseless_questions(application: Application, changes: dict[str, Any]) -> None:
    response = Agent().post("authorize", question(**changes))
    assert (response.status_code, response.json()["reason"]) == (400, "invalid_request")
    assert not AccessRequest.objects.exists()


def test_oversized_questions(application: Application) -> None:
    assert Agent().post("authorize", b" " * (256 * 1024 + 1)).status_code == 413


def stream(application: Application, session: AccessSession, stream_id: str = "s1") -> dict[str, Any]:
    return {
        "stream_id": stream_id,
        "application_id": str(application.pk),
        "session_nonce": session.nonce,
        "service_token_id": None,
        "client_ip": "192.0.2.5",
        "destination": None,
    }


def recheck(*streams: dict[str, Any]) -> list[dict[str, str]]:
    response = Agent().post("recheck", {"streams": list(streams)})
    assert response.status_code == 200, response.content
    cuts: list[dict[str, str]] = response.json()["cut"]
    return cuts


def test_streams_of_a_disabled_identity_are_cut(cast: Cast, application: Application, alice: Actor) -> None:
    session = log_in(cast.widgetcorp, alice)
    other = make_other_session(cast, alice, application)
    both = (stream(application, session), stream(application, other, "s2"))
    assert recheck(*both) == []
    disable_identity(session.identity, actor=alice)
    (cut,) = recheck(*both)
    assert cut["stream_id"] == "s1"
    assert cut["reason"]
    assert cut["message"]


def make_other_session(cast: Cast, alice: Actor, application: Application) -> AccessSession:
    create_policy(
        cast.widgetcorp, actor=alice, name="others", decision="allow", application=application,
        include=[{"email": {"email": "erin@people.test"}}],
    )  # fmt: skip
    return log_in(cast.widgetcorp, alice, "erin@people.test")


def test_streams_below_a_zone_that_is_no_longer_proved_are_cut(
    cast: Cast, application: Application, alice: Actor
) -> None:
    session = log_in(cast.widgetcorp, alice)
    Zone.objects.filter(organization=cast.widgetcorp).update(status="moved")
    (cut,) = recheck(stream(application, session))
    assert (cut["stream_id"], cut["reason"]) == ("s1", "zone_not_active")


def test_streams_of_unknown_applications_are_cut(cast: Cast, application: Application, alice: Actor) -> None:
    session = log_in(cast.widgetcorp, alice)
    for application_id in ("nonsense", "00000000-0000-0000-0000-000000000000", None):
        (cut,) = recheck({**stream(application, session), "application_id": application_id})
        assert cut["reason"] == "unknown_application"


@pytest.mark.parametrize("body", [{}, {"streams": {}}, {"streams": [1]}, {"streams": [{}]}, {"streams": [{}] * 5001}])
def test_senseless_rechecks(application: Application, body: dict[str, Any]) -> None:
    assert Agent().post("recheck", body).status_code == 400


def test_a_thousand_streams_take_few_queries(
    cast: Cast, application: Application, alice: Actor, django_assert_max_num_queries: Any
) -> None:
    session = log_in(cast.widgetcorp, alice)
    with django_assert_max_num_queries(10):
        assert recheck(*(stream(application, session, str(number)) for number in range(1000))) == []
