"""The signing path when parts fail, and many at once (security.md section 2, faults 1 to 5 and 12)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone
from kombu.exceptions import OperationalError

from access import signing, sshcert, tasks
from access.actions import issuing
from access.actions import signing as signing_actions
from access.actions.certificates import request_certificate, revoke_certificate, wait_for_certificate
from access.models import Application, Certificate, PrincipalClaim
from access.possession import Shown
from accounts.errors import Conflict, DomainError, TemporarilyUnavailable
from accounts.models import AccessSession, AuditEvent
from tests.access.makers import ACTOR, make_application, make_session, public_key_line, sign
from tests.factories import Cast, make_cast

Status = Certificate.Status


@pytest.fixture
def application(cast: Cast) -> Application:
    return make_application(cast.widgetcorp)


@pytest.fixture
def lost_jobs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A broker that takes jobs and never delivers them."""
    taken: list[Any] = []
    monkeypatch.setattr(signing.sign_certificates, "apply_async", lambda **options: taken.append(options))
    return taken


def approve(application: Application, session: AccessSession) -> Certificate:
    return request_certificate(
        application,
        session=session,
        shown=Shown(""),
        public_key=public_key_line(),
        ip="203.0.113.7",
        ray_id="ray",
        actor=ACTOR,
    )


def executed(certificate: Certificate) -> dict[str, str]:
    """What a worker answers that gets the job of this certificate (again)."""
    return signing_actions.sign_certificates([str(certificate.pk)])[str(certificate.pk)]


def test_job_carries_only_the_id_and_expires(application: Application, lost_jobs: list[Any]) -> None:
    certificate = approve(application, make_session(application.organization))
    assert lost_jobs == [{"args": ([str(certificate.pk)],), "task_id": str(certificate.pk), "expires": 10.0}]
    assert (certificate.status, certificate.certificate) == (Status.APPROVED, "")


def test_fault_4_broker_down_is_503_with_retry_after(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(**options: Any) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(signing.sign_certificates, "apply_async", down)
    response = sign(application, make_session(application.organization))
    assert (response.status_code, response.json()["reason"]) == (503, "signing_unavailable")
    assert response.headers["Retry-After"] == "2"
    assert Certificate.objects.get().status == Status.APPROVED
    Certificate.objects.update(created_at=timezone.now() - timedelta(seconds=11))
    assert tasks.redrive_certificates.delay().get() == {"failed": 1, "asked_again": 0}
    assert Certificate.objects.get().status == Status.FAILED
    assert AuditEvent.objects.filter(name="access.certificate.failed").count() == 1


def test_no_worker_is_503_after_the_wait(application: Application, lost_jobs: list[Any], settings: Any) -> None:
    settings.SIGNING_WAIT_SECONDS = 0.05
    response = sign(application, make_session(application.organization))
    assert (response.status_code, response.json()["reason"]) == (503, "signing_timeout")
    assert len(lost_jobs) == 1


def test_fault_5_redelivery_signs_once(application: Application) -> None:
    certificate = approve(application, make_session(application.organization))
    first = Certificate.objects.get().certificate
    again = executed(certificate)
    assert again["certificate"] == first
    assert Certificate.objects.get().certificate == first


def test_fault_1_worker_killed_after_claiming_never_signs_the_serial_again(
    application: Application, lost_jobs: list[Any]
) -> None:
    certificate = approve(application, make_session(application.organization))
    Certificate.objects.update(status=Status.SIGNING)
    assert executed(certificate)["status"] == "signing"
    Certificate.objects.update(created_at=timezone.now() - timedelta(seconds=11))
    assert tasks.redrive_certificates.delay().get()["failed"] == 1
    assert executed(certificate)["status"] == "failed"
    assert Certificate.objects.get().certificate == ""
    with pytest.raises(TemporarilyUnavailable, match="not signed in time"):
        wait_for_certificate(certificate.pk, timeout=0.01)


def test_a_slow_worker_does_not_overwrite_the_sweeper(
    application: Application, lost_jobs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = approve(application, make_session(application.organization))
    real = sshcert.lint

    def slow(line: str, intent: sshcert.Intent) -> sshcert.ParsedCertificate:
        Certificate.objects.update(created_at=timezone.now() - timedelta(seconds=11))
        tasks.redrive_certificates.delay()
        return real(line, intent)

    monkeypatch.setattr(sshcert, "lint", slow)
    assert executed(certificate)["status"] == "failed"
    assert Certificate.objects.get().certificate == ""


def test_fresh_rows_are_left_alone(application: Application, lost_jobs: list[Any]) -> None:
    approve(application, make_session(application.organization))
    assert tasks.redrive_certificates.delay().get()["failed"] == 0


@pytest.mark.parametrize("seconds", [-31, 31, 3600, -3600])
def test_fault_12_clock_jump_between_approval_and_worker_names_the_skew(
    application: Application, lost_jobs: list[Any], seconds: int
) -> None:
    certificate = approve(application, make_session(application.organization))
    Certificate.objects.update(created_at=timezone.now() + timedelta(seconds=seconds))
    answer = executed(certificate)
    assert answer["status"] == "failed"
    assert "clock skew" in answer["failure"]


@pytest.mark.parametrize(
    "changes",
    [
        {"principals": []},
        {"principals": ["root", "alice\n"]},
        {"serial": "0"},
        {"key_id": "forged\nline"},
        {"extensions": ["permit-everything"]},
        {"public_key": "ssh-ed25519 AAAA"},
    ],
)
def test_ac_08_a_row_changed_behind_our_back_is_not_signed(
    application: Application, lost_jobs: list[Any], changes: dict[str, Any]
) -> None:
    certificate = approve(application, make_session(application.organization))
    Certificate.objects.update(**changes)
    assert executed(certificate)["status"] == "failed"
    row = Certificate.objects.get()
    assert (row.status, row.certificate) == (Status.FAILED, "")


def test_linter_failure_is_not_returned_to_the_client(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(line: str, intent: sshcert.Intent) -> None:
        raise sshcert.LintError(["the principals differ"])

    monkeypatch.setattr(sshcert, "lint", refuse)
    response = sign(application, make_session(application.organization))
    assert response.status_code == 503
    assert "certificate" not in response.json()
    assert Certificate.objects.get().failure.endswith("the principals differ")


def test_ac_99_no_certificate_without_its_audit_event(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **options: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(issuing.audit, "record", broken)
    with pytest.raises(OSError, match="disk full"):
        approve(application, make_session(application.organization))
    assert not Certificate.objects.exists()
    assert not PrincipalClaim.objects.exists()


def test_a_drawn_serial_that_exists_is_drawn_again(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    session = make_session(application.organization)
    taken = int(approve(application, session).serial)
    draws = iter([taken, taken, 12345])
    monkeypatch.setattr(issuing, "_new_serial", lambda: next(draws))
    assert approve(application, session).serial == "12345"


def test_revocation_is_recorded_once(application: Application) -> None:
    certificate = approve(application, make_session(application.organization))
    revoke_certificate(certificate, actor=ACTOR)
    assert Certificate.objects.get().revoked_at is not None
    with pytest.raises(Conflict):
        revoke_certificate(certificate, actor=ACTOR)
    assert AuditEvent.objects.filter(name="access.certificate.revoked").count() == 1


def test_sweep_expired_forgets_old_transfers(application: Application) -> None:
    assert tasks.sweep_expired.delay().get() == {
        "hand_overs": 0,
        "transfers": 0,
        "approval_requests": 0,
        "drafts": 0,
    }


# --- Many at once, with real transactions ---------------------------------------------------------------------
def in_threads(jobs: list[Callable[[], Any]]) -> list[Any]:
    results: list[Any] = [None] * len(jobs)
    barrier = threading.Barrier(len(jobs))

    def run(index: int) -> None:
        try:
            barrier.wait(timeout=20)
            results[index] = jobs[index]()
        except DomainError as error:
            results[index] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    return results


@pytest.fixture
def committed_cast(transactional_db: None) -> Cast:
    return make_cast()


@pytest.mark.django_db(transaction=True)
def test_ac_23_serials_are_unique_under_parallel_requests(committed_cast: Cast) -> None:
    application = make_application(committed_cast.widgetcorp)
    sessions = [make_session(committed_cast.widgetcorp, f"user{n}@widgetcorp.test") for n in range(10)]
    jobs = [lambda s=session: approve(application, s) for session in sessions for _ in range(2)]

    results = in_threads(jobs)

    assert all(isinstance(result, Certificate) for result in results), results
    serials = set(Certificate.objects.values_list("serial", flat=True))
    assert len(serials) == 20
    assert Certificate.objects.filter(status=Status.ISSUED).count() == 20
    assert PrincipalClaim.objects.count() == 10
    assert AuditEvent.objects.filter(name="access.certificate.approved").count() == 20


@pytest.mark.django_db(transaction=True)
def test_ac_01_of_many_at_once_exactly_one_identity_gets_the_name(committed_cast: Cast) -> None:
    application = make_application(committed_cast.widgetcorp)
    sessions = [make_session(committed_cast.widgetcorp, f"alice@corp{n}.test") for n in range(8)]

    results = in_threads([lambda s=session: approve(application, s) for session in sessions])

    issued = [result for result in results if isinstance(result, Certificate)]
    assert len(issued) == 1
    assert {result.code for result in results if isinstance(result, DomainError)} == {"principal_collision"}
    assert PrincipalClaim.objects.get().identity_id == issued[0].identity_id


@pytest.mark.django_db(transaction=True)
def test_ac_94_of_two_rotations_at_once_one_wins(committed_cast: Cast) -> None:
    from access.actions.authorities import rotate_authority

    application = make_application(committed_cast.widgetcorp)
    results = in_threads([lambda: rotate_authority(application, actor=ACTOR) for _ in range(4)])
    assert sum(isinstance(result, Conflict) for result in results) == 3
    assert application.ssh_authorities.count() == 2


@pytest.mark.django_db(transaction=True)
def test_fault_5_delivered_to_many_workers_at_once_one_signs(committed_cast: Cast, lost_jobs: list[Any]) -> None:
    application = make_application(committed_cast.widgetcorp)
    certificate = approve(application, make_session(committed_cast.widgetcorp))
    results = in_threads([lambda: executed(certificate) for _ in range(6)])
    lines = {result["certificate"] for result in results if result["status"] == "issued"}
    assert lines == {Certificate.objects.get().certificate}
    assert connection.vendor in {"sqlite", "postgresql"}
