"""Health of background jobs: queues with their oldest job, workers, periodic jobs, failures without their secrets."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import JobFailure, User
from accounts.tasks import sweep_expired
from controlplane import jobs
from controlplane.celery import app
from tests.factories import PASSWORD, Cast
from tests.pages_kit import login, shown

CANARY = "canary-secret-in-an-exception"


@pytest.fixture
def staff(cast: Cast) -> Client:
    return login(User.objects.create_user("sam@operator.test", PASSWORD, is_staff=True))


@pytest.fixture
def broker() -> Celery:
    """The suite runs tasks where they are called; this sends them: through Redis when there is one."""
    sender = Celery("jobs-test", broker=settings.REDIS_URL or settings.CELERY_BROKER_URL, set_as_current=False)
    with sender.connection_for_write() as connection:
        for name in jobs.QUEUES:
            sender.amqp.queues[name](connection.default_channel).declare()
            connection.default_channel.queue_purge(name)
    yield sender
    with sender.connection_for_write() as connection:
        for name in jobs.QUEUES:
            connection.default_channel.queue_purge(name)


def test_depth_and_age_of_queues(broker: Celery) -> None:
    assert [(queue.depth, queue.oldest_seconds) for queue in jobs.queue_states(broker)] == [(0, None), (0, None)]
    broker.send_task("accounts.tasks.sweep_expired", queue="default", headers={jobs.SENT_AT: time.time() - 40})
    broker.send_task("accounts.tasks.sweep_expired", queue="default")
    signing, default = jobs.queue_states(broker)
    assert (signing.depth, default.depth) == (0, 2)
    assert default.oldest_seconds is not None
    assert 39 < default.oldest_seconds < 300


def test_a_broker_that_is_gone_is_said_so() -> None:
    gone = Celery("gone", broker="redis://127.0.0.1:1/0", set_as_current=False)
    assert [queue.depth for queue in jobs.queue_states(gone)] == [None, None]


def test_periodic_jobs_and_workers_are_seen(staff: Client) -> None:
    cache.clear()
    jobs._said.clear()
    now = timezone.now()
    assert all(state.ran_at is None and state.is_late for state in jobs.periodic_states(app, now))
    sweep_expired.delay()
    ran = {state.name: state for state in jobs.periodic_states(app, timezone.now())}["accounts.tasks.sweep_expired"]
    assert ran.succeeded
    assert not ran.is_late
    late = jobs.periodic_states(app, timezone.now() + timedelta(hours=1))
    assert {state.name: state for state in late}["accounts.tasks.sweep_expired"].is_late
    assert [worker.is_recent for worker in jobs.worker_states(timezone.now())] == [True]
    page = shown(staff, "/staff/jobs/")
    assert "accounts.tasks.sweep_expired" in page
    assert "not seen yet" in page


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise OSError(CANARY)

    monkeypatch.setattr("accounts.tasks.sessions.sweep_attempts", fail)


def test_failures_keep_the_class_and_no_text(staff: Client, failing: None) -> None:
    assert sweep_expired.apply().state == "FAILURE"
    failure = JobFailure.objects.get()
    assert (failure.task, failure.exception) == ("accounts.tasks.sweep_expired", "OSError")
    assert failure.place.startswith("accounts.tasks.sweep_expired, line ")
    page = shown(staff, "/staff/jobs/")
    assert "OSError" in page
    assert CANARY not in page
    assert CANARY not in repr(JobFailure.objects.values())


@pytest.mark.parametrize(
    ("args", "kwargs", "kept"),
    [
        (["4b7f1b6e-9b7d-4c55-8a51-6f7f3b5c0001"], {}, ["4b7f1b6e-9b7d-4c55-8a51-6f7f3b5c0001"]),
        ([7], {}, [7]),
        ([], {}, []),
        (["an e-mail@people.test"], {}, None),
        ([{"token": "x"}], {}, None),
        (["x" * 65], {}, None),
        ([], {"token": "x"}, None),
    ],
)
def test_only_ids_are_kept_of_arguments(args: list[Any], kwargs: dict[str, Any], kept: Any) -> None:
    assert jobs._plain_arguments(args, kwargs) == kept


def test_a_failed_job_is_sent_again_once(staff: Client) -> None:
    failure = JobFailure.objects.create(task="accounts.tasks.sweep_expired", exception="OSError", arguments=[])
    sent: list[Any] = []
    original = app.send_task
    app.send_task = lambda name, args=(), **_: sent.append((name, list(args)))  # type: ignore[method-assign]
    try:
        for _ in range(2):
            assert staff.post(reverse("staff_job_requeue", args=[failure.pk])).status_code == 302
    finally:
        app.send_task = original  # type: ignore[method-assign]
    assert sent == [("accounts.tasks.sweep_expired", [])]
    failure.refresh_from_db()
    assert failure.requeued_by == "sam@operator.test"
    assert "sent again" in shown(staff, "/staff/jobs/")


def test_unknown_jobs_and_lost_arguments_are_not_sent(staff: Client) -> None:
    for task, arguments in (("os.system", ["ls"]), ("accounts.tasks.send_pin", None)):
        failure = JobFailure.objects.create(task=task, exception="OSError", arguments=arguments)
        page = staff.post(reverse("staff_job_requeue", args=[failure.pk]), follow=True)
        assert "was not sent" in page.content.decode()
        failure.refresh_from_db()
        assert failure.requeued_at is None
