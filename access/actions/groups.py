"""Access groups: create, change, delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction

from access import events
from access.models import Group, Policy
from access.rule_search import mentioning
from access.rules import MAX_NAME, check_rules, group_ids
from access.saved_tests import guard_group
from accounts import audit
from accounts.actions.deletions import keep_deleted
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput, NotFound
from accounts.models import DeletedObject, Organization

Rules = Sequence[Any]


@transaction.atomic
def create_group(
    organization: Organization,
    *,
    actor: Actor,
    name: str,
    include: Rules,
    require: Rules = (),
    exclude: Rules = (),
    is_default: bool = False,
    key: UUID | None = None,
) -> Group:
    """`key`: the id it had, when its deletion is undone."""
    lists = check_rules(organization, include, require, exclude)
    group = Group(pk=key or uuid4(), organization=organization, name=checked_name(name), is_default=is_default)
    group.include, group.require, group.exclude = lists
    _save(group)
    audit.record(events.GROUP_CREATED, organization=organization, actor=actor, target=group, new=_facts(group))
    return group


@transaction.atomic
def update_group(
    group: Group,
    *,
    actor: Actor,
    name: str | None = None,
    include: Rules | None = None,
    require: Rules | None = None,
    exclude: Rules | None = None,
    is_default: bool | None = None,
    override_reason: str = "",
) -> Group:
    """None keeps a value. The organization's row is locked: two changes cannot close a loop between them.
    `override_reason`: why to go on although saved tests fail (access/saved_tests.py)."""
    organization = Organization.objects.select_for_update(no_key=True).get(pk=group.organization_id)
    group = Group.objects.for_organization(organization).get(pk=group.pk)
    old = _facts(group)
    if name is not None:
        group.name = checked_name(name)
    if is_default is not None:
        group.is_default = is_default
    group.include, group.require, group.exclude = check_rules(
        organization,
        group.include if include is None else include,
        group.require if require is None else require,
        group.exclude if exclude is None else exclude,
        group=group,
    )
    _save(group)
    overruled = guard_group(organization, group.pk, override_reason=override_reason)
    new = {**_facts(group), **overruled}
    audit.record(events.GROUP_UPDATED, organization=organization, actor=actor, target=group, old=old, new=new)
    return group


@transaction.atomic
def delete_group(group: Group, *, actor: Actor) -> DeletedObject:
    """Refused while a policy or another group uses it: its rules would become errors."""
    organization = Organization.objects.select_for_update(no_key=True).get(pk=group.organization_id)
    current = Group.objects.for_organization(organization).filter(pk=group.pk).first()
    if current is None:
        raise NotFound("The group was deleted meanwhile.")
    group = current  # with rules that were taken out of it since it was read: undoing must not bring those back
    obstacle = obstacle_to_deleting(group)
    if obstacle:
        raise Conflict(obstacle, code="group_in_use")
    kept = keep_deleted("group", organization, key=group.pk, name=group.name, document=_facts(group), actor=actor)
    audit.delete(group)
    audit.record(events.GROUP_DELETED, organization=organization, actor=actor, target=group, old=_facts(group))
    return kept


def obstacle_to_deleting(group: Group) -> str:
    """What has to be done first, for people; empty if nothing."""
    users = users_of(group)
    return f"The group is used by {', '.join(users[:5])}. Take it out there first." if users else ""


def users_of(group: Group) -> list[str]:
    """Names of the policies and groups that use `group` directly, for people."""
    wanted = str(group.pk)
    policies = mentioning(Policy.objects.for_organization(group.organization), wanted)
    groups = mentioning(Group.objects.for_organization(group.organization), wanted).exclude(pk=group.pk)
    return [
        *(f'policy "{row.name}"' for row in policies if wanted in group_ids(row.include, row.require, row.exclude)),
        *(f'group "{row.name}"' for row in groups if wanted in group_ids(row.include, row.require, row.exclude)),
    ]


def checked_name(name: str) -> str:
    """A name as people type it, without surrounding blanks. Raises InvalidInput."""
    clean = name.strip()
    if not clean or len(clean) > MAX_NAME or not clean.isprintable():
        message = f"A name needs 1 to {MAX_NAME} printable characters."
        raise InvalidInput(message, code="invalid_name", fields={"name": message})
    return clean


def _save(group: Group) -> None:
    try:
        with transaction.atomic():
            group.save()
    except IntegrityError as error:
        message = f'There is already a group named "{group.name}".'
        raise Conflict(message, code="group_name_taken", fields={"name": message}) from error


def _facts(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "include": group.include,
        "require": group.require,
        "exclude": group.exclude,
        "is_default": group.is_default,
    }
