"""What lint needs from the database, and findings for pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from access.lint import Finding, Lists, Surroundings, check_application, check_group, check_policy
from access.models import Application, Group, Policy
from accounts.models import IdentityProvider, Organization


def surroundings(organization: Organization) -> Surroundings:
    pins = IdentityProvider.objects.for_organization(organization).filter(type=IdentityProvider.Type.ONE_TIME_PIN)
    groups = Group.objects.for_organization(organization)
    return Surroundings(
        groups={str(row.pk): Lists(row.include, row.require, row.exclude, row.name, id=str(row.pk)) for row in groups},
        pin_providers=frozenset(str(pk) for pk in pins.values_list("pk", flat=True)),
    )


def policy_lists(policy: Policy) -> Lists:
    return Lists(policy.include, policy.require, policy.exclude, policy.name, policy.decision, str(policy.pk))


def findings_of_application(application: Application, policies: Sequence[Policy]) -> list[list[Finding]]:
    """For each of the application's policies, given in their order."""
    return check_application([policy_lists(policy) for policy in policies], surroundings(application.organization))


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
    around = surroundings(organization)
    if application is None:
        return check_policy(edited, around)
    links = application.policy_links.select_related("policy").order_by("precedence")
    order = [edited if policy and link.policy_id == policy.pk else policy_lists(link.policy) for link in links]
    if edited not in order:
        order.append(edited)
    return check_application(order, around)[order.index(edited)]


def findings_of_group(
    organization: Organization, rules: Mapping[str, Sequence[Any]], *, group: Group | None = None
) -> list[Finding]:
    around = surroundings(organization)
    identifier = str(group.pk) if group else ""
    edited = Lists(rules["include"], rules["require"], rules["exclude"], group.name if group else "", id=identifier)
    groups = {**around.groups, identifier: edited} if group else around.groups
    return check_group(edited, Surroundings(groups, around.pin_providers))
