"""Login through OpenID Connect, against a real provider on loopback."""

from __future__ import annotations

import base64
import json
import logging
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from accounts.actions.identities import disable_identity
from accounts.actor import system
from accounts.models import AccessSession, AuditEvent, Identity, IdentityProvider, LoginAttempt
from tests.access.edge_client import HOST, TEAM, EdgeBrowser
from tests.access.idp_flows import at_provider, idp, log_in_at, oidc_provider, running_idp, team_url, to_provider
from tests.access.login_flows import make_application, pin_provider, query_of, start_at_application

__all__ = ["idp"]
ALICE = "alice@widgetcorp.test"


@pytest.fixture
def provider(cast, idp):
    return oidc_provider(cast.widgetcorp, idp)


@pytest.fixture
def application(cast):
    return make_application(cast.widgetcorp, emails=(ALICE,))


def test_login_through_the_provider_gives_an_application_token(cast, idp, provider, application):
    browser = EdgeBrowser()
    answer = log_in_at(browser, idp, start_at_application(browser, application, "/x"), provider, "alice")
    done = browser.get(answer["Location"])
    assert done["Location"] == f"https://{HOST}/x"
    assert jwt.decode(done.cookies["CF_Authorization"].value, options={"verify_signature": False})["email"] == ALICE
    identity = Identity.objects.get()
    assert (identity.provider, identity.subject, identity.email, identity.email_verified) == (
        provider,
        "user-alice",
        ALICE,
        True,
    )
    assert identity.groups == ["engineering", "staff"]
    assert identity.claims == {"groups": ["engineering", "staff"], "preferred_username": "alice"}
    assert AccessSession.objects.get().authentication_methods == ["pwd", "mfa"]
    assert AuditEvent.objects.filter(name="accounts.login.succeeded", actor_label=ALICE).count() == 1


def test_the_request_carries_pkce_state_nonce_and_our_callback(cast, idp, provider, application):
    browser = EdgeBrowser()
    query = query_of(to_provider(browser, start_at_application(browser, application), provider))
    assert query["redirect_uri"] == f"https://{TEAM}/cdn-cgi/access/callback"
    assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
    assert len(query["code_challenge"]) == 43 and len(query["state"]) >= 43 and len(query["nonce"]) >= 43
    attempt = LoginAttempt.objects.get()
    assert query["state"] not in json.dumps([attempt.state_sha256, attempt.return_to])
    assert attempt.code_verifier_sealed


def test_group_membership_outside_the_policy_is_denied(cast, idp, provider, application):
    browser = EdgeBrowser()
    answer = log_in_at(browser, idp, start_at_application(browser, application), provider, "carol")
    assert answer.status_code == 403 and "You do not have access" in answer.content.decode()


def test_thin_id_tokens_are_completed_from_userinfo(cast, idp, provider, application):
    idp.thin_id_tokens = True
    browser = EdgeBrowser()
    assert log_in_at(browser, idp, start_at_application(browser, application), provider, "alice").status_code == 302
    assert Identity.objects.get().groups == ["engineering", "staff"]


def test_a_rotated_provider_key_is_fetched_but_not_in_a_loop(cast, idp, provider, application, monkeypatch):
    browser = EdgeBrowser()
    assert log_in_at(browser, idp, start_at_application(browser, application), provider, "alice").status_code == 302
    idp.rotate_key()
    clock = time.time
    second = EdgeBrowser()
    assert log_in_at(second, idp, start_at_application(second, application), provider, "alice").status_code == 401
    fetched = idp.requests.count("/jwks")
    assert fetched == 1
    monkeypatch.setattr("accounts.oidc.time.time", lambda: clock() + 61)
    third = EdgeBrowser()
    assert log_in_at(third, idp, start_at_application(third, application), provider, "alice").status_code == 302
    assert idp.requests.count("/jwks") == fetched + 1


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"nonce": "another"}, "another login"),
        ({"nonce": None}, "another login"),
        ({"aud": "somebody-else"}, "another client"),
        ({"aud": ["sallyport", "other"]}, "another party"),
        ({"azp": "other"}, "another party"),
        ({"iss": "https://evil.test"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"exp": 1000}, "expired"),
        ({"exp": None}, "no valid times"),
        ({"exp": "soon"}, "no valid times"),
        ({"iat": 9999999999}, "future"),
        ({"sub": ""}, "no subject"),
        ({"sub": 7}, "no subject"),
    ],
)
def test_a_wrong_id_token_is_refused(cast, idp, provider, application, overrides, said):
    idp.claims_overrides = overrides
    browser = EdgeBrowser()
    answer = log_in_at(browser, idp, start_at_application(browser, application), provider, "alice")
    assert answer.status_code == 401 and said in answer.content.decode()
    assert not AccessSession.objects.exists() and not Identity.objects.exists()
    assert AuditEvent.objects.filter(name="accounts.login.failed", new__reason="id_token_refused").count() == 1


@pytest.mark.parametrize("forgery", ["none", "hs256", "other_key", "unknown_kid"])
def test_ac30_forged_id_tokens_are_refused(cast, idp, provider, application, forgery, monkeypatch):
    def forged(self, grant):
        claims = {"iss": self.issuer, "aud": grant.client_id, "iat": int(time.time()), "exp": int(time.time()) + 300}
        claims |= grant.person.claims() | {"nonce": grant.nonce}
        if forgery == "none":
            return jwt.encode(claims, None, "none", headers={"kid": self.kid})
        if forgery == "hs256":
            n = self.jwks()["keys"][0]["n"]
            return jwt.encode(claims, base64.urlsafe_b64decode(n + "=="), "HS256", headers={"kid": self.kid})
        stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        kid = self.kid if forgery == "other_key" else "../../etc/passwd"
        headers = {"kid": kid, "jku": f"{self.issuer}/evil", "jwk": self.jwks()["keys"][0]}
        return jwt.encode(claims, stranger, "RS256", headers=headers)

    monkeypatch.setattr("demo.idp.IdentityProviderServer.id_token", forged)
    browser = EdgeBrowser()
    answer = log_in_at(browser, idp, start_at_application(browser, application), provider, "alice")
    assert answer.status_code == 401 and "no valid signature" in answer.content.decode()
    assert not AccessSession.objects.exists() and "/evil" not in idp.requests


@pytest.mark.parametrize(
    ("flag", "trusted", "verified"),
    [
        (True, False, True),
        (False, False, False),
        (None, False, False),
        ("false", True, False),
        ("true", False, False),
        ("true", True, True),
        (1, True, False),
        (None, True, False),
    ],
)
def test_ac11_only_verified_addresses_match_email_rules(cast, idp, application, flag, trusted, verified):
    provider = oidc_provider(cast.widgetcorp, idp, email_verified_trusted=trusted)
    idp.claims_overrides = {"email_verified": flag}
    idp.people["alice"].email_verified = flag
    browser = EdgeBrowser()
    answer = log_in_at(browser, idp, start_at_application(browser, application), provider, "alice")
    assert Identity.objects.get().email_verified is verified
    assert answer.status_code == (302 if verified else 403)
    if not verified:
        assert "e-mail not verified" in answer.content.decode()


@pytest.mark.parametrize(
    ("theirs", "stored"),
    [
        ("Alice@WidgetCorp.test", "alice@widgetcorp.test"),
        ("\u212aate@widgetcorp.test", "\u212aate@widgetcorp.test"),  # Kelvin sign: str.lower() makes it "kate"
        ("\u0130lker@widgetcorp.test", "\u0130lker@widgetcorp.test"),
        ("\uff41lice@widgetcorp.test", "\uff41lice@widgetcorp.test"),
        (" alice@widgetcorp.test", ""),
        ("alice@widgetcorp.test\u2003", ""),
        ("ali\u202ece@widgetcorp.test", ""),
        ("ali\0ce@widgetcorp.test", ""),
    ],
)
def test_ac05_addresses_of_the_provider_are_never_folded_into_others(cast, idp, provider, application, theirs, stored):
    idp.people["alice"].email = theirs
    log_in_at(EdgeBrowser(), idp, team_url(), provider, "alice")
    identity = Identity.objects.get()
    assert (identity.email, identity.email_verified) == (stored, bool(stored))


def test_ac10_a_changed_address_stays_the_same_identity_and_is_audited(cast, idp, provider, application):
    log_in_at(EdgeBrowser(), idp, team_url(), provider, "alice")
    idp.people["alice"].email = "boss@widgetcorp.test"
    log_in_at(EdgeBrowser(), idp, team_url(), provider, "alice")
    assert Identity.objects.get().email == "boss@widgetcorp.test"
    event = AuditEvent.objects.filter(name="accounts.login.succeeded").latest("id")
    assert (event.old, event.new["email"]) == ({"email": ALICE}, "boss@widgetcorp.test")


def test_ac12_ac13_a_second_provider_makes_another_identity(cast, idp, provider, application):
    with running_idp() as second_idp:
        hosts = [f"127.0.0.1:{idp.port}", f"127.0.0.1:{second_idp.port}"]
        with override_settings(FETCH_ALLOWED_PRIVATE_HOSTS=hosts):
            second = oidc_provider(cast.widgetcorp, second_idp, name="Second")
            log_in_at(EdgeBrowser(), idp, team_url(), provider, "alice")
            log_in_at(EdgeBrowser(), second_idp, team_url(), second, "alice")
    identities = Identity.objects.filter(email=ALICE)
    assert {identity.provider_id for identity in identities} == {provider.id, second.id}
    assert identities.count() == 2


def test_ac39_state_missing_used_or_unknown_stops_the_login(cast, idp, provider, application):
    browser = EdgeBrowser()
    target = at_provider(idp, to_provider(browser, start_at_application(browser, application), provider), "alice")
    state = query_of(target)["state"]
    for broken in (target.replace(state, ""), target.replace(state, "x" * 43), target.replace("state=", "nostate=")):
        assert browser.get(broken).status_code == 401
    before = browser.cookie(TEAM, "__Host-CF_Session")
    assert browser.get(target).status_code == 302
    browser.set_cookie(TEAM, "__Host-CF_Session", before)
    again = browser.get(target)
    assert again.status_code == 401 and "used already" in again.content.decode()
    assert AccessSession.objects.count() == 1


def test_ac39_ac40_state_of_another_browser_stops_the_login(cast, idp, provider, application):
    """An attacker's finished login, sent to a victim, does not log the victim in as the attacker."""
    attacker, victim = EdgeBrowser(), EdgeBrowser()
    target = at_provider(idp, to_provider(attacker, start_at_application(attacker, application), provider), "bob")
    assert victim.get(target).status_code == 401
    assert not victim.cookie(TEAM, "CF_Authorization") and not AccessSession.objects.exists()
    victim.get(team_url())
    assert victim.get(target).status_code == 401


def test_ac39_state_of_another_tenant_stops_the_login(cast, idp, provider, application):
    browser = EdgeBrowser()
    target = at_provider(idp, to_provider(browser, start_at_application(browser, application), provider), "alice")
    other = "evilcorp.access.example.test"
    browser.set_cookie(other, "__Host-CF_Session", browser.cookie(TEAM, "__Host-CF_Session"))
    assert browser.get(target.replace(TEAM, other)).status_code == 401
    assert not AccessSession.objects.exists()


def test_ac44_the_answer_of_another_issuer_is_refused_before_the_code_is_sent(cast, idp, provider, application):
    browser = EdgeBrowser()
    target = at_provider(idp, to_provider(browser, start_at_application(browser, application), provider), "alice")
    mixed = target.replace(f"iss=http%3A%2F%2F127.0.0.1%3A{idp.port}", "iss=https%3A%2F%2Fother-idp.test")
    assert mixed != target
    answer = browser.get(mixed)
    assert answer.status_code == 401 and "another issuer" in answer.content.decode()
    assert "/token" not in idp.requests


def test_a_stolen_code_is_useless_without_the_verifier(cast, idp, provider, application):
    """PKCE: a code of one attempt does not complete another one's login."""
    first, second = EdgeBrowser(), EdgeBrowser()
    stolen = query_of(at_provider(idp, to_provider(first, team_url(), provider), "alice"))["code"]
    target = at_provider(idp, to_provider(second, team_url(), provider), "bob")
    answer = second.get(target.replace(query_of(target)["code"], stolen))
    assert answer.status_code == 401 and "refused the login code" in answer.content.decode()


def test_a_cancelled_login_names_the_provider(cast, idp, provider, application):
    browser = EdgeBrowser()
    answer = log_in_at(browser, idp, start_at_application(browser, application), provider, "nobody-there")
    assert answer.status_code == 401 and "Corp login did not log you in" in answer.content.decode()


def test_an_unreachable_provider_is_named(cast, idp, provider, application):
    browser = EdgeBrowser()
    target = at_provider(idp, to_provider(browser, team_url(), provider), "alice")
    idp.stop()
    answer = browser.get(target)
    assert answer.status_code == 401 and "Corp login could not be asked" in answer.content.decode()


def test_ac49_disabled_while_at_the_provider_gets_no_session(cast, idp, provider, application):
    log_in_at(EdgeBrowser(), idp, team_url(), provider, "alice")
    browser = EdgeBrowser()
    target = at_provider(idp, to_provider(browser, team_url(), provider), "alice")
    disable_identity(Identity.objects.get(), actor=system("tests"))
    answer = browser.get(target)
    assert answer.status_code == 401 and "was disabled" in answer.content.decode()
    assert not AccessSession.objects.filter(revoked_at__isnull=True).exists()


def test_a_provider_deleted_meanwhile_logs_nobody_in(cast, idp, provider, application):
    browser = EdgeBrowser()
    target = at_provider(idp, to_provider(browser, team_url(), provider), "alice")
    IdentityProvider.objects.update(deleted_at=timezone.now())
    assert browser.get(target).status_code == 401
    assert not AccessSession.objects.exists()


def test_an_application_offers_only_its_login_methods(cast, idp, provider, application):
    pin = pin_provider(cast.widgetcorp)
    application.allowed_providers.set([provider])
    page = EdgeBrowser().get(start_at_application(EdgeBrowser(), application)).content.decode()
    assert str(provider.id) in page and str(pin.id) not in page
    # A session of the other method does not do.
    browser = EdgeBrowser()
    application.allowed_providers.set([pin])
    log_in_at(browser, idp, team_url(), provider, "alice")
    again = browser.get(start_at_application(browser, application))
    assert again.status_code == 200 and "another login method" in again.content.decode()


def test_instant_auth_goes_straight_to_the_only_provider(cast, idp, provider, application):
    application.auto_redirect_to_identity = True
    application.save()
    browser = EdgeBrowser()
    url = start_at_application(browser, application)
    assert browser.get(url)["Location"].startswith("/cdn-cgi/access/start?provider=")
    # Not for HEAD: clients look for the login page there.
    assert browser.head(url).status_code == 200


def test_another_tenants_provider_does_not_exist_here(cast, idp, application):
    foreign = oidc_provider(cast.evilcorp, idp)
    assert EdgeBrowser().get(team_url(f"/cdn-cgi/access/start?provider={foreign.id}")).status_code == 404
    assert EdgeBrowser().get(team_url("/cdn-cgi/access/start?provider=x")).status_code == 404


def test_ac37_no_token_or_secret_of_the_provider_is_kept_anywhere(
    cast, idp, provider, application, caplog, monkeypatch
):
    seen: list[str] = [idp.client_secret]
    real = type(idp).exchange

    def watched(self, form):
        tokens = real(self, form)
        seen.extend([form["code"], form["code_verifier"], tokens["access_token"], tokens["id_token"]])
        return tokens

    monkeypatch.setattr("demo.idp.IdentityProviderServer.exchange", watched)
    browser = EdgeBrowser()
    with caplog.at_level(logging.DEBUG):
        answer = log_in_at(browser, idp, start_at_application(browser, application), provider, "alice")
        page = browser.get(team_url())
    assert answer.status_code == 302 and len(seen) == 5
    text = answer.content.decode() + page.content.decode() + caplog.text + _database()
    assert not [secret for secret in seen if secret in text]


def _database() -> str:
    rows = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(f'SELECT * FROM "{table}"')
            rows.extend(repr(row) for row in cursor.fetchall())
    return "\n".join(rows)
