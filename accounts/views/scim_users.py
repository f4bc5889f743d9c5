"""SCIM's /Users: from calls to actions, and users as JSON."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace as replace_fields
from typing import Any, Protocol

from django.http import HttpRequest

from accounts.actions import scim as actions
from accounts.actor import Actor
from accounts.api_base import rfc3339
from accounts.models import IdentityProvider, ScimMembership, ScimUser
from accounts.scim import schemas
from accounts.scim.errors import ScimError
from accounts.scim.patch import read_operations
from accounts.scim.resources import read_user
from accounts.scim_rows import memberships_of
from accounts.views.scim_lists import chosen_attributes, list_page, wants

_COLUMNS = {
    "id": "id",
    "username": "user_name",
    "externalid": "external_id",
    "displayname": "display_name",
    "emails": "email",
    "emails.value": "email",
    "active": "active",
    "meta.created": "created_at",
    "meta.lastmodified": "updated_at",
}


class Call(Protocol):
    """What accounts.views.scim hands over."""

    @property
    def request(self) -> HttpRequest: ...
    @property
    def provider(self) -> IdentityProvider: ...
    @property
    def base_url(self) -> str: ...
    @property
    def actor(self) -> Actor: ...
    @property
    def body(self) -> dict[str, Any]: ...
    @property
    def if_match(self) -> str:
        """The version the caller saw (RFC 7644 section 3.14), "" for any."""


def search(call: Call, query: Mapping[str, str]) -> dict[str, Any]:
    rows = ScimUser.objects.for_organization(call.provider.organization).filter(provider=call.provider)
    return list_page(rows, query, _COLUMNS, lambda page: _shape_all(call, page, query))


def get(call: Call, user_id: uuid.UUID) -> dict[str, Any]:
    rows = ScimUser.objects.for_organization(call.provider.organization)
    user = rows.filter(provider=call.provider, pk=user_id).first()
    if user is None:
        raise ScimError(404, f"There is no user {user_id} here.")
    return _shaped(call, user)


def create(call: Call) -> dict[str, Any]:
    return _shaped(call, actions.create_user(call.provider, read_user(call.body), actor=call.actor))


def replace(call: Call, user_id: uuid.UUID) -> dict[str, Any]:
    """A body that does not say `active` does not activate anybody: it keeps what was."""
    values = read_user(call.body)
    says_active = any(key.lower() == "active" for key in call.body)
    return _changed(call, user_id, lambda user: values if says_active else replace_fields(values, active=user.active))


def patch(call: Call, user_id: uuid.UUID) -> dict[str, Any]:
    return _changed(call, user_id, actions.patched_user(read_operations(call.body)))


def delete(call: Call, user_id: uuid.UUID) -> None:
    actions.delete_user(call.provider, user_id, if_match=call.if_match, actor=call.actor)


def _changed(call: Call, user_id: uuid.UUID, change: Any) -> dict[str, Any]:
    user = actions.change_user(call.provider, user_id, change, if_match=call.if_match, actor=call.actor)
    return _shaped(call, user)


def _shaped(call: Call, user: ScimUser) -> dict[str, Any]:
    return chosen_attributes(_shape_all(call, [user], call.request.GET)[0], call.request.GET)


def _shape_all(call: Call, users: list[ScimUser], query: Mapping[str, str]) -> list[dict[str, Any]]:
    groups: dict[uuid.UUID, list[dict[str, str]]] = {}
    if wants(query, "groups"):
        for row in _memberships(users):
            entry = {
                "value": str(row.group_id),
                "$ref": f"{call.base_url}/Groups/{row.group_id}",
                "display": row.group.display_name,
            }
            groups.setdefault(row.user_id, []).append(entry)
    return [_shape(call, user, groups.get(user.pk, [])) for user in users]


def _memberships(users: list[ScimUser]) -> Iterable[ScimMembership]:
    if len(users) == 1:
        return memberships_of(users[0])
    return ScimMembership.objects.filter(user__in=users).select_related("group").order_by("pk")


def _shape(call: Call, user: ScimUser, groups: list[dict[str, str]]) -> dict[str, Any]:
    document: dict[str, Any] = {"schemas": [schemas.USER], "id": str(user.pk), **actions.user_document(user)}
    if groups:
        document["groups"] = groups
    document["meta"] = {
        "resourceType": "User",
        "created": rfc3339(user.created_at),
        "lastModified": rfc3339(user.updated_at),
        "location": f"{call.base_url}/Users/{user.pk}",
        "version": f'W/"{user.version}"',
    }
    return document
