"""Lists of e-mail addresses and IP ranges that rules refer to: create, change, delete."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction

from access import events
from access.actions.groups import checked_name
from access.models import AccessList, Group, Policy
from access.rule_search import mentioning
from access.rules import named_ids
from access.saved_tests import guard_list
from access.selectors import LIST_TYPES
from accounts import audit
from accounts.actions.deletions import keep_deleted
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput, NotFound
from accounts.models import DeletedObject, Organization
from accounts.text import ascii_lower

MAX_ITEMS = 5000
MAX_DESCRIPTION = 500
_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+")
Items = Sequence[Mapping[str, Any]]


@transaction.atomic
def create_list(
    organization: Organization,
    *,
    actor: Actor,
    name: str,
    type: str,  # noqa: A002 - the field's name
    items: Items = (),
    description: str = "",
    key: UUID | None = None,
) -> AccessList:
    """`items`: [{"value": ..., "description": ...}]; values are checked and unique. `key`: the id it had, when its
    deletion is undone."""
    if type not in AccessList.Type.values:
        message = f"A list holds {' or '.join(AccessList.Type.values)} entries."
        raise InvalidInput(message, code="invalid_list_type", fields={"type": message})
    row = AccessList(pk=key or uuid4(), organization=organization, name=checked_name(name), type=type)
    row.description, row.items = _checked_description(description), checked_items(type, items)
    _save(row)
    audit.record(events.LIST_CREATED, organization=organization, actor=actor, target=row, new=_facts(row))
    return row


@transaction.atomic
def update_list(
    row: AccessList,
    *,
    actor: Actor,
    name: str | None = None,
    description: str | None = None,
    items: Items | None = None,
    append: Items = (),
    remove: Iterable[str] = (),
    override_reason: str = "",
) -> AccessList:
    """None keeps a value. `append` and `remove` change entries one by one; the type never changes.
    `override_reason`: why to go on although saved tests fail (access/saved_tests.py)."""
    organization = row.organization
    row = AccessList.objects.for_organization(organization).select_for_update(no_key=True).get(pk=row.pk)
    old = _facts(row)
    row.name = row.name if name is None else checked_name(name)
    row.description = row.description if description is None else _checked_description(description)
    gone = {_compared(row.type, value) for value in remove}
    before = row.items if items is None else items
    kept = [item for item in before if _compared(row.type, item.get("value")) not in gone]
    present = {_compared(row.type, item.get("value")) for item in kept}
    added = [item for item in append if _compared(row.type, item.get("value")) not in present]
    row.items = checked_items(row.type, [*kept, *added])
    _save(row)
    new = {**_facts(row), **guard_list(row, override_reason=override_reason)}
    audit.record(events.LIST_UPDATED, organization=organization, actor=actor, target=row, old=old, new=new)
    return row


@transaction.atomic
def delete_list(row: AccessList, *, actor: Actor) -> DeletedObject:
    """Refused while a policy or group uses it: its rules would become errors."""
    organization = Organization.objects.select_for_update(no_key=True).get(pk=row.organization_id)
    current = AccessList.objects.for_organization(organization).select_for_update(no_key=True).filter(pk=row.pk).first()
    if current is None:
        raise NotFound("The list was deleted meanwhile.")
    row = current  # undoing must not bring back entries that were removed since it was read
    users = users_of(row)
    if users:
        raise Conflict(f"The list is used by {', '.join(users[:5])}. Take it out there first.", code="list_in_use")
    document = {"type": row.type, "name": row.name, "items": row.items, "description": row.description}
    kept = keep_deleted("list", organization, key=row.pk, name=row.name, document=document, actor=actor)
    audit.delete(row)
    audit.record(events.LIST_DELETED, organization=organization, actor=actor, target=row, old=_facts(row))
    return kept


def users_of(row: AccessList) -> list[str]:
    """Names of the policies and groups that use the list, for people."""
    return users_of_lists(row.organization, [row.pk])[row.pk]


def users_of_lists(organization: Organization, ids: Sequence[UUID]) -> dict[UUID, list[str]]:
    """The same for many lists, with two queries however many policies and groups there are."""
    users: dict[UUID, list[str]] = {pk: [] for pk in ids}
    keys = {str(pk): pk for pk in ids}
    for policy in mentioning(Policy.objects.for_organization(organization), "_list", "approval_groups"):
        for named in keys.keys() & (_lists_of(policy) | approver_lists(policy)):
            users[keys[named]].append(f'policy "{policy.name}"')
    for group in mentioning(Group.objects.for_organization(organization), "_list"):
        for named in keys.keys() & _lists_of(group):
            users[keys[named]].append(f'group "{group.name}"')
    return users


def approver_lists(policy: Policy) -> set[str]:
    return {str(group["email_list_uuid"]) for group in policy.approval_groups if group.get("email_list_uuid")}


def checked_items(kind: str, items: Items) -> list[dict[str, str]]:
    """Raises InvalidInput naming the entry."""
    if len(items) > MAX_ITEMS:
        raise _invalid(f"A list holds at most {MAX_ITEMS} entries.")
    checked = [_checked_item(kind, item) for item in items]
    seen: set[str] = set()
    for item in checked:
        value = _compared(kind, item["value"])
        if value in seen:
            raise _invalid(f"{item['value']} is in the list twice.")
        seen.add(value)
    return checked


def _checked_item(kind: str, item: Mapping[str, Any]) -> dict[str, str]:
    value, description = item.get("value"), item.get("description") or ""
    if not isinstance(value, str) or not isinstance(description, str):
        raise _invalid('An entry is an object with a "value" and perhaps a "description", both texts.')
    value = value.strip()
    if kind == AccessList.Type.EMAIL and (len(value) > 254 or not _EMAIL.fullmatch(value)):
        raise _invalid(f"{value[:80]!r} is not one e-mail address.")
    if kind == AccessList.Type.IP:
        try:
            ipaddress.ip_network(value)
        except ValueError as error:
            raise _invalid(f"{value[:80]!r} is not an IP address or range such as 192.0.2.0/24 ({error}).") from error
    return {"value": value, **({"description": _checked_description(description)} if description else {})}


def _compared(kind: str, value: Any) -> str:
    text = str(value).strip()
    if kind == AccessList.Type.EMAIL:
        return ascii_lower(text)
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        return text


def _checked_description(text: str) -> str:
    clean = text.strip()
    if len(clean) > MAX_DESCRIPTION or not all(character.isprintable() for character in clean):
        raise _invalid(f"A description has at most {MAX_DESCRIPTION} printable characters.", "description")
    return clean


def _lists_of(holder: Policy | Group) -> set[str]:
    return named_ids([holder.include, holder.require, holder.exclude], *LIST_TYPES)


def _invalid(message: str, field: str = "items") -> InvalidInput:
    return InvalidInput(message, code="invalid_list", fields={field: message})


def _save(row: AccessList) -> None:
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError as error:
        message = f'There is already a list named "{row.name}".'
        raise Conflict(message, code="list_name_taken", fields={"name": message}) from error


def _facts(row: AccessList) -> dict[str, Any]:
    return {"name": row.name, "type": row.type, "description": row.description, "items": row.items}
