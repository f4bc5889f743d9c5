"""Live streams after a change: which of them must end (flow F). One pass and few queries, however many streams.

A stream outlives its token and the natural end of its session (both limit new connections only); it ends when the
session was revoked, the identity or service token disabled or at its end, the application deleted or no longer at the
stream's address, or when its login methods, policies or list of destinations no longer allow it. What is known of the
end beforehand (access.stream_ends) is told to the edge, which asks again then.
"""

from __future__ import annotations

import logging
import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from access.decisions import decide_with, load_rules, log_entry
from access.destinations import allowed_destinations, resolve_destination
from access.evaluation import APPROVAL_REQUIRED, PURPOSE_REQUIRED, Decision, Group, Outcome, Policy
from access.evidence import evidence_of_stream
from access.facts import Asker, evaluators_in, load_lists
from access.live_answers import LiveAnswers, Unasked, Unfinished
from access.models import AccessRequest, Application, ServiceToken
from access.routing import most_specific, names_serving
from access.selectors import NamedList
from access.stream_ends import Opened, ends_at, is_session_over, read_opened, seconds_until, why_over
from accounts.errors import DomainError, TemporarilyUnavailable
from accounts.models import AccessSession
from accounts.second_factor import Moment

log = logging.getLogger(__name__)
_CUT_MESSAGES = {
    APPROVAL_REQUIRED: "Your temporary access has ended, or approval is wanted from now on. Ask for it again.",
    PURPOSE_REQUIRED: "This application now wants to know what you need it for. Log in again and say so.",
    "login_required": "This application now wants people to log in.",
}
# Ids per query: below every database's limit of parameters.
_CHUNK = 500
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Stream:
    """A live stream as the edge reports it. `service_token_id` is the client id the machine showed."""

    stream_id: str
    application_id: str
    client_ip: str
    session_nonce: str | None = None
    service_token_id: str | None = None
    destination: str | None = None
    age_seconds: float | None = None
    evidence: str = ""
    hostname: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class _Rules:
    policies: list[Policy]
    groups: dict[str, Group]
    lists: Mapping[str, NamedList]
    # The addresses of external evaluators that they ask.
    evaluators: set[tuple[str, str]]


@dataclass(slots=True)
class _Facts:
    """Everything the streams refer to, loaded once."""

    applications: dict[str, Application]
    sessions: dict[str, AccessSession]
    service_tokens: dict[str, ServiceToken]
    # By hostname: everything that is served under it.
    served: dict[str, list[Application]]
    answers: LiveAnswers
    rules: dict[str, _Rules] = field(default_factory=dict)

    def rules_of(self, application: Application) -> _Rules:
        key = str(application.pk)
        if key not in self.rules:
            policies, groups = load_rules(application)
            lists = load_lists(application.organization_id, policies, groups)
            self.rules[key] = _Rules(policies, groups, lists, evaluators_in(policies, groups))
        return self.rules[key]

    def application_at(self, hostname: str, path: str) -> Application | None:
        candidates = [row for name in names_serving(hostname) for row in self.served.get(name, ())]
        return most_specific(candidates, hostname, path)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A stream that goes on has no reason, and perhaps a known end."""

    reason: str = ""
    message: str = ""
    ends_at: datetime | None = None
    # With its trace, when it was the policies that refused.
    decision: Decision | None = None


_UNDECIDED = Verdict("policy_error", "This stream could not be checked against the policies, so it was ended.")


def recheck_streams(streams: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """[{"stream_id", "reason", "message", "reference"}] of the streams to cut. What cannot be checked is cut."""
    cuts: list[dict[str, str]] = recheck_document(streams)["cut"]
    return cuts


def recheck_document(streams: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`recheck_streams` as "cut", and "ends_in_seconds" of those of the others whose end is known. Each cut is in the
    access log under its "reference". Raises TemporarilyUnavailable when there was no time for all: asked again, it
    goes on from there."""
    parsed, now = [_parse(stream) for stream in streams], timezone.now()
    facts = _load(parsed, now)
    verdicts = [_judge(stream, facts, now) for stream in parsed]
    if None in verdicts:
        facts.answers.ask()
    cut: list[tuple[Stream, Verdict]] = []
    ends = {}
    for stream, first in zip(parsed, verdicts, strict=True):
        verdict = first or _judge(stream, facts, now) or _UNDECIDED
        if verdict.reason:
            cut.append((stream, verdict))
        elif verdict.ends_at is not None:
            ends[stream.stream_id] = seconds_until(verdict.ends_at, now)
    references = _log_cuts(cut, facts)
    cuts = [
        {
            "stream_id": stream.stream_id,
            "reason": verdict.reason,
            "message": verdict.message,
            "reference": references.get(stream.stream_id, ""),
        }
        for stream, verdict in cut
    ]
    return {"cut": cuts, "ends_in_seconds": ends}


def _parse(values: Mapping[str, Any]) -> Stream:
    def text(name: str) -> str:
        value = values.get(name)
        return value if isinstance(value, str) else ""

    return Stream(
        stream_id=str(values.get("stream_id", "")),
        application_id=text("application_id"),
        client_ip=text("client_ip"),
        session_nonce=text("session_nonce") or None,
        service_token_id=text("service_token_id") or None,
        destination=text("destination") or None,
        age_seconds=_age(values.get("age_seconds")),
        evidence=text("evidence"),
        hostname=text("hostname").lower().removesuffix("."),
        path=text("path"),
    )


def _age(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 10**9 else None


def _load(streams: Sequence[Stream], now: datetime) -> _Facts:
    applications = _fetch(
        {stream.application_id for stream in streams if _is_uuid(stream.application_id)},
        lambda ids: (
            Application.objects.all_organizations(reason="edges serve every organization")
            .select_related("organization")
            .prefetch_related("allowed_providers")
            .filter(pk__in=ids)
        ),
    )
    sessions = _fetch(
        {stream.session_nonce for stream in streams if stream.session_nonce},
        lambda ids: (
            AccessSession.objects.all_organizations(reason="edges serve every organization")
            .select_related("identity__provider")
            .filter(nonce__in=ids)
        ),
    )
    tokens = _fetch(
        {stream.service_token_id for stream in streams if stream.service_token_id},
        lambda ids: ServiceToken.objects.all_organizations(reason="edges serve every organization").filter(
            Q(client_id__in=ids) | Q(pk__in=[text for text in ids if _is_uuid(text)])
        ),
    )
    by_id = {token.client_id: token for token in tokens} | {str(token.pk): token for token in tokens}
    return _Facts(
        {str(row.pk): row for row in applications},
        {row.nonce: row for row in sessions},
        by_id,
        _load_served(streams),
        LiveAnswers(now),
    )


def _load_served(streams: Sequence[Stream]) -> dict[str, list[Application]]:
    hostnames = {stream.hostname for stream in streams if stream.hostname}
    served: dict[str, list[Application]] = {}
    for row in _fetch(
        {name for hostname in hostnames for name in names_serving(hostname)},
        lambda names: Application.objects.all_organizations(reason="edges serve every organization").filter(
            hostname__in=names, is_served=True
        ),
    ):
        served.setdefault(row.hostname, []).append(row)
    return served


def _fetch(keys: Iterable[str], query: Callable[[list[str]], Iterable[Row]]) -> list[Row]:
    ordered = sorted(keys)
    return [row for start in range(0, len(ordered), _CHUNK) for row in query(ordered[start : start + _CHUNK])]


def _judge(stream: Stream, facts: _Facts, now: datetime) -> Verdict | None:
    """None when external evaluators have to be asked first."""
    try:
        return _check(stream, facts, now)
    except Unasked:
        return None
    except DomainError as error:
        return Verdict(error.code, error.message)
    except Unfinished as error:
        raise TemporarilyUnavailable("External evaluators have not answered about every stream yet.") from error
    except Exception:
        log.exception("a stream could not be checked", extra={"stream_id": stream.stream_id})
        return _UNDECIDED


def _check(stream: Stream, facts: _Facts, now: datetime) -> Verdict:
    application = facts.applications.get(stream.application_id)
    if application is None:
        return Verdict("unknown_application", "This application was deleted.")
    if stream.hostname:
        present = facts.application_at(stream.hostname, stream.path)
        if present is None or present.pk != application.pk:
            return Verdict("hostname_changed", f"{stream.hostname} no longer leads to this application.")
    opened = read_opened(stream.evidence)
    session, refused = _session_of(stream, application, facts, now)
    service_token, token_refused = _service_token_of(stream, application, facts, opened, now)
    refused = refused or token_refused
    if refused is not None:
        return refused
    rules = facts.rules_of(application)
    answers = facts.answers.about(session, rules.evaluators, application=application, ip=stream.client_ip)
    evidence = evidence_of_stream(application, stream.evidence, now=now)
    asker = Asker(stream.client_ip, now, session, service_token, evidence, Moment.STREAM)
    decision = decide_with(rules.policies, rules.groups, application, asker, lists=rules.lists, external_facts=answers)
    if not decision.allowed:
        return Verdict(decision.reason, _CUT_MESSAGES.get(decision.reason, decision.message), decision=decision)
    if is_session_over(decision, rules.policies, opened, now):
        return Verdict("session_expired", f'The session that the policy "{decision.policy_name}" allows is over.')
    if stream.destination:
        resolve_destination(stream.destination, allowed_destinations(application, decision), required=False)
    end = ends_at(decision, rules.policies, service_token=service_token, opened=opened, now=now)
    return Verdict(ends_at=end)


def _session_of(
    stream: Stream, application: Application, facts: _Facts, now: datetime
) -> tuple[AccessSession | None, Verdict | None]:
    if not stream.session_nonce:
        return None, None
    session = facts.sessions.get(stream.session_nonce)
    if session is None or session.organization_id != application.organization_id:
        return None, Verdict("session_unknown", "Your session is gone. Log in again.")
    if session.revoked_at is not None or session.identity.provider.deleted_at is not None:
        return None, Verdict("session_revoked", "Your session was revoked. Log in again.")
    if _is_of_revoked_token(stream, application, now):
        return None, Verdict("token_revoked", "The application's sessions were revoked. Log in again.")
    chosen = {provider.pk for provider in application.allowed_providers.all()}
    if chosen and session.identity.provider_id not in chosen:
        return None, Verdict("login_method_not_allowed", "This application no longer takes your login method.")
    return session, None


def _service_token_of(
    stream: Stream, application: Application, facts: _Facts, opened: Opened, now: datetime
) -> tuple[ServiceToken | None, Verdict | None]:
    if not stream.service_token_id:
        return None, None
    token = facts.service_tokens.get(stream.service_token_id)
    if token is None or token.deleted_at is not None or token.organization_id != application.organization_id:
        return None, Verdict("service_token_invalid", "The service token was deleted.")
    if not token.enabled:
        return None, Verdict("service_token_inactive", "The service token was disabled.")
    reason, message = why_over(token, opened, now)
    return (None, Verdict(reason, message)) if reason else (token, None)


def _log_cuts(cut: Sequence[tuple[Stream, Verdict]], facts: _Facts) -> dict[str, str]:
    """The decisions to end streams, in the access log; by stream the reference under which its row is found there.

    In one statement: the edge waits for this answer before it cuts, and a commit for each of a thousand streams could
    take longer than it waits. Whatever fails here, the streams are cut.
    """
    entries = {stream.stream_id: entry for stream, verdict in cut if (entry := _cut_entry(stream, verdict, facts))}
    if not entries:
        return {}
    try:
        with transaction.atomic():
            AccessRequest.objects.bulk_create(entries.values(), batch_size=_CHUNK)
    except Exception:
        log.exception("cuts could not be logged", extra={"streams": len(entries)})
        return {}
    return {stream_id: entry.ray_id for stream_id, entry in entries.items()}


def _cut_entry(stream: Stream, verdict: Verdict, facts: _Facts) -> AccessRequest | None:
    """None when there is no application any more."""
    application = facts.applications.get(stream.application_id)
    if application is None:
        return None
    session = facts.sessions.get(stream.session_nonce or "")
    service_token = facts.service_tokens.get(stream.service_token_id or "")
    own, now = application.organization_id, timezone.now()
    try:
        asker = Asker(
            stream.client_ip,
            now,
            session if session is not None and session.organization_id == own else None,
            service_token if service_token is not None and service_token.organization_id == own else None,
            evidence_of_stream(application, stream.evidence, now=now),
        )
        decision = verdict.decision or Decision(False, Outcome.DENY, verdict.reason, verdict.message)
        return log_entry(application, decision, asker, action="cut", ray_id=secrets.token_hex(8))
    except Exception:
        log.exception("a cut could not be logged", extra={"stream_id": stream.stream_id})
        return None


def _is_of_revoked_token(stream: Stream, application: Application, now: datetime) -> bool:
    """Opened before "Revoke existing tokens", so with a token that is refused now."""
    revoked_at = application.tokens_revoked_at
    if revoked_at is None or stream.age_seconds is None:
        return False
    return now - timedelta(seconds=stream.age_seconds) <= revoked_at


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
