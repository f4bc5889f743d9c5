"""Tags of applications: create, rename, delete."""

from __future__ import annotations

import re
from collections.abc import Sequence
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction

from access import events
from access.look_models import MAX_TAG_NAME, MAX_TAGS_PER_APPLICATION
from access.models import Tag
from accounts import audit
from accounts.actions.deletions import keep_deleted
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput
from accounts.models import DeletedObject, Organization

MAX_TAGS = 1000
# Names stand in addresses (/access/tags/{name}), so no "/", "?" or "%".
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 _.-]*[A-Za-z0-9])?")


@transaction.atomic
def create_tag(organization: Organization, *, actor: Actor, name: str, key: UUID | None = None) -> Tag:
    """`key`: the id it had, when its deletion is undone."""
    if Tag.objects.for_organization(organization).count() >= MAX_TAGS:
        raise Conflict(f"An organization has at most {MAX_TAGS} tags.", code="too_many_tags")
    tag = Tag(pk=key or uuid4(), organization=organization, name=_checked_name(name))
    _save(tag)
    audit.record(events.TAG_CREATED, organization=organization, actor=actor, target=tag, new={"name": tag.name})
    return tag


@transaction.atomic
def update_tag(tag: Tag, *, actor: Actor, name: str) -> Tag:
    """Renames it, on all its applications."""
    organization = tag.organization
    tag = Tag.objects.for_organization(organization).select_for_update(no_key=True).get(pk=tag.pk)
    old, tag.name = {"name": tag.name}, _checked_name(name)
    _save(tag)
    audit.record(
        events.TAG_UPDATED, organization=organization, actor=actor, target=tag, old=old, new={"name": tag.name}
    )
    return tag


@transaction.atomic
def delete_tag(tag: Tag, *, actor: Actor) -> DeletedObject:
    """Applications that carry it lose it."""
    organization = tag.organization
    tag = Tag.objects.for_organization(organization).select_for_update(no_key=True).get(pk=tag.pk)
    carriers = list(tag.applications.order_by("name"))
    names = [application.name for application in carriers]
    old = {"name": tag.name, "applications": names}
    document = {"name": tag.name, "applications": [application.pk for application in carriers]}
    kept = keep_deleted("tag", organization, key=tag.pk, name=tag.name, document=document, actor=actor)
    audit.delete(tag)
    audit.record(events.TAG_DELETED, organization=organization, actor=actor, target=tag, old=old)
    return kept


@transaction.atomic
def ensure_tags(organization: Organization, names: Sequence[str], *, actor: Actor) -> None:
    """For pages where people write tags as words: those that do not exist yet are created, each with its event."""
    known = {tag.name.lower() for tag in Tag.objects.for_organization(organization)}
    for name in names:
        if name.strip().lower() not in known:
            known.add(name.strip().lower())
            create_tag(organization, actor=actor, name=name)


def own_tags(organization: Organization, names: Sequence[str]) -> list[Tag]:
    """The tags of these names, for an application. They must exist: a typing error does not make a new one."""
    wanted = {str(name).lower(): str(name) for name in names}
    if len(wanted) > MAX_TAGS_PER_APPLICATION:
        raise _invalid("tags", f"An application has at most {MAX_TAGS_PER_APPLICATION} tags.")
    found = {tag.name.lower(): tag for tag in Tag.objects.for_organization(organization) if tag.name.lower() in wanted}
    missing = [name for key, name in wanted.items() if key not in found]
    if missing:
        raise _invalid("tags", f"There is no tag {missing[0][:60]!r}. Create it first.", code="reference_not_found")
    return list(found.values())


def _checked_name(name: str) -> str:
    name = name.strip()
    if len(name) > MAX_TAG_NAME or not _NAME.fullmatch(name):
        text = f"A tag has 1 to {MAX_TAG_NAME} letters and digits (a-z); spaces, dots, - and _ may stand between them."
        raise _invalid("name", text)
    return name


def _save(tag: Tag) -> None:
    try:
        with transaction.atomic():
            tag.save()
    except IntegrityError as error:
        message = f'There is already a tag "{tag.name}".'
        raise Conflict(message, code="tag_name_taken", fields={"name": message}) from error


def _invalid(field: str, message: str, code: str = "invalid_input") -> InvalidInput:
    return InvalidInput(message, code=code, fields={field: message})
