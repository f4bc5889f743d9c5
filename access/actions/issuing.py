"""Approving certificates: the decision, the names and the intent, written down with their audit events (flow C).

Requests of one organization that arrive while others of it are being approved are approved together in the next
transaction, and go to a worker as one job (accounts/gathering.py): the rules are read once, the audit chain is held
once. Each is decided for itself. Where one could disturb the others, all of them start again, each in a transaction
of its own.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import CharField, Q

from access import events, sshcert
from access.actions.principals import claim_machine_principals, claim_principals, machine_key_id
from access.decisions import LoadedRules, decide, external_facts_of, load_rules, log_entry
from access.dispatch import submit
from access.evaluation import Decision, Outcome
from access.facts import Asker, evaluators_in
from access.models import AccessRequest, Application, Certificate, ServiceToken, SshAuthority
from access.principals import PrincipalRefused
from access.selectors import ExternalFacts
from access.signing import sign_certificates
from accounts import audit
from accounts.actor import Actor
from accounts.errors import DomainError, PolicyDenied, TemporarilyUnavailable
from accounts.gathering import Gathering
from accounts.models import AccessSession, Identity
from accounts.prepared import Parameter, PreparedRows, insert_all

# A job not started by then is dropped: nobody waits for it any more (fault 4).
JOB_EXPIRES_SECONDS = 10.0
MOST_TOGETHER = 16
_ATTEMPTS = 3
log = logging.getLogger(__name__)
_AUTHORITY = PreparedRows(
    lambda: SshAuthority.objects.filter(
        application=Parameter("application", Application._meta.pk), state=SshAuthority.State.ACTIVE
    )
)
_FOREIGN_KEY = PreparedRows(
    lambda: (
        Certificate.objects.all_organizations(reason="a key belongs to one person anywhere (AC-21)")
        .filter(_not_of(Parameter("identity", Identity._meta.pk)), public_key_fingerprint=Parameter("key", CharField()))
        .only("pk")
        .order_by()[:1]
    )
)


class PublicKeyReused(PolicyDenied):
    status = 409
    code = "public_key_reused"


class NoAuthority(DomainError):
    code = "no_authority"


class _Alone(Exception):
    """Something about this request asks for a transaction of its own."""


class _AskFirst(Exception):
    """External evaluators have to be asked, by the thread whose request it is and outside of any transaction."""


class RulesKeepChanging(TemporarilyUnavailable):
    code = "policies_changing"


@dataclass(frozen=True, slots=True)
class Request:
    """Asked by a person (`session`) or a machine (`service_token`), never both."""

    application: Application
    session: AccessSession | None
    service_token: ServiceToken | None
    key: sshcert.PublicKey
    ip: str
    ray_id: str
    actor: Actor
    now: datetime
    # What external evaluators say, asked before a transaction: nothing waits for a network inside one. None: not asked.
    external_facts: ExternalFacts | None = None

    @property
    def asker(self) -> Asker:
        return Asker(self.ip, self.now, self.session, self.service_token)

    @property
    def asker_id(self) -> str:
        """Of the identity or the service token."""
        holder = self.session.identity_id if self.session is not None else cast(ServiceToken, self.service_token).pk
        return str(holder)

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


class Refused(Exception):
    """Carries a refusal out of the transaction that found it, so that it can be recorded in one of its own."""

    def __init__(self, error: DomainError, decision: Decision) -> None:
        super().__init__(error.message)
        self.error = error
        self.decision = decision


def approve(request: Request) -> Certificate:
    """The approved row, stored with its audit event and log entry, its job sent. Raises Refused, with nothing stored;
    the access log is the caller's then. TemporarilyUnavailable when the job could not be sent."""
    if transaction.get_connection().in_atomic_block:
        # Another thread must not wait for what only this one can commit.
        try:
            return _approve_alone(request)
        except _AskFirst:
            return _approve_alone(_asked(request))
    organization_id = request.application.organization_id
    try:
        return _gathering.run(organization_id, request)
    except _AskFirst:
        return _gathering.run(organization_id, _asked(request))


def _approve_gathered(requests: Sequence[Request]) -> Sequence[Certificate | Exception]:
    if len(requests) > 1:
        try:
            return _approve_together(requests)
        except (_Alone, Refused, DatabaseError):
            pass
    return [_alone_or_error(request) for request in requests]


def _alone_or_error(request: Request) -> Certificate | Exception:
    try:
        return _approve_alone(request)
    except Exception as error:  # noqa: BLE001 - raised again, by the thread that asked
        return error


def _approve_alone(request: Request) -> Certificate:
    """A unique constraint speaks when the same name is claimed, or a serial drawn, twice at once: look again."""
    for attempt in range(_ATTEMPTS):
        try:
            outcome = _approve_together([request])[0]
        except IntegrityError:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
    raise RulesKeepChanging("The policies of this application are being changed. Try again.")


def _asked(request: Request) -> Request:
    return replace(request, external_facts=external_facts_of(request.application, request.asker))


@transaction.atomic
def _approve_together(requests: Sequence[Request]) -> Sequence[Certificate | Refused | _AskFirst]:
    """All of one organization. Raises Refused where a refusal comes after something was written: nothing stays of it,
    and nothing of the others."""
    rules = _RulesInUse()
    keys: dict[str, str] = {}
    outcomes: list[Certificate | Refused | _AskFirst] = []
    logs: list[AccessRequest] = []
    with audit.together():
        for request in requests:
            if keys.setdefault(request.key.fingerprint, request.asker_id) != request.asker_id:
                raise _Alone  # the database will know whose key it is (AC-21)
            try:
                authority, decision = _decide(request, rules)
            except (Refused, _AskFirst) as outcome:
                outcomes.append(outcome)
                continue
            try:
                outcomes.append(_intend(request, authority, decision))
                logs.append(request_log_entry(request, decision))
            except (Refused, DatabaseError):
                raise
            except Exception as error:
                if len(requests) == 1:
                    raise
                raise _Alone from error  # its own thread hears of it, the others go on
        approved = [outcome for outcome in outcomes if isinstance(outcome, Certificate)]
        insert_all(approved)
        insert_all(logs)
    if approved:
        identifiers = [str(certificate.pk) for certificate in approved]
        transaction.on_commit(lambda: submit(sign_certificates, identifiers, expires_seconds=JOB_EXPIRES_SECONDS))
    return outcomes


class _RulesInUse:
    """Rules and authorities of applications, read once in the transaction that decides by them."""

    def __init__(self) -> None:
        self._rules: dict[uuid.UUID, LoadedRules | None] = {}
        self._authorities: dict[uuid.UUID, SshAuthority | None] = {}

    def rules_of(self, application: Application) -> LoadedRules | None:
        """None when they cannot be read: then `decide` tries, and refuses when it cannot either."""
        if application.pk not in self._rules:
            try:
                self._rules[application.pk] = load_rules(application)
            except Exception:
                log.exception("policies could not be read", extra={"application_id": str(application.pk)})
                self._rules[application.pk] = None
        return self._rules[application.pk]

    def authority_of(self, application: Application) -> SshAuthority | None:
        if application.pk not in self._authorities:
            self._authorities[application.pk] = _AUTHORITY.first(application=application.pk)
        return self._authorities[application.pk]


def _decide(request: Request, in_use: _RulesInUse) -> tuple[SshAuthority, Decision]:
    """Everything that is decided without writing. Raises Refused, or _AskFirst."""
    application = request.application
    rules = in_use.rules_of(application)
    facts = request.external_facts
    if facts is None and request.session is not None and rules is not None and evaluators_in(*rules):
        raise _AskFirst
    decision = decide(application, request.asker, external_facts=facts or {}, rules=rules)
    if not decision.allowed:
        raise Refused(PolicyDenied(decision.message, code=decision.reason), decision)
    if decision.outcome is not (Outcome.ALLOW if request.session is not None else Outcome.SERVICE_AUTH):
        raise Refused(_wrong_policy(request), decision)
    authority = in_use.authority_of(application)
    if authority is None:
        message = "This application has no SSH certificate authority. An administrator can generate one."
        raise Refused(NoAuthority(message), decision)
    if _key_belongs_to_another(request):
        message = "This public key was already certified for somebody else. Make a fresh key and try again."
        raise Refused(PublicKeyReused(message), decision)
    return authority, decision


def _intend(request: Request, authority: SshAuthority, decision: Decision) -> Certificate:
    """The row, not stored yet, and its event. Raises Refused, maybe with some names claimed."""
    try:
        names = _names(request, decision)
    except PrincipalRefused as error:
        raise Refused(error, decision) from error
    return _intent(request, authority, names, decision)


def request_log_entry(request: Request, decision: Decision) -> AccessRequest:
    return log_entry(request.application, decision, request.asker, action="certificate", ray_id=request.ray_id)


def _wrong_policy(request: Request) -> PolicyDenied:
    if request.session is not None:
        message = "Certificates need an Allow policy that names people; a Bypass policy lets everyone through unnamed."
        return PolicyDenied(message, code="allow_policy_required")
    message = "A service token gets certificates only by a Service Auth policy that includes it."
    return PolicyDenied(message, code="service_auth_policy_required")


def _names(request: Request, decision: Decision) -> _Names:
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


def _intent(request: Request, authority: SshAuthority, names: _Names, decision: Decision) -> Certificate:
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


def _lifetime(request: Request, decision: Decision) -> int:
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


def _key_belongs_to_another(request: Request) -> bool:
    fingerprint = request.key.fingerprint
    if request.session is not None:
        return _FOREIGN_KEY.first(key=fingerprint, identity=request.session.identity_id) is not None
    known = Certificate.objects.all_organizations(reason="a key belongs to one machine anywhere (AC-21)")
    return known.filter(public_key_fingerprint=fingerprint).exclude(service_token=request.service_token).exists()


def _not_of(identity: Any) -> Q:
    """In ranges of the index, so that the many certificates of a person's own key are never walked through. Without an
    identity: a machine's."""
    return Q(identity__lt=identity) | Q(identity__gt=identity) | Q(identity=None)


_gathering: Gathering[Request, Certificate] = Gathering(_approve_gathered, most=MOST_TOGETHER)
