"""SCIM's /Users: from calls to actions, and users as JSON."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace as replace_fields
from typing import Any

from accounts.actions import scim as actions
from accounts.models import ScimMembership, ScimUser
from accounts.scim import schemas
from accounts.scim.patch import read_operations
from accounts.scim.resources import read_user
from accounts.scim_rows import memberships_of
from accounts.views.scim_lists import wants
from accounts.views.scim_resources import Call, Resources


class Users(Resources[ScimUser]):
    model, word, schema = ScimUser, "User", schemas.USER
    columns = {
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

    def create(self, call: Call) -> dict[str, Any]:
        return self.shaped(call, actions.create_user(call.provider, read_user(call.body), actor=call.actor))

    def replace(self, call: Call, key: uuid.UUID) -> dict[str, Any]:
        """A body that does not say `active` does not activate anybody: it keeps what was."""
        values = read_user(call.body)
        says_active = any(name.lower() == "active" for name in call.body)
        return self._changed(
            call, key, lambda user: values if says_active else replace_fields(values, active=user.active)
        )

    def patch(self, call: Call, key: uuid.UUID) -> dict[str, Any]:
        return self._changed(call, key, actions.patched_user(read_operations(call.body)))

    def delete(self, call: Call, key: uuid.UUID) -> None:
        actions.delete_user(call.provider, key, if_match=call.if_match, actor=call.actor)

    def shapes(self, call: Call, rows: list[ScimUser], query: Mapping[str, str]) -> list[dict[str, Any]]:
        groups: dict[uuid.UUID, list[dict[str, str]]] = {}
        for row in _memberships(rows) if wants(query, "groups") else ():
            entry = {
                "value": str(row.group_id),
                "$ref": f"{call.base_url}/Groups/{row.group_id}",
                "display": row.group.display_name,
            }
            groups.setdefault(row.user_id, []).append(entry)
        return [
            actions.user_document(user) | ({"groups": groups[user.pk]} if user.pk in groups else {}) for user in rows
        ]

    def _changed(self, call: Call, key: uuid.UUID, change: Any) -> dict[str, Any]:
        user = actions.change_user(call.provider, key, change, if_match=call.if_match, actor=call.actor)
        return self.shaped(call, user)


def _memberships(users: list[ScimUser]) -> Iterable[ScimMembership]:
    if len(users) == 1:
        return memberships_of(users[0])
    return ScimMembership.objects.filter(user__in=users).select_related("group").order_by("pk")
