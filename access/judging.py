"""Verdicts of rule lists about one request. Pure; says yes or no, and what is needed to say why afterwards.

Every rule is asked, so the result does not depend on the order of a list, and one rule that cannot be answered makes
the whole list an error: a rule is never skipped (AC-81). Each fact is looked up once, each group judged once.
"""

from __future__ import annotations

from collections.abc import Mapping

from access.rulesets import ERROR, EXCLUDE, INCLUDE, MATCH, MISS, REQUIRE, Group, RuleLists, Scope, fact_of
from access.selectors import GROUP, SELECTORS, Context, Held, Rule, RuleError

# Longest chain of groups inside groups.
MAX_GROUP_DEPTH = 10
_ERRORS = ERROR << INCLUDE | ERROR << REQUIRE | ERROR << EXCLUDE
_HINDRANCES = MISS << REQUIRE | MATCH << EXCLUDE
_LOOP = "Access groups contain each other in a loop."
_TOO_DEEP = f"Access groups are nested deeper than {MAX_GROUP_DEPTH}."
NAMES = {MATCH: "match", MISS: "no_match", ERROR: "error"}


class Judge:
    """The answers about one request, in one phase: before anyone logs in (`asks_person` false) or after."""

    def __init__(self, groups: Mapping[str, Group], context: Context, *, asks_person: bool) -> None:
        self.groups = groups
        self.context = context
        self.asks_person = asks_person
        self._held: dict[Scope, Held | None] = {}
        self._shown: dict[Scope, str] = {}
        # Why a fact cannot be known.
        self._problems: dict[Scope, str] = {}
        # Groups that could be looked into: their answers, and the longest chain of groups from each.
        self._answers: dict[str, int] = {}
        self._heights: dict[str, int] = {}
        # Groups that could not, and why.
        self._closed: dict[str, str] = {}
        # The groups being looked into, outermost first.
        self._path: list[str] = []

    def verdict(self, lists: RuleLists) -> int:
        """Any include, every require, no exclude; an unanswered rule anywhere is an error. Empty include: nobody."""
        found = self._bits(lists)
        if found & _ERRORS:
            return ERROR
        return MATCH if found & MATCH << INCLUDE and not found & _HINDRANCES else MISS

    def includes(self, lists: RuleLists) -> bool:
        """Whether an include rule matches, whatever the other lists say."""
        return bool(self._bits(lists) & MATCH << INCLUDE)

    def _bits(self, lists: RuleLists) -> int:
        """The answers that occur in each list."""
        found = ERROR if lists.is_broken else 0
        for place, (scope, sample, wanted) in lists.buckets:
            held = self._held[scope] if scope in self._held else self._look_up(scope, sample)
            if held is None:
                found |= ERROR
            elif wanted.isdisjoint(held):
                found |= MISS << place
            else:
                found |= (MATCH if wanted <= held else MATCH | MISS) << place
        for place, group_id in lists.inner:
            found |= (self._answers.get(group_id) or self._group(group_id)) << place
        return found

    def answer(self, rule: Rule) -> int:
        """Of one rule. Only for rules of lists that were judged."""
        if is_group(rule):
            return self._answers.get(rule.value) or self._group(rule.value)
        try:
            scope, key = fact_of(rule)
        except RuleError:
            return ERROR
        held = self._look_up(scope, rule)
        return ERROR if held is None else MATCH if key in held else MISS

    def is_open(self, group_id: str) -> bool:
        """Whether a group could be looked into."""
        return group_id in self._answers

    def group_of(self, rule: Rule) -> Group | None:
        """The group that a rule names, when it could be looked into."""
        return self.groups[rule.value] if is_group(rule) and self.is_open(rule.value) else None

    def shown(self, rule: Rule) -> str:
        """The fact that a rule was compared with, for people; "" when it cannot be known."""
        try:
            scope, _ = fact_of(rule)
        except RuleError:
            return ""
        if scope not in self._shown:
            known = self._look_up(scope, rule) is not None
            self._shown[scope] = SELECTORS[rule.selector].shown(rule, self.context) if known else ""
        return self._shown[scope]

    def problem(self, rule: Rule) -> str:
        """Why a rule cannot be answered; "" when it can."""
        if is_group(rule):
            group = self.group_of(rule)
            return self.first_problem(group.lists) if group is not None else self._closed[rule.value]
        try:
            scope, _ = fact_of(rule)
        except RuleError as error:
            return str(error)
        return self._problems.get(scope, "")

    def first_problem(self, lists: RuleLists) -> str:
        rules = (rule for _, listed in lists.named() for rule in listed.rules)
        return next((self.problem(rule) for rule in rules if self.answer(rule) == ERROR), "")

    # --- facts
    def _look_up(self, scope: Scope, rule: Rule) -> Held | None:
        """None, with a problem noted, for a fact that cannot be known."""
        if scope in self._held:
            return self._held[scope]
        held: Held | None = None
        try:
            selector = SELECTORS[rule.selector]
            if selector.needs_person and not self.asks_person:
                raise RuleError(
                    f'"{rule.selector}" asks about a person, which bypass and service-auth policies never do.'
                )
            held = selector.held(rule, self.context)
        except RuleError as error:
            self._problems[scope] = str(error)
        except Exception as error:  # noqa: BLE001 - whatever a selector meets, the answer is "refuse" (AC-81)
            self._problems[scope] = f"{type(error).__name__} while evaluating the rule."
        self._held[scope] = held
        return held

    # --- groups
    def _group(self, group_id: str) -> int:
        """A loop, a gap or too long a chain anywhere below closes the group that a policy names; inside it raises
        RuleError."""
        if self._path:
            return self._judge(group_id)
        if group_id not in self._closed:
            try:
                return self._judge(group_id)
            except RuleError as error:
                self._path.clear()
                self._closed[group_id] = str(error)
        return ERROR

    def _judge(self, group_id: str) -> int:
        path = self._path
        if len(path) >= MAX_GROUP_DEPTH:
            # A loop ends here as well, having gone round.
            raise RuleError(_LOOP if group_id in path else _TOO_DEEP)
        group = self.groups.get(group_id)
        if group is None:
            raise RuleError("An access group named by a rule does not exist.")
        path.append(group_id)
        answer = self.verdict(group.lists)
        path.pop()
        height = 1
        if group.lists.groups:
            height += max([self._heights[inner] for inner in group.lists.groups])
            if len(path) + height > MAX_GROUP_DEPTH:
                raise RuleError(_TOO_DEEP)
        self._answers[group_id] = answer
        self._heights[group_id] = height
        return answer


def is_group(rule: Rule) -> bool:
    return rule.selector == GROUP and not rule.problem
