"""External evaluation against a real HTTP server: signed question, signed answer, or refusal."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.conf import LazySettings
from django.core.cache import cache

from access import live_answers, tokens
from access.actions.policies import create_policy
from access.models import AccessRequest
from accounts.errors import InvalidInput, TemporarilyUnavailable
from tests.access.makers import ACTOR, add_policy, make_application, make_session
from tests.access.test_authorize import reasons, stream, with_token
from tests.factories import Cast

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Evaluator:
    """Checks the question as its author would, and answers as the test says."""

    def __init__(self) -> None:
        self.questions: list[dict[str, Any]] = []
        self.claims: dict[str, Any] = {"success": True}
        self.key: Any = KEY
        self.algorithm = "RS256"
        self.status = 200
        self.raw: bytes | None = None
        self.delay = 0.0
        self.released = threading.Event()
        self.released.set()
        # Questions under way, and the most there ever were.
        self.lock = threading.Lock()
        self.open = self.peak = 0
        evaluator = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                jwk = jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
                self._send(200, json.dumps({"keys": [{**jwk, "kid": "k1"}]}).encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = evaluator.answer(body["token"])
                with evaluator.counted():
                    time.sleep(evaluator.delay)
                    evaluator.released.wait(30)
                self._send(evaluator.status, answer)

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)  # a failed test ends, too
        self.thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    @property
    def rule(self) -> dict[str, Any]:
        base = f"http://{self.host}"
        return {"external_evaluation": {"evaluate_url": f"{base}/evaluate", "keys_url": f"{base}/keys"}}

    def answer(self, token: str) -> bytes:
        question = jwt.decode(token, options={"verify_signature": False})
        self.questions.append(question | {"raw": token})
        if self.raw is not None:
            return self.raw
        claims = {"iat": int(time.time()), "exp": int(time.time()) + 60, "nonce": question["nonce"]} | self.claims
        claims = {name: value for name, value in claims.items() if value is not None}
        reply = jwt.encode(claims, self.key, algorithm=self.algorithm, headers={"kid": "k1"})
        return json.dumps({"token": reply}).encode()

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        with self.lock:
            self.open += 1
            self.peak = max(self.peak, self.open)
        yield
        with self.lock:
            self.open -= 1

    def stop(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.thread.join(10)
        self.server.server_close()


@pytest.fixture
def evaluator(settings: LazySettings) -> Iterator[Evaluator]:
    evaluator = Evaluator()
    settings.FETCH_ALLOWED_PRIVATE_HOSTS = [evaluator.host]
    yield evaluator
    evaluator.stop()


def outcome(cast: Cast, evaluator: Evaluator) -> tuple[str, str]:
    application = make_application(cast.widgetcorp, include=[evaluator.rule], authority=False)
    answer = with_token(application, make_session(cast.widgetcorp))
    return answer["outcome"], answer.get("reason", "")


def test_yes_and_the_question_is_signed_by_us(cast: Cast, evaluator: Evaluator) -> None:
    assert outcome(cast, evaluator) == ("allow", "")
    question = evaluator.questions[0]
    assert question["identity"]["email"] == "alice@widgetcorp.test"
    assert question["iss"] == cast.widgetcorp.team_url
    keys = jwt.PyJWKSet.from_dict(tokens.jwks(cast.widgetcorp))
    kid = jwt.get_unverified_header(question["raw"])["kid"]
    audience = evaluator.rule["external_evaluation"]["evaluate_url"]
    verified = jwt.decode(question["raw"], keys[kid], algorithms=["RS256"], audience=audience)
    assert len(verified["nonce"]) >= 30
    assert verified["exp"] - verified["iat"] == 60


def test_no(cast: Cast, evaluator: Evaluator) -> None:
    evaluator.claims = {"success": False}
    assert outcome(cast, evaluator) == ("deny", "external_evaluation_refused")


@pytest.mark.parametrize(
    "fault",
    [
        {"claims": {"success": True, "nonce": "another"}},
        {"claims": {"success": True, "nonce": None}},
        {"claims": {"success": True, "exp": 1}},
        {"claims": {"success": True, "exp": None}},
        {"claims": {"success": "true"}},
        {"claims": {"success": None}},
        {"key": STRANGER},
        {"key": "a-secret-that-is-long-enough-for-hs256!", "algorithm": "HS256"},
        {"key": ec.generate_private_key(ec.SECP256R1()), "algorithm": "ES256"},
        {"status": 500},
        {"status": 302},
        {"raw": b"nonsense"},
        {"raw": b'{"token": 5}'},
        {"raw": b'{"token": "a.b.c"}'},
        {"raw": b"[]"},
    ],
    ids=[
        "other-nonce",
        "no-nonce",
        "expired",
        "no-end",
        "text-success",
        "no-success",
        "unknown-key",
        "hmac",
        "ecdsa",
        "status-500",
        "redirect",
        "not-json",
        "number",
        "junk-token",
        "list",
    ],
)
def test_every_other_answer_refuses(cast: Cast, evaluator: Evaluator, fault: dict[str, Any]) -> None:
    for name, value in fault.items():
        setattr(evaluator, name, value)
    assert outcome(cast, evaluator) == ("deny", "policy_error")


def test_unreachable_refuses_and_the_log_says_why(cast: Cast, evaluator: Evaluator, settings: LazySettings) -> None:
    settings.FETCH_ALLOWED_PRIVATE_HOSTS = []
    assert outcome(cast, evaluator) == ("deny", "policy_error")
    assert "external evaluation gave no answer" in json.dumps(AccessRequest.objects.get().trace)


def test_a_block_policy_without_an_answer_refuses(cast: Cast, evaluator: Evaluator) -> None:
    evaluator.status = 503
    application = make_application(cast.widgetcorp, include=[evaluator.rule], decision="deny", authority=False)
    add_policy(application, include=[{"everyone": {}}])
    assert with_token(application, make_session(cast.widgetcorp))["reason"] == "policy_error"


def test_asked_once_a_minute_per_session_and_again_for_live_streams(cast: Cast, evaluator: Evaluator) -> None:
    application = make_application(cast.widgetcorp, include=[evaluator.rule], authority=False)
    session = make_session(cast.widgetcorp)
    for _ in range(3):
        assert with_token(application, session)["outcome"] == "allow"
    assert len(evaluator.questions) == 1
    evaluator.claims = {"success": False}
    cache.clear()
    assert reasons(stream(application, session)) == ["external_evaluation_refused"]


def test_an_evaluator_that_hangs_is_waited_for_twice_and_its_streams_end(
    cast: Cast, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The edge, and whatever else it has to end, waits for the answer about all of these streams."""
    monkeypatch.setattr(live_answers, "EXTERNAL_SECONDS", 0.2)
    application = make_application(cast.widgetcorp, include=[evaluator.rule], authority=False)
    sessions = [make_session(cast.widgetcorp, f"p{number}@widgetcorp.test") for number in range(9)]
    live = [stream(application, session) for session in sessions]
    evaluator.released.clear()
    with pytest.raises(TemporarilyUnavailable):
        reasons(*live)
    assert len(evaluator.questions) <= live_answers.MAX_OF_ORGANIZATION
    assert reasons(*live) == ["policy_error"] * 9


def test_several_are_asked_at_once(cast: Cast, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_answers, "EXTERNAL_SECONDS", 30.0)
    application = make_application(cast.widgetcorp, include=[evaluator.rule], authority=False)
    sessions = [make_session(cast.widgetcorp, f"p{number}@widgetcorp.test") for number in range(8)]
    evaluator.delay = 0.1
    assert reasons(*(stream(application, session) for session in sessions)) == []
    assert len(evaluator.questions) == len(sessions)
    assert 1 < evaluator.peak <= live_answers.MAX_OF_ORGANIZATION


def test_no_organization_takes_all_places(
    cast: Cast, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    """One whose evaluator hangs has far more streams, and they come first. It goes on hanging until the other one was
    asked."""
    monkeypatch.setattr(live_answers, "EXTERNAL_SECONDS", 30.0)
    hanging = Evaluator()
    settings.FETCH_ALLOWED_PRIVATE_HOSTS = [evaluator.host, hanging.host]
    hanging.released.clear()
    slow = make_application(cast.evilcorp, include=[hanging.rule], authority=False, hostname="ssh.evil.test")
    quick = make_application(cast.widgetcorp, include=[evaluator.rule], authority=False)
    live = [stream(slow, make_session(cast.evilcorp, f"p{number}@evil.test")) for number in range(12)]
    mine = stream(quick, make_session(cast.widgetcorp))
    asked_before: list[int] = []

    def release() -> None:
        until = time.monotonic() + 25
        while not evaluator.questions and time.monotonic() < until:
            time.sleep(0.01)
        asked_before.append(len(hanging.questions))
        hanging.released.set()

    watcher = threading.Thread(target=release, daemon=True)
    watcher.start()
    try:
        reasons(*live, mine)
    finally:
        watcher.join(30)
        hanging.stop()
    assert len(evaluator.questions) == 1
    assert asked_before[0] <= live_answers.MAX_OF_ORGANIZATION
    assert 1 <= hanging.peak <= live_answers.MAX_OF_ORGANIZATION


def test_slow_answers_are_remembered_until_all_are_there(
    cast: Cast, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluator that answers after the deadline is slow, not silent."""
    monkeypatch.setattr(live_answers, "EXTERNAL_SECONDS", 0.2)
    application = make_application(cast.widgetcorp, include=[evaluator.rule], authority=False)
    session = make_session(cast.widgetcorp)
    evaluator.delay = 0.3
    with pytest.raises(TemporarilyUnavailable):
        reasons(stream(application, session))
    monkeypatch.setattr(live_answers, "EXTERNAL_SECONDS", 30.0)
    assert reasons(stream(application, session)) == []


def test_private_addresses_are_refused_when_saved(cast: Cast) -> None:
    """AC-66."""
    rule = {"external_evaluation": {"evaluate_url": "https://169.254.169.254/x", "keys_url": "https://keys.test/"}}
    with pytest.raises(InvalidInput, match="private address"):
        create_policy(cast.widgetcorp, actor=ACTOR, name="x", decision="allow", include=[rule])
    plain = {"external_evaluation": {"evaluate_url": "http://evaluator.test/x", "keys_url": "https://keys.test/"}}
    with pytest.raises(InvalidInput, match="https"):
        create_policy(cast.widgetcorp, actor=ACTOR, name="x", decision="allow", include=[plain])
