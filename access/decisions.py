"""The decision about a request to an application: facts and rules from the database, the answer from `evaluation`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from access import country
from access.decision_facts import facts_of
from access.evaluation import Decision, Group, Outcome, Policy, evaluate, rules_version
from access.facts import Asker, ask_external, collect
from access.models import AccessRequest, Application, ApplicationPolicy, ApprovalRequest, Justification, ServiceToken
from access.rule_store import groups_of, policy_of
from access.rules import group_ids
from access.selectors import ExternalFacts, NamedList
from accounts.errors import DomainError
from accounts.models import AccessSession, Identity, IdentityProvider
from accounts.prepared import Parameter, PreparedRows, PreparedValues, insert

log = logging.getLogger(__name__)
# The policies of an application and the groups of its organization.
LoadedRules = tuple[list[Policy], dict[str, Group]]
_LOAD_TRIES = 3
_LINKS = PreparedRows(
    lambda: ApplicationPolicy.objects.filter(application=Parameter("application", Application._meta.pk)).select_related(
        "policy"
    )
)
_EDITS = PreparedValues(
    lambda: ApplicationPolicy.objects.filter(application=Parameter("application", Application._meta.pk)).values_list(
        "policy_id", "precedence", "policy__updated_at"
    )
)


def decide(
    application: Application,
    asker: Asker,
    *,
    external_facts: ExternalFacts | None = None,
    rules: LoadedRules | None = None,
) -> Decision:
    """What the application's policies say right now. Never raises: an error is a refusal, reason "policy_error".

    The caller has checked that the session is live; a disabled identity or a
    dead service token is refused here too. `external_facts`: what `external_facts_of` found, for callers inside a
    transaction. `rules`: what `load_rules` has read in this very transaction.
    """
    return decide_loading(application, asker, external_facts=external_facts, rules=rules)[0]


def decide_loading(
    application: Application,
    asker: Asker,
    *,
    external_facts: ExternalFacts | None = None,
    rules: LoadedRules | None = None,
) -> tuple[Decision, Sequence[Policy]]:
    """`decide`, with the policies it went by."""
    try:
        policies, groups = load_rules(application) if rules is None else rules
        decision = decide_with(policies, groups, application, asker, external_facts=external_facts)
    except Exception:  # noqa: BLE001 - whatever fails here, nobody gets in by it (security.md AC-81)
        return _failed(application), ()
    return decision, policies


def decide_with(
    policies: Sequence[Policy],
    groups: Mapping[str, Group],
    application: Application,
    asker: Asker,
    *,
    lists: Mapping[str, NamedList] | None = None,
    external_facts: ExternalFacts | None = None,
) -> Decision:
    """`decide` for rules already loaded (many streams of one application). May raise."""
    identity = asker.session.identity if asker.session is not None else None
    refused = refused_before_rules(identity, asker.service_token, asker.now)
    if refused is not None:
        return refused
    context = collect(application, policies, groups, asker, lists=lists, external_facts=external_facts)
    decision = replace(
        evaluate(policies, groups, context),
        rules_version=rules_version(policies, groups, context.lists),
        facts=facts_of(context),
    )
    if not decision.allowed:
        return decision
    return replace(decision, session_duration_seconds=_session_seconds(application, decision))


def refused_before_rules(
    identity: Identity | None, service_token: ServiceToken | None, now: datetime
) -> Decision | None:
    """The refusal that no policy can lift, or None."""
    if identity is not None and identity.disabled_at is not None:
        message = "Your account was disabled by an administrator of this organization."
        return Decision(False, Outcome.DENY, "identity_disabled", message)
    if service_token is not None and not service_token.is_active(now):
        return Decision(False, Outcome.DENY, "service_token_inactive", "The service token is disabled or has expired.")
    return None


def _session_seconds(application: Application, decision: Decision) -> int:
    """Of the policy, otherwise the application; never longer than an approval or a second factor it rests on. 0 means
    "immediate"."""
    own = decision.session_duration_seconds
    seconds = application.session_duration_seconds if own is None else own
    ends = (decision.approved_seconds, decision.factor_seconds)
    return min([seconds, *(end for end in ends if end is not None)])


def external_facts_of(application: Application, asker: Asker) -> ExternalFacts:
    """What external evaluators say about the person, asked before a transaction begins; nothing about a machine. Never
    raises: rules that cannot be loaded, and questions without an answer, make `decide` refuse."""
    if asker.session is None:
        return {}
    try:
        policies, groups = load_rules(application)
        return ask_external(policies, groups, asker)
    except Exception:
        log.exception("external evaluation failed", extra={"application_id": str(application.pk)})
        return {}


def load_rules(application: Application) -> LoadedRules:
    """One query for the policies; when any rule names a group one for the groups, and one that sees that the
    policies are still the same: no mix of old and new rules (AC-86). Raises RulesInMotion when they never are."""
    for _ in range(_LOAD_TRIES):
        links = _LINKS.all(application=application.pk)
        if not any(group_ids(link.policy.include, link.policy.require, link.policy.exclude) for link in links):
            return [policy_of(link) for link in links], {}
        groups = _load_groups(application)
        if _edits(links) == {tuple(edit) for edit in _EDITS.all(application=application.pk)}:
            return [policy_of(link) for link in links], groups
    raise RulesInMotion("The policies of this application changed at every attempt to read them.")


def _edits(links: Iterable[ApplicationPolicy]) -> set[tuple[Any, ...]]:
    return {(link.policy_id, link.precedence, link.policy.updated_at) for link in links}


class RulesInMotion(Exception):
    """Policies could not be read as one set."""


def _failed(application: Application) -> Decision:
    log.exception("policy evaluation failed", extra={"application_id": str(application.pk)})
    message = "The policies of this application could not be evaluated, so access is refused. Tell its administrator."
    return Decision(False, Outcome.ERROR, "policy_error", message)


def refused_after(decision: Decision, error: DomainError) -> Decision:
    """The policies said yes, something after them no: their trace stays; no facts, because no policy change would
    have made a difference."""
    refused = Decision(False, Outcome.DENY, error.code, error.message, make_trace=lambda: decision.trace)
    return replace(refused, rules_version=decision.rules_version)


def record_decision(
    application: Application, decision: Decision, asker: Asker, *, action: str, ray_id: str
) -> AccessRequest:
    """One row of the access log."""
    return insert(log_entry(application, decision, asker, action=action, ray_id=ray_id))


def log_entry(application: Application, decision: Decision, asker: Asker, *, action: str, ray_id: str) -> AccessRequest:
    """A row of the access log, not yet stored. `action`: login, connect, certificate or cut."""
    session, service_token, evidence = asker.session, asker.service_token, asker.evidence
    identity = session.identity if session is not None else None
    connection = "service_token" if service_token is not None else _provider_type(identity)
    return AccessRequest(
        organization_id=application.organization_id,
        application=application,
        application_label=application.name,
        identity=identity,
        email=_label(identity, service_token) or evidence.label[:350],
        action=action,
        allowed=decision.allowed,
        reason=decision.reason[:60],
        connection=connection or ("certificate" if evidence.certificate is not None else ""),
        ray_id=ray_id[:32],
        ip_address=asker.ip or None,
        country=country.lookup(asker.ip),
        trace=decision.trace,
        rules_version=decision.rules_version,
        facts=decision.facts,
        policy_label=decision.policy_name[:350],
        purpose=_purpose(application, decision, session),
        approvers=_approvers(application, decision, session),
    )


def record_failed_login(
    provider: IdentityProvider, *, subject: str, email: str, reason: str, ip: str, ray_id: str
) -> AccessRequest:
    """A login that ended before any application was asked: at the login method, or because the person may not log in
    at all. Found again at the person, when we know one."""
    identity = Identity.objects.filter(provider=provider, subject=subject).first() if subject else None
    return AccessRequest.objects.create(
        organization_id=provider.organization_id,
        application_label=provider.name,
        identity=identity,
        email=email or _label(identity, None),
        action="login",
        allowed=False,
        reason=reason[:60],
        connection=provider.type,
        ray_id=ray_id[:32],
        ip_address=ip or None,
        country=country.lookup(ip),
    )


def _purpose(application: Application, decision: Decision, session: AccessSession | None) -> str:
    if session is None or not decision.terms.needs_purpose:
        return ""
    said = Justification.objects.filter(application=application, session=session).values_list("text", flat=True)
    return said.first() or ""


def _approvers(application: Application, decision: Decision, session: AccessSession | None) -> list[str]:
    if session is None or not decision.allowed or decision.policy_id is None:
        return []
    if decision.approved_seconds is None:
        return []
    latest = (
        ApprovalRequest.objects.filter(
            application=application,
            policy_id=decision.policy_id,
            identity_id=session.identity_id,
            status=ApprovalRequest.Status.APPROVED,
        )
        .order_by("-ends_at")
        .first()
    )
    return list(latest.votes.order_by("pk").values_list("email", flat=True)) if latest is not None else []


def _load_groups(application: Application) -> dict[str, Group]:
    return groups_of(application.organization_id)


def _label(identity: Identity | None, service_token: ServiceToken | None) -> str:
    if service_token is not None:
        return service_token.name
    return identity.email or identity.subject if identity is not None else ""


def _provider_type(identity: Identity | None) -> str:
    return identity.provider.type if identity is not None else ""
