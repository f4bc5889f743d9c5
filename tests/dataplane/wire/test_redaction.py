"""No secret survives in a log line, and ordinary words do."""

import base64

import pytest

from dataplane.wire.redaction import REDACTED, redact

TOKEN = base64.b64encode(
    b'{"a":"' + b"a" * 32 + b'","t":"79a60ee2-9a98-4f5f-96c7-76c88b2075be","s":"c2VjcmV0"}'
).decode()
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl_-x"


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        (f"run --token {TOKEN}", TOKEN),
        (f"cookie CF_Authorization={JWT}; Path=/", JWT),
        (f"cf-access-jwt-assertion: {JWT}", JWT),
        ("Authorization: Bearer abcdef123456", "abcdef123456"),
        ('{"client_secret": "s3cr3t words"}', "s3cr3t words"),
        ("password=hunter2 user=bob", "hunter2"),
        ("CF-Access-Client-Secret: 0123456789abcdef", "0123456789abcdef"),
        ("dial https://bob:hunter2@db.internal:5432/", "hunter2"),
        ("key -----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaA==\n-----END OPENSSH PRIVATE KEY-----", "b3BlbnNzaA"),
        ("cut -----BEGIN EC PRIVATE KEY-----\nMHcCAQEE", "MHcCAQEE"),
        ("random 4f3a" + "9b1c" * 16, "9b1c9b1c"),
        ("api_key='abc'", "abc'"),
    ],
)
def test_secrets_are_taken_out(line: str, secret: str) -> None:
    clean = redact(line)
    assert secret not in clean
    assert REDACTED in clean


@pytest.mark.parametrize(
    "line",
    [
        "connection 0 registered location=LIS connection_id=79a60ee2-9a98-4f5f-96c7-76c88b2075be",
        "configuration version 7 applied, 3 rules",
        "stream refused: connection refused by 10.0.0.5:22 reason=origin_refused status=502 ray=8f1c2d3e4a5b6c7d",
        "cannot reach edge edge.example.com:7844: no answer in time",
    ],
)
def test_ordinary_lines_stay_as_they_are(line: str) -> None:
    assert redact(line) == line
