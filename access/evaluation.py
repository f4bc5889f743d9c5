"""Policy evaluation: which policy decides about a request, and why. Pure; product.md 1.3.

    1. bypass and service-auth policies, by precedence     first match decides
    2. deny and allow policies, by precedence              first match decides; needs a person who logged in
    3. nothing matched                                     refused

A policy matches when any `include` rule matches, and every `require` rule, and no `exclude` rule. Every rule of a
policy under evaluation is asked, so the result does not depend on the order of a list, and one rule that cannot be
answered refuses the request (reason "policy_error"): a rule is never skipped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from access import explain
from access.explain import Kind, ListResult, RuleResult, Verdict
from access.selectors import GROUP, SELECTORS, Context, Rule, RuleError, ask, read_rules
from access.terms import NO_TERMS, Terms
from accounts.second_factor import MfaRule, Moment, amr_of, override

# Longest chain of groups inside groups.
MAX_GROUP_DEPTH = 10
# Entries kept of one decision; a policy may hold a thousand e-mail addresses.
MAX_TRACE_ENTRIES = 200


class Outcome(StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    BYPASS = "bypass"
    SERVICE_AUTH = "service_auth"
    NO_MATCH = "no_match"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Group:
    id: str
    name: str
    include: tuple[Rule, ...]
    require: tuple[Rule, ...] = ()
    exclude: tuple[Rule, ...] = ()
    version: str = ""

    def rules(self) -> tuple[Rule, ...]:
        return self.include + self.require + self.exclude


@dataclass(frozen=True, slots=True)
class Policy:
    """`decision` is allow, deny, bypass or non_identity. `version` says which edit of the policy decided (AC-86)."""

    id: str
    name: str
    decision: str
    precedence: int
    include: tuple[Rule, ...]
    require: tuple[Rule, ...] = ()
    exclude: tuple[Rule, ...] = ()
    session_duration_seconds: int | None = None
    version: str = ""
    terms: Terms = NO_TERMS

    def rules(self) -> tuple[Rule, ...]:
        return self.include + self.require + self.exclude


@dataclass(frozen=True, slots=True)
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
    trace: list[dict[str, Any]] = field(default_factory=list)
    # Of the policy that decided.
    terms: Terms = NO_TERMS
    # How long an approval that this decision rests on still holds.
    approved_seconds: int | None = None
    # The second factor that was wanted and missing, or how long the one that was held still counts.
    missing_factor: MfaRule | None = None
    factor_seconds: int | None = None
    rules_version: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


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
_REASONS = {
    Outcome.BYPASS: ("bypass", "This application is open to everyone."),
    Outcome.SERVICE_AUTH: ("service_token", "Allowed by service token."),
    Outcome.ALLOW: ("allowed", "Allowed."),
    Outcome.DENY: ("blocked_by_policy", "A rule of this application blocks you. Ask its administrator."),
}


def evaluate(policies: Iterable[Policy], groups: Mapping[str, Group], context: Context) -> Decision:
    """The decision about one request. Never raises for bad rules: those give outcome "error"."""
    ordered = sorted(policies, key=lambda policy: policy.precedence)
    run = _Run(groups, context)
    unknown = next((policy for policy in ordered if policy.decision not in _OUTCOMES), None)
    if unknown is not None:
        return run.failed(unknown, f"The decision {unknown.decision!r} is unknown.")
    first = [policy for policy in ordered if policy.decision in {"bypass", "non_identity"}]
    second = [policy for policy in ordered if policy.decision in {"allow", "deny"}]
    decision = run.first_match(first, asks_person=False)
    if decision is not None:
        return decision
    if context.person is None:
        reason, message = explain.without_person(
            has_allow=any(policy.decision == "allow" for policy in second),
            has_service_auth=any(policy.decision == "non_identity" for policy in first),
            has_token=bool(context.service_token_id),
        )
        return Decision(False, Outcome.NO_MATCH, reason, message, trace=run.trace)
    decision = run.first_match(second, asks_person=True)
    if decision is None:
        return _with_second_factor(second, groups, context) or run.nothing_matched()
    return decision


def _with_second_factor(policies: Sequence[Policy], groups: Mapping[str, Group], context: Context) -> Decision | None:
    """Nothing matched. When a policy asks for the authentication method that our own second factor would give, the
    factor is what is missing: ask for it instead of refusing what the person was never asked."""
    rules = [_rule_of(policy, context) for policy in policies]
    kinds = {kind for rule in rules if rule is not None for kind in rule.kinds}
    if context.person is None or not kinds or context.assumes_factor:
        return None
    methods = context.person.authentication_methods + tuple(sorted({word for kind in kinds for word in amr_of(kind)}))
    person = replace(context.person, authentication_methods=methods)
    decision = _Run(groups, replace(context, person=person)).first_match(policies, asks_person=True)
    return decision if decision is not None and decision.reason == MFA_REQUIRED else None


def _rule_of(policy: Policy, context: Context) -> MfaRule | None:
    return override(context.mfa.rule, context.mfa.fallback, policy.terms.mfa_config)


class _Run:
    """One evaluation: memory of group answers, and the trace."""

    def __init__(self, groups: Mapping[str, Group], context: Context) -> None:
        self.groups = groups
        self.context = context
        self.trace: list[dict[str, Any]] = []
        self._answers: dict[tuple[str, bool], RuleResult] = {}
        self._heights: dict[str, int] = {}
        self._missed: list[tuple[ListResult, ListResult, ListResult]] = []
        self._left_out = 0

    def first_match(self, policies: Sequence[Policy], *, asks_person: bool) -> Decision | None:
        for policy in policies:
            if policy.decision == "non_identity" and not self._shows_machine(policy):
                # "everyone" or an IP range alone must not open the machines' door.
                self._note(policy, (), Verdict.NO_MATCH)
                continue
            lists = self._ask_lists(policy.include, policy.require, policy.exclude, asks_person=asks_person)
            verdict = explain.combine(*lists)
            self._note(policy, lists, verdict)
            if verdict is Verdict.ERROR:
                return self.failed(policy, explain.first_problem(*lists))
            if verdict is Verdict.MATCH:
                return self._matched(policy, lists)
            if policy.decision == "allow":
                self._missed.append(lists)
        return None

    def failed(self, policy: Policy, problem: str) -> Decision:
        self.trace.append({"policy": policy.name, "policy_id": policy.id, "verdict": "error", "problem": problem})
        message = "A rule of this application could not be evaluated, so access is refused. Tell its administrator."
        return Decision(False, Outcome.ERROR, "policy_error", message, policy.id, policy.name, trace=self.trace)

    def nothing_matched(self) -> Decision:
        reason, message = explain.refusal(self._missed, self.context.person)
        self._close_trace()
        return Decision(False, Outcome.NO_MATCH, reason, message, trace=self.trace)

    def _matched(self, policy: Policy, lists: tuple[ListResult, ListResult, ListResult]) -> Decision:
        outcome = _OUTCOMES[policy.decision]
        reason, message = _REASONS[outcome]
        if outcome is Outcome.DENY:
            message = explain.blocked(lists) or message
        self._close_trace()
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
        decision = Decision(allowed, outcome, reason, message, *names, seconds, self.trace, policy.terms, approved)
        return replace(decision, factor_seconds=factor)

    def _second_factor(self, policy: Policy) -> tuple[Decision | None, int | None]:
        """The refusal when one is wanted and none is held, or how long the one that is held still counts."""
        rule, context = _rule_of(policy, self.context), self.context
        if rule is None or context.assumes_factor:
            return None, None
        held = rule.held(context.factors, context.moment)
        base = {"policy": policy.name, "policy_id": policy.id, "decision": policy.decision}
        asked = {"list": "second factor", "rule": "", "selector": "mfa", "wanted": ", ".join(rule.words())}
        verdict = Verdict.NO_MATCH if held is None else Verdict.MATCH
        self.trace.append({**base, **asked, "actual": _factors_text(context), "verdict": verdict.value})
        if held is not None:
            return None, rule.seconds_left(held)
        message = _MFA_MESSAGES[context.moment]
        names = (policy.id, policy.name)
        refusal = Decision(False, Outcome.NO_MATCH, MFA_REQUIRED, message, *names, None, self.trace, policy.terms)
        return replace(refusal, missing_factor=rule), None

    def _missing_consent(self, policy: Policy) -> Decision | None:
        """The person is right, but has not said what for, or nobody has approved yet. The policy has decided: no
        later one is asked."""
        if policy.terms.needs_purpose and not self.context.is_justified:
            reason, message = PURPOSE_REQUIRED, "Say what you need access to this application for."
        elif policy.terms.needs_approval and policy.id not in self.context.approvals:
            reason, message = APPROVAL_REQUIRED, "Access to this application must be approved, for a limited time."
        else:
            return None
        self.trace.append({"policy": policy.name, "policy_id": policy.id, "verdict": reason})
        names = (policy.id, policy.name)
        return Decision(False, Outcome.NO_MATCH, reason, message, *names, None, self.trace, policy.terms)

    def _shows_machine(self, policy: Policy) -> bool:
        """A service token opens every service-auth policy that matches; a certificate or another application's token
        only those that ask for one: else any person who holds one could pass for a machine."""
        context = self.context
        if context.service_token_id:
            return True
        if not context.is_machine:
            return False
        shown = {"linked_app_token"} if context.linked_applications else set()
        shown |= {"certificate", "common_name"} if context.certificate is not None else set()
        return any(rule.selector in shown for rule in self._all_rules(policy))

    def _all_rules(self, policy: Policy) -> Iterator[Rule]:
        seen: set[str] = set()
        rules = list(policy.include + policy.require)
        while rules:
            rule = rules.pop()
            yield rule
            if rule.selector == GROUP and rule.value in self.groups and rule.value not in seen:
                seen.add(rule.value)
                rules += self.groups[rule.value].rules()

    # --- rules

    def _ask_lists(
        self, include: Sequence[Rule], require: Sequence[Rule], exclude: Sequence[Rule], *, asks_person: bool
    ) -> tuple[ListResult, ListResult, ListResult]:
        return (
            ListResult(Kind.INCLUDE, [self._ask(rule, asks_person) for rule in include]),
            ListResult(Kind.REQUIRE, [self._ask(rule, asks_person) for rule in require]),
            ListResult(Kind.EXCLUDE, [self._ask(rule, asks_person) for rule in exclude]),
        )

    def _ask(self, rule: Rule, asks_person: bool) -> RuleResult:
        if rule.selector == GROUP and not rule.problem:
            return self._ask_group(rule, asks_person)
        try:
            selector = SELECTORS.get(rule.selector)
            if selector is not None and selector.needs_person and not asks_person:
                raise RuleError(
                    f'"{rule.selector}" asks about a person, which bypass and service-auth policies never do.'
                )
            answer = ask(rule, self.context)
        except RuleError as error:
            return RuleResult(rule, Verdict.ERROR, problem=str(error))
        except Exception as error:  # noqa: BLE001 - whatever a selector meets, the answer is "refuse" (AC-81)
            return RuleResult(rule, Verdict.ERROR, problem=f"{type(error).__name__} while evaluating the rule.")
        return RuleResult(rule, Verdict.MATCH if answer.matches else Verdict.NO_MATCH, actual=answer.actual)

    def _ask_group(self, rule: Rule, asks_person: bool) -> RuleResult:
        known = self._answers.get((rule.value, asks_person))
        if known is not None:
            return known
        try:
            self._height(rule.value, ())
        except RuleError as error:
            return RuleResult(rule, Verdict.ERROR, problem=str(error))
        group = self.groups[rule.value]
        lists = self._ask_lists(group.include, group.require, group.exclude, asks_person=asks_person)
        verdict = explain.combine(*lists)
        problem = explain.first_problem(*lists) if verdict is Verdict.ERROR else ""
        result = RuleResult(rule, verdict, group.name, problem, group.name, blamed=explain.blame(lists))
        self._answers[(rule.value, asks_person)] = result
        return replace(result, lists=lists)

    def _height(self, group_id: str, path: tuple[str, ...]) -> int:
        """Length of the longest chain of groups from here. Raises RuleError for a loop, a gap or too long a chain."""
        if group_id in path:
            raise RuleError("Access groups contain each other in a loop.")
        if len(path) >= MAX_GROUP_DEPTH:
            raise RuleError(f"Access groups are nested deeper than {MAX_GROUP_DEPTH}.")
        if group_id not in self.groups:
            raise RuleError("An access group named by a rule does not exist.")
        if group_id not in self._heights:
            inner = [
                rule.value for rule in self.groups[group_id].rules() if rule.selector == GROUP and not rule.problem
            ]
            self._heights[group_id] = 1 + max((self._height(child, (*path, group_id)) for child in inner), default=0)
        if len(path) + self._heights[group_id] > MAX_GROUP_DEPTH:
            raise RuleError(f"Access groups are nested deeper than {MAX_GROUP_DEPTH}.")
        return self._heights[group_id]

    # --- trace

    def _note(self, policy: Policy, lists: Sequence[ListResult], verdict: Verdict) -> None:
        base = {"policy": policy.name, "policy_id": policy.id, "decision": policy.decision}
        self.trace.append({**base, "version": policy.version, "verdict": verdict.value})
        for entry in explain.trace_entries(lists):
            if len(self.trace) < MAX_TRACE_ENTRIES:
                self.trace.append({**base, **entry})
            else:
                self._left_out += 1

    def _close_trace(self) -> None:
        if self._left_out:
            self.trace.append({"verdict": "left_out", "count": self._left_out})


def _factors_text(context: Context) -> str:
    return ", ".join(f"{factor.kind} {factor.age_seconds} s ago" for factor in context.factors)


def parse_policy(
    *,
    id: str,  # noqa: A002 - the field's name
    name: str,
    decision: str,
    precedence: int,
    include: Any,
    require: Any,
    exclude: Any,
    session_duration_seconds: int | None = None,
    version: str = "",
    terms: Terms = NO_TERMS,
) -> Policy:
    """A Policy from stored JSON lists."""
    return Policy(
        id,
        name,
        decision,
        precedence,
        read_rules(include),
        read_rules(require),
        read_rules(exclude),
        session_duration_seconds,
        version,
        terms,
    )


def parse_group(
    *,
    id: str,  # noqa: A002 - the field's name
    name: str,
    include: Any,
    require: Any,
    exclude: Any,
    version: str = "",
) -> Group:
    return Group(id, name, read_rules(include), read_rules(require), read_rules(exclude), version)


def rules_version(policies: Iterable[Policy], groups: Mapping[str, Group]) -> str:
    """Names a set of rules: equal when policies, their places and groups are the same edits (AC-86)."""
    parts = [f"{policy.id} {policy.precedence} {policy.version}" for policy in policies]
    parts += [f"{group.id} {group.version}" for group in groups.values()]
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:16]
