"""The sentence a refused person reads. Pure.

The sentence names the person's own fact ("Your country (FR) …"), never what the policy wants: that would tell
strangers which address or group to steal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from access.judging import Judge, is_group
from access.rulesets import MATCH, MISS, RuleList, RuleLists
from access.selectors import Rule

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


def without_person(*, has_allow: bool, has_service_auth: bool, has_token: bool) -> tuple[str, str]:
    """Reason and message when nobody is logged in and no bypass or service-auth policy matched."""
    if has_token:
        return "service_token_not_allowed", "This service token is valid, but no policy of this application accepts it."
    if has_allow:
        return "login_required", "Log in to reach this application."
    if has_service_auth:
        return "service_token_required", "This application is for machines: it accepts service tokens only."
    return _NO_POLICY


@dataclass(frozen=True, slots=True)
class Blame:
    """The leaf rule that decided, and whether it is one that had to be missed. None when no single rule did."""

    rule: Rule | None
    excluded: bool = False

    @property
    def subject(self) -> tuple[str, bool] | None:
        return None if self.rule is None else (_subject(self.rule), self.excluded)


class Explainer:
    """Says why lists that were judged did not match; each group is looked into once."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self._groups: dict[str, Blame] = {}

    def refusal(self, missed: Sequence[RuleLists]) -> tuple[str, str]:
        """Reason and message from the allow policies that did not match: the one that came nearest speaks."""
        if not missed:
            return _NO_POLICY
        nearest = next((lists for lists in missed if self.judge.includes(lists)), missed[0])
        blame = self._blame(nearest)
        person = self.judge.context.person
        if person is not None and person.email_verified is not True and blame.subject == ("email", False):
            return (
                "email_not_verified",
                "Your login method did not confirm your e-mail address, so rules on e-mail cannot match.",
            )
        return self._sentence(blame)

    def blocked(self, lists: RuleLists) -> str:
        """The sentence for a block policy that matched, when one kind of rule alone made it match."""
        asked = (rule for rule in lists.include.rules if self.judge.answer(rule) == MATCH and not is_group(rule))
        first = next(asked, None)
        if (
            first is None
            or _subject(first) not in _SENTENCES
            or any(_subject(rule) != _subject(first) for rule in asked)
        ):
            return ""
        return self._sentence(Blame(first, excluded=True))[1]

    def _blame(self, lists: RuleLists) -> Blame:
        judge = self.judge
        if not judge.includes(lists):
            return self._blame_all(lists.include)
        for rule in lists.exclude.rules:
            if judge.answer(rule) == MATCH:
                return Blame(None if is_group(rule) else rule, excluded=True)
        for rule in lists.require.rules:
            if judge.answer(rule) == MISS:
                return self._blame_one(rule)
        return Blame(None)

    def _blame_all(self, listed: RuleList) -> Blame:
        """Nothing of the list matched: the first rule speaks for all of them when they are about the same thing."""
        subjects: set[tuple[str, bool] | None] = {Blame(bucket.sample).subject for bucket in listed.buckets}
        for group_id in listed.groups:
            if len(subjects) > 1:
                break
            subjects.add(self._blame_group(group_id).subject)
        return self._blame_one(listed.rules[0]) if len(subjects) == 1 else Blame(None)

    def _blame_one(self, rule: Rule) -> Blame:
        return self._blame_group(rule.value) if is_group(rule) else Blame(rule)

    def _blame_group(self, group_id: str) -> Blame:
        if group_id not in self._groups:
            self._groups[group_id] = self._blame(self.judge.groups[group_id].lists)
        return self._groups[group_id]

    def _sentence(self, blame: Blame) -> tuple[str, str]:
        known = _SENTENCES.get(_subject(blame.rule)) if blame.rule is not None else None
        if known is None or blame.rule is None:
            return _NO_POLICY
        reason, missed, met = known
        return reason, (met if blame.excluded else missed).format(actual=self.judge.shown(blame.rule))


def _subject(rule: Rule) -> str:
    return _SAME_SENTENCE.get(rule.selector, rule.selector)
