"""Requests for certificates that arrive at the same time share a transaction and a job, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from access import replies, signing
from access.actions import issuing
from access.actions.certificates import issued_line, wait_for_certificate
from access.actions.issuing import Refused, Request
from access.models import AccessRequest, Application, ApplicationPolicy, Certificate, PrincipalClaim
from access.sshcert import parse_public_key
from accounts.actions.audit_chains import verify_chain
from accounts.errors import DomainError, TemporarilyUnavailable
from accounts.models import AccessSession, AuditChain, AuditEvent
from accounts.prepared import insert_all
from tests.access.makers import (
    ACTOR,
    CLIENT_IP,
    add_policy,
    email_rule,
    make_application,
    make_session,
    public_key_line,
)
from tests.factories import Cast

Jobs = list[list[str]]
EVALUATOR = {
    "external_evaluation": {"evaluate_url": "https://evaluator.test/ask", "keys_url": "https://evaluator.test/keys"}
}


@pytest.fixture
def application(cast: Cast) -> Application:
    return make_application(cast.widgetcorp)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """The ids in each job; they are executed as usual."""
    sent: Jobs = []
    real: Callable[..., Any] = signing.sign_certificates.apply_async

    def note(**options: Any) -> Any:
        sent.append(options["args"][0])
        return real(**options)

    monkeypatch.setattr(signing.sign_certificates, "apply_async", note)
    return sent


def request_of(application: Application, session: AccessSession, line: str = "") -> Request:
    key = parse_public_key(line or public_key_line())
    return Request(application, session, None, key, CLIENT_IP, "ray", ACTOR, timezone.now())


def together(*requests: Request) -> list[Any]:
    """The outcomes as a gathering gets them: certificates, or what is raised to one caller."""
    return list(issuing._approve_gathered(requests))


def people(application: Application, *names: str) -> list[AccessSession]:
    return [make_session(application.organization, f"{name}@widgetcorp.test") for name in names]


def test_a_group_is_one_job_and_everybody_gets_a_certificate_of_their_own(application: Application, jobs: Jobs) -> None:
    approved = together(*(request_of(application, session) for session in people(application, "ann", "ben", "cleo")))

    rows = list(Certificate.objects.order_by("key_id"))
    assert [row.status for row in rows] == ["issued"] * 3
    assert [row.principals for row in rows] == [["ann"], ["ben"], ["cleo"]]
    assert len({row.serial for row in rows}) == 3
    assert jobs == [[str(certificate.pk) for certificate in approved]]
    events = AuditEvent.objects.filter(name="access.certificate.approved")
    assert {event.target_id for event in events} == {str(row.pk) for row in rows}
    assert AccessRequest.objects.filter(application=application, action="certificate", allowed=True).count() == 3
    chain = AuditChain.objects.get(pk=application.organization_id)
    assert verify_chain(chain, now=timezone.now()).problem == ""


def test_each_of_a_group_is_decided_for_itself(application: Application, jobs: Jobs) -> None:
    ApplicationPolicy.objects.all().delete()
    add_policy(application, include=[email_rule("ann@widgetcorp.test")])
    ann, ben = people(application, "ann", "ben")

    allowed, refused = together(request_of(application, ann), request_of(application, ben))

    assert isinstance(allowed, Certificate)
    assert isinstance(refused, Refused)
    assert Certificate.objects.get().principals == ["ann"]
    assert len(jobs) == 1


def test_ac_21_of_two_people_with_one_key_in_a_group_one_gets_it(application: Application) -> None:
    line = public_key_line()
    outcomes = together(*(request_of(application, session, line) for session in people(application, "ann", "ben")))
    assert isinstance(outcomes[0], Certificate)
    assert outcomes[1].error.code == "public_key_reused"
    assert Certificate.objects.get().principals == ["ann"]


def test_ac_01_of_two_people_with_one_account_name_in_a_group_one_gets_it(application: Application, jobs: Jobs) -> None:
    sessions = [make_session(application.organization, f"ann@{domain}.test") for domain in ("one", "two")]
    outcomes = together(
        *(request_of(application, session) for session in [*sessions, *people(application, "ben")]),
    )
    assert [type(outcome) for outcome in outcomes] == [Certificate, Refused, Certificate]
    assert outcomes[1].error.code == "principal_collision"
    assert PrincipalClaim.objects.count() == Certificate.objects.filter(status="issued").count() == 2
    assert [len(job) for job in jobs] == [1, 1], "what was written with the refused one is undone and written again"


def test_a_serial_that_exists_costs_the_others_nothing(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = iter([7, 7, 8, 9])
    monkeypatch.setattr(issuing, "_new_serial", lambda: next(draws))
    together(*(request_of(application, session) for session in people(application, "ann", "ben")))
    assert sorted(Certificate.objects.values_list("serial", flat=True)) == ["8", "9"]


def test_ac_99_nothing_is_approved_when_the_events_of_a_group_cannot_be_stored(
    application: Application, monkeypatch: pytest.MonkeyPatch, jobs: Jobs
) -> None:
    def full(rows: list[Any]) -> None:
        if any(isinstance(row, AuditEvent) for row in rows):
            raise OSError("disk full")
        insert_all(rows)

    monkeypatch.setattr("accounts.audit.insert_all", full)
    sessions = people(application, "ann", "ben")
    with pytest.raises(OSError, match="disk full"):
        together(*(request_of(application, session) for session in sessions))
    assert not Certificate.objects.exists()
    assert not jobs


def test_fault_4_broker_down_is_said_to_everybody_once(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(**options: Any) -> None:
        raise OSError("connection refused")

    monkeypatch.setattr(signing.sign_certificates, "apply_async", down)
    with pytest.raises(DomainError, match="cannot be reached"):
        together(*(request_of(application, session) for session in people(application, "ann", "ben")))
    assert Certificate.objects.filter(status="approved").count() == 2, "the sweeper fails them"


def test_nobody_waits_for_the_evaluator_that_anothers_policies_ask(
    application: Application, monkeypatch: pytest.MonkeyPatch, jobs: Jobs
) -> None:
    asking = make_application(application.organization, hostname="asking.widgetcorp.test", include=[EVALUATOR])
    asked: list[str] = []

    def answer(application: Application, asker: Any) -> dict[Any, bool]:
        asked.append(application.name)
        return {}

    monkeypatch.setattr(issuing, "external_facts_of", answer)
    ann, ben, cleo = people(application, "ann", "ben", "cleo")

    outcomes = together(request_of(application, ann), request_of(asking, ben), request_of(application, cleo))

    assert asked == [], "the thread that asked for it will ask, and come again"
    assert [type(outcome) for outcome in outcomes] == [Certificate, issuing._AskFirst, Certificate]
    assert [len(job) for job in jobs] == [2]
    with pytest.raises(Refused):
        issuing.approve(request_of(asking, ben))
    assert asked == [asking.name]


def test_a_fault_of_one_request_is_not_the_others(
    application: Application, monkeypatch: pytest.MonkeyPatch, jobs: Jobs
) -> None:
    real = issuing._names

    def broken_for_ben(request: Request, decision: Any) -> Any:
        if request.label.startswith("ben"):
            raise ValueError("cannot be read")
        return real(request, decision)

    monkeypatch.setattr(issuing, "_names", broken_for_ben)
    outcomes = together(*(request_of(application, session) for session in people(application, "ann", "ben", "cleo")))
    assert [type(outcome) for outcome in outcomes] == [Certificate, ValueError, Certificate]
    assert Certificate.objects.filter(status="issued").count() == 2


def test_waiting_for_an_answer_ends_when_the_time_is_over(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To Redis a timeout of 0 means to wait for ever."""
    waited: list[float] = []

    class Silent:
        def blpop(self, keys: list[str], timeout: float) -> None:
            assert timeout > 0
            waited.append(timeout)

    monkeypatch.setattr(replies, "shared_redis", lambda: Silent())
    monkeypatch.setattr(signing.sign_certificates, "apply_async", lambda **options: None)
    (session,) = people(application, "ann")
    certificate = issuing.approve(request_of(application, session))
    with pytest.raises(TemporarilyUnavailable, match="did not answer in time"):
        issued_line(certificate, timeout=0.5)
    assert waited == [0.5], "no second wait for what did not come"
    with pytest.raises(TemporarilyUnavailable):
        wait_for_certificate(certificate.pk, timeout=0.0)
