"""Live streams after a change: which of them must end (flow F). One pass and few queries, however many streams.

A stream outlives its token and the natural end of its session (both limit new connections only); it ends when the
session was revoked, the identity or service token disabled, the application deleted, or its login methods, policies or
list of destinations no longer allow it.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.db.models import Q
from django.utils import timezone

from access.decisions import decide_with, load_rules
from access.destinations import allowed_destinations, resolve_destination
from access.evaluation import APPROVAL_REQUIRED, PURPOSE_REQUIRED, Group, Policy
from access.evidence import evidence_of_stream
from access.facts import load_lists
from access.models import Application, ServiceToken
from access.selectors import NamedList
from accounts.errors import DomainError
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


@dataclass(frozen=True, slots=True)
class _Rules:
    policies: list[Policy]
    groups: dict[str, Group]
    lists: Mapping[str, NamedList]


@dataclass(slots=True)
class _Facts:
    """Everything the streams refer to, loaded once."""

    applications: dict[str, Application]
    sessions: dict[str, AccessSession]
    service_tokens: dict[str, ServiceToken]
    rules: dict[str, _Rules] = field(default_factory=dict)

    def rules_of(self, application: Application) -> _Rules:
        key = str(application.pk)
        if key not in self.rules:
            policies, groups = load_rules(application)
            self.rules[key] = _Rules(policies, groups, load_lists(application.organization_id, policies, groups))
        return self.rules[key]


def recheck_streams(streams: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """[{"stream_id", "reason", "message"}] of the streams to cut. What cannot be checked is cut."""
    parsed = [_parse(stream) for stream in streams]
    facts = _load(parsed)
    now = timezone.now()
    cuts = []
    for stream in parsed:
        reason, message = _why_cut(stream, facts, now)
        if reason:
            cuts.append({"stream_id": stream.stream_id, "reason": reason, "message": message})
    return cuts


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
    )


def _age(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 10**9 else None


def _load(streams: Sequence[Stream]) -> _Facts:
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
    return _Facts({str(row.pk): row for row in applications}, {row.nonce: row for row in sessions}, by_id)


def _fetch(keys: Iterable[str], query: Callable[[list[str]], Iterable[Row]]) -> list[Row]:
    ordered = sorted(keys)
    return [row for start in range(0, len(ordered), _CHUNK) for row in query(ordered[start : start + _CHUNK])]


def _why_cut(stream: Stream, facts: _Facts, now: datetime) -> tuple[str, str]:
    """("", "") for a stream that may go on."""
    try:
        return _check(stream, facts, now)
    except DomainError as error:
        return error.code, error.message
    except Exception:
        log.exception("a stream could not be checked", extra={"stream_id": stream.stream_id})
        return "policy_error", "This stream could not be checked against the policies, so it was ended."


def _check(stream: Stream, facts: _Facts, now: datetime) -> tuple[str, str]:
    application = facts.applications.get(stream.application_id)
    if application is None:
        return "unknown_application", "This application was deleted."
    session = service_token = None
    if stream.session_nonce:
        session = facts.sessions.get(stream.session_nonce)
        if session is None or session.organization_id != application.organization_id:
            return "session_unknown", "Your session is gone. Log in again."
        if session.revoked_at is not None or session.identity.provider.deleted_at is not None:
            return "session_revoked", "Your session was revoked. Log in again."
        if _is_of_revoked_token(stream, application, now):
            return "token_revoked", "The application's sessions were revoked. Log in again."
        chosen = {provider.pk for provider in application.allowed_providers.all()}
        if chosen and session.identity.provider_id not in chosen:
            return "login_method_not_allowed", "This application no longer takes your login method."
    if stream.service_token_id:
        service_token = facts.service_tokens.get(stream.service_token_id)
        missing = service_token is None or service_token.deleted_at is not None
        if service_token is None or missing or service_token.organization_id != application.organization_id:
            return "service_token_invalid", "The service token was deleted."
        if not service_token.enabled:
            return "service_token_inactive", "The service token was disabled."
    rules = facts.rules_of(application)
    decision = decide_with(
        rules.policies,
        rules.groups,
        application,
        session=session,
        service_token=service_token,
        ip=stream.client_ip,
        now=_while_valid(service_token, now),
        evidence=evidence_of_stream(application, stream.evidence, now=now),
        lists=rules.lists,
        moment=Moment.STREAM,
    )
    if not decision.allowed:
        return decision.reason, _CUT_MESSAGES.get(decision.reason, decision.message)
    if stream.destination:
        resolve_destination(stream.destination, allowed_destinations(application, decision), required=False)
    return "", ""


def _is_of_revoked_token(stream: Stream, application: Application, now: datetime) -> bool:
    """Opened before "Revoke existing tokens", so with a token that is refused now."""
    revoked_at = application.tokens_revoked_at
    if revoked_at is None or stream.age_seconds is None:
        return False
    return now - timedelta(seconds=stream.age_seconds) <= revoked_at


def _while_valid(service_token: ServiceToken | None, now: datetime) -> datetime:
    """Now, or the token's last second: its natural end closes no stream."""
    end = service_token.expires_at if service_token is not None else None
    return now if end is None else min(now, end - timedelta(seconds=1))


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
