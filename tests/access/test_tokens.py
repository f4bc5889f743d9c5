"""Tokens and their keys: what is signed, what is refused, rotation without a failed login."""

from __future__ import annotations

import base64
import json
import threading
import time
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.db import connection
from django.utils import timezone

from access import tokens
from access.actions.token_keys import ROTATION_INTERVAL, rotate_due, rotate_token_keys
from access.models import ServiceToken, TokenKey
from accounts.actor import system
from accounts.audit import edge_version
from accounts.models import AuditEvent
from accounts.sealing import SealError
from tests.access.edge_client import HOST, TEAM, EdgeBrowser
from tests.access.login_flows import make_application
from tests.access.test_login_hand_over import make_session
from tests.factories import make_cast


@pytest.fixture
def world(cast):
    application = make_application(cast.widgetcorp)
    return cast.widgetcorp, application, make_session(cast.widgetcorp)


def app_token(application, session, *, now=None, seconds: int = 3600) -> str:
    return tokens.mint_application_token(
        application, session, now=now or timezone.now(), lifetime_seconds=seconds, country="PT"
    )


def refused(organization, token: str, audience: str | None, now=None) -> str:
    with pytest.raises(tokens.TokenInvalid) as caught:
        tokens.verify(organization, token, now=now or timezone.now(), audience=audience)
    assert token[:20] not in caught.value.message or not token
    return caught.value.code


def test_an_application_token_verifies_for_its_application(world):
    organization, application, session = world
    claims = tokens.verify(organization, app_token(application, session), now=timezone.now(), audience=application.aud)
    assert (claims.session_nonce, claims.email, claims.country) == (session.nonce, session.identity.email, "PT")
    assert (claims.type, claims.audience, claims.subject) == ("app", (application.aud,), str(session.identity_id))


def test_ac29_a_token_is_refused_everywhere_but_at_its_own_place(cast, world):
    organization, application, session = world
    other = make_application(cast.widgetcorp, hostname="other.widgetcorp.test")
    foreign = make_application(cast.evilcorp, hostname="ssh.evilcorp.test")
    token, now = app_token(application, session), timezone.now()
    org_token = tokens.mint_organization_token(session, now=now)
    assert tokens.verify(organization, org_token, now=now, audience=None).type == "org"
    assert refused(organization, token, other.aud) == "token_wrong_application"
    assert refused(organization, token, None) == "token_wrong_type"
    assert refused(organization, org_token, application.aud) == "token_wrong_type"
    assert refused(cast.evilcorp, token, foreign.aud) == "token_key_unknown"
    assert refused(cast.evilcorp, org_token, None) == "token_key_unknown"


def _forge(application, session, key, algorithm: str, headers: dict) -> str:
    claims = jwt.decode(app_token(application, session), options={"verify_signature": False})
    return jwt.encode(claims, key, algorithm, headers=headers)


def test_ac30_other_algorithms_and_keys_are_refused(world, monkeypatch):
    organization, application, session = world
    real = tokens.jwks(organization)["keys"][0]
    kid = TokenKey.objects.get(organization=organization, state="active").kid
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    curve = ec.generate_private_key(ec.SECP256R1())
    modulus = base64.urlsafe_b64decode(real["n"] + "==")
    aud = application.aud
    assert refused(organization, _forge(application, session, None, "none", {"kid": kid}), aud) == (
        "token_algorithm_refused"
    )
    for secret in (modulus, b"k" * 32):
        token = _forge(application, session, secret, "HS256", {"kid": kid})
        assert refused(organization, token, aud) == "token_algorithm_refused"
    assert refused(organization, _forge(application, session, curve, "ES256", {"kid": kid}), aud) == (
        "token_algorithm_refused"
    )
    assert refused(organization, _forge(application, session, stranger, "RS256", {"kid": kid}), aud) == (
        "token_signature_invalid"
    )


@pytest.mark.parametrize(
    "kid", ["../../etc/passwd", "' OR 1=1 --", "https://evil.test/jwks", "0" * 64, "", "x" * 500, 7]
)
def test_ac30_the_key_id_is_only_looked_up(world, kid, django_assert_max_num_queries):
    organization, application, session = world
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = stranger.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    headers = {
        "jku": "https://evil.test/jwks",
        "x5u": "https://evil.test/x",
        "jwk": {"kty": "RSA"},
        "x": public.decode(),
    }
    token = _forge(application, session, stranger, "RS256", headers)
    head = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    raw = base64.urlsafe_b64encode(json.dumps({**head, "kid": kid}).encode()).rstrip(b"=").decode()
    with django_assert_max_num_queries(1):
        assert refused(organization, f"{raw}.{token.split('.', 1)[1]}", application.aud) in {
            "token_key_unknown",
            "token_malformed",
        }


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "a.b", "." * 2, "ü.b.c", "x" * 9000, "e30.e30.e30"])
def test_malformed_tokens_are_refused(world, text):
    organization, application, _ = world
    assert refused(organization, text, application.aud) in {"token_malformed", "token_algorithm_refused"}


def test_ac90_times_are_checked_and_the_message_names_clock_skew(world):
    organization, application, session = world
    now = timezone.now()
    token = app_token(application, session, now=now, seconds=600)
    aud = application.aud
    assert refused(organization, token, aud, now + timedelta(seconds=601)) == "token_expired"
    assert tokens.verify(organization, token, now=now - timedelta(seconds=55), audience=aud)
    with pytest.raises(tokens.TokenInvalid, match="clock skew"):
        tokens.verify(organization, token, now=now - timedelta(seconds=120), audience=aud)


def test_a_service_assertion_names_the_token_and_no_person(cast, world):
    _, application, _ = world
    service = ServiceToken.objects.create(
        organization=cast.widgetcorp, name="ci", client_id="abc.access", secret_sha256="0" * 64
    )
    token = tokens.mint_service_assertion(application, service, now=timezone.now())
    claims = tokens.verify(cast.widgetcorp, token, now=timezone.now(), audience=application.aud)
    assert (claims.common_name, claims.subject, claims.email, claims.session_nonce) == ("abc.access", "", "", "")


def test_certs_publishes_the_active_and_the_next_key(world):
    organization, application, session = world
    token = app_token(application, session)
    answer = EdgeBrowser().get(f"https://{TEAM}/cdn-cgi/access/certs")
    keys = answer.json()["keys"]
    assert len(keys) == 2 and {frozenset(key) for key in keys} == {frozenset({"kid", "kty", "alg", "use", "n", "e"})}
    key = next(key for key in keys if key["kid"] == jwt.get_unverified_header(token)["kid"])
    assert jwt.decode(token, jwt.PyJWK(key), ["RS256"], audience=application.aud)["iss"] == organization.team_url
    assert EdgeBrowser().get(f"https://{HOST}/cdn-cgi/access/certs").json()["keys"] == keys
    assert EdgeBrowser(csrf=False).request("POST", f"https://{TEAM}/cdn-cgi/access/certs").status_code == 405


def test_the_metadata_header_is_what_clients_verify(world):
    """access-client.md 5.1; the answer has no body and needs no login."""
    _, application, _ = world
    answer = EdgeBrowser().head(f"https://{HOST}/cdn-cgi/access/metadata")
    token = answer["cf-access-metadata"]
    kid = jwt.get_unverified_header(token)["kid"]
    keys = {key["kid"]: key for key in EdgeBrowser().get(f"https://{TEAM}/cdn-cgi/access/certs").json()["keys"]}
    claims = jwt.decode(token, jwt.PyJWK(keys[kid]), ["RS256"], options={"verify_aud": False})
    assert abs(claims.pop("iat") - time.time()) < 60
    assert claims == {
        "type": "match",
        "hostname": HOST,
        "auth_domain": TEAM,
        "aud": application.aud,
        "app_hostname": HOST,
    }
    # It is no credential.
    assert refused(application.organization, token, application.aud) in {"token_malformed", "token_wrong_issuer"}


def test_metadata_of_a_public_port_carries_it(world, settings):
    settings.EDGE_PUBLIC_PORT = 8443
    answer = EdgeBrowser().head(f"https://{HOST}:8443/cdn-cgi/access/metadata")
    claims = jwt.decode(answer["cf-access-metadata"], options={"verify_signature": False})
    assert (claims["auth_domain"], claims["hostname"]) == (f"{TEAM}:8443", HOST)


def test_ac33_rotation_overlaps_and_ends(world):
    organization, application, session = world
    aud, start = application.aud, timezone.now()
    old = app_token(application, session, seconds=3600)
    published = {key["kid"] for key in tokens.jwks(organization)["keys"]}
    version = edge_version()
    rotate_token_keys(organization, now=start, actor=system("tests"))
    assert edge_version() == version + 1
    new = app_token(application, session, seconds=3600)
    # The new token's key was public before it signed.
    assert jwt.get_unverified_header(new)["kid"] in published
    assert tokens.verify(organization, old, now=start, audience=aud)
    assert tokens.verify(organization, new, now=start, audience=aud)
    assert len(tokens.jwks(organization)["keys"]) == 3
    later = start + timedelta(days=8)
    assert refused(organization, old, aud, later) == "token_key_unknown"
    rotate_due(now=later)
    assert len(tokens.jwks(organization)["keys"]) == 2
    gone = TokenKey.objects.get(state="retired")
    assert bytes(gone.private_sealed) == b""
    assert refused(organization, old, aud, start) == "token_key_unknown"


def test_rotation_is_due_after_its_interval_and_running_twice_changes_nothing(world):
    organization, _, _ = world
    tokens.jwks(organization)
    now = timezone.now()
    assert rotate_due(now=now) == 0
    due = now + ROTATION_INTERVAL + timedelta(seconds=1)
    assert rotate_due(now=due) == 1
    assert rotate_due(now=due) == 0
    assert TokenKey.objects.filter(state="active").count() == TokenKey.objects.filter(state="next").count() == 1
    names = AuditEvent.objects.filter(name__startswith="access.token_keys").order_by("id")
    assert list(names.values_list("name", flat=True)) == ["access.token_keys.created", "access.token_keys.rotated"]


def test_the_grace_covers_the_longest_session(world):
    organization, _, _ = world
    organization.session_duration_seconds = 30 * 86400
    organization.save()
    tokens.jwks(organization)
    now = timezone.now()
    rotate_token_keys(organization, now=now, actor=system("tests"))
    assert TokenKey.objects.get(state="retiring").retires_at == now + timedelta(days=30)


def test_private_keys_are_sealed_to_their_organization(cast, world):
    tokens.jwks(cast.widgetcorp)
    tokens.jwks(cast.evilcorp)
    mine, theirs = (TokenKey.objects.get(organization=org, state="active") for org in (cast.widgetcorp, cast.evilcorp))
    assert b"PRIVATE" not in bytes(mine.private_sealed) and b"\x02\x01\x00" not in bytes(mine.private_sealed)[:20]
    with pytest.raises(SealError):
        tokens._private_key(cast.evilcorp.id, theirs.kid, bytes(mine.private_sealed))


@pytest.mark.django_db(transaction=True)
def test_first_keys_made_by_many_at_once_are_one_pair():
    cast = make_cast()
    kids: list[str] = []

    def look() -> None:
        try:
            kids.append(json.dumps(tokens.jwks(cast.widgetcorp)))
        finally:
            connection.close()

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(kids) == 8 and len(set(kids)) == 1
    assert TokenKey.objects.count() == 2
