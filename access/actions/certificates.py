"""Asking for certificates: everything is decided and written down here, a worker only executes the row (flow C)."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from access import events, sshcert
from access.actions.issuing import PublicKeyReused, Refused, Request, approve, request_log_entry
from access.actions.principals import PrincipalTaken
from access.decisions import refused_after
from access.evaluation import Decision, Outcome
from access.krl import build_krl
from access.models import Application, Certificate, ServiceToken
from access.possession import Shown, check_possession
from access.principals import PrincipalRefused
from access.replies import await_answer
from access.signing_limits import spend_signing
from accounts import audit
from accounts.actor import Actor
from accounts.errors import Conflict, DomainError, InvalidInput, NotFound, PolicyDenied, TemporarilyUnavailable
from accounts.models import AccessSession
from accounts.prepared import insert


class PublicKeyInvalid(InvalidInput):
    status = 422
    code = "public_key_malformed"


def request_certificate(
    application: Application,
    *,
    session: AccessSession | None = None,
    service_token: ServiceToken | None = None,
    public_key: str,
    shown: Shown,
    ip: str,
    ray_id: str,
    actor: Actor,
) -> Certificate:
    """Decide now, claim the account name, store the approved row with its audit event, and send the signing job.

    Either `session`, which is live and comes with identity and provider, or an authenticated `service_token`.
    Refusals raise a DomainError with a reason code, after the access log (and for refused names and keys the audit
    log) has been written.
    """
    if (session is None) is (service_token is None):
        raise ValueError("A certificate is for a person or for a service token.")
    try:
        key = sshcert.parse_public_key(public_key)
    except sshcert.PublicKeyRefused as error:
        raise PublicKeyInvalid(str(error), code=error.reason) from error
    now = timezone.now()
    request = Request(application, session, service_token, key, ip, ray_id, actor, now)
    spend_signing(application, asker=request.asker_id, actor=actor, now=now)
    try:
        _check_possession(request, shown)
        return approve(request)
    except Refused as refused:
        _record_refusal(request, refused)
        raise refused.error from refused


def _check_possession(request: Request, shown: Shown) -> None:
    """Once, before anything that is tried again: a proof is good for one request."""
    try:
        check_possession(request.application, request.key, shown, now=request.now)
    except PolicyDenied as error:
        raise Refused(error, Decision(False, Outcome.DENY, error.code, error.message)) from error


def wait_for_certificate(certificate_id: uuid.UUID, *, timeout: float) -> Certificate:
    """The issued certificate. Raises TemporarilyUnavailable when signing failed or did not end within `timeout` s."""
    await_answer(str(certificate_id), timeout=timeout)
    return _stored_outcome(certificate_id)


def _stored_outcome(certificate_id: uuid.UUID) -> Certificate:
    certificate = Certificate.objects.select_related("authority").filter(pk=certificate_id).first()
    if certificate is None:
        raise NotFound("The certificate was deleted meanwhile.")
    if certificate.status != Certificate.Status.ISSUED:
        raise _not_issued(certificate.failure)
    return certificate


def issued_line(certificate: Certificate, *, timeout: float) -> str:
    """The signed line of a certificate just requested; asks the database only when the worker's answer is missing."""
    answer = await_answer(str(certificate.pk), timeout=timeout)
    if answer is None:
        return _stored_outcome(certificate.pk).certificate
    if answer.get("status") != Certificate.Status.ISSUED:
        raise _not_issued(answer.get("failure", ""))
    return str(answer["certificate"])


@transaction.atomic
def revoke_certificate(certificate: Certificate, *, actor: Actor) -> Certificate:
    """Mark it revoked. Hosts learn it from a revocation list; new certificates are stopped by revoking the session."""
    certificate = (
        Certificate.objects.for_organization(certificate.organization)
        .select_for_update(of=("self",), no_key=True)
        .select_related("organization")
        .get(pk=certificate.pk)
    )
    if certificate.revoked_at is not None:
        raise Conflict("The certificate is already revoked.", code="already_revoked")
    certificate.revoked_at = timezone.now()
    certificate.save(update_fields=["revoked_at"])
    audit.record(
        events.CERTIFICATE_REVOKED,
        organization=certificate.organization,
        actor=actor,
        target=certificate,
        new={"serial": certificate.serial, "key_id": certificate.key_id},
    )
    return certificate


def revocation_list(application: Application, *, now: datetime) -> bytes:
    """For RevokedKeys on the application's hosts: certificates still valid that were revoked themselves, or whose
    session was revoked, identity disabled or service token disabled or deleted since.

    Never empty bytes: an empty list is a well-formed file too."""
    ended = Q(revoked_at__isnull=False) | Q(session__revoked_at__isnull=False) | Q(identity__disabled_at__isnull=False)
    ended |= Q(service_token__enabled=False) | Q(service_token__deleted_at__isnull=False)
    # A little longer than they live, for hosts whose clock is behind.
    alive = now - timedelta(seconds=sshcert.BACKDATE_SECONDS * 5)
    rows = Certificate.objects.filter(ended, application=application, valid_before__gt=alive).exclude(certificate="")
    serials: dict[str, list[int]] = {}
    for authority_key, serial in rows.values_list("authority__public_key", "serial"):
        serials.setdefault(authority_key, []).append(int(serial))
    seconds = int(now.timestamp())
    comment = f"{application.organization.team_name}/{application.hostname}"
    return build_krl(serials, version=seconds, generated_at=seconds, comment=comment)


@transaction.atomic
def _record_refusal(request: Request, refused: Refused) -> None:
    """The access log always; the audit log when an administrator should look at it."""
    error = refused.error
    decision = refused.decision
    if decision.allowed:
        decision = refused_after(decision, error)
    insert(request_log_entry(request, decision))
    event = _event_of(error)
    if event is None:
        return
    audit.record(
        event,
        organization=request.application.organization,
        actor=request.actor,
        target=request.application,
        new={
            "reason": error.code,
            "message": error.message,
            "identity": str(request.session.identity_id) if request.session is not None else None,
            "email": request.label,
            "public_key": request.key.fingerprint,
        },
    )


def _event_of(error: DomainError) -> str | None:
    if isinstance(error, PrincipalTaken):
        return events.PRINCIPAL_COLLISION
    if isinstance(error, PublicKeyReused):
        return events.PUBLIC_KEY_REUSED
    if isinstance(error, PrincipalRefused):
        return events.CERTIFICATE_REFUSED
    return None


def _not_issued(failure: str) -> TemporarilyUnavailable:
    if failure:
        return TemporarilyUnavailable(f"The certificate was not signed. {failure}", code="signing_failed")
    return TemporarilyUnavailable(
        "The signing service did not answer in time. Try again in a few seconds.", code="signing_timeout"
    )
