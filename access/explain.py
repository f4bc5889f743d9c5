"""Results of rules, how they combine, and the sentence a refused person reads. Pure.

The sentence names the person's own fact ("Your country (FR) …"), never what the policy wants: that would tell
strangers which address or group to steal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from access.selectors import Person, Rule


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

_NO_POLICY = ("no_policy_matches", "None of this application's policies lets you in. Ask its administrator.")
# Selector -> reason code, sentence when a wanted value was missed, sentence when an excluded value was met.
_SENTENCES: dict[str, tuple[str, str, str]] = {
    "geo": (
        "country_not_allowed",
        "Your country ({actual}) is not one of those this application requires.",
        "Your country ({actual}) is excluded from this application.",
    ),
    "ip": (
        "ip_not_allowed",
        "Your address ({actual}) is not in the networks this application requires.",
        "Your address ({actual}) is in a network excluded from this application.",
    ),
    "email": (
        "email_not_allowed",
        "Your e-mail address ({actual}) is not on this application's list.",
        "Your e-mail address ({actual}) is excluded from this application.",
    ),
    "okta": (
        "group_not_allowed",
        "You are not in a group this application requires. Groups are read at login: log in again after a change.",
        "You are in a group excluded from this application.",
    ),
    "login_method": (
        "login_method_not_allowed",
        "You logged in with a method this application does not accept. Log in with another one.",
        "You logged in with a method excluded from this application. Log in with another one.",
    ),
    "service_token": (
        "service_token_not_allowed",
        "This application requires a service token that was not shown.",
        "This service token is excluded from this application.",
    ),
    "auth_method": (
        "authentication_method_not_allowed",
        "This application requires another way of logging in, such as a second factor. You used: {actual}.",
        "The way you logged in ({actual}) is excluded from this application.",
    ),
    "certificate": (
        "certificate_required",
        "This application requires a client certificate that was not shown, or another one.",
        "This client certificate is excluded from this application.",
    ),
    "external_evaluation": (
        "external_evaluation_refused",
        "A check that this application's administrator runs outside of Sallyport did not let you in.",
        "A check that this application's administrator runs outside of Sallyport excluded you.",
    ),
    "linked_app_token": (
        "linked_token_required",
        "This application requires a token of another application that was not shown.",
        "Access with a token of that application is excluded here.",
    ),
}
_SAME_SENTENCE = {
    "email_domain": "email",
    "email_list": "email",
    "ip_list": "ip",
    "oidc": "okta",
    "azureAD": "okta",
    "github-organization": "okta",
    "gsuite": "okta",
    "saml": "okta",
    "any_valid_service_token": "service_token",
    "common_name": "certificate",
}


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


def without_person(*, has_allow: bool, has_service_auth: bool, has_token: bool) -> tuple[str, str]:
    """Reason and message when nobody is logged in and no bypass or service-auth policy matched."""
    if has_token:
        return "service_token_not_allowed", "This service token is valid, but no policy of this application accepts it."
    if has_allow:
        return "login_required", "Log in to reach this application."
    if has_service_auth:
        return "service_token_required", "This application is for machines: it accepts service tokens only."
    return _NO_POLICY


def refusal(missed: Sequence[Lists], person: Person | None) -> tuple[str, str]:
    """Reason and message from the allow policies that did not match: the one that came nearest speaks."""
    if not missed:
        return _NO_POLICY
    nearest = next((lists for lists in missed if _includes(lists)), missed[0])
    result, excluded = blame(nearest)
    if result is None:
        return _NO_POLICY
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
    if len(subjects) != 1 or not subjects <= _SENTENCES.keys():
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
    return _SAME_SENTENCE.get(result.rule.selector, result.rule.selector)


def _sentence(result: RuleResult, *, excluded: bool) -> tuple[str, str]:
    known = _SENTENCES.get(_subject(result))
    if known is None:
        return _NO_POLICY
    reason, missed, met = known
    return reason, (met if excluded else missed).format(actual=result.actual)
