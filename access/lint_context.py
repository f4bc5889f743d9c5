"""What lint needs from the database, and findings for pages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from access.lint import Finding, Lists, Surroundings, check_application, check_group, check_policy
from access.models import Application, Group, Policy
from access.rules import group_ids
from accounts.models import IdentityProvider, Organization


def surroundings(organization: Organization, *subjects: Lists) -> Surroundings:
    """What the rules of these subjects lead to: an organization's other groups need not be read."""
    pins = IdentityProvider.objects.for_organization(organization).filter(type=IdentityProvider.Type.ONE_TIME_PIN)
    return Surroundings(
        groups=_groups_below(organization, subjects),
        pin_providers=frozenset(str(pk) for pk in pins.values_list("pk", flat=True)),
    )


def _groups_below(organization: Organization, subjects: Iterable[Lists]) -> dict[str, Lists]:
    """Groups that the subjects name, and those that these name: one query per level of nesting."""
    found: dict[str, Lists] = {}
    asked: set[str] = set()
    wanted = {name for subject in subjects for name in group_ids(subject.include, subject.require, subject.exclude)}
    while wanted:
        asked |= wanted
        rows = Group.objects.for_organization(organization).filter(pk__in=filter(_is_uuid, wanted))
        level = {str(row.pk): Lists(row.include, row.require, row.exclude, row.name, id=str(row.pk)) for row in rows}
        found |= level
        named = (group_ids(lists.include, lists.require, lists.exclude) for lists in level.values())
        wanted = {name for names in named for name in names} - asked
    return found


def _is_uuid(text: str) -> bool:
    try:
        return bool(UUID(text))
    except ValueError:
        return False


def policy_lists(policy: Policy) -> Lists:
    return Lists(policy.include, policy.require, policy.exclude, policy.name, policy.decision, str(policy.pk))


def findings_of_application(application: Application, policies: Sequence[Policy]) -> list[list[Finding]]:
    """For each of the application's policies, given in their order."""
    subjects = [policy_lists(policy) for policy in policies]
    return check_application(subjects, surroundings(application.organization, *subjects))


def findings_of_edit(
    organization: Organization,
    rules: Mapping[str, Sequence[Any]],
    *,
    decision: str,
    application: Application | None = None,
    policy: Policy | None = None,
) -> list[Finding]:
    """For a policy in a form: at its place in the application, or at the end when it is new."""
    edited = Lists(
        rules["include"],
        rules["require"],
        rules["exclude"],
        policy.name if policy else "",
        decision,
        str(policy.pk) if policy else "new",
    )
    if application is None:
        return check_policy(edited, surroundings(organization, edited))
    links = application.policy_links.select_related("policy").order_by("precedence")
    order = [edited if policy and link.policy_id == policy.pk else policy_lists(link.policy) for link in links]
    if edited not in order:
        order.append(edited)
    return check_application(order, surroundings(organization, *order))[order.index(edited)]


def findings_of_group(
    organization: Organization, rules: Mapping[str, Sequence[Any]], *, group: Group | None = None
) -> list[Finding]:
    identifier = str(group.pk) if group else ""
    edited = Lists(rules["include"], rules["require"], rules["exclude"], group.name if group else "", id=identifier)
    around = surroundings(organization, edited)
    groups = {**around.groups, identifier: edited} if group else around.groups
    return check_group(edited, Surroundings(groups, around.pin_providers))
