"""Messages of the management service: what is written is read back, and nonsense is nothing."""

import base64
import json

import pytest

from dataplane.wire import management as m


def test_lines_survive_the_way() -> None:
    lines = [m.LogLine("2026-01-01T00:00:00Z", "warn", "hello", {"edge": "a:1"}), m.LogLine("", "info", "é")]
    assert m.read_logs(m.logs_message(lines)) == lines


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"type":"logs"}', b'{"type":"logs","logs":7}', b'{"type":"x"}', b"\xff"]
)
def test_nonsense_has_no_lines_and_no_level(text: bytes) -> None:
    assert m.read_logs(text) == []
    assert m.read_start(text) is None


def test_lines_are_cut_to_size_and_cleaned() -> None:
    row = {
        "time": 7,
        "level": "FATAL",
        "message": "a\x1b[2Jb" + "x" * 5000,
        "fields": {f"k{n}": {"n": n} for n in range(99)},
    }
    (line,) = m.read_logs(json.dumps({"type": "logs", "logs": [row, "no line"]}).encode())
    assert (line.level, line.time) == ("error", "7")
    assert line.message.startswith("a [2Jb")
    assert len(line.message) == m.MAX_MESSAGE_CHARACTERS
    assert len(line.fields) == m.MAX_FIELDS
    assert len(m.read_logs(json.dumps({"type": "logs", "logs": [row] * 500}).encode())) == m.MAX_LINES_PER_MESSAGE


def test_start_names_a_level() -> None:
    assert m.read_start(m.start_message("error")) == "error"
    assert m.read_start(b'{"type":"start_streaming"}') == "info"
    assert m.read_start(b'{"type":"start_streaming","filters":{"level":"loud"}}') == "info"
    assert m.read_start(b'{"type":"stop_streaming"}') is None


def test_the_target_carries_the_claims_cloudflared_reads() -> None:
    token = m.logs_target("79a60ee2", "account").partition("access_token=")[2]
    header, claims, signature = token.split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "=="))["alg"] == "ES256"
    assert json.loads(base64.urlsafe_b64decode(claims + "=="))["tun"] == {"id": "79a60ee2", "account_tag": "account"}
    assert signature
