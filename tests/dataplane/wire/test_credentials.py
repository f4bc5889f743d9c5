"""Tokens, credentials files and cert.pem in the public formats; secrets never in messages."""

import base64
import json
import uuid

import pytest

from dataplane.wire.confirmation import confirmation_code
from dataplane.wire.credentials import AccountCertificate, CredentialsError, TunnelCredentials

TUNNEL_ID = uuid.UUID("79a60ee2-9a98-4f5f-96c7-76c88b2075be")
SECRET = b"\xfbthis-is-a-secret-of-32-bytes!!\xff"
CREDENTIALS = TunnelCredentials("abcd" * 8, SECRET, TUNNEL_ID)


def encode(document: object) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def test_token_has_the_public_shape() -> None:
    document = json.loads(base64.b64decode(CREDENTIALS.to_token(), validate=True))
    assert document == {"a": "abcd" * 8, "s": base64.b64encode(SECRET).decode(), "t": str(TUNNEL_ID)}
    assert TunnelCredentials.from_token(f"  {CREDENTIALS.to_token()}\n") == CREDENTIALS


def test_file_has_the_public_shape() -> None:
    document = json.loads(CREDENTIALS.to_file_json())
    assert document == {
        "AccountTag": "abcd" * 8,
        "TunnelSecret": base64.b64encode(SECRET).decode(),
        "TunnelID": str(TUNNEL_ID),
        "Endpoint": "",
    }
    assert TunnelCredentials.from_file_json(CREDENTIALS.to_file_json()) == CREDENTIALS


def test_endpoint_travels() -> None:
    regional = TunnelCredentials("a", SECRET, TUNNEL_ID, "eu")
    assert TunnelCredentials.from_token(regional.to_token()) == regional
    assert TunnelCredentials.from_file_json(regional.to_file_json().encode()) == regional


def test_secret_is_not_in_repr() -> None:
    assert "secret" not in repr(CREDENTIALS)


GOOD = {"a": "acc", "s": base64.b64encode(SECRET).decode(), "t": str(TUNNEL_ID)}
REFUSED_TOKENS = {
    "": "empty",
    "not base64 at all!": "not base64",
    base64.b64encode(b"{}").decode(): "has no 'a'",
    base64.b64encode(b"[1]").decode(): "not a JSON object",
    base64.b64encode(b"{").decode(): "not JSON",
    encode({**GOOD, "s": ""}): "has no 's'",
    encode({**GOOD, "s": "###"}): "secret in the tunnel token is not base64",
    encode({**GOOD, "s": base64.b64encode(b"short").decode()}): "at least 32 bytes",
    encode({**GOOD, "t": "nonsense"}): "not a UUID",
    encode({**GOOD, "a": 5}): "not text",
    encode({**GOOD, "x": "y" * 70_000}): "larger than",
}


@pytest.mark.parametrize("token", REFUSED_TOKENS)
def test_unusable_tokens_say_why_without_the_secret(token: str) -> None:
    with pytest.raises(CredentialsError, match=REFUSED_TOKENS[token]) as caught:
        TunnelCredentials.from_token(token)
    assert GOOD["s"] not in str(caught.value)
    assert caught.value.__cause__ is None


def test_account_certificate_round_trip() -> None:
    certificate = AccountCertificate("zone", "account", "t" * 50, "fed")
    text = certificate.to_pem()
    assert text.startswith("-----BEGIN ARGO TUNNEL TOKEN-----\n")
    assert max(map(len, text.splitlines())) <= 64
    assert AccountCertificate.from_pem(text) == certificate
    assert "tttt" not in repr(certificate)
    older = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" + text
    assert AccountCertificate.from_pem(older) == certificate


def pem(document: object, block: str = "ARGO TUNNEL TOKEN") -> str:
    return f"-----BEGIN {block}-----\n{encode(document)}\n-----END {block}-----\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "exactly one"),
        (pem({"zoneID": "z", "apiToken": "t"}) * 2, "exactly one"),
        (pem({}, "SURPRISE"), "unknown block"),
        (pem({"zoneID": "z"}), "lacks a zone id or an API token"),
        (pem({"zoneID": 1, "apiToken": "t"}), "not text"),
        ("-----BEGIN ARGO TUNNEL TOKEN-----\n*\n-----END ARGO TUNNEL TOKEN-----", "not base64"),
    ],
)
def test_unusable_certificates_say_why(text: str, message: str) -> None:
    with pytest.raises(CredentialsError, match=message):
        AccountCertificate.from_pem(text)


def test_confirmation_code_is_stable_and_readable() -> None:
    code = confirmation_code("zfJcGr4MuVjMVGBYiUsHEc0TXrhPoGIJpTzPHhB4G3I=")
    assert code == "W22Z-XJP6"
    assert code != confirmation_code("zfJcGr4MuVjMVGBYiUsHEc0TXrhPoGIJpTzPHhB4G3J=")
