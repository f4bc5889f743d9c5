"""Tokens at the edge: every way to be wrong, over the real door and as a table."""

import base64
import hashlib
import hmac
import json
import time

import pytest
from cryptography.hazmat.primitives import serialization

from dataplane.edge.snapshot import parse_snapshot
from dataplane.edge.tokens import TokenAccepted, TokenRefused, check_token
from tests.dataplane.edge.conftest import Stage
from tests.dataplane.edge.fakes import KEY, OTHER_KEY, Key, aud, make_snapshot, make_token


def _part(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def none_token() -> str:
    return f"{_part({'alg': 'none', 'kid': 'key-1'})}.{make_token().split('.')[1]}."


def hs256_token() -> str:
    """Signed with our public key as an HMAC secret: the classic confusion."""
    public = KEY.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signed = f"{_part({'alg': 'HS256', 'kid': 'key-1', 'typ': 'JWT'})}.{make_token().split('.')[1]}"
    mac = hmac.new(public, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def tampered_token() -> str:
    header, _, signature = make_token().split(".")
    return f"{header}.{_part({'aud': [aud('ssh')], 'iss': 'x', 'exp': 9999999999})}.{signature}"


NOW = time.time()
REFUSED = {
    "none": (none_token(), "token_algorithm_refused", False),
    "hs256": (hs256_token(), "token_algorithm_refused", False),
    "tampered": (tampered_token(), "token_signature_invalid", False),
    "other application": (make_token(aud=[aud("web")]), "token_wrong_application", False),
    "other organization": (make_token(OTHER_KEY), "token_wrong_organization", False),
    "other issuer": (make_token(iss="https://evil.example"), "token_wrong_issuer", False),
    "unknown key": (make_token(Key("gone")), "token_key_unknown", True),
    "known kid, other key": (make_token(Key("key-1")), "token_signature_invalid", False),
    "expired": (make_token(exp=int(NOW) - 5), "token_expired", True),
    "not yet": (make_token(nbf=int(NOW) + 3600), "token_not_yet_valid", False),
    "no exp": (make_token(exp=None), "token_incomplete", False),
    "no aud": (make_token(aud=None), "token_incomplete", False),
    "text exp": (make_token(exp="9999999999"), "token_malformed", False),
    "path kid": (make_token(headers={"kid": "../../etc/passwd"}), "token_key_unknown", True),
    "garbage": ("x.y.z", "token_malformed", False),
    "not a token": ("hello", "token_malformed", False),
    "huge": ("a." + "b" * 10_000 + ".c", "token_malformed", False),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_tokens(name: str) -> None:
    token, reason, is_login_useful = REFUSED[name]
    snapshot = parse_snapshot(make_snapshot())
    application = snapshot.find_application("ssh.widgetcorp.localhost", "/")
    assert application is not None
    verdict = check_token(token, application, snapshot, NOW)
    assert isinstance(verdict, TokenRefused)
    assert (verdict.reason, verdict.is_login_useful) == (reason, is_login_useful)


@pytest.mark.parametrize(
    "headers", [{}, {"jku": "https://evil.example/jwks"}, {"jwk": {"kty": "RSA"}, "x5u": "https://e"}]
)
def test_accepted_token_never_fetches_anything(headers: dict[str, object]) -> None:
    snapshot = parse_snapshot(make_snapshot())
    application = snapshot.find_application("ssh.widgetcorp.localhost", "/")
    assert application is not None
    verdict = check_token(make_token(headers=headers), application, snapshot, time.time())
    assert isinstance(verdict, TokenAccepted)
    assert verdict.claims["email"] == "alice@widgetcorp.com"


@pytest.mark.parametrize("name", [name for name, (_, _, useful) in REFUSED.items() if not useful and name != "huge"])
async def test_bad_header_token_is_403_with_its_reason(stage: Stage, name: str) -> None:
    connector = await stage.connector()
    response = await (await stage.eyeball()).upgrade(headers={"Cf-Access-Token": REFUSED[name][0]})
    assert (response.status, response.reason) == (403, REFUSED[name][1])
    assert stage.control.authorized == []
    assert connector.requests == []


async def test_bad_cookie_is_as_good_as_none(stage: Stage) -> None:
    eyeball = await stage.eyeball()
    # A key this edge does not know may be newer than its snapshot: the control plane is asked about those.
    for token in (token for token, reason, _ in REFUSED.values() if reason != "token_key_unknown"):
        response = await eyeball.request("GET", "/", {"Cookie": f"CF_Authorization={token}"})
        assert response.status == 302
    assert all(question["token"] is None for question in stage.control.authorized)
