"""Signing through a real Celery worker in a thread, on the in-memory broker: the embedded set-up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker
from celery.signals import task_postrun
from celery.worker import state
from django.conf import LazySettings
from django.db import connection

from access.actions import signing
from access.actions.authorities import create_authority, wait_for_authority
from access.actions.certificates import request_certificate, wait_for_certificate
from access.models import Certificate, SshAuthority
from access.possession import Shown
from controlplane.celery import app
from tests.access.makers import ACTOR, CLIENT_IP, make_application, make_session, public_key_line, sign
from tests.factories import Cast, make_cast

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker() -> Iterator[Any]:
    eager = app.conf.task_always_eager
    app.conf.task_always_eager = False
    task_postrun.connect(_close_connection_of_thread)
    try:
        with start_worker(app, pool="solo", queues=["signing"], perform_ping_check=False, loglevel="ERROR") as started:
            yield started
    finally:
        task_postrun.disconnect(_close_connection_of_thread)
        app.conf.task_always_eager = eager


def _close_connection_of_thread(**_: Any) -> None:
    """PostgreSQL does not drop a test database that the worker's thread still holds open."""
    if threading.current_thread() is not threading.main_thread():
        connection.close()


@pytest.fixture
def committed_cast(transactional_db: None, worker: Any) -> Cast:
    return make_cast()


def test_fault_11_a_worker_that_is_stopped_finishes_what_it_signs(
    committed_cast: Cast, worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warm shutdown, as SIGTERM asks for: no certificate is lost, and none is signed twice."""
    application = make_application(committed_cast.widgetcorp, authority=False)
    wait_for_authority(create_authority(application, actor=ACTOR).pk, timeout=20)
    began, sign_now, signed = threading.Event(), threading.Event(), []

    def held(certificate: Certificate, now: datetime) -> str:
        began.set()
        assert sign_now.wait(30)
        signed.append(certificate.serial)
        return sign_line(certificate, now)

    sign_line = signing._signed
    monkeypatch.setattr(signing, "_signed", held)
    certificate = request_certificate(
        application,
        session=make_session(committed_cast.widgetcorp),
        shown=Shown(""),
        public_key=public_key_line(),
        ip=CLIENT_IP,
        ray_id="r",
        actor=ACTOR,
    )
    assert began.wait(30)
    monkeypatch.setattr(state, "should_stop", 0)
    assert Certificate.objects.get(pk=certificate.pk).status == Certificate.Status.SIGNING
    sign_now.set()
    assert wait_for_certificate(certificate.pk, timeout=30).status == Certificate.Status.ISSUED
    assert signed == [certificate.serial]


def test_authority_and_certificates_come_from_the_worker(committed_cast: Cast, settings: LazySettings) -> None:
    settings.SIGNING_WAIT_SECONDS = 20
    application = make_application(committed_cast.widgetcorp, authority=False)
    created = create_authority(application, actor=ACTOR)
    assert wait_for_authority(created.pk, timeout=20).state == SshAuthority.State.ACTIVE

    session = make_session(committed_cast.widgetcorp)
    serials = set()
    for _ in range(3):
        response = sign(application, session)
        assert response.status_code == 200, response.content
        row = Certificate.objects.get(pk=response.json()["id"])
        assert row.certificate == response.json()["certificate"]
        serials.add(row.serial)
    assert len(serials) == 3

    certificate = request_certificate(
        application,
        session=session,
        shown=Shown(""),
        public_key=public_key_line(),
        ip=CLIENT_IP,
        ray_id="r",
        actor=ACTOR,
    )
    assert wait_for_certificate(certificate.pk, timeout=20).status == Certificate.Status.ISSUED
