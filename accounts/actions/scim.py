"""SCIM's changes of users and groups: each locks its row, checks the version the client knows, and takes effect on
identities in the same transaction. The order of two changes of one person is the order in which they got the lock."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction

from accounts import audit, events, scim_rows
from accounts.actions import scim_effects as effects
from accounts.actor import Actor
from accounts.models import IdentityProvider, ScimGroup, ScimMembership, ScimUpdate, ScimUser
from accounts.scim.errors import ScimError, invalid_value
from accounts.scim.filters import Comparison
from accounts.scim.patch import Operation, apply_operation
from accounts.scim.resources import GroupValues, UserValues, read_group, read_members, read_user

_CHUNK = 500
KEEP_UPDATES = timedelta(days=90)


@transaction.atomic
def create_user(provider: IdentityProvider, values: UserValues, *, actor: Actor) -> ScimUser:
    user = ScimUser(organization=provider.organization, provider=provider)
    _set_user(user, values)
    _saved(user, "userName or externalId")
    effects.link_identity(user)
    ended = effects.apply_activity(user, provider)
    new = _user_facts(user) | {"sessions_ended": ended or 0}
    _record(events.SCIM_USER_CREATED, provider, actor, user, new=new, edges_learn=ended is not None)
    return user


@transaction.atomic
def change_user(
    provider: IdentityProvider,
    user_id: uuid.UUID,
    change: Callable[[ScimUser], UserValues],
    *,
    if_match: str,
    actor: Actor,
) -> ScimUser:
    """`change` gives the new values of the locked row. Nothing is written when nothing differs."""
    user = _locked_user(provider, user_id, if_match)
    old = _user_facts(user)
    before = _user_state(user)
    _set_user(user, change(user))
    if _user_state(user) == before:
        return user
    user.version += 1
    if (user.user_name, user.external_id) == (old["user_name"], old["external_id"]):
        scim_rows.store_user(user)
    else:
        _saved(user, "userName or externalId")
    was_linked = user.identity_id is not None
    effects.link_identity(user)
    regrouped = 0
    if not was_linked and user.identity_id is not None:
        regrouped = effects.apply_groups([user.pk], provider)
    ended = effects.apply_activity(user, provider)
    new = _user_facts(user) | {"sessions_ended": ended or 0}
    learn = regrouped > 0 or ended is not None
    _record(events.SCIM_USER_CHANGED, provider, actor, user, old=old, new=new, edges_learn=learn)
    return user


@transaction.atomic
def delete_user(provider: IdentityProvider, user_id: uuid.UUID, *, if_match: str, actor: Actor) -> None:
    user = _locked_user(provider, user_id, if_match)
    # Memberships before the identity, as changes of a group take them.
    were_members, _ = ScimMembership.objects.filter(user=user).delete()
    ended, regrouped = effects.apply_deletion(user, provider), 0
    if user.identity_id is not None and were_members:
        regrouped = effects.apply_groups([user.pk], provider)
    old, learn = _user_facts(user) | {"sessions_ended": ended or 0}, regrouped > 0 or ended is not None
    audit.delete(user)
    _record(events.SCIM_USER_DELETED, provider, actor, user, old=old, edges_learn=learn)


@transaction.atomic
def create_group(provider: IdentityProvider, values: GroupValues, *, actor: Actor) -> ScimGroup:
    group = ScimGroup(
        organization=provider.organization,
        provider=provider,
        display_name=values.display_name,
        external_id=values.external_id,
    )
    _saved(group, "displayName")
    members = _members(provider, values.members)
    _add_members(group, members)
    changed = effects.apply_groups(members, provider)
    new = _group_facts(group) | {"identities": changed}
    _record(events.SCIM_GROUP_CREATED, provider, actor, group, new=new, edges_learn=changed > 0)
    return group


@transaction.atomic
def replace_group(
    provider: IdentityProvider, group_id: uuid.UUID, values: GroupValues, *, if_match: str, actor: Actor
) -> ScimGroup:
    group = _locked_group(provider, group_id, if_match)
    return _change_group(provider, group, values, set(_members(provider, values.members)), actor)


@transaction.atomic
def patch_group(
    provider: IdentityProvider, group_id: uuid.UUID, operations: list[Operation], *, if_match: str, actor: Actor
) -> ScimGroup:
    """Members are added and removed as rows: a group of thousands is not read and written whole for one of them."""
    group = _locked_group(provider, group_id, if_match)
    document: dict[str, Any] = {"displayName": group.display_name, "externalId": group.external_id}
    members = _member_ids(group)
    for operation in operations:
        if operation.name == "members":
            members = _patched_members(provider, members, operation)
            continue
        if not operation.name and isinstance(operation.value, dict):
            for key, value in operation.value.items():
                if key.lower() == "members":
                    members = _patched_members(provider, members, Operation(operation.op, "members", None, "", value))
            rest = {key: value for key, value in operation.value.items() if key.lower() != "members"}
            operation = Operation(operation.op, "", None, "", rest)
        document = apply_operation(document, operation)
    return _change_group(provider, group, read_group(document), members, actor)


@transaction.atomic
def delete_group(provider: IdentityProvider, group_id: uuid.UUID, *, if_match: str, actor: Actor) -> None:
    group = _locked_group(provider, group_id, if_match)
    members, labels = _member_ids(group), effects.labels_of(group, provider)
    facts = _group_facts(group)
    identifier, name = group.pk, group.display_name
    group.delete()
    changed = effects.apply_groups(members, provider, gone=labels)
    group.pk, group.display_name = identifier, name
    old = facts | {"identities": changed}
    _record(events.SCIM_GROUP_DELETED, provider, actor, group, old=old, edges_learn=changed > 0)


def sweep_scim_updates(*, now: datetime) -> int:
    """The log of what SCIM clients asked; the audit log keeps what it changed."""
    rows = ScimUpdate.objects.all_organizations(reason="a sweeper").filter(created_at__lt=now - KEEP_UPDATES)
    return rows.delete()[0]


def patched_user(operations: list[Operation]) -> Callable[[ScimUser], UserValues]:
    def change(user: ScimUser) -> UserValues:
        document = user_document(user)
        for operation in operations:
            if operation.op == "remove" and operation.name == "active":
                raise ScimError(400, "active cannot be removed: set it to true or false.", "mutability")
            document = apply_operation(document, operation)
        return read_user(document)

    return change


def user_document(user: ScimUser) -> dict[str, Any]:
    """The attributes a client may change."""
    return {
        **user.resource,
        "userName": user.user_name,
        "active": user.active,
        **({"externalId": user.external_id} if user.external_id else {}),
    }


def _set_user(user: ScimUser, values: UserValues) -> None:
    user.user_name, user.external_id = values.user_name, values.external_id
    user.display_name, user.email = values.display_name, values.email
    user.active, user.resource = values.active, values.resource


def _saved(row: ScimUser | ScimGroup, what: str) -> None:
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError as error:
        raise ScimError(409, f"Another resource has this {what}.", "uniqueness") from error


def _change_group(
    provider: IdentityProvider, group: ScimGroup, values: GroupValues, members: set[uuid.UUID], actor: Actor
) -> ScimGroup:
    old, labels, before = _group_facts(group), effects.labels_of(group, provider), _member_ids(group)
    is_renamed = (values.display_name, values.external_id) != (group.display_name, group.external_id)
    touched = before ^ members
    if not is_renamed and not touched:
        return group
    group.display_name, group.external_id = values.display_name, values.external_id
    group.version += 1
    _saved(group, "displayName")
    gone = list(before - members)
    for start in range(0, len(gone), _CHUNK):
        ScimMembership.objects.filter(group=group, user__in=gone[start : start + _CHUNK]).delete()
    _add_members(group, members - before)
    affected = before | members if is_renamed else touched
    changed = effects.apply_groups(affected, provider, gone=labels if is_renamed else ())
    new = _group_facts(group) | {
        "members_added": len(members - before),
        "members_removed": len(gone),
        "identities": changed,
    }
    _record(events.SCIM_GROUP_CHANGED, provider, actor, group, old=old, new=new, edges_learn=changed > 0)
    return group


def _patched_members(provider: IdentityProvider, members: set[uuid.UUID], operation: Operation) -> set[uuid.UUID]:
    if operation.op != "remove":
        added = set(_members(provider, read_members(operation.value)))
        return added if operation.op == "replace" and operation.filter is None else members | added
    if operation.filter is None:
        return members - set(_ids(read_members(operation.value))) if operation.value else set()
    chosen = operation.filter
    if not isinstance(chosen, Comparison) or (chosen.attribute, chosen.operator) != ("value", "eq"):
        raise ScimError(400, 'Members are chosen by members[value eq "<id>"].', "invalidFilter")
    return members - set(_ids([str(chosen.value)]))


def _members(provider: IdentityProvider, values: list[str]) -> list[uuid.UUID]:
    """Ids of people of this provider; anybody else's are as unknown as ones that never were."""
    wanted = _ids(values)
    if len(wanted) != len(values):
        raise invalid_value("A member's value is the id of a user.")
    known: set[uuid.UUID] = set()
    for start in range(0, len(wanted), _CHUNK):
        rows = ScimUser.objects.filter(provider=provider, pk__in=wanted[start : start + _CHUNK])
        known.update(rows.values_list("pk", flat=True))
    missing = [str(member) for member in wanted if member not in known]
    if missing:
        raise invalid_value(f"There is no user {missing[0]} here; create users before the groups they are in.")
    return wanted


def _ids(values: list[str]) -> list[uuid.UUID]:
    found = []
    for value in values:
        try:
            found.append(uuid.UUID(value))
        except ValueError:
            continue
    return found


def _add_members(group: ScimGroup, members: Collection[uuid.UUID]) -> None:
    rows = [ScimMembership(group=group, user_id=member) for member in members]
    ScimMembership.objects.bulk_create(rows, batch_size=_CHUNK)


def _member_ids(group: ScimGroup) -> set[uuid.UUID]:
    return set(ScimMembership.objects.filter(group=group).values_list("user_id", flat=True))


def _locked_user(provider: IdentityProvider, user_id: uuid.UUID, if_match: str) -> ScimUser:
    user = scim_rows.locked_user(provider, user_id)
    if user is None:
        raise ScimError(404, f"There is no user {user_id} here.")
    _check_version(user.version, if_match)
    return user


def _locked_group(provider: IdentityProvider, group_id: uuid.UUID, if_match: str) -> ScimGroup:
    group = ScimGroup.objects.select_for_update(no_key=True).filter(provider=provider, pk=group_id).first()
    if group is None:
        raise ScimError(404, f"There is no group {group_id} here.")
    _check_version(group.version, if_match)
    return group


def _check_version(version: int, if_match: str) -> None:
    """RFC 7644 section 3.14: a change made for an older version is refused, whichever arrives first."""
    known = {tag.strip().removeprefix("W/").strip('"') for tag in if_match.split(",")} if if_match else {"*"}
    if "*" not in known and str(version) not in known:
        raise ScimError(412, "The resource has changed since; get it again.")


def _user_state(user: ScimUser) -> tuple[Any, ...]:
    return user.user_name, user.external_id, user.display_name, user.email, user.active, user.resource


def _user_facts(user: ScimUser) -> dict[str, Any]:
    return {
        "user_name": user.user_name,
        "external_id": user.external_id,
        "email": user.email,
        "active": user.active,
        "identity": str(user.identity_id) if user.identity_id else None,
        "version": user.version,
    }


def _group_facts(group: ScimGroup) -> dict[str, Any]:
    return {"display_name": group.display_name, "external_id": group.external_id, "version": group.version}


def _record(
    name: str,
    provider: IdentityProvider,
    actor: Actor,
    target: ScimUser | ScimGroup,
    *,
    old: dict[str, Any] | None = None,
    new: dict[str, Any] | None = None,
    edges_learn: bool,
) -> None:
    audit.record(
        name,
        organization=provider.organization,
        actor=actor,
        target=target,
        old=old,
        new=new,
        edges_learn=edges_learn,
    )
