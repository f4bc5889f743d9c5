"""Saved tests of applications: run them, and hold back a change after which one of them fails.

The guard runs inside the action's transaction, after the rows have changed and before it commits: what is asked is
exactly what would be saved, and a refusal rolls everything back.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils import timezone

from access.decisions import load_rules
from access.evaluation import Decision, Group, Outcome, Policy
from access.facts import rules_in
from access.models import AccessList, Application, ApplicationPolicy, SavedTest
from access.models import Group as GroupRow
from access.models import Policy as PolicyRow
from access.questions import Asked, Question, answer, ask
from access.rule_store import group_of, policy_of
from access.selectors import EXTERNAL, GROUP, LIST_TYPES, Rule
from accounts.errors import Conflict, DomainError, InvalidInput
from accounts.models import Organization

MAX_REASON = 500


@dataclass(frozen=True)
class TestRun:
    test: SavedTest
    passed: bool
    message: str
    decision: Decision | None = None

    __test__ = False  # not a test case, whatever pytest makes of the name


class SavedTestsFailed(Conflict):
    code = "saved_tests_failed"


def run_tests(
    tests: Iterable[SavedTest],
    policies: Sequence[Policy],
    groups: dict[str, Group],
    *,
    providers: Collection[str] = (),
) -> list[TestRun]:
    """`tests` of one application, with their organization loaded. A test that cannot be asked has failed. `providers`:
    ids of the login methods that the application takes, none for all."""
    return [_run(test, policies, groups, providers) for test in tests]


def run_application(application: Application) -> list[TestRun]:
    """All tests of an application against what is saved."""
    tests = list(application.saved_tests.select_related("organization"))
    if not tests:
        return []
    providers = {str(pk) for pk in application.allowed_providers.values_list("pk", flat=True)}
    return run_tests(tests, *load_rules(application), providers=providers)


def _run(test: SavedTest, policies: Sequence[Policy], groups: dict[str, Group], providers: Collection[str]) -> TestRun:
    try:
        asked = ask(test.organization, Question.stored(test.question))
    except (DomainError, TypeError) as error:
        return TestRun(test, False, f"It cannot be asked any more: {error}")
    decision = answer(policies, groups, asked, now=timezone.now(), organization=test.organization)
    if decision.outcome is Outcome.ERROR:
        return TestRun(test, False, _why_undecided(asked, policies, groups), decision)
    provider_id = asked.context.person.provider_id if asked.context.person is not None else ""
    if decision.outcome is Outcome.ALLOW and providers and provider_id and provider_id not in providers:
        message = "This application does not take their login method."
        decision = replace(
            decision, allowed=False, outcome=Outcome.DENY, reason="login_method_not_allowed", message=message
        )
    passed = decision.allowed is (test.expected == SavedTest.Expected.ALLOW)
    said = f'allowed by "{decision.policy_name}"' if decision.allowed else f"refused ({decision.reason})"
    return TestRun(test, passed, f"{asked.label} is {said}.", decision)


def _why_undecided(asked: Asked, policies: Sequence[Policy], groups: dict[str, Group]) -> str:
    asks_outside = any(rule.selector == EXTERNAL for rule in rules_in(policies, groups))
    if asks_outside and asked.external is None and asked.context.person is not None:
        return "An external service has a say in it, and is not asked here: say in the test what it answers."
    return "The policies cannot be evaluated for it."


# --- holding back changes -------------------------------------------------------------------------------------
def guard(applications: Iterable[Application], *, override_reason: str = "") -> dict[str, Any]:
    """Run the tests of these applications on the rows as they are now in this transaction.

    Raises SavedTestsFailed when one fails and no reason to go on was given; with a reason returns what the action
    adds to its audit event.
    """
    failed = [run for application in applications for run in run_application(application) if not run.passed]
    if not failed:
        return {}
    reason = checked_reason(override_reason)
    if not reason:
        names = "; ".join(f'"{run.test.name}" ({run.test.application.name}): {run.message}' for run in failed[:5])
        more = f" And {len(failed) - 5} more." if len(failed) > 5 else ""
        message = f"Nothing was saved, because saved tests would fail. {names}{more} Give a reason to save it anyway."
        raise SavedTestsFailed(message, fields={"override_reason": message})
    return {"override_reason": reason, "overridden_tests": [run.test.name for run in failed[:100]]}


def guard_policy(policy: PolicyRow, *, override_reason: str = "") -> dict[str, Any]:
    """`guard` for the applications the policy is attached to."""
    return guard(_tested(policy.organization).filter(policy_links__policy=policy), override_reason=override_reason)


def guard_group(organization: Organization, group_id: uuid.UUID, *, override_reason: str = "") -> dict[str, Any]:
    """`guard` for the applications whose policies reach the group, directly or through other groups."""
    affected = {row.pk for row in applications_using(organization, group_id)}
    return guard(_tested(organization).filter(pk__in=affected), override_reason=override_reason)


def guard_list(row: AccessList, *, override_reason: str = "") -> dict[str, Any]:
    """`guard` for the applications whose policies reach the list, directly or through groups."""
    if not _tested(row.organization).exists():
        return {}
    wanted = str(row.pk)
    affected = _applications(row.organization, lambda rule: rule.selector in LIST_TYPES and rule.value == wanted)
    tested = _tested(row.organization).filter(pk__in={application.pk for application in affected})
    return guard(tested, override_reason=override_reason)


def applications_using(organization: Organization, group_id: uuid.UUID) -> list[Application]:
    """Applications whose policies reach the group."""
    wanted = str(group_id)
    return _applications(organization, lambda rule: rule.selector == GROUP and rule.value == wanted)


def _applications(organization: Organization, is_wanted: Callable[[Rule], bool]) -> list[Application]:
    """Applications whose policies reach such a rule, also through groups. Two queries, however many there are."""
    groups = {str(row.pk): group_of(row) for row in GroupRow.objects.for_organization(organization)}
    links = ApplicationPolicy.objects.filter(application__organization=organization)
    found: dict[uuid.UUID, Application] = {}
    for link in links.select_related("policy", "application").order_by("application__name", "precedence"):
        if link.application_id not in found and any(map(is_wanted, rules_in([policy_of(link)], groups))):
            found[link.application_id] = link.application
    return list(found.values())


def checked_reason(text: str) -> str:
    clean = text.strip()
    if len(clean) > MAX_REASON or not clean.isprintable():
        message = f"A reason has at most {MAX_REASON} printable characters."
        raise InvalidInput(message, fields={"override_reason": message})
    return clean


def _tested(organization: Organization) -> Any:
    return Application.objects.for_organization(organization).filter(saved_tests__isnull=False).distinct()
