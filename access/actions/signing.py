"""What signing workers do: execute approved certificates, generate authority keys.

    approved ──claim──> signing ──sign, lint, store──> issued
        │                  └────────────────────────> failed     (also by the sweeper after STUCK_AFTER)

Every arrow is a conditional UPDATE. A row leaves `approved` once, so a serial is signed at most once, however often
the broker delivers the job (faults 1-5); a worker killed in between leaves a row that fails and is never returned.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Case, DateTimeField, QuerySet, TextField, When
from django.utils import timezone

from access import events, keystore, sshcert
from access.models import Certificate, SshAuthority
from access.replies import Answer
from accounts import audit
from accounts.actor import Actor, system
from accounts.prepared import Parameter, PreparedRows, PreparedUpdate, Sized, numbered
from accounts.sealing import SealError

log = logging.getLogger(__name__)
STUCK_AFTER = timedelta(seconds=10)
# Between the clock that approved (web) and the clock that signs (worker).
MAX_CLOCK_DIFFERENCE = timedelta(seconds=30)
SWEEP_BATCH = 500
_SIGNING_STATES = frozenset({SshAuthority.State.ACTIVE, SshAuthority.State.RETIRING})
_WORKER = system("access.signing")


def _rows(size: int) -> QuerySet[Certificate]:
    rows = Certificate.objects.all_organizations(reason="a worker signs what any organization approved")
    # Ordered, so that two deliveries of one job lock in the same order.
    return rows.filter(pk__in=[Parameter(f"id{n}", Certificate._meta.pk) for n in range(size)]).order_by("pk")


_APPROVED = Sized(
    lambda size: PreparedRows(
        lambda: (
            _rows(size)
            .filter(status=Certificate.Status.APPROVED)
            .select_for_update(of=("self",), no_key=True)
            .select_related("authority")
        )
    )
)
_CLAIMED = PreparedRows(lambda: _rows(1).select_related("authority"))
_CLAIM = Sized(
    lambda size: PreparedUpdate(
        lambda: _rows(size).order_by().filter(status=Certificate.Status.APPROVED), status=Certificate.Status.SIGNING
    )
)
_STORE = Sized(
    lambda size: PreparedUpdate(
        lambda: _rows(size).order_by().filter(status=Certificate.Status.SIGNING),
        status=Certificate.Status.ISSUED,
        certificate=Case(
            *(
                When(pk=Parameter(f"id{n}", Certificate._meta.pk), then=Parameter(f"line{n}", TextField()))
                for n in range(size)
            ),
            output_field=TextField(),
        ),
        issued_at=Parameter("issued_at", DateTimeField()),
    )
)


class SigningFailed(Exception):
    """Why an approved certificate was not signed; safe to store and show."""


def sign_certificates(identifiers: Sequence[str]) -> dict[str, Answer]:
    """Claim, sign, lint, store. For each {"status", "certificate"} or {"status", "failure"}."""
    answers: dict[str, Answer] = {}
    lines: dict[uuid.UUID, str] = {}
    for certificate in _claim([uuid.UUID(identifier) for identifier in identifiers]):
        try:
            lines[certificate.pk] = _signed(certificate, timezone.now())
        except SigningFailed as error:
            answers[str(certificate.pk)] = _fail(certificate, str(error))
        except Exception:
            log.exception("signing failed", extra={"certificate_id": str(certificate.pk)})
            answers[str(certificate.pk)] = _fail(certificate, "Internal error while signing.")
    if lines and _store(lines) == len(lines):
        answers |= {str(pk): {"status": "issued", "certificate": line} for pk, line in lines.items()}
    return {name: answers.get(name) or _known_outcome(uuid.UUID(name)) for name in identifiers}


def _claim(identifiers: Sequence[uuid.UUID]) -> list[Certificate]:
    """Those that are approved and now this job's alone, committed before anything is signed."""
    if len(identifiers) == 1:
        return _CLAIMED.all(id0=identifiers[0]) if _mark_claimed(identifiers) else []
    with transaction.atomic():
        statement, size = _APPROVED.of(len(identifiers))
        found = statement.all(**numbered("id", identifiers, size))
        if found:
            _mark_claimed([certificate.pk for certificate in found])
    return found


def _mark_claimed(identifiers: Sequence[uuid.UUID]) -> int:
    statement, size = _CLAIM.of(len(identifiers))
    return statement.run(**numbered("id", identifiers, size))


def _store(lines: Mapping[uuid.UUID, str]) -> int:
    """How many were still claimed, and are issued now."""
    update, size = _STORE.of(len(lines))
    values = numbered("id", list(lines), size) | numbered("line", list(lines.values()), size)
    return update.run(**values, issued_at=timezone.now())


def generate_authority(authority_id: uuid.UUID) -> dict[str, str]:
    """Generate and seal the key of a pending or next authority. Running twice keeps the first key."""
    authority = (
        SshAuthority.objects.all_organizations(reason="a worker makes keys for any organization")
        .select_related("application__organization")
        .filter(pk=authority_id)
        .first()
    )
    if authority is None:
        return {"status": "gone"}
    if authority.public_key:
        return {"status": "ready"}
    try:
        key = keystore.generate(authority.algorithm, place_of(authority), seal_key=settings.AUTHORITY_SEAL_KEY)
    except SealError:
        log.exception("an authority key cannot be sealed", extra={"authority_id": str(authority_id)})
        return {"status": "failed", "failure": "The worker does not hold AUTHORITY_SEAL_KEY, so it makes no keys."}
    comment = f"{authority.application.organization.team_name}/{authority.application.hostname}"
    columns = {
        "public_key": f"{key.public_key} {comment}",
        "fingerprint": key.fingerprint,
        "private_sealed": key.sealed,
    }
    empty = SshAuthority.objects.all_organizations(reason="the row loaded above").filter(pk=authority_id, public_key="")
    if not empty.filter(state=SshAuthority.State.PENDING).update(
        state=SshAuthority.State.ACTIVE, activated_at=timezone.now(), **columns
    ):
        empty.filter(state=SshAuthority.State.NEXT).update(**columns)
    return {"status": "ready"}


def fail_stuck_certificates(*, now: datetime, actor: Actor) -> int:
    """Fail what was approved or claimed longer than STUCK_AFTER ago; the client has long been told to try again.

    Re-driving instead would sign for clients that are gone: after a broker's long night, a flood of stale
    certificates (fault 4).
    """
    stuck = Certificate.objects.all_organizations(reason="a sweeper").filter(
        status__in=[Certificate.Status.APPROVED, Certificate.Status.SIGNING], created_at__lt=now - STUCK_AFTER
    )
    batch = list(stuck.select_related("organization").order_by("created_at")[:SWEEP_BATCH])
    return sum(_mark_failed(certificate, "It was not signed in time.", actor) for certificate in batch)


def place_of(authority: SshAuthority) -> keystore.Place:
    return keystore.Place(authority.organization_id, str(authority.application_id), str(authority.pk))


def intent_of(certificate: Certificate) -> sshcert.Intent:
    """The approved row as the linter wants it."""
    return sshcert.Intent(
        serial=int(certificate.serial),
        key_id=certificate.key_id,
        principals=tuple(certificate.principals),
        extensions=tuple(certificate.extensions),
        public_key=certificate.public_key,
        valid_after=int(certificate.valid_after.timestamp()),
        valid_before=int(certificate.valid_before.timestamp()),
        authority_key=" ".join(certificate.authority.public_key.split(" ")[:2]),
    )


def _signed(certificate: Certificate, now: datetime) -> str:
    age = now - certificate.created_at
    if abs(age) > MAX_CLOCK_DIFFERENCE:
        raise SigningFailed(
            f"The worker's clock differs from the approval by {age.total_seconds():.0f} s (clock skew)."
        )
    authority = certificate.authority
    if authority.state not in _SIGNING_STATES or authority.organization_id != certificate.organization_id:
        raise SigningFailed("The SSH authority was retired meanwhile.")
    intent = intent_of(certificate)
    try:
        sshcert.check_intent(intent)
        signer = keystore.keystore.open(
            bytes(authority.private_sealed), place_of(authority), seal_key=settings.AUTHORITY_SEAL_KEY
        )
        line = signer.sign(sshcert.build(intent))
        sshcert.lint(line, intent)
    except SealError as error:
        raise SigningFailed(f"The SSH authority's key cannot be opened: {error}") from error
    except sshcert.LintError as error:
        log.exception("a certificate did not pass the linter", extra={"certificate_id": str(certificate.pk)})
        raise SigningFailed(f"The certificate did not pass the linter: {error}") from error
    return line


def _fail(certificate: Certificate, failure: str) -> dict[str, str]:
    _mark_failed(certificate, failure, _WORKER)
    return {"status": "failed", "failure": failure[:300]}


@transaction.atomic
def _mark_failed(certificate: Certificate, failure: str, actor: Actor) -> bool:
    """False when the row has left `approved` and `signing` meanwhile."""
    open_rows = Certificate.objects.filter(
        pk=certificate.pk, status__in=[Certificate.Status.APPROVED, Certificate.Status.SIGNING]
    )
    if not open_rows.update(status=Certificate.Status.FAILED, failure=failure[:300]):
        return False
    audit.record(
        events.CERTIFICATE_FAILED,
        organization=certificate.organization,
        actor=actor,
        target=certificate,
        new={"serial": certificate.serial, "failure": failure[:300]},
    )
    return True


def _known_outcome(certificate_id: uuid.UUID) -> dict[str, str]:
    row = Certificate.objects.filter(pk=certificate_id).values("status", "certificate", "failure").first()
    return {key: str(value) for key, value in row.items()} if row is not None else {"status": "gone"}
