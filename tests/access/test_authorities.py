"""SSH authorities: generation in the worker, sealing, rotation with overlap, the CA file."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core import serializers
from django.utils import timezone

from access import keystore, signing, tasks
from access.actions import authorities
from access.actions.authorities import (
    activate_next_authority,
    ca_file,
    create_authority,
    delete_authorities,
    retire_authority,
    rotate_authority,
    rotate_due_authorities,
    wait_for_authority,
)
from access.actions.signing import generate_authority, place_of, sign_certificates
from access.models import Application, Certificate, SshAuthority
from access.sshcert import build
from accounts.actor import system
from accounts.errors import Conflict, InvalidInput, NotFound, TemporarilyUnavailable
from accounts.models import AuditEvent
from accounts.sealing import SealError
from tests.access.makers import ACTOR, make_application, make_session, sign
from tests.access.test_sshcert import INTENT
from tests.factories import Cast

State = SshAuthority.State
SEAL_KEY = bytes.fromhex("22" * 32)


@pytest.fixture
def application(cast: Cast) -> Application:
    return make_application(cast.widgetcorp, authority=False)


def states(application: Application) -> list[str]:
    return sorted(application.ssh_authorities.values_list("state", flat=True))


def test_created_key_is_ed25519_active_and_named_after_organization_and_application(application: Application) -> None:
    created = create_authority(application, actor=ACTOR)

    authority = wait_for_authority(created.pk, timeout=1)

    assert authority.state == State.ACTIVE
    assert authority.activated_at is not None
    algorithm, _, comment = authority.public_key.split(" ")
    assert (algorithm, comment) == ("ssh-ed25519", "widgetcorp/ssh-bastion.widgetcorp.test")
    event = AuditEvent.objects.get(name="access.ssh_authority.created")
    assert event.new == {"algorithm": "ed25519", "application": str(application.pk)}


def test_second_authority_is_a_conflict(application: Application) -> None:
    create_authority(application, actor=ACTOR)
    with pytest.raises(Conflict):
        create_authority(application, actor=ACTOR)
    assert application.ssh_authorities.count() == 1


def test_unknown_algorithm(application: Application) -> None:
    with pytest.raises(InvalidInput):
        create_authority(application, algorithm="rsa-1024", actor=ACTOR)


def test_fault_10_without_the_seal_key_nothing_is_generated_or_signed(
    cast: Cast, application: Application, settings: LazySettings
) -> None:
    settings.AUTHORITY_SEAL_KEY = b""
    created = create_authority(application, actor=ACTOR)
    with pytest.raises(TemporarilyUnavailable, match="AUTHORITY_SEAL_KEY"):
        wait_for_authority(created.pk, timeout=1)
    assert SshAuthority.objects.get().private_sealed in (b"", memoryview(b""))
    # The key comes back, and the sweeper asks again.
    settings.AUTHORITY_SEAL_KEY = SEAL_KEY
    SshAuthority.objects.update(created_at=timezone.now() - timedelta(minutes=1))
    assert tasks.redrive_certificates.delay().get() == {"failed": 0, "asked_again": 1}
    assert sign(application, make_session(cast.widgetcorp)).status_code == 200
    # Gone again: a cached key must not sign for a process without the seal key.
    settings.AUTHORITY_SEAL_KEY = b""
    response = sign(application, make_session(cast.widgetcorp))
    assert (response.status_code, response.json()["reason"]) == (503, "signing_failed")
    assert response.headers["Retry-After"] == "2"
    assert Certificate.objects.filter(status=Certificate.Status.FAILED).count() == 1
    assert AuditEvent.objects.filter(name="access.certificate.failed").count() == 1


def test_ac_93_rotated_key_is_sealed_too(cast: Cast, application: Application, settings: LazySettings) -> None:
    create_authority(application, actor=ACTOR)
    rotate_authority(application, actor=ACTOR)
    activate_next_authority(application, actor=ACTOR)
    settings.AUTHORITY_SEAL_KEY = bytes(32)
    assert sign(application, make_session(cast.widgetcorp)).json()["reason"] == "signing_failed"


def test_sealed_key_opens_only_at_its_place(application: Application, cast: Cast) -> None:
    create_authority(application, actor=ACTOR)
    other = make_application(cast.evilcorp, hostname="ssh.evilcorp.test")
    row, foreign = application.ssh_authorities.get(), other.ssh_authorities.get()
    store = keystore.Keystore()
    assert store.open(bytes(row.private_sealed), place_of(row), seal_key=SEAL_KEY)
    with pytest.raises(SealError):
        store.open(bytes(row.private_sealed), place_of(foreign), seal_key=SEAL_KEY)


def test_keystore_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystore, "MAX_CACHED_KEYS", 2)
    store = keystore.Keystore()
    for number in range(4):
        place = keystore.Place("o", "a", str(number))
        key = keystore.generate("ed25519", place, seal_key=SEAL_KEY)
        first = store.open(key.sealed, place, seal_key=SEAL_KEY)
        assert store.open(key.sealed, place, seal_key=SEAL_KEY) is first
    assert repr(store) == "<Keystore with 2 keys>"


def test_generating_twice_keeps_the_first_key(application: Application) -> None:
    created = create_authority(application, actor=ACTOR)
    first = SshAuthority.objects.get().public_key
    assert generate_authority(created.pk) == {"status": "ready"}
    assert SshAuthority.objects.get().public_key == first


# --- AC-92 canary ---------------------------------------------------------------------------------------------
def test_ac_92_no_key_in_rows_audit_repr_errors_or_task_results(
    cast: Cast, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bytes] = []
    real = keystore.seal

    def spy(key: bytes, plaintext: bytes, *context: str) -> bytes:
        made.append(plaintext)
        return real(key, plaintext, *context)

    monkeypatch.setattr(keystore, "seal", spy)
    create_authority(application, actor=ACTOR)
    rotate_authority(application, actor=ACTOR)
    response = sign(application, make_session(cast.widgetcorp))
    result = sign_certificates([response.json()["id"]])

    rows: list[Any] = [*SshAuthority.objects.all(), *Certificate.objects.all(), *AuditEvent.objects.all()]
    row = SshAuthority.objects.get(state=State.ACTIVE)
    signer = keystore.keystore.open(bytes(row.private_sealed), place_of(row), seal_key=SEAL_KEY)
    dump = serializers.serialize("json", rows) + repr(rows) + repr(result) + repr(signer) + repr(keystore.keystore)
    dump += response.content.decode() + repr(keystore.generate("ed25519", place_of(row), seal_key=SEAL_KEY))
    assert len(made) == 3
    for private in made:
        seed = private[-32:]
        forms = [seed.hex(), repr(seed)[2:-1], private.hex()]
        assert not any(form in dump for form in forms)
        assert seed not in b"".join(bytes(authority.private_sealed) for authority in SshAuthority.objects.all())


# --- Rotation -------------------------------------------------------------------------------------------------
def test_rotation_with_overlap_fails_no_login(cast: Cast, application: Application) -> None:
    create_authority(application, actor=ACTOR)
    session = make_session(cast.widgetcorp)
    first = application.ssh_authorities.get()

    upcoming = rotate_authority(application, actor=ACTOR)

    lines = ca_file(application).splitlines()
    assert len(lines) == 2, "the next key is published before it signs"
    assert lines[0] == first.public_key
    assert Certificate.objects.get(pk=sign(application, session).json()["id"]).authority == first
    activate_next_authority(application, actor=ACTOR)
    assert Certificate.objects.get(pk=sign(application, session).json()["id"]).authority == upcoming
    assert len(ca_file(application).splitlines()) == 2, "the old key stays while its certificates are valid"
    assert states(application) == [State.ACTIVE, State.RETIRING]


def test_fault_15_rotation_between_approval_and_signing(
    cast: Cast, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_authority(application, actor=ACTOR)
    rotate_authority(application, actor=ACTOR)
    first = application.ssh_authorities.get(state=State.ACTIVE)
    real = signing.sign_certificates.apply_async

    def late(*args: Any, **options: Any) -> Any:
        activate_next_authority(application, actor=ACTOR)
        return real(*args, **options)

    monkeypatch.setattr(signing.sign_certificates, "apply_async", late)
    response = sign(application, make_session(cast.widgetcorp))
    assert response.status_code == 200
    assert Certificate.objects.get().authority == first
    assert first.public_key in ca_file(application)


def test_ac_94_second_rotation_is_a_conflict(application: Application) -> None:
    create_authority(application, actor=ACTOR)
    rotate_authority(application, actor=ACTOR)
    with pytest.raises(Conflict):
        rotate_authority(application, actor=ACTOR)
    assert states(application) == [State.ACTIVE, State.NEXT]


def test_rotation_needs_something_to_rotate(application: Application) -> None:
    for step in (rotate_authority, activate_next_authority):
        with pytest.raises(Conflict):
            step(application, actor=ACTOR)
    with pytest.raises(NotFound):
        delete_authorities(application, actor=ACTOR)


def test_fault_17_next_key_without_a_key_is_not_activated(application: Application, settings: LazySettings) -> None:
    create_authority(application, actor=ACTOR)
    settings.AUTHORITY_SEAL_KEY = b""
    rotate_authority(application, actor=ACTOR)
    with pytest.raises(Conflict):
        activate_next_authority(application, actor=ACTOR)
    assert len(ca_file(application).splitlines()) == 1


def test_ac_95_retiring_waits_for_the_last_certificate(cast: Cast, application: Application) -> None:
    create_authority(application, actor=ACTOR)
    sign(application, make_session(cast.widgetcorp))
    rotate_authority(application, actor=ACTOR)
    activate_next_authority(application, actor=ACTOR)
    old = application.ssh_authorities.get(state=State.RETIRING)
    now = timezone.now()

    with pytest.raises(Conflict, match="1 certificates"):
        retire_authority(old, now=now, actor=ACTOR)
    retire_authority(old, now=now + timedelta(minutes=6), actor=ACTOR)

    old.refresh_from_db()
    assert (old.state, bytes(old.private_sealed)) == (State.RETIRED, b"")
    assert old.public_key not in ca_file(application)
    assert AuditEvent.objects.filter(name="access.ssh_authority.retired").count() == 1


def test_periodic_rotation_takes_each_step_when_due(cast: Cast, application: Application) -> None:
    application.settings = {authorities.ROTATION_SETTING: 90}
    application.save()
    create_authority(application, actor=ACTOR)
    actor, start = system("test"), timezone.now()

    assert rotate_due_authorities(now=start, actor=actor) == {"started": 0, "activated": 0, "retired": 0}
    later = start + timedelta(days=91)
    assert rotate_due_authorities(now=later, actor=actor)["started"] == 1
    assert rotate_due_authorities(now=start, actor=actor) == {"started": 0, "activated": 0, "retired": 0}
    ready = start + authorities.OVERLAP + timedelta(hours=1)
    assert rotate_due_authorities(now=ready, actor=actor) == {"started": 0, "activated": 1, "retired": 0}
    assert rotate_due_authorities(now=ready, actor=actor) == {"started": 0, "activated": 0, "retired": 1}
    assert states(application) == [State.ACTIVE, State.RETIRED]


def test_without_the_setting_nothing_rotates_by_itself(application: Application) -> None:
    create_authority(application, actor=ACTOR)
    far = timezone.now() + timedelta(days=4000)
    assert rotate_due_authorities(now=far, actor=system("test"))["started"] == 0
    assert tasks.rotate_ssh_authorities.delay().get() == {"started": 0, "activated": 0, "retired": 0}


def test_delete_destroys_every_key_and_a_new_one_can_follow(cast: Cast, application: Application) -> None:
    create_authority(application, actor=ACTOR)
    rotate_authority(application, actor=ACTOR)
    sign(application, make_session(cast.widgetcorp))

    delete_authorities(application, actor=ACTOR)

    assert ca_file(application) == ""
    assert all(bytes(row.private_sealed) == b"" for row in application.ssh_authorities.all())
    assert sign(application, make_session(cast.widgetcorp)).json()["reason"] == "no_authority"
    create_authority(application, actor=ACTOR)
    assert sign(application, make_session(cast.widgetcorp)).status_code == 200


def test_ca_file_is_what_ssh_keygen_reads_line_by_line(application: Application, tmp_path: Path) -> None:
    create_authority(application, algorithm="ecdsa-p256", actor=ACTOR)
    rotate_authority(application, actor=ACTOR)
    path = tmp_path / "ca.pub"
    path.write_text(ca_file(application))
    output = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(path)], capture_output=True, text=True, check=True, timeout=20
    )
    assert output.stdout.count("(ECDSA)") == 2


def test_signer_gives_one_line(application: Application) -> None:
    create_authority(application, actor=ACTOR)
    row = application.ssh_authorities.get()
    signer = keystore.keystore.open(bytes(row.private_sealed), place_of(row), seal_key=SEAL_KEY)
    assert signer.sign(build(INTENT)).count("\n") == 0
    assert row.public_key.startswith(signer.public_key)
