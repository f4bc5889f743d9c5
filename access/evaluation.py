"""Policy evaluation: which policy decides about a request, and why. Pure; product.md 1.3.

    1. bypass and service-auth policies, by precedence     first match decides
    2. deny and allow policies, by precedence              first match decides; needs a person who logged in
    3. nothing matched                                     refused

A policy matches when any `include` rule matches, and every `require` rule, and no `exclude` rule; a rule that cannot
be answered refuses the request (reason "policy_error"). Verdicts come first, in access/judging.py; sentence and trace
are made from them afterwards, the trace only when somebody reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property, partial
from operator import attrgetter
from typing import Any

from access import explain
from access.judging import MAX_GROUP_DEPTH, NAMES, Judge
from access.rulesets import ERROR, MATCH, MISS, Group, Policy, parse_group, parse_policy, rules_version
from access.selectors import GROUP, Context, Rule
from access.terms import NO_TERMS, Terms
from access.tracing import MAX_TRACE_ENTRIES, Asked, trace_of
from accounts.second_factor import MfaRule, Moment, amr_of, override

__all__ = [
    "APPROVAL_REQUIRED",
    "MAX_GROUP_DEPTH",
    "MAX_TRACE_ENTRIES",
    "MFA_REQUIRED",
    "PURPOSE_REQUIRED",
    "QUESTIONS",
    "Decision",
    "Group",
    "Outcome",
    "Policy",
    "evaluate",
    "parse_group",
    "parse_policy",
    "rules_version",
]


class Outcome(StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    BYPASS = "bypass"
    SERVICE_AUTH = "service_auth"
    NO_MATCH = "no_match"
    ERROR = "error"


def _no_trace() -> list[dict[str, Any]]:
    return []


@dataclass(frozen=True)
class Decision:
    """`reason` is a stable code, `message` is for the person refused, `trace` for administrators.

    `rules_version` names the set of policies and groups that was asked (AC-86), `facts` what they were asked about
    (access/decision_facts.py); both are set where decisions about real requests are made.
    """

    allowed: bool
    outcome: Outcome
    reason: str
    message: str
    policy_id: str | None = None
    policy_name: str = ""
    session_duration_seconds: int | None = None
    # Of the policy that decided.
    terms: Terms = NO_TERMS
    # How long an approval that this decision rests on still holds.
    approved_seconds: int | None = None
    # The second factor that was wanted and missing, or how long the one that was held still counts.
    missing_factor: MfaRule | None = None
    factor_seconds: int | None = None
    rules_version: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    make_trace: Callable[[], list[dict[str, Any]]] = field(default=_no_trace, repr=False, compare=False)

    @cached_property
    def trace(self) -> list[dict[str, Any]]:
        """Made when it is first read: most decisions of a recheck or a simulation are never looked into."""
        return self.make_trace()


PURPOSE_REQUIRED = "purpose_required"
APPROVAL_REQUIRED = "approval_required"
MFA_REQUIRED = "mfa_required"
# Refusals that a person can lift on a page of the team domain.
QUESTIONS = frozenset({PURPOSE_REQUIRED, APPROVAL_REQUIRED, MFA_REQUIRED})
_MFA_MESSAGES = {
    Moment.LOGIN: "This application asks for a second factor.",
    Moment.USE: "This application asks for a second factor, and yours is missing or too old. Log in again.",
    Moment.STREAM: "This application now asks for a second factor. Log in again.",
}
_OUTCOMES = {
    "bypass": Outcome.BYPASS,
    "non_identity": Outcome.SERVICE_AUTH,
    "allow": Outcome.ALLOW,
    "deny": Outcome.DENY,
}
_BEFORE_LOGIN = frozenset({"bypass", "non_identity"})
_REASONS = {
    Outcome.BYPASS: ("bypass", "This application is open to everyone."),
    Outcome.SERVICE_AUTH: ("service_token", "Allowed by service token."),
    Outcome.ALLOW: ("allowed", "Allowed."),
    Outcome.DENY: ("blocked_by_policy", "A rule of this application blocks you. Ask its administrator."),
}


class Judges:
    """The judges of one request. Whoever asks about many applications for one person keeps them from one to the next,
    so that each group is judged once: contexts may then differ in approvals, purpose and second factor only, which no
    rule asks about."""

    def __init__(self, groups: Mapping[str, Group], context: Context) -> None:
        self.groups = groups
        self.of_anybody = Judge(groups, context, asks_person=False)
        self.of_person = Judge(groups, context, asks_person=True)
        self._imagined: dict[tuple[str, ...], Judge] = {}

    def imagining(self, methods: tuple[str, ...]) -> Judge:
        """Of the person as they would be after having shown these second factors."""
        if methods not in self._imagined:
            context = self.of_person.context
            person = context.person and replace(
                context.person, authentication_methods=context.person.authentication_methods + methods
            )
            self._imagined[methods] = Judge(self.groups, replace(context, person=person), asks_person=True)
        return self._imagined[methods]


def evaluate(policies: Iterable[Policy], groups: Mapping[str, Group], context: Context) -> Decision:
    """The decision about one request. Never raises for bad rules: those give outcome "error"."""
    policies, judges = list(policies), Judges(groups, context)
    run = _Run(groups, context)
    decision = run.decision(policies, judges)
    if decision is not None:
        return decision
    if context.person is not None:
        return run.nothing_matched(judges.of_person)
    reason, message = explain.without_person(
        has_allow=any(policy.decision == "allow" for policy in policies),
        has_service_auth=any(policy.decision == "non_identity" for policy in policies),
        has_token=bool(context.service_token_id),
    )
    return Decision(False, Outcome.NO_MATCH, reason, message, make_trace=run.trace)


def may_enter(policies: Iterable[Policy], judges: Judges, context: Context) -> bool:
    """Whether `evaluate` lets the person in, or asks for something first; without saying why."""
    decision = _Run(judges.groups, context).decision(policies, judges)
    return decision is not None and (decision.allowed or decision.reason in QUESTIONS)


_by_precedence = attrgetter("precedence")


def _rule_of(policy: Policy, context: Context) -> MfaRule | None:
    return override(context.mfa.defaults.rule, context.mfa.defaults.fallback, policy.terms.mfa_config)


class _Run:
    """One evaluation: the policies asked so far."""

    def __init__(self, groups: Mapping[str, Group], context: Context) -> None:
        self.groups = groups
        self.context = context
        self.asked: list[Asked] = []
        # The trace's last entry, when it is not about rules.
        self._closing: list[dict[str, Any]] = []
        # The policy that could not be answered, and why: looked for when somebody reads the trace.
        self._failure: tuple[Policy, Callable[[], str]] | None = None

    def decision(self, policies: Iterable[Policy], judges: Judges) -> Decision | None:
        """None when nothing matched."""
        first: list[Policy] = []
        second: list[Policy] = []
        for policy in sorted(policies, key=_by_precedence):
            if policy.decision not in _OUTCOMES:
                return self.failed(policy, partial("The decision {!r} is unknown.".format, policy.decision))
            (first if policy.decision in _BEFORE_LOGIN else second).append(policy)
        found = self.first_match(first, judges.of_anybody) if first else None
        if found is not None or self.context.person is None:
            return found
        return self.first_match(second, judges.of_person) or self._with_second_factor(second, judges)

    def _with_second_factor(self, policies: Sequence[Policy], judges: Judges) -> Decision | None:
        """Nothing matched. When a policy asks for the authentication method that our own second factor would give, the
        factor is what is missing: ask for it instead of refusing what the person was never asked."""
        mfa = self.context.mfa
        asks = mfa.defaults.rule is not None or any(policy.terms.mfa_config is not None for policy in policies)
        if not asks or mfa.is_assumed:
            return None
        rules = [_rule_of(policy, self.context) for policy in policies]
        kinds = {kind for rule in rules if rule is not None for kind in rule.kinds}
        if not kinds:
            return None
        judge = judges.imagining(tuple(sorted({word for kind in kinds for word in amr_of(kind)})))
        decision = _Run(self.groups, self.context).first_match(policies, judge)
        return decision if decision is not None and decision.reason == MFA_REQUIRED else None

    def first_match(self, policies: Sequence[Policy], judge: Judge) -> Decision | None:
        for policy in policies:
            if policy.decision == "non_identity" and not self._shows_machine(policy):
                # "everyone" or an IP range alone must not open the machines' door.
                self.asked.append(Asked(policy, MISS, None))
                continue
            verdict = judge.verdict(policy.lists)
            self.asked.append(Asked(policy, verdict, judge))
            if verdict == ERROR:
                return self.failed(policy, partial(judge.first_problem, policy.lists))
            if verdict == MATCH:
                return self._matched(policy, judge)
        return None

    def failed(self, policy: Policy, problem: Callable[[], str]) -> Decision:
        self._failure = policy, problem
        message = "A rule of this application could not be evaluated, so access is refused. Tell its administrator."
        names = (policy.id, policy.name)
        return Decision(False, Outcome.ERROR, "policy_error", message, *names, make_trace=self.trace)

    def nothing_matched(self, judge: Judge) -> Decision:
        missed = [asked.policy.lists for asked in self.asked if asked.policy.decision == "allow"]
        reason, message = explain.Explainer(judge).refusal(missed)
        return Decision(False, Outcome.NO_MATCH, reason, message, make_trace=self.trace)

    def _matched(self, policy: Policy, judge: Judge) -> Decision:
        outcome = _OUTCOMES[policy.decision]
        reason, message = _REASONS[outcome]
        if outcome is Outcome.DENY:
            message = explain.Explainer(judge).blocked(policy.lists) or message
        seconds = approved = factor = None
        if outcome is Outcome.ALLOW:
            missing, factor = self._second_factor(policy)
            missing = missing or self._missing_consent(policy)
            if missing is not None:
                return missing
            seconds = policy.session_duration_seconds
            approved = self.context.approvals.get(policy.id) if policy.terms.needs_approval else None
        allowed = outcome is not Outcome.DENY
        names = (policy.id, policy.name)
        return Decision(
            allowed,
            outcome,
            reason,
            message,
            *names,
            session_duration_seconds=seconds,
            terms=policy.terms,
            approved_seconds=approved,
            factor_seconds=factor,
            make_trace=self.trace,
        )

    def _second_factor(self, policy: Policy) -> tuple[Decision | None, int | None]:
        """The refusal when one is wanted and none is held, or how long the one that is held still counts."""
        rule, context = _rule_of(policy, self.context), self.context
        if rule is None or context.mfa.is_assumed:
            return None, None
        held = rule.held(context.mfa.held, context.mfa.moment)
        base = {"policy": policy.name, "policy_id": policy.id, "decision": policy.decision}
        asked = {"list": "second factor", "rule": "", "selector": "mfa", "wanted": ", ".join(rule.words())}
        shown = ", ".join(f"{factor.kind} {factor.age_seconds} s ago" for factor in context.mfa.held)
        verdict = NAMES[MISS if held is None else MATCH]
        self._closing.append({**base, **asked, "actual": shown, "verdict": verdict})
        if held is not None:
            # A stream outlives what opened it: only whether there is one counts (access/recheck.py).
            return None, None if context.mfa.moment is Moment.STREAM else rule.seconds_left(held)
        return self._question(policy, MFA_REQUIRED, _MFA_MESSAGES[context.mfa.moment], rule), None

    def _missing_consent(self, policy: Policy) -> Decision | None:
        """The person is right, but has not said what for, or nobody has approved yet. The policy has decided: no
        later one is asked."""
        if policy.terms.needs_purpose and not self.context.is_justified:
            reason, message = PURPOSE_REQUIRED, "Say what you need access to this application for."
        elif policy.terms.needs_approval and policy.id not in self.context.approvals:
            reason, message = APPROVAL_REQUIRED, "Access to this application must be approved, for a limited time."
        else:
            return None
        self._closing.append({"policy": policy.name, "policy_id": policy.id, "verdict": reason})
        return self._question(policy, reason, message)

    def _question(self, policy: Policy, reason: str, message: str, factor: MfaRule | None = None) -> Decision:
        names = (policy.id, policy.name)
        return Decision(
            False,
            Outcome.NO_MATCH,
            reason,
            message,
            *names,
            terms=policy.terms,
            missing_factor=factor,
            make_trace=self.trace,
        )

    def trace(self) -> list[dict[str, Any]]:
        failure = []
        if self._failure is not None:
            policy, problem = self._failure
            failure = [{"policy": policy.name, "policy_id": policy.id, "verdict": "error", "problem": problem()}]
        return [*trace_of(self.asked), *self._closing, *failure]

    def _shows_machine(self, policy: Policy) -> bool:
        """A service token opens every service-auth policy that matches; a certificate or another application's token
        only those that include one: else any person who holds one could pass for a machine. A Require rule does not
        count, because adding one must never let anybody in."""
        context = self.context
        if context.service_token_id:
            return True
        if not context.is_machine:
            return False
        shown = {"linked_app_token"} if context.linked_applications else set()
        shown |= {"certificate", "common_name"} if context.certificate is not None else set()
        return any(rule.selector in shown for rule in self._included(policy))

    def _included(self, policy: Policy) -> Iterator[Rule]:
        seen: set[str] = set()
        rules = list(policy.include)
        while rules:
            rule = rules.pop()
            yield rule
            if rule.selector == GROUP and rule.value in self.groups and rule.value not in seen:
                seen.add(rule.value)
                rules += self.groups[rule.value].include
