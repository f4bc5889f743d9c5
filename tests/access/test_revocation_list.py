"""The KRL, judged by ssh-keygen: revoked certificates are in it, all others are not."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from access.actions.authorities import activate_next_authority, rotate_authority
from access.actions.certificates import revocation_list, revoke_certificate
from access.krl import build_krl
from access.models import Application, Certificate
from accounts.models import AccessSession
from tests.access.makers import ACTOR, make_application, make_session, sign
from tests.factories import Cast


@pytest.fixture
def application(cast: Cast) -> Application:
    return make_application(cast.widgetcorp)


def issue(application: Application, session: AccessSession) -> Certificate:
    return Certificate.objects.get(pk=sign(application, session).json()["id"])


def is_revoked(tmp_path: Path, krl: bytes, certificate: Certificate) -> bool:
    (tmp_path / "krl").write_bytes(krl)
    (tmp_path / "id-cert.pub").write_text(certificate.certificate + "\n")
    command = ["ssh-keygen", "-Q", "-f", str(tmp_path / "krl"), str(tmp_path / "id-cert.pub")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert result.stderr == "", result.stderr
    assert result.returncode in {0, 1}
    return "REVOKED" in result.stdout


def test_revoked_certificate_is_listed_and_others_are_not(application: Application, tmp_path: Path) -> None:
    session = make_session(application.organization)
    certificates = [issue(application, session) for _ in range(5)]
    for certificate in certificates[:3]:
        revoke_certificate(certificate, actor=ACTOR)
    krl = revocation_list(application, now=timezone.now())
    assert [is_revoked(tmp_path, krl, certificate) for certificate in certificates] == [True] * 3 + [False] * 2


def test_serials_of_both_generations_during_rotation(application: Application, tmp_path: Path) -> None:
    session = make_session(application.organization)
    old = issue(application, session)
    rotate_authority(application, actor=ACTOR)
    activate_next_authority(application, actor=ACTOR)
    new = issue(application, session)
    assert old.authority != new.authority
    for certificate in (old, new):
        revoke_certificate(certificate, actor=ACTOR)
    krl = revocation_list(application, now=timezone.now())
    assert is_revoked(tmp_path, krl, old)
    assert is_revoked(tmp_path, krl, new)


@pytest.mark.parametrize("what", ["session", "identity"])
def test_ac_87_certificates_of_ended_sessions_and_disabled_people(
    application: Application, tmp_path: Path, what: str
) -> None:
    session = make_session(application.organization)
    certificate = issue(application, session)
    other = issue(application, make_session(application.organization, "bob@widgetcorp.test"))
    if what == "session":
        AccessSession.objects.filter(pk=session.pk).update(revoked_at=timezone.now())
    else:
        session.identity.disabled_at = timezone.now()
        session.identity.save()
    krl = revocation_list(application, now=timezone.now())
    assert is_revoked(tmp_path, krl, certificate)
    assert not is_revoked(tmp_path, krl, other)


def test_empty_list_is_a_well_formed_file_and_long_expired_ones_leave(application: Application, tmp_path: Path) -> None:
    certificate = issue(application, make_session(application.organization))
    empty = revocation_list(application, now=timezone.now())
    assert len(empty) > 40
    assert not is_revoked(tmp_path, empty, certificate)
    revoke_certificate(certificate, actor=ACTOR)
    later = revocation_list(application, now=timezone.now() + timedelta(hours=1))
    assert not is_revoked(tmp_path, later, certificate)


def test_version_grows_and_bytes_are_stable() -> None:
    first = build_krl({}, version=1, generated_at=2, comment="c")
    assert first == b"SSHKRL\n\0" + bytes.fromhex("00000001" + "0000000000000001" + "0000000000000002" + "00" * 8) + (
        b"\0\0\0\0" + b"\0\0\0\x01c"
    )
