"""What edges ask: authorize and recheck, through the agent API's functions; answer, access log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import LazySettings
from django.utils import timezone

from access import decisions
from access.actions.applications import revoke_application_tokens, update_application
from access.actions.service_tokens import create_service_token, update_service_token
from access.authorize import AuthorizeRequest, as_json, authorize_request, recheck_streams
from access.destinations import resolve_destination
from access.evaluation import Outcome
from access.facts import Asker
from access.login_links import read_signed
from access.models import AccessRequest, Application
from accounts.errors import DomainError
from accounts.models import AccessSession
from accounts.ratelimits import Limit
from tests.access.makers import (
    ACTOR,
    CLIENT_IP,
    EVERYONE,
    HOSTNAME,
    add_policy,
    app_token,
    email_rule,
    make_application,
    make_provider,
    make_session,
)
from tests.factories import Cast


@pytest.fixture
def application(cast: Cast) -> Application:
    return make_application(cast.widgetcorp, include=[email_rule("alice@widgetcorp.test")], authority=False)


@pytest.fixture
def session(cast: Cast) -> AccessSession:
    return make_session(cast.widgetcorp)


def ask(**values: Any) -> Mapping[str, Any]:
    given = {"ray_id": "ray-9", "hostname": HOSTNAME, "path": "/", "client_ip": CLIENT_IP} | values
    return as_json(authorize_request(AuthorizeRequest(**given)))


def with_token(application: Application, session: AccessSession, **values: Any) -> Mapping[str, Any]:
    return ask(**({"token": app_token(application, session), "token_source": "header", "websocket": True} | values))


def logged() -> tuple[bool, str]:
    entry = AccessRequest.objects.get()
    assert (entry.action, entry.ray_id, entry.ip_address) == ("connect", "ray-9", CLIENT_IP)
    return entry.allowed, entry.reason


# --- People ---------------------------------------------------------------------------------------------------
def test_allowed_person(application: Application, session: AccessSession) -> None:
    token = app_token(application, session)
    answer = ask(token=token, token_source="header", websocket=True)
    # What the recheck wants to know again: when the token was issued.
    assert set(json.loads(answer.pop("evidence"))["opened"]) == {"issued"}
    assert answer == {
        "outcome": "allow",
        "application_id": str(application.pk),
        "organization_id": application.organization_id,
        "session_nonce": session.nonce,
        "identity": "alice@widgetcorp.test",
        "assertion": token,
        "destination": None,
        "cache_seconds": 0,
        "ends_in_seconds": None,
    }
    assert logged() == (True, "allowed")


def test_plain_requests_may_be_cached_briefly(application: Application, session: AccessSession) -> None:
    assert with_token(application, session, websocket=False)["cache_seconds"] == 60
    session.expires_at = timezone.now() + timedelta(seconds=20)
    session.save()
    assert 0 < with_token(application, session, websocket=False)["cache_seconds"] <= 20


def test_unknown_host_tells_nothing(cast: Cast) -> None:
    answer = ask(hostname="nothing.widgetcorp.test")
    assert (answer["outcome"], answer["status"], answer["reason"]) == ("deny", 404, "unknown_application")
    assert not AccessRequest.objects.exists()


def test_nobody_logged_in_is_sent_to_the_login(application: Application) -> None:
    answer = ask(path="/x", query="a=1")
    url = urlsplit(answer["location"])
    query = {key: values[0] for key, values in parse_qs(url.query).items()}
    assert answer["outcome"] == "login"
    assert url.path == f"/cdn-cgi/access/login/{HOSTNAME}"
    assert url.netloc == "widgetcorp.access.example.test"
    assert (query["kid"], query["redirect_url"]) == (application.aud, "/x?a=1")
    context = read_signed(query["meta"])
    assert context is not None
    assert context.application_id == str(application.pk)
    assert answer["set_cookie"][0].startswith("CF_AppSession=")
    assert "HttpOnly" in answer["set_cookie"][0]
    assert not AccessRequest.objects.exists()


def test_known_browser_gets_no_second_cookie(application: Application) -> None:
    assert ask(app_session="known")["set_cookie"] == []


def test_scripts_get_401_instead_of_a_redirect(application: Application) -> None:
    assert (ask(xhr=True)["status"], ask(xhr=True)["reason"]) == (401, "login_required")


def test_denied_by_policy_is_403_with_reason_and_reference(application: Application, cast: Cast) -> None:
    answer = with_token(application, make_session(cast.widgetcorp, "bob@widgetcorp.test"))
    assert answer == {
        "outcome": "deny",
        "status": 403,
        "reason": "email_not_allowed",
        "message": "Your e-mail address (bob@widgetcorp.test) is not on this application's list.",
        "reference": "ray-9",
    }
    assert logged() == (False, "email_not_allowed")


def test_wildcard_application_logs_in_at_the_asked_host(cast: Cast) -> None:
    make_application(cast.widgetcorp, hostname="*.widgetcorp.test", authority=False)
    assert "/cdn-cgi/access/login/any.widgetcorp.test?" in ask(hostname="any.widgetcorp.test")["location"]


@pytest.mark.parametrize("source", ["header", "cookie"])
def test_ac_29_foreign_tokens(application: Application, cast: Cast, source: str) -> None:
    """A header token that can never be good is refused; a browser's cookie just counts as absent."""
    other = make_application(cast.widgetcorp, hostname="other.widgetcorp.test", authority=False)
    foreign = make_application(cast.evilcorp, hostname="ssh.evilcorp.test", authority=False)
    tokens = [
        app_token(other, make_session(cast.widgetcorp)),
        app_token(foreign, make_session(cast.evilcorp)),
        "not.a.token",
        "x",
    ]
    for token in tokens:
        answer = ask(token=token, token_source=source)
        assert answer["outcome"] == ("deny" if source == "header" else "login")
        assert answer.get("status", 403) == 403


@pytest.mark.parametrize("case", ["expired token", "revoked session", "expired session", "tokens revoked"])
def test_what_a_login_repairs_leads_to_the_login(application: Application, session: AccessSession, case: str) -> None:
    now = timezone.now()
    token = app_token(application, session, now=now - timedelta(hours=2) if case == "expired token" else now)
    if case == "revoked session":
        session.revoked_at = now
    elif case == "expired session":
        session.expires_at = now - timedelta(seconds=1)
    elif case == "tokens revoked":
        revoke_application_tokens(application, actor=ACTOR)
    session.save()
    assert ask(token=token, token_source="header")["outcome"] == "login"


def test_ac_87_disabled_identity_is_refused_not_sent_round(application: Application, session: AccessSession) -> None:
    session.identity.disabled_at = timezone.now()
    session.identity.save()
    answer = with_token(application, session)
    assert (answer["status"], answer["reason"]) == (403, "identity_disabled")
    assert logged() == (False, "identity_disabled")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (f"https://{HOSTNAME}", True),
        (f"HTTPS://{HOSTNAME.upper()}", True),
        (None, False),
        ("null", False),
        ("https://evil.test", False),
        (f"http://{HOSTNAME}", False),
        (f"https://{HOSTNAME}.evil.test", False),
        (f"https://{HOSTNAME}:444", False),
    ],
)
def test_ac_60_websocket_with_cookie_needs_our_own_origin(
    application: Application, session: AccessSession, origin: str | None, allowed: bool
) -> None:
    answer = with_token(application, session, token_source="cookie", origin=origin)
    assert answer["outcome"] == ("allow" if allowed else "deny")
    assert with_token(application, session, origin=origin)["outcome"] == "allow", "a header token is no cookie"
    assert with_token(application, session, token_source="cookie", websocket=False)["outcome"] == "allow"


def test_ac_81_evaluation_that_blows_up_denies(
    application: Application, session: AccessSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*args: Any, **options: Any) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(decisions, "evaluate", explode)
    answer = with_token(application, session)
    assert (answer["status"], answer["reason"]) == (403, "policy_error")
    assert "bug" not in answer["message"]
    assert logged() == (False, "policy_error")


def test_ac_83_country_comes_from_the_peer_address_only(
    cast: Cast, session: AccessSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = make_application(cast.widgetcorp, include=[{"geo": {"country_code": "PT"}}], authority=False)
    monkeypatch.setattr("access.country.resolve", lambda ip: {"203.0.113.7": "PT"}.get(ip, "FR"))
    assert with_token(application, session)["outcome"] == "allow"
    answer = with_token(application, session, client_ip="198.51.100.1")
    assert answer["reason"] == "country_not_allowed"
    assert answer["message"] == "Your country (FR) is not one of those this application requires."
    assert set(AccessRequest.objects.values_list("country", flat=True)) == {"PT", "FR"}


def test_bypass_needs_nobody(cast: Cast) -> None:
    make_application(cast.widgetcorp, decision="bypass", authority=False)
    answer = ask(websocket=True)
    assert (answer["outcome"], answer["identity"], answer["assertion"]) == ("allow", None, None)


# --- Machines -------------------------------------------------------------------------------------------------
@pytest.fixture
def machine(cast: Cast, application: Application) -> dict[str, str]:
    token, secret = create_service_token(cast.widgetcorp, actor=ACTOR, name="ci")
    add_policy(application, include=[{"service_token": {"token_id": str(token.pk)}}], decision="non_identity")
    return {"service_token_id": token.client_id, "service_token_secret": secret}


def test_service_token_passes_with_an_assertion_naming_it(machine: dict[str, str]) -> None:
    answer = ask(**machine, websocket=True)
    assert (answer["outcome"], answer["identity"], answer["session_nonce"]) == ("allow", "ci", None)
    assert answer["assertion"].count(".") == 2
    entry = AccessRequest.objects.get()
    assert (entry.allowed, entry.email, entry.connection, entry.reason) == (
        True,
        "ci",
        "service_token",
        "service_token",
    )


@pytest.mark.parametrize(
    "change", [{"service_token_secret": "x"}, {"service_token_id": "y"}, {"service_token_secret": None}]
)
def test_bad_service_token_is_401_never_a_login(machine: dict[str, str], change: dict[str, Any]) -> None:
    answer = ask(**(machine | change))
    assert (answer["status"], answer["reason"]) == (401, "service_token_invalid")
    assert logged() == (False, "service_token_invalid")


def test_ac_101_wrong_service_tokens_of_one_address_are_limited_and_do_not_fill_the_log(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("access.authorize.SERVICE_TOKEN_FAILURE_BY_ADDRESS", Limit("test", 3, 600))
    wrong = {"service_token_id": "x.access", "service_token_secret": "y"}
    assert [ask(**wrong)["status"] for _ in range(5)] == [401, 401, 401, 429, 429]
    assert AccessRequest.objects.count() == 3
    assert ask(**wrong, client_ip="192.0.2.77")["status"] == 401
    # Nobody else at that address is locked out.
    assert ask()["outcome"] == "login"


def test_valid_but_unwanted_service_token_is_403(cast: Cast, machine: dict[str, str]) -> None:
    other, secret = create_service_token(cast.widgetcorp, actor=ACTOR, name="other")
    answer = ask(service_token_id=other.client_id, service_token_secret=secret)
    assert (answer["status"], answer["reason"]) == (403, "service_token_not_allowed")


def test_service_token_of_another_tenant(cast: Cast, machine: dict[str, str]) -> None:
    foreign, secret = create_service_token(cast.evilcorp, actor=ACTOR, name="ci")
    assert ask(service_token_id=foreign.client_id, service_token_secret=secret)["status"] == 401


# --- Bastion destinations -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rules", "wanted", "expected"),
    [
        ([], None, None),
        ([], "10.0.0.5:22", "!destination_not_allowed"),
        (["10.0.0.5:22"], None, "10.0.0.5:22"),
        (["10.0.0.5/32:22"], None, "10.0.0.5:22"),
        (["[fd00::5]:22"], None, "[fd00::5]:22"),
        (["db.internal:22"], None, "db.internal:22"),
        (["db.internal:22"], "ssh://DB.internal:22/x", "db.internal:22"),
        (["10.0.0.0/8:22"], None, "!destination_required"),
        (["*.internal:22"], None, "!destination_required"),
        (["*:22"], None, "!destination_required"),
        (["db.internal:22-23"], None, "!destination_required"),
        (["a.internal:22", "b.internal:22"], None, "!destination_required"),
        (["10.0.0.0/8:22"], "10.1.2.3:22", "10.1.2.3:22"),
        (["10.0.0.0/8:22"], "10.1.2.3:23", "!destination_not_allowed"),
        (["10.0.0.0/8:22"], "11.1.2.3:22", "!destination_not_allowed"),
        (["10.0.0.0/8:22"], "127.0.0.1:22", "!destination_not_allowed"),
        (["10.0.0.0/8:22"], "169.254.169.254:22", "!destination_not_allowed"),
        (["10.0.0.0/8:22"], "0x0a010203:22", "!destination_invalid"),
        (["10.0.0.0/8:22"], "[::ffff:10.1.2.3]:22", "!destination_invalid"),
        (["10.0.0.0/8:22"], "10.1.2.3", "!destination_invalid"),
        (["10.0.0.0/8:22"], "user@10.1.2.3:22", "!destination_invalid"),
        (["db.internal:22"], "db.internal.evil.test:22", "!destination_not_allowed"),
        (["nonsense"], "10.1.2.3:22", "!policy_error"),
    ],
)
def test_ac_62_destinations(rules: list[str], wanted: str | None, expected: str | None) -> None:
    try:
        found = resolve_destination(wanted, rules, required=True)
    except DomainError as error:
        found = f"!{error.code}"
    assert found == expected


def test_ac_62_destination_is_checked_after_the_policy_and_logged(
    application: Application, session: AccessSession, cast: Cast
) -> None:
    application.bastion_destinations = ["10.0.0.5:22"]
    application.save()
    assert with_token(application, session)["destination"] == "10.0.0.5:22"
    answer = with_token(application, session, destination="10.0.0.6:22")
    assert (answer["status"], answer["reason"]) == (403, "destination_not_allowed")
    assert AccessRequest.objects.filter(allowed=False, reason="destination_not_allowed").count() == 1
    bob = make_session(cast.widgetcorp, "bob@widgetcorp.test")
    assert with_token(application, bob, destination="10.0.0.6:22")["reason"] == "email_not_allowed"


# --- Live streams ---------------------------------------------------------------------------------------------
def stream(application: Application, session: AccessSession | None = None, **values: Any) -> dict[str, Any]:
    return {
        "stream_id": "s1",
        "application_id": str(application.pk),
        "session_nonce": session.nonce if session else None,
        "service_token_id": None,
        "client_ip": CLIENT_IP,
        "destination": None,
    } | values


def reasons(*streams: dict[str, Any]) -> list[str]:
    return [cut["reason"] for cut in recheck_streams(list(streams))]


def test_unchanged_stream_goes_on_even_past_the_session_s_natural_end(
    application: Application, session: AccessSession
) -> None:
    assert reasons(stream(application, session)) == []
    session.expires_at = timezone.now() - timedelta(minutes=1)
    session.save()
    assert reasons(stream(application, session)) == []


def test_ac_87_streams_are_cut_after_each_kind_of_revocation(cast: Cast, application: Application) -> None:
    revoked, disabled, excluded = (make_session(cast.widgetcorp, subject=str(n)) for n in range(3))
    revoked.revoked_at = timezone.now()
    revoked.save()
    disabled.identity.disabled_at = timezone.now()
    disabled.identity.save()
    excluded.identity.email = "bob@widgetcorp.test"
    excluded.identity.save()
    cuts = recheck_streams(
        [stream(application, s, stream_id=str(n)) for n, s in enumerate((revoked, disabled, excluded))]
    )
    assert [(cut["stream_id"], cut["reason"]) for cut in cuts] == [
        ("0", "session_revoked"),
        ("1", "identity_disabled"),
        ("2", "email_not_allowed"),
    ]
    assert all(cut["message"] for cut in cuts)


def test_ac_84_a_login_method_taken_off_an_application_ends_tokens_and_streams(
    cast: Cast, application: Application, session: AccessSession
) -> None:
    own, other = session.identity.provider, make_provider(cast.widgetcorp, name="Other")
    application.allowed_providers.set([own])
    token = app_token(application, session)
    assert ask(token=token, token_source="header")["outcome"] == "allow"
    assert reasons(stream(application, session)) == []
    update_application(application, allowed_provider_ids=[own.pk, other.pk], actor=ACTOR)
    assert ask(token=token, token_source="header")["outcome"] == "allow"
    update_application(application, allowed_provider_ids=[other.pk], actor=ACTOR)
    assert ask(token=token, token_source="header")["outcome"] == "login"
    assert reasons(stream(application, session)) == ["login_method_not_allowed"]


def test_policy_or_application_gone(application: Application, session: AccessSession) -> None:
    row = stream(application, session)
    application.policy_links.all().delete()
    assert reasons(row) == ["no_policy_matches"]
    application.delete()
    assert reasons(row) == ["unknown_application"]


def test_destination_no_longer_allowed(application: Application, session: AccessSession) -> None:
    application.bastion_destinations = ["10.0.0.5:22"]
    application.save()
    assert reasons(stream(application, session, destination="10.0.0.5:22")) == []
    assert reasons(stream(application, session, destination="10.0.0.6:22")) == ["destination_not_allowed"]


def test_service_token_streams(cast: Cast, application: Application, machine: dict[str, str]) -> None:
    row = stream(application, service_token_id=machine["service_token_id"])
    assert reasons(row) == []
    from access.models import ServiceToken

    token = ServiceToken.objects.get()
    ServiceToken.objects.update(expires_at=timezone.now() - timedelta(days=1), duration_seconds=3600)
    assert reasons(row) == ["service_token_expired"]
    ServiceToken.objects.update(expires_at=None, duration_seconds=None)
    assert reasons(row) == []
    update_service_token(token, actor=ACTOR, name="ci", duration_seconds=None, enabled=False)
    assert reasons(row) == ["service_token_inactive"]
    ServiceToken.objects.all().delete()
    assert reasons(row) == ["service_token_invalid"]


def test_streams_of_another_tenants_session_are_cut(cast: Cast, application: Application) -> None:
    assert reasons(stream(application, make_session(cast.evilcorp))) == ["session_unknown"]


@pytest.mark.parametrize("junk", [{}, {"application_id": 5}, {"application_id": "x", "client_ip": None}])
def test_unreadable_streams_are_cut(cast: Cast, junk: dict[str, Any]) -> None:
    assert reasons(junk) == ["unknown_application"]


def test_many_streams_cost_few_queries(
    cast: Cast, application: Application, django_assert_max_num_queries: Any
) -> None:
    sessions = [make_session(cast.widgetcorp) for _ in range(60)]
    with django_assert_max_num_queries(5):
        assert reasons(*(stream(application, session) for session in sessions)) == []


def test_authorize_query_budget(
    application: Application, session: AccessSession, django_assert_max_num_queries: Any
) -> None:
    token = app_token(application, session)
    with django_assert_max_num_queries(6):
        ask(token=token, token_source="header", websocket=True)


def test_request_and_answer_hide_tokens_in_repr(application: Application, session: AccessSession) -> None:
    token = app_token(application, session)
    request = AuthorizeRequest("r", HOSTNAME, "/", CLIENT_IP, token=token, service_token_secret="very-secret")
    assert token not in repr(request) + repr(authorize_request(request))
    assert "very-secret" not in repr(request)


def test_decide_refuses_a_dead_service_token(cast: Cast, application: Application, machine: dict[str, str]) -> None:
    from access.models import ServiceToken

    token = ServiceToken.objects.get()
    token.enabled = False
    decision = decisions.decide(application, Asker(CLIENT_IP, timezone.now(), service_token=token))
    assert (decision.outcome, decision.reason) == (Outcome.DENY, "service_token_inactive")


def test_session_duration_is_the_policys_or_the_applications(cast: Cast, settings: LazySettings) -> None:
    application = make_application(cast.widgetcorp, authority=False, session_duration_seconds=1234)
    session = make_session(cast.widgetcorp)
    now = timezone.now()
    found = decisions.decide(application, Asker(CLIENT_IP, now, session))
    assert found.session_duration_seconds == 1234
    policy = application.policy_links.get().policy
    policy.session_duration_seconds = 60
    policy.include = [EVERYONE]
    policy.save()
    found = decisions.decide(application, Asker(CLIENT_IP, now, session))
    assert found.session_duration_seconds == 60


# --- Preflight requests of other sites --------------------------------------------------------------------------
CORS = {"allowed_origins": ["https://app.example.com"], "allowed_methods": ["GET", "PUT"], "allow_credentials": True}
PREFLIGHT = {"method": "OPTIONS", "origin": "https://app.example.com", "preflight_method": "PUT"}


def preflight(application: Application, settings: dict[str, Any], **changed: Any) -> Mapping[str, Any]:
    Application.objects.filter(pk=application.pk).update(settings=settings)
    return ask(**{**PREFLIGHT, **changed})


def test_a_preflight_is_answered_as_the_settings_say(application: Application) -> None:
    answer = preflight(application, {"cors_headers": CORS})
    assert (answer["outcome"], answer["status"]) == ("answer", 200)
    headers = dict(answer["headers"])
    assert headers["access-control-allow-origin"] == "https://app.example.com"
    assert headers["access-control-allow-methods"] == "GET, PUT"
    assert headers["access-control-allow-credentials"] == "true"
    assert not AccessRequest.objects.exists()


def test_a_strange_site_gets_no_leave(application: Application) -> None:
    answer = preflight(application, {"cors_headers": CORS}, origin="https://evil.example.com")
    assert [name for name, _ in answer["headers"]] == ["vary"]


def test_all_headers_and_a_wildcard_site(application: Application) -> None:
    settings = {
        "cors_headers": {
            "allowed_origins": ["https://*.example.com"],
            "allow_all_methods": True,
            "allow_all_headers": True,
            "max_age": 60,
        }
    }
    asked = {"origin": "https://a.example.com", "preflight_headers": "X-One, x two, X-Three"}
    headers = dict(preflight(application, settings, **asked)["headers"])
    assert headers["access-control-allow-methods"] == "PUT"
    assert headers["access-control-allow-headers"] == "X-One, X-Three"
    assert headers["access-control-max-age"] == "60"
    assert len(preflight(application, settings, origin="https://example.com.evil.test")["headers"]) == 1


def test_a_preflight_passed_on_needs_no_login(application: Application) -> None:
    answer = preflight(application, {"options_preflight_bypass": True})
    assert (answer["outcome"], answer["identity"], answer["cache_seconds"]) == ("allow", None, 0)


def test_everything_else_needs_a_login(application: Application) -> None:
    assert preflight(application, {})["outcome"] == "login"
    for settings in ({"cors_headers": CORS}, {"options_preflight_bypass": True}):
        for changed in ({"method": "GET"}, {"origin": None}, {"preflight_method": None}, {"websocket": True}):
            assert preflight(application, settings, **changed)["outcome"] == "login", (settings, changed)


@pytest.mark.parametrize(
    "wrong",
    [
        {"allow_all_origins": True, "allowed_origins": ["https://a.test"], "allow_all_methods": True},
        {"allow_all_origins": True},
        {"allow_all_origins": True, "allow_all_methods": True, "allow_credentials": True},
        {"allowed_origins": ["a.test/path"], "allow_all_methods": True},
        {"allow_all_origins": True, "allowed_methods": ["GE T"]},
        {"allow_all_origins": True, "allow_all_methods": True, "max_age": 90000},
        {"allow_all_origins": "yes", "allow_all_methods": True},
        {"allow_all_origins": True, "allowed_methods": "GET"},
    ],
)
def test_settings_no_browser_would_heed_are_refused(application: Application, wrong: dict[str, Any]) -> None:
    with pytest.raises(DomainError):
        update_application(application, actor=ACTOR, settings={"cors_headers": wrong})
