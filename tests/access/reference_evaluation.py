"""Policy evaluation as the product's rules say it, word by word and rule by rule: slow, and nothing to be clever about.

tests/access/test_evaluation_reference.py holds access.evaluation against it. It keeps every result and the whole trace.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from access import evaluation, explain
from access.evaluation import APPROVAL_REQUIRED, MAX_GROUP_DEPTH, PURPOSE_REQUIRED, Group, Outcome, Policy
from access.selectors import GROUP, SELECTORS, Context, NamedList, Person, Rule, RuleError
from access.terms import NO_TERMS, Terms
from accounts.text import ascii_lower


@dataclass(frozen=True, slots=True)
class Judged:
    allowed: bool
    outcome: Outcome
    reason: str
    message: str
    policy_id: str | None = None
    policy_name: str = ""
    session_duration_seconds: int | None = None
    trace: list[dict[str, Any]] = field(default_factory=list)
    terms: Terms = NO_TERMS
    approved_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    matches: bool
    actual: str


# --- selectors, one rule at a time ----------------------------------------------------------------------------
def _person(rule: Rule, context: Context) -> Person:
    if context.person is None:
        raise RuleError(
            f'"{rule.selector}" asks about a person, and this kind of policy decides before anyone logs in.'
        )
    return context.person


def _email(rule: Rule, context: Context) -> Answer:
    person = _person(rule, context)
    matches = (
        person.email_verified is True and bool(person.email) and ascii_lower(person.email) == ascii_lower(rule.value)
    )
    return Answer(matches, _shown_email(person))


def _email_domain(rule: Rule, context: Context) -> Answer:
    person = _person(rule, context)
    _, at, domain = person.email.rpartition("@")
    matches = person.email_verified is True and bool(at) and ascii_lower(domain) == ascii_lower(rule.value)
    return Answer(matches, _shown_email(person))


def _shown_email(person: Person) -> str:
    if not person.email:
        return "no e-mail"
    return person.email if person.email_verified is True else f"{person.email} (not verified)"


def _everyone(rule: Rule, context: Context) -> Answer:
    return Answer(True, "everyone")


def _email_list(rule: Rule, context: Context) -> Answer:
    person = _person(rule, context)
    known = _list(rule, context).emails
    matches = person.email_verified is True and bool(person.email) and ascii_lower(person.email) in known
    return Answer(matches, _shown_email(person))


def _list(rule: Rule, context: Context) -> NamedList:
    found = context.lists.get(rule.value)
    if found is None:
        raise RuleError("A list named by a rule does not exist, or is of another kind.")
    return found


def _ip(rule: Rule, context: Context) -> Answer:
    network = _network(rule)
    address = _address(context)
    return Answer(address.version == network.version and address in network, str(address))


def _network(rule: Rule) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(rule.value)
    except ValueError as error:
        raise RuleError(f"IP range {rule.value!r} cannot be read.") from error


def _ip_list(rule: Rule, context: Context) -> Answer:
    address = _address(context)
    networks = _list(rule, context).networks
    return Answer(any(address.version == net.version and address in net for net in networks), str(address))


def _address(context: Context) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(context.ip)
    except ValueError as error:
        raise RuleError(f"The address {context.ip!r} cannot be read.") from error
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _geo(rule: Rule, context: Context) -> Answer:
    if context.country is None:
        raise RuleError("The country database is not available, so no country rule can be decided.")
    wanted = rule.value.upper()
    return Answer(bool(context.country) and context.country.upper() == wanted, context.country or "unknown")


def _provider_group(rule: Rule, context: Context) -> Answer:
    person = _person(rule, context)
    if person.provider_id != rule.provider_id:
        return Answer(False, "another login method")
    return Answer(rule.value in person.groups, ", ".join(person.groups[:20]) or "no groups")


def _folded_group(rule: Rule, context: Context) -> Answer:
    """Ids and names that their provider compares without case."""
    person = _person(rule, context)
    if person.provider_id != rule.provider_id:
        return Answer(False, "another login method")
    wanted = ascii_lower(f"{rule.value}/{rule.detail}" if rule.detail else rule.value)
    held = {ascii_lower(group) for group in person.groups}
    return Answer(wanted in held, ", ".join(person.groups[:20]) or "no groups")


def _saml_attribute(rule: Rule, context: Context) -> Answer:
    person = _person(rule, context)
    if person.provider_id != rule.provider_id:
        return Answer(False, "another login method")
    return _held_value(rule, person.claims.get(rule.claim), absent="attribute absent")


def _oidc_claim(rule: Rule, context: Context) -> Answer:
    person = _person(rule, context)
    if person.provider_id != rule.provider_id:
        return Answer(False, "another login method")
    held = person.claims.get(rule.claim, list(person.groups) if rule.claim == "groups" else None)
    return _held_value(rule, held, absent="claim absent")


def _held_value(rule: Rule, held: Any, *, absent: str) -> Answer:
    values = [_claim_text(value) for value in (held if isinstance(held, list | tuple) else [held]) if value is not None]
    return Answer(rule.value in values, ", ".join(values[:20]) or absent)


def _claim_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value)
    raise RuleError(f"The claim holds a {type(value).__name__}; only texts, whole numbers, true and false compare.")


def _login_method(rule: Rule, context: Context) -> Answer:
    person = _person(rule, context)
    return Answer(bool(person.provider_id) and person.provider_id == rule.value, person.provider_id)


def _service_token(rule: Rule, context: Context) -> Answer:
    held = context.service_token_id
    return Answer(bool(held) and held == rule.value, held or "none")


def _any_service_token(rule: Rule, context: Context) -> Answer:
    return Answer(bool(context.service_token_id), context.service_token_id or "none")


def _authentication_method(rule: Rule, context: Context) -> Answer:
    held = _person(rule, context).authentication_methods
    return Answer(rule.value in held, ", ".join(held[:20]) or "none stated")


def _certificate(rule: Rule, context: Context) -> Answer:
    shown = context.certificate
    return Answer(shown is not None, "none" if shown is None else shown.common_name or shown.fingerprint)


def _common_name(rule: Rule, context: Context) -> Answer:
    shown = context.certificate
    return Answer(shown is not None and shown.common_name == rule.value, "none" if shown is None else shown.common_name)


def _linked_application(rule: Rule, context: Context) -> Answer:
    held = context.linked_applications
    return Answer(rule.value in held, ", ".join(sorted(held)) or "none")


def _external(rule: Rule, context: Context) -> Answer:
    _person(rule, context)
    said = context.external.get((rule.value, rule.detail), "It was not asked.")
    if isinstance(said, str):
        raise RuleError(f"The external evaluation gave no answer: {said}")
    return Answer(said, "success" if said else "no success")


_ASK: dict[str, Callable[[Rule, Context], Answer]] = {
    "email": _email,
    "email_domain": _email_domain,
    "everyone": _everyone,
    "ip": _ip,
    "geo": _geo,
    "okta": _provider_group,
    "oidc": _oidc_claim,
    "login_method": _login_method,
    "service_token": _service_token,
    "any_valid_service_token": _any_service_token,
    "email_list": _email_list,
    "ip_list": _ip_list,
    "azureAD": _folded_group,
    "github-organization": _folded_group,
    "gsuite": _folded_group,
    "saml": _saml_attribute,
    "auth_method": _authentication_method,
    "certificate": _certificate,
    "common_name": _common_name,
    "linked_app_token": _linked_application,
    "external_evaluation": _external,
}


def ask(rule: Rule, context: Context, *, asks_person: bool) -> Answer:
    if rule.problem:
        raise RuleError(rule.problem)
    if rule.selector not in _ASK:
        raise RuleError(f"Unknown selector {rule.selector!r}.")
    if rule.selector == "ip":
        _network(rule)
    if SELECTORS[rule.selector].needs_person and not asks_person:
        raise RuleError(f'"{rule.selector}" asks about a person, which bypass and service-auth policies never do.')
    return _ASK[rule.selector](rule, context)


# --- results and their explanation ----------------------------------------------------------------------------
class Verdict(StrEnum):
    MATCH = "match"
    NO_MATCH = "no_match"
    ERROR = "error"


class Kind(StrEnum):
    INCLUDE = "include"
    REQUIRE = "require"
    EXCLUDE = "exclude"


@dataclass(frozen=True, slots=True)
class RuleResult:
    """The answer of one rule. For a group `lists` holds the answers inside it (once per decision, however often the
    group is named) and `blamed` what decided there: neither trace nor explanation walks a web of groups twice."""

    rule: Rule
    verdict: Verdict
    actual: str = ""
    problem: str = ""
    group: str = ""
    lists: tuple[ListResult, ...] = ()
    blamed: tuple[RuleResult | None, bool] = (None, False)


@dataclass(frozen=True, slots=True)
class ListResult:
    kind: Kind
    results: list[RuleResult] = field(default_factory=list)


Lists = tuple[ListResult, ListResult, ListResult]


def combine(include: ListResult, require: ListResult, exclude: ListResult) -> Verdict:
    """Any include, every require, no exclude; an unanswered rule anywhere is an error. Empty include: nobody."""
    everything = [*include.results, *require.results, *exclude.results]
    if any(result.verdict is Verdict.ERROR for result in everything):
        return Verdict.ERROR
    matches = (
        any(result.verdict is Verdict.MATCH for result in include.results)
        and all(result.verdict is Verdict.MATCH for result in require.results)
        and not any(result.verdict is Verdict.MATCH for result in exclude.results)
    )
    return Verdict.MATCH if matches else Verdict.NO_MATCH


def first_problem(*lists: ListResult) -> str:
    problems = (result.problem for listed in lists for result in listed.results if result.verdict is Verdict.ERROR)
    return next(problems, "")


def trace_entries(lists: Sequence[ListResult], via: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """One entry per rule asked, groups first and then, with `via`, what is inside them."""
    for listed in lists:
        for position, result in enumerate(listed.results, start=1):
            entry: dict[str, Any] = {
                "list": listed.kind.value,
                "rule": position,
                "selector": result.rule.selector,
                "wanted": result.group or result.rule.wanted(),
                "actual": result.actual,
                "verdict": result.verdict.value,
            }
            if via:
                entry["via"] = list(via)
            if result.problem:
                entry["problem"] = result.problem
            yield entry
            if result.lists:
                yield from trace_entries(result.lists, (*via, result.group))


def refusal(missed: Sequence[Lists], person: Person | None) -> tuple[str, str]:
    """Reason and message from the allow policies that did not match: the one that came nearest speaks."""
    if not missed:
        return explain._NO_POLICY
    nearest = next((lists for lists in missed if _includes(lists)), missed[0])
    result, excluded = blame(nearest)
    if result is None:
        return explain._NO_POLICY
    if person is not None and person.email_verified is not True and _subject(result) == "email" and not excluded:
        return (
            "email_not_verified",
            "Your login method did not confirm your e-mail address, so rules on e-mail cannot match.",
        )
    return _sentence(result, excluded=excluded)


def blocked(lists: Lists) -> str:
    """The sentence for a block policy that matched, when one kind of rule alone made it match."""
    hits = [result for result in lists[0].results if result.verdict is Verdict.MATCH and not result.group]
    subjects = {_subject(result) for result in hits}
    if len(subjects) != 1 or not subjects <= explain._SENTENCES.keys():
        return ""
    return _sentence(hits[0], excluded=True)[1]


def _includes(lists: Sequence[ListResult]) -> bool:
    return any(result.verdict is Verdict.MATCH for result in lists[0].results)


def blame(lists: Sequence[ListResult]) -> tuple[RuleResult | None, bool]:
    """The leaf rule that decided, and whether it is one that had to be missed. None when no single rule did."""
    include, require, exclude = lists
    if not _includes(lists):
        found = [_blame_one(result) for result in include.results]
        subjects = {(_subject(result), excluded) if result else None for result, excluded in found}
        return found[0] if len(subjects) == 1 else (None, False)
    for result in exclude.results:
        if result.verdict is Verdict.MATCH:
            return (None, True) if result.group else (result, True)
    for result in require.results:
        if result.verdict is Verdict.NO_MATCH:
            return _blame_one(result)
    return None, False


def _blame_one(result: RuleResult) -> tuple[RuleResult | None, bool]:
    return result.blamed if result.group else (result, False)


def _subject(result: RuleResult) -> str:
    return explain._SAME_SENTENCE.get(result.rule.selector, result.rule.selector)


def _sentence(result: RuleResult, *, excluded: bool) -> tuple[str, str]:
    known = explain._SENTENCES.get(_subject(result))
    if known is None:
        return explain._NO_POLICY
    reason, missed, met = known
    return reason, (met if excluded else missed).format(actual=result.actual)


# --- the evaluation -------------------------------------------------------------------------------------------
def evaluate_naively(policies: Iterable[Policy], groups: Mapping[str, Group], context: Context) -> Judged:
    """The decision about one request. Never raises for bad rules: those give outcome "error"."""
    ordered = sorted(policies, key=lambda policy: policy.precedence)
    run = _Run(groups, context)
    unknown = next((policy for policy in ordered if policy.decision not in evaluation._OUTCOMES), None)
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
        return Judged(False, Outcome.NO_MATCH, reason, message, trace=run.trace)
    decision = run.first_match(second, asks_person=True)
    return decision if decision is not None else run.nothing_matched()


class _Run:
    """One evaluation: memory of group answers, and the trace."""

    def __init__(self, groups: Mapping[str, Group], context: Context) -> None:
        self.groups = groups
        self.context = context
        self.trace: list[dict[str, Any]] = []
        self._answers: dict[tuple[str, bool], RuleResult] = {}
        self._heights: dict[str, int] = {}
        self._missed: list[tuple[ListResult, ListResult, ListResult]] = []

    def first_match(self, policies: Sequence[Policy], *, asks_person: bool) -> Judged | None:
        for policy in policies:
            if policy.decision == "non_identity" and not self._shows_machine(policy):
                # "everyone" or an IP range alone must not open the machines' door.
                self._note(policy, (), Verdict.NO_MATCH)
                continue
            lists = self._ask_lists(policy.include, policy.require, policy.exclude, asks_person=asks_person)
            verdict = combine(*lists)
            self._note(policy, lists, verdict)
            if verdict is Verdict.ERROR:
                return self.failed(policy, first_problem(*lists))
            if verdict is Verdict.MATCH:
                return self._matched(policy, lists)
            if policy.decision == "allow":
                self._missed.append(lists)
        return None

    def failed(self, policy: Policy, problem: str) -> Judged:
        self.trace.append({"policy": policy.name, "policy_id": policy.id, "verdict": "error", "problem": problem})
        message = "A rule of this application could not be evaluated, so access is refused. Tell its administrator."
        return Judged(False, Outcome.ERROR, "policy_error", message, policy.id, policy.name, trace=self.trace)

    def nothing_matched(self) -> Judged:
        reason, message = refusal(self._missed, self.context.person)
        return Judged(False, Outcome.NO_MATCH, reason, message, trace=self.trace)

    def _matched(self, policy: Policy, lists: tuple[ListResult, ListResult, ListResult]) -> Judged:
        outcome = evaluation._OUTCOMES[policy.decision]
        reason, message = evaluation._REASONS[outcome]
        if outcome is Outcome.DENY:
            message = blocked(lists) or message
        seconds = approved = None
        if outcome is Outcome.ALLOW:
            missing = self._missing_consent(policy)
            if missing is not None:
                return missing
            seconds = policy.session_duration_seconds
            approved = self.context.approvals.get(policy.id) if policy.terms.needs_approval else None
        allowed = outcome is not Outcome.DENY
        names = (policy.id, policy.name)
        return Judged(allowed, outcome, reason, message, *names, seconds, self.trace, policy.terms, approved)

    def _missing_consent(self, policy: Policy) -> Judged | None:
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
        return Judged(False, Outcome.NO_MATCH, reason, message, *names, None, self.trace, policy.terms)

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
            answer = ask(rule, self.context, asks_person=asks_person)
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
        verdict = combine(*lists)
        problem = first_problem(*lists) if verdict is Verdict.ERROR else ""
        result = RuleResult(rule, verdict, group.name, problem, group.name, blamed=blame(lists))
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
        for entry in trace_entries(lists):
            self.trace.append({**base, **entry})
