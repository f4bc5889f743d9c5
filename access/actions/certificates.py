"""Asking for certificates: everything is decided and written down here, a worker only executes the row (flow C)."""

from __future__ import annotations

import hashlib
import json
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from django.db import IntegrityError, transaction
from django.db.models import CharField, Q
from django.utils import timezone

from access import events, sshcert
from access.actions.principals import (
    PrincipalTaken,
    claim_machine_principals,
    claim_principals,
    machine_key_id,
)
from access.decisions import decide, external_facts_of, record_decision, refused_after
from access.dispatch import await_result, submit
from access.evaluation import Decision, Outcome
from access.facts import Asker
from access.krl import build_krl
from access.models import Application, Certificate, ServiceToken, SshAuthority
from access.possession import Shown, check_possession
from access.principals import PrincipalRefused
from access.selectors import ExternalFacts
from access.signing import sign_certificate
from access.signing_limits import spend_signing
from accounts import audit
from accounts.actor import Actor
from accounts.errors import Conflict, DomainError, InvalidInput, NotFound, PolicyDenied, TemporarilyUnavailable
from accounts.models import AccessSession, Identity
from accounts.prepared import Parameter, PreparedRows, insert

# A job not started by then is dropped: nobody waits for it any more (fault 4).
JOB_EXPIRES_SECONDS = 10.0
_ATTEMPTS = 3
_AUTHORITY = PreparedRows(
    lambda: SshAuthority.objects.filter(
        application=Parameter("application", Application._meta.pk), state=SshAuthority.State.ACTIVE
    )
)
_FOREIGN_KEY = PreparedRows(
    lambda: (
        Certificate.objects.all_organizations(reason="a key belongs to one person anywhere (AC-21)")
        .filter(public_key_fingerprint=Parameter("fingerprint", CharField()))
        .exclude(identity=Parameter("identity", Identity._meta.pk))
        .only("pk")[:1]
    )
)


class PublicKeyInvalid(InvalidInput):
    status = 422
    code = "public_key_malformed"


class PublicKeyReused(PolicyDenied):
    status = 409
    code = "public_key_reused"


class NoAuthority(DomainError):
    code = "no_authority"


@dataclass(frozen=True, slots=True)
class _Request:
    """Asked by a person (`session`) or a machine (`service_token`), never both."""

    application: Application
    session: AccessSession | None
    service_token: ServiceToken | None
    key: sshcert.PublicKey
    ip: str
    ray_id: str
    actor: Actor
    now: datetime
    # Asked before the transaction: nothing waits for a network inside one.
    external_facts: ExternalFacts

    @property
    def asker(self) -> Asker:
        return Asker(self.ip, self.now, self.session, self.service_token)

    @property
    def label(self) -> str:
        if self.session is not None:
            return self.session.identity.email
        return self.service_token.name if self.service_token is not None else ""


@dataclass(frozen=True, slots=True)
class _Names:
    """Whom the certificate names: accounts, and in the key id the person or machine."""

    principals: list[str]
    key_id: str
    # The address a person's account name was taken from; differs when the provider has changed it since (AC-10).
    claimed_as: str = ""
    # Those of the accounts that a policy names, which people hold side by side.
    shared: list[str] = field(default_factory=list)


class _Refused(Exception):
    """Carries a refusal out of the transaction that found it, so that it can be recorded in one of its own."""

    def __init__(self, error: DomainError, decision: Decision) -> None:
        super().__init__(error.message)
        self.error = error
        self.decision = decision


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
    asker = session.identity_id if session is not None else service_token.pk if service_token is not None else ""
    spend_signing(application, asker=str(asker), actor=actor, now=now)
    facts = external_facts_of(application, Asker(ip, now, session))
    request = _Request(application, session, service_token, key, ip, ray_id, actor, now, facts)
    try:
        _check_possession(request, shown)
        return _approve_in_time(request)
    except _Refused as refused:
        _record_refusal(request, refused)
        raise refused.error from refused


def _check_possession(request: _Request, shown: Shown) -> None:
    """Once, before anything that is tried again: a proof is good for one request."""
    try:
        check_possession(request.application, request.key, shown, now=request.now)
    except PolicyDenied as error:
        raise _Refused(error, Decision(False, Outcome.DENY, error.code, error.message)) from error


def wait_for_certificate(certificate_id: uuid.UUID, *, timeout: float) -> Certificate:
    """The issued certificate. Raises TemporarilyUnavailable when signing failed or did not end within `timeout` s."""
    await_result(certificate_id, timeout=timeout)
    certificate = Certificate.objects.select_related("authority").filter(pk=certificate_id).first()
    if certificate is None:
        raise NotFound("The certificate was deleted meanwhile.")
    if certificate.status != Certificate.Status.ISSUED:
        raise _not_issued(certificate.failure)
    return certificate


def issued_line(certificate: Certificate, *, timeout: float) -> str:
    """The signed line of a certificate just requested; asks the database only when the worker's answer is missing."""
    answer = await_result(certificate.pk, timeout=timeout)
    if answer is None:
        return wait_for_certificate(certificate.pk, timeout=0.0).certificate
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


def _approve_in_time(request: _Request) -> Certificate:
    """A unique constraint speaks when the same name is claimed, or a serial drawn, twice at once: look again."""
    for attempt in range(_ATTEMPTS):
        try:
            certificate = _approve(request)
            break
        except IntegrityError:
            if attempt == _ATTEMPTS - 1:
                raise
    return certificate


@transaction.atomic
def _approve(request: _Request) -> Certificate:
    application = request.application
    decision = decide(application, request.asker, external_facts=request.external_facts)
    if not decision.allowed:
        raise _Refused(PolicyDenied(decision.message, code=decision.reason), decision)
    if decision.outcome is not (Outcome.ALLOW if request.session is not None else Outcome.SERVICE_AUTH):
        raise _Refused(_wrong_policy(request), decision)
    authority = _AUTHORITY.first(application=application.pk)
    if authority is None:
        message = "This application has no SSH certificate authority. An administrator can generate one."
        raise _Refused(NoAuthority(message), decision)
    if _key_belongs_to_another(request):
        message = "This public key was already certified for somebody else. Make a fresh key and try again."
        raise _Refused(PublicKeyReused(message), decision)
    try:
        names = _names(request, decision)
    except PrincipalRefused as error:
        raise _Refused(error, decision) from error
    certificate = _store(request, authority, names, decision)
    _log(request, decision)
    transaction.on_commit(lambda: submit(sign_certificate, certificate.pk, expires_seconds=JOB_EXPIRES_SECONDS))
    return certificate


def _log(request: _Request, decision: Decision) -> None:
    record_decision(request.application, decision, request.asker, action="certificate", ray_id=request.ray_id)


def _wrong_policy(request: _Request) -> PolicyDenied:
    if request.session is not None:
        message = "Certificates need an Allow policy that names people; a Bypass policy lets everyone through unnamed."
        return PolicyDenied(message, code="allow_policy_required")
    message = "A service token gets certificates only by a Service Auth policy that includes it."
    return PolicyDenied(message, code="service_auth_policy_required")


def _names(request: _Request, decision: Decision) -> _Names:
    """Raises PrincipalRefused when there is no account to name. A machine gets the accounts that the policy names and
    no others: the e-mail's local part and claims are a person's."""
    rights = decision.terms.ssh
    if request.session is not None:
        claims = claim_principals(request.application, request.session.identity, rights)
        shared = [claim.principal for claim in claims if claim.shared]
        return _Names([claim.principal for claim in claims], claims[0].key_id, claims[0].email, shared)
    token = cast(ServiceToken, request.service_token)
    accounts = list(rights.usernames) if rights is not None else []
    if not accounts:
        raise PrincipalRefused(
            f'The policy "{decision.policy_name}" names no SSH account for service tokens. '
            "An administrator can add one to it.",
            code="policy_names_no_account",
        )
    claim_machine_principals(request.application, accounts)
    return _Names(accounts, machine_key_id(request.application, token))


def _store(request: _Request, authority: SshAuthority, names: _Names, decision: Decision) -> Certificate:
    start = int(request.now.timestamp())
    after = start - sshcert.BACKDATE_SECONDS
    before = start + _lifetime(request, decision)
    application = request.application
    intent: dict[str, Any] = {
        "serial": str(_new_serial()),
        "key_id": names.key_id,
        "principals": names.principals,
        "extensions": _extensions(application, decision),
    }
    facts = {**intent, "public_key": request.key.line, "authority": str(authority.pk), "validity": [after, before]}
    certificate = Certificate(
        organization=application.organization,
        application=application,
        authority=authority,
        identity=request.session.identity if request.session is not None else None,
        session=request.session,
        service_token=request.service_token,
        public_key=request.key.line,
        public_key_fingerprint=request.key.fingerprint,
        request_sha256=hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
        valid_after=datetime.fromtimestamp(after, UTC),
        valid_before=datetime.fromtimestamp(before, UTC),
        ip_address=request.ip or None,
        **intent,
    )
    insert(certificate)
    audit.record(
        events.CERTIFICATE_APPROVED,
        organization=application.organization,
        actor=request.actor,
        target=certificate,
        new={
            **intent,
            "email": request.label,
            "principal_claimed_as": names.claimed_as,
            "shared_accounts": names.shared,
            "application": application.name,
            "authority": authority.fingerprint,
            "public_key": request.key.fingerprint,
            "valid_before": certificate.valid_before.isoformat(),
        },
    )
    return certificate


def _lifetime(request: _Request, decision: Decision) -> int:
    """As the policy or the application says, but no longer than session or token and approval live (never under the
    minimum)."""
    rights = decision.terms.ssh
    own = rights.certificate_lifetime_seconds if rights is not None else None
    ends = [own or request.application.certificate_lifetime_seconds]
    asker = request.session or request.service_token
    if asker is not None and asker.expires_at is not None:
        ends.append(int((asker.expires_at - request.now) / timedelta(seconds=1)))
    if decision.approved_seconds is not None:
        ends.append(decision.approved_seconds)
    return max(sshcert.MIN_LIFETIME_SECONDS, min(ends))


def _extensions(application: Application, decision: Decision) -> list[str]:
    """The deciding policy's, when it says anything about them."""
    rights = decision.terms.ssh
    own = rights.extensions if rights is not None else None
    return sorted(application.certificate_extensions if own is None else own)


def _new_serial() -> int:
    """63 random bits, never 0: unique without a counter to fight over, and the database has the last word."""
    return secrets.randbelow(sshcert.MAX_SERIAL) + 1


def _key_belongs_to_another(request: _Request) -> bool:
    fingerprint = request.key.fingerprint
    if request.session is not None:
        return _FOREIGN_KEY.first(fingerprint=fingerprint, identity=request.session.identity_id) is not None
    known = Certificate.objects.all_organizations(reason="a key belongs to one machine anywhere (AC-21)")
    return known.filter(public_key_fingerprint=fingerprint).exclude(service_token=request.service_token).exists()


@transaction.atomic
def _record_refusal(request: _Request, refused: _Refused) -> None:
    """The access log always; the audit log when an administrator should look at it."""
    error = refused.error
    decision = refused.decision
    if decision.allowed:
        decision = refused_after(decision, error)
    _log(request, decision)
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
