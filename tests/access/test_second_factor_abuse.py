"""What attackers try against the second factor. Each of these has been somebody's hole."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.core.cache import cache
from django.db import connection
from django.http import HttpResponse
from django.utils import timezone

from access.actions.service_tokens import create_service_token
from access.authorize import AuthorizeRequest, Deny, Login, authorize_request
from access.decisions import decide
from access.evaluation import Decision
from access.facts import Asker
from access.models import AccessRequest, Application, HandOver
from access.recheck import recheck_streams
from accounts.actions.authenticators import reset_authenticators
from accounts.actions.organizations import update_organization
from accounts.actions.second_factor import check_code
from accounts.mfa_models import FactorChallenge, IdentityAuthenticator, RecoveryCode
from accounts.models import AccessSession, AuditEvent, Identity
from accounts.second_factor import Moment
from tests.access.edge_client import HOST, TEAM, EdgeBrowser, form_of
from tests.access.login_flows import make_application, pin_provider
from tests.access.makers import ACTOR, CLIENT_IP, add_policy, app_token, make_session, sign
from tests.access.makers import make_application as make_signing_application
from tests.access.mfa_kit import (
    ACCOUNT,
    ALL,
    EMAIL,
    SoftPasskey,
    add_passkey,
    app_code,
    ask_options,
    enroll_app,
    follow,
    log_in,
    onward_of,
    recovery_codes_of,
    team,
    text_of,
    use_passkey,
)
from tests.factories import Cast, make_cast

AUTHORIZED = f"https://{HOST}/cdn-cgi/access/authorized?"


@pytest.fixture
def application(cast: Cast) -> Application:
    pin_provider(cast.widgetcorp)
    return make_application(cast.widgetcorp, mfa_config=ALL)


@pytest.fixture
def secret(application: Application) -> bytes:
    """Alice has an authenticator app."""
    browser = EdgeBrowser()
    url, page = follow(browser, log_in(browser, application))
    return enroll_app(browser, url, page)[0]


@pytest.fixture
def key(application: Application) -> SoftPasskey:
    """Alice has a security key."""
    browser, key = EdgeBrowser(), SoftPasskey()
    _, page = follow(browser, log_in(browser, application))
    assert add_passkey(browser, page, key).status_code == 200
    return key


def asked(application: Application, email: str = EMAIL) -> tuple[EdgeBrowser, str, HttpResponse]:
    browser = EdgeBrowser()
    url, page = follow(browser, log_in(browser, application, email))
    assert "/second-factor?" in url, url
    return browser, url, page


def failures() -> list[str]:
    events = AuditEvent.objects.filter(name="accounts.second_factor.failed")
    return [event.new["reason"] for event in events if event.new is not None]


# --- codes ----------------------------------------------------------------------------------------------------


def test_a_code_is_good_once(application: Application, secret: bytes) -> None:
    browser, url, page = asked(application)
    code = app_code(secret)
    first = browser.submit(url, page, containing='name="code"', code=code)
    assert follow(browser, first)[0].startswith(AUTHORIZED)
    other, url, page = asked(application)
    again = other.submit(url, page, containing='name="code"', code=code)
    assert again.status_code == 403
    assert failures() == ["code_wrong"]
    # Nor is one from before it, which a phisher may still hold.
    assert other.submit(url, page, containing='name="code"', code=app_code(secret, steps=-1)).status_code == 403


@pytest.mark.parametrize("steps", [-3, -2, 2, 3])
def test_only_one_step_to_either_side(application: Application, secret: bytes, steps: int) -> None:
    IdentityAuthenticator.objects.update(last_step=0)
    browser, url, page = asked(application)
    assert browser.submit(url, page, containing='name="code"', code=app_code(secret, steps=steps)).status_code == 403


@pytest.mark.django_db(transaction=True)
def test_of_fifty_uses_of_a_code_at_once_exactly_one_counts() -> None:
    cast = make_cast()
    pin_provider(cast.widgetcorp)
    application = make_application(cast.widgetcorp, mfa_config=ALL)
    browser = EdgeBrowser()
    url, page = follow(browser, log_in(browser, application))
    secret, _ = enroll_app(browser, url, page)
    session = AccessSession.objects.select_related("identity", "organization").get()
    code, now = app_code(secret), timezone.now()

    def once(_: int) -> bool:
        try:
            return check_code(session, text=code, now=now, actor=ACTOR)
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(once, range(50)))
    assert answers.count(True) == 1


def test_guessing_is_limited_by_person_whatever_the_address(application: Application, secret: bytes) -> None:
    cache.clear()
    browser, url, page = asked(application)
    codes = []
    for number in range(20):
        browser.ip = f"203.0.113.{number}"
        codes.append(browser.submit(url, page, containing='name="code"', code="000000").status_code)
    assert codes == [403] * 15 + [429] * 5
    browser.ip = "198.51.100.9"
    assert browser.submit(url, page, containing='name="code"', code=app_code(secret)).status_code == 429


def test_a_recovery_code_is_good_once_and_never_where_only_keys_count(cast: Cast, application: Application) -> None:
    browser = EdgeBrowser()
    url, page = follow(browser, log_in(browser, application))
    _, done = enroll_app(browser, url, page)
    code = recovery_codes_of(done)[0]
    assert code not in json.dumps(list(RecoveryCode.objects.values_list("code_hash", flat=True)))
    other, url, page = asked(application)
    answer = other.submit(url, page, containing='name="code"', code=code.upper().replace("-", " "))
    assert follow(other, answer)[0].startswith(AUTHORIZED)
    third, url, page = asked(application)
    assert third.submit(url, page, containing='name="code"', code=code).status_code == 403
    Application.objects.update(mfa_config={**ALL, "allowed_authenticators": ["security_key"]})
    answer = third.submit(url, page, containing='name="code"', code=recovery_codes_of(done)[1])
    end, page = follow(third, answer)
    assert not end.startswith(AUTHORIZED)
    assert "Add a security key" in text_of(page)


# --- passkeys -------------------------------------------------------------------------------------------------


def test_a_challenge_is_good_once(application: Application, key: SoftPasskey) -> None:
    browser, _, page = asked(application)
    given = ask_options(browser, page, "check").json()
    action, fields = form_of(page, 'data-passkey="check"')
    values = {**fields, "challenge": given["id"], "answer": key.get(given["options"])}
    assert browser.request("POST", team(action), values).status_code == 303
    AccessSession.objects.update(factors=[])
    assert browser.request("POST", team(action), values).status_code == 403
    assert failures() == ["challenge_unknown"]


def test_a_challenge_belongs_to_its_session(application: Application, key: SoftPasskey) -> None:
    victim, _, page = asked(application)
    given = ask_options(victim, page, "check").json()
    answer = key.get(given["options"])
    thief, _, own = asked(application)
    action, fields = form_of(own, 'data-passkey="check"')
    values = {**fields, "challenge": given["id"], "answer": answer}
    assert thief.request("POST", team(action), values).status_code == 403
    assert FactorChallenge.objects.get(pk=given["id"]).used_at is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("origin", "https://widgetcorp.access.example.test.evil.test"),
        ("origin", "https://evilcorp.access.example.test"),
        ("origin", "https://sub.widgetcorp.access.example.test"),
        ("origin", "http://widgetcorp.access.example.test"),
        ("origin", "https://widgetcorp.access.example.test:444"),
        ("rp_id", "evilcorp.access.example.test"),
        ("rp_id", "access.example.test"),
    ],
)
def test_another_origin_or_relying_party_is_refused(
    application: Application, key: SoftPasskey, name: str, value: str
) -> None:
    browser, _, page = asked(application)
    setattr(key, name, value)
    assert use_passkey(browser, page, key).status_code == 403
    assert failures() == ["passkey_refused"]


def test_a_counter_that_goes_back_is_refused_and_told(application: Application, key: SoftPasskey) -> None:
    browser, _, page = asked(application)
    key.count = 40
    assert use_passkey(browser, page, key).status_code == 303
    copy, _, page = asked(application)
    key.count = 10
    assert use_passkey(copy, page, key).status_code == 403
    assert IdentityAuthenticator.objects.get().sign_count == 41
    assert AuditEvent.objects.filter(name="accounts.second_factor.copied").count() == 1
    key.count = 0
    assert use_passkey(copy, page, key).status_code == 403


def test_anothers_passkey_does_not_confirm(application: Application, key: SoftPasskey) -> None:
    mallory, own = EdgeBrowser(), SoftPasskey()
    _, page = follow(mallory, log_in(mallory, application, "mallory@widgetcorp.test"))
    assert add_passkey(mallory, page, own).status_code == 200
    thief, _, page = asked(application)  # with Alice's login
    assert use_passkey(thief, page, own).status_code == 403
    assert failures() == ["passkey_unknown"]


def test_a_credential_id_belongs_to_one_person(application: Application, key: SoftPasskey) -> None:
    mallory = EdgeBrowser()
    _, page = follow(mallory, log_in(mallory, application, "mallory@widgetcorp.test"))
    answer = add_passkey(mallory, page, SoftPasskey(credential_id=key.credential_id))
    assert answer.status_code == 409
    assert IdentityAuthenticator.objects.count() == 1


def test_biometrics_must_verify_the_person_each_time(application: Application) -> None:
    browser, key = EdgeBrowser(), SoftPasskey(verifies=False)
    _, page = follow(browser, log_in(browser, application))
    assert add_passkey(browser, page, key, "biometrics").status_code == 400
    key.verifies = True
    assert add_passkey(browser, page, key, "biometrics").status_code == 200
    other, _, page = asked(application)
    key.verifies = False
    assert use_passkey(other, page, key).status_code == 403


@pytest.mark.parametrize("answer", ["", "null", "[]", "{}", '{"id": 1}', "{" * 40000, '{"id": "x", "response": {}}'])
def test_garbage_is_refused(application: Application, key: SoftPasskey, answer: str) -> None:
    browser, _, page = asked(application)
    given = ask_options(browser, page, "check").json()
    action, fields = form_of(page, 'data-passkey="check"')
    values = {**fields, "challenge": given["id"], "answer": answer}
    assert browser.request("POST", team(action), values).status_code == 403


# --- around it ------------------------------------------------------------------------------------------------


def test_the_step_cannot_be_skipped(application: Application, secret: bytes) -> None:
    browser, url, _ = asked(application)
    before = HandOver.objects.count()
    resume = url.replace("/second-factor?", "/resume?")
    assert "/second-factor?" in browser.get(resume)["Location"]
    invented = browser.get(f"https://{HOST}/cdn-cgi/access/authorized?nonce={'x' * 43}")
    assert invented.status_code == 403
    head = browser.head(f"https://{TEAM}/cdn-cgi/access/login/{HOST}?{urlencode({'kid': application.aud})}")
    assert "/second-factor?" in head["Location"]
    assert HandOver.objects.count() == before
    assert browser.cookie(HOST, "CF_Authorization") == ""


def test_a_stolen_login_cannot_add_a_key_beside_the_owners(application: Application, secret: bytes) -> None:
    thief, _, page = asked(application)
    assert "Add a security key" not in text_of(page)
    _, fields = form_of(page, 'name="code"')
    options = f"https://{TEAM}/cdn-cgi/access/passkeys/options"
    refused = thief.request("POST", options, {**fields, "purpose": "security_key"})
    assert refused.status_code == 403
    assert thief.request("POST", f"{ACCOUNT}/app", fields).status_code == 403
    row = IdentityAuthenticator.objects.get()
    gone = thief.request("POST", f"{ACCOUNT}/{row.pk}/remove", {"csrfmiddlewaretoken": fields["csrfmiddlewaretoken"]})
    assert "/second-factor?" in gone["Location"]
    assert IdentityAuthenticator.objects.count() == 1


def test_a_phished_code_cannot_add_a_key_to_one_who_has_a_passkey(application: Application, secret: bytes) -> None:
    owner, url, page = asked(application)
    owner.submit(url, page, containing='name="code"', code=app_code(secret))
    key = SoftPasskey()
    assert add_passkey(owner, owner.get(ACCOUNT), key).status_code == 303
    IdentityAuthenticator.objects.update(last_step=0)
    thief, url, page = asked(application)
    answer = thief.submit(url, page, containing='name="code"', code=app_code(secret))
    assert answer.status_code == 303
    assert "Confirm that it is me" in text_of(thief.get(ACCOUNT))


def test_another_persons_setup_is_not_found(application: Application) -> None:
    alice = EdgeBrowser()
    url, page = follow(alice, log_in(alice, application))
    setup, shown = follow(alice, alice.submit(url, page, containing="/account/app"))
    thief = EdgeBrowser()
    follow(thief, log_in(thief, application))  # the same person's login, stolen
    assert "otpauth" not in text_of(follow(thief, thief.get(setup))[1])
    assert "otpauth" in text_of(shown)


def test_another_tenants_or_persons_authenticator_does_not_exist(
    cast: Cast, application: Application, secret: bytes
) -> None:
    row = IdentityAuthenticator.objects.get()
    mallory = EdgeBrowser()
    url, page = follow(mallory, log_in(mallory, application, "mallory@widgetcorp.test"))
    enroll_app(mallory, url, page)
    _, fields = form_of(mallory.get(ACCOUNT), "/rename")
    for what in ("rename", "remove"):
        answer = mallory.request("POST", f"{ACCOUNT}/{row.pk}/{what}", {**fields, "name": "mine"})
        assert answer.status_code == 404
    row.refresh_from_db()
    assert row.name == "Authenticator app"


def test_certificates_and_connections_want_it_too(cast: Cast) -> None:
    application = make_signing_application(cast.widgetcorp, hostname=HOST, mfa_config=ALL)
    session = _session(cast)
    refused = sign(application, session)
    assert (refused.status_code, refused.json()["reason"]) == (403, "mfa_required")
    assert "Log in again" in refused.json()["message"]
    entry = AccessRequest.objects.get(action="certificate")
    step = next(line for line in entry.trace if line.get("selector") == "mfa")
    assert step["verdict"] == "no_match"
    asked = AuthorizeRequest("ray", HOST, "/", CLIENT_IP, token=app_token(application, session), token_source="header")
    assert isinstance(authorize_request(asked), Login)
    _give(session, "totp", age=10)
    assert sign(application, session).status_code == 200
    _give(session, "totp", age=3700)
    assert sign(application, session).json()["reason"] == "mfa_required"
    _give(session, "security_key", age=10)
    Application.objects.update(mfa_config={**ALL, "allowed_authenticators": ["totp"]})
    application.refresh_from_db()
    assert sign(application, session).json()["reason"] == "mfa_required"


def test_a_token_ends_with_the_factor_it_rests_on(cast: Cast) -> None:
    application = make_signing_application(cast.widgetcorp, mfa_config=ALL)
    session = _session(cast)
    _give(session, "totp", age=3000)
    decision = _decide(application, session, Moment.LOGIN)
    assert decision.session_duration_seconds == 600


def test_each_login_asks_where_the_duration_is_zero(cast: Cast) -> None:
    application = make_signing_application(cast.widgetcorp, mfa_config={**ALL, "session_duration_seconds": 0})
    session = _session(cast)
    _give(session, "totp", age=60)
    assert _decide(application, session, Moment.LOGIN).allowed
    _give(session, "totp", age=180)
    assert _decide(application, session, Moment.LOGIN).reason == "mfa_required"
    assert _decide(application, session, Moment.USE).session_duration_seconds == 24 * 3600


def test_policy_over_application_over_organization(cast: Cast) -> None:
    application = make_signing_application(cast.widgetcorp)
    session = _session(cast)
    assert _decide(application, session).allowed
    update_organization(cast.widgetcorp, actor=ACTOR, mfa_required_for_all_apps=True)
    assert _decide(application, session).reason == "mfa_required"
    off = {"allowed_authenticators": [], "mfa_disabled": True, "session_duration_seconds": None}
    Application.objects.update(mfa_config=off)
    assert _decide(application, session).allowed
    policy = application.policy_links.get().policy
    policy.mfa_config = {**ALL, "mfa_disabled": False}
    policy.save()
    assert _decide(application, session).reason == "mfa_required"


def test_a_damaged_configuration_refuses(cast: Cast) -> None:
    application = make_signing_application(cast.widgetcorp, mfa_config={"allowed_authenticators": ["retina_scan"]})
    assert _decide(application, _session(cast)).reason == "policy_error"


def test_the_login_methods_own_factor_counts_only_when_the_organization_says_so(cast: Cast) -> None:
    application = make_signing_application(cast.widgetcorp, mfa_config=ALL)
    session = _session(cast)
    AccessSession.objects.update(authentication_methods=["pwd", "otp"])
    assert _decide(application, session).reason == "mfa_required"
    update_organization(cast.widgetcorp, actor=ACTOR, mfa_config={"amr_matching_session_duration": "1h"})
    assert _decide(application, session).allowed
    AccessSession.objects.update(created_at=timezone.now() - timedelta(hours=2))
    assert _decide(application, session).reason == "mfa_required"
    AccessSession.objects.update(created_at=timezone.now())
    Application.objects.update(mfa_config={**ALL, "allowed_authenticators": ["security_key"]})
    assert _decide(application, session).reason == "mfa_required"
    AccessSession.objects.update(authentication_methods=["mfa"])
    assert _decide(application, session).reason == "mfa_required"


def test_a_mailed_pin_is_no_second_factor(cast: Cast) -> None:
    pin_provider(cast.widgetcorp)
    update_organization(cast.widgetcorp, actor=ACTOR, mfa_config={"amr_matching_session_duration": "24h"})
    application = make_application(cast.widgetcorp, mfa_config=ALL)
    browser = EdgeBrowser()
    assert "/second-factor?" in follow(browser, log_in(browser, application))[0]


def test_a_rule_that_wants_the_method_asks_for_it_instead_of_refusing(cast: Cast) -> None:
    application = make_signing_application(cast.widgetcorp, mfa_config=ALL)
    policy = application.policy_links.get().policy
    policy.require = [{"auth_method": {"auth_method": "otp"}}]
    policy.save()
    session = _session(cast)
    decision = _decide(application, session)
    assert decision.reason == "mfa_required"
    assert decision.missing_factor is not None
    _give(session, "totp", age=5, amr=["otp", "mfa"])
    assert _decide(application, session).allowed


def test_service_tokens_never_pass_a_policy_that_wants_it(cast: Cast) -> None:
    application = make_signing_application(cast.widgetcorp, mfa_config=ALL)
    add_policy(application, include=[{"any_valid_service_token": {}}])
    token, secret = create_service_token(cast.widgetcorp, actor=ACTOR, name="ci", duration_seconds=3600)
    request = AuthorizeRequest(
        "ray",
        application.hostname,
        "/",
        CLIENT_IP,
        service_token_id=token.client_id,
        service_token_secret=secret,
    )
    answer = authorize_request(request)
    assert isinstance(answer, Deny)
    assert answer.status == 403


def test_live_streams_are_cut_when_a_policy_begins_to_ask_not_when_a_check_grows_old(cast: Cast) -> None:
    application = make_signing_application(cast.widgetcorp)
    with_factor, without = _session(cast), _session(cast, "bob@widgetcorp.test")
    _give(with_factor, "totp", age=90_000)
    streams = [
        {"stream_id": name, "application_id": str(application.pk), "client_ip": CLIENT_IP, "session_nonce": row.nonce}
        for name, row in (("with", with_factor), ("without", without))
    ]
    assert recheck_streams(streams) == []
    Application.objects.update(mfa_config=ALL)
    cuts = [cut for cut in recheck_streams(streams) if cut.get("reason")]
    assert [(cut["stream_id"], cut["reason"]) for cut in cuts] == [("without", "mfa_required")]


def test_a_reset_ends_the_sessions_that_relied_on_it(application: Application, secret: bytes) -> None:
    identity = Identity.objects.get(email=EMAIL)
    plain = AccessSession.objects.create(
        organization=identity.organization, identity=identity, expires_at=timezone.now() + timedelta(hours=1)
    )
    assert reset_authenticators(identity, actor=ACTOR) == 1
    assert not IdentityAuthenticator.objects.exists()
    assert not RecoveryCode.objects.exists()
    live = AccessSession.objects.filter(revoked_at=None)
    assert [row.pk for row in live] == [plain.pk]
    event = AuditEvent.objects.get(name="accounts.second_factor.reset")
    assert event.new == {"sessions_ended": 1}


def test_removing_one_takes_it_from_other_sessions(application: Application, key: SoftPasskey) -> None:
    one, _, page = asked(application)
    use_passkey(one, page, key)
    two, _, page = asked(application)
    use_passkey(two, page, key)
    row = IdentityAuthenticator.objects.get()
    page = two.get(f"{ACCOUNT}/{row.pk}/remove")
    assert two.submit(f"{ACCOUNT}/{row.pk}/remove", page, containing="Remove</button>").status_code == 303
    assert [session.factors for session in AccessSession.objects.all()] == [[], [], []]
    assert "/second-factor?" in follow(one, one.get(onward(application)))[0]


def onward(application: Application) -> str:
    return f"https://{TEAM}/cdn-cgi/access/login/{HOST}?{urlencode({'kid': application.aud})}"


def test_recovery_codes_come_with_the_first_one_only_and_can_be_renewed(application: Application) -> None:
    browser = EdgeBrowser()
    url, page = follow(browser, log_in(browser, application))
    _, done = enroll_app(browser, url, page)
    follow(browser, browser.get(onward_of(done)))
    second = add_passkey(browser, browser.get(ACCOUNT), SoftPasskey())
    assert second.status_code == 303
    renewed = browser.submit(ACCOUNT, browser.get(ACCOUNT), containing="Make new recovery codes")
    assert len(recovery_codes_of(renewed)) == 10
    assert not set(recovery_codes_of(renewed)) & set(recovery_codes_of(done))
    assert RecoveryCode.objects.count() == 10


def _session(cast: Cast, email: str = EMAIL) -> AccessSession:
    return make_session(cast.widgetcorp, email)


def _give(session: AccessSession, kind: str, *, age: int, amr: list[str] | None = None) -> None:
    at = int(timezone.now().timestamp()) - age
    session.factors = [{"kind": kind, "authenticator": "", "at": at, "amr": amr or ["mfa"]}]
    session.save(update_fields=["factors"])


def _decide(application: Application, session: AccessSession, moment: Moment = Moment.USE) -> Decision:
    application = Application.objects.select_related("organization").get(pk=application.pk)
    session = AccessSession.objects.select_related("identity__provider").get(pk=session.pk)
    now = timezone.now()
    return decide(application, Asker(CLIENT_IP, now, session, moment=moment))
