"""What the gate remembers through an outage of the control plane, and what makes it forget (fault 24, AC-87)."""

from __future__ import annotations

from typing import cast

import pytest

from dataplane.edge.agent import AgentApi, Allowed, Answered, Decision, Denied, LoginNeeded
from dataplane.edge.errors import Refusal
from dataplane.edge.gate import AnsweredByAccess, Gate, LoginRedirect
from dataplane.edge.heads import parse_request_head
from dataplane.edge.httpclient import ControlPlaneUnreachableError
from dataplane.edge.snapshot import parse_snapshot
from tests.dataplane.edge.conftest import Stage
from tests.dataplane.edge.fakes import SSH_HOST, WEB_HOST, make_snapshot, make_token

SNAPSHOT = parse_snapshot(make_snapshot())


class Agent:
    """Answers with `decision`; None: the control plane is away."""

    def __init__(self) -> None:
        self.decision: Decision | None = None

    async def authorize(self, _question: object) -> Decision:
        if self.decision is None:
            raise ControlPlaneUnreachableError("away")
        return self.decision


class Visitor:
    def __init__(self) -> None:
        self.agent = Agent()
        self.gate = Gate(cast(AgentApi, self.agent), outage_grace_seconds=3600)
        application = SNAPSHOT.find_application(SSH_HOST, "/")
        assert application is not None
        self.application = application
        self.allowed = Allowed(application.id, "nonce-1", "alice@widgetcorp.com", None, None, 0)
        head = f"GET / HTTP/1.1\r\nHost: {SSH_HOST}\r\nCf-Access-Token: {make_token()}"
        self.head = parse_request_head(head.encode())

    async def ask(self, decision: Decision | None) -> Allowed:
        self.agent.decision = decision
        return await self.gate.pass_through(self.head, self.application, SNAPSHOT, "192.0.2.1", "ref")

    async def is_let_in_while_away(self) -> bool:
        try:
            await self.ask(None)
        except Refusal:
            return False
        return True


async def test_grace_lets_in_what_was_let_in_before() -> None:
    visitor = Visitor()
    assert not await visitor.is_let_in_while_away()
    await visitor.ask(visitor.allowed)
    assert await visitor.is_let_in_while_away()


async def test_a_preflight_let_in_without_a_login_lets_nothing_else_in_during_an_outage() -> None:
    visitor = Visitor()
    plain = f"OPTIONS / HTTP/1.1\r\nHost: {SSH_HOST}"
    origin = "\r\nOrigin: https://app.example.com"
    visitor.head = parse_request_head(f"{plain}{origin}\r\nAccess-Control-Request-Method: PUT".encode())
    await visitor.ask(Allowed(visitor.application.id, None, None, None, None, 0))
    assert await visitor.is_let_in_while_away()
    for other in (plain, plain + origin, f"{plain}\r\nAccess-Control-Request-Method: PUT"):
        visitor.head = parse_request_head(other.encode())
        assert not await visitor.is_let_in_while_away(), other


@pytest.mark.parametrize("answer", [LoginNeeded("https://team/login", ()), Denied(403, "email_not_allowed", "No.")])
async def test_ac87_what_was_refused_since_is_not_let_in_by_an_outage(answer: Decision) -> None:
    visitor = Visitor()
    await visitor.ask(visitor.allowed)
    with pytest.raises((LoginRedirect, Refusal)):
        await visitor.ask(answer)
    assert not await visitor.is_let_in_while_away()


async def test_ac87_a_cut_stream_takes_the_memory_of_its_session_with_it() -> None:
    visitor = Visitor()
    await visitor.ask(visitor.allowed)
    visitor.gate.forget(Allowed(visitor.application.id, "nonce-2", None, None, None, 0))
    visitor.gate.forget(Allowed(visitor.application.id, None, "a machine", None, None, 0))
    assert await visitor.is_let_in_while_away()
    # Another stream of the same session, at another application.
    visitor.gate.forget(Allowed("another", "nonce-1", None, None, None, 0))
    assert not await visitor.is_let_in_while_away()


async def test_a_preflight_is_answered_without_the_application() -> None:
    visitor = Visitor()
    headers = (("access-control-allow-origin", "https://app.example.com"),)
    with pytest.raises(AnsweredByAccess) as answered:
        await visitor.ask(Answered(200, headers))
    assert answered.value.answer.headers == headers


async def test_what_a_preflight_asks_for_reaches_the_control_plane(stage: Stage) -> None:
    await stage.connector()
    headers = [["access-control-allow-origin", "https://app.example.com"], ["vary", "Origin"]]
    stage.control.decide = lambda _: {"outcome": "answer", "status": 200, "headers": headers}
    eyeball = await stage.eyeball(WEB_HOST)
    asked = {
        "Origin": "https://app.example.com",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "x-one",
    }
    response = await eyeball.request("OPTIONS", "/", asked)
    assert (response.status, response.get("access-control-allow-origin")) == (200, "https://app.example.com")
    question = stage.control.authorized[-1]
    assert (question["preflight_method"], question["preflight_headers"]) == ("PUT", "x-one")
    headers[:] = [["set-cookie", "a=b"]]
    assert (await eyeball.request("OPTIONS", "/", asked)).status == 503
