"""SCIM's /Groups: from calls to actions, and groups as JSON."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from accounts.actions import scim as actions
from accounts.models import ScimGroup, ScimMembership
from accounts.scim import schemas
from accounts.scim.patch import read_operations
from accounts.scim.resources import read_group
from accounts.views.scim_lists import wants
from accounts.views.scim_resources import Call, Resources


class Groups(Resources[ScimGroup]):
    model, word, schema = ScimGroup, "Group", schemas.GROUP
    columns = {
        "id": "id",
        "displayname": "display_name",
        "externalid": "external_id",
        "meta.created": "created_at",
        "meta.lastmodified": "updated_at",
    }

    def create(self, call: Call) -> dict[str, Any]:
        return self.shaped(call, actions.create_group(call.provider, read_group(call.body), actor=call.actor))

    def replace(self, call: Call, key: uuid.UUID) -> dict[str, Any]:
        values = read_group(call.body)
        group = actions.replace_group(call.provider, key, values, if_match=call.if_match, actor=call.actor)
        return self.shaped(call, group)

    def patch(self, call: Call, key: uuid.UUID) -> dict[str, Any]:
        operations = read_operations(call.body)
        group = actions.patch_group(call.provider, key, operations, if_match=call.if_match, actor=call.actor)
        return self.shaped(call, group)

    def delete(self, call: Call, key: uuid.UUID) -> None:
        actions.delete_group(call.provider, key, if_match=call.if_match, actor=call.actor)

    def shapes(self, call: Call, rows: list[ScimGroup], query: Mapping[str, str]) -> list[dict[str, Any]]:
        members: dict[uuid.UUID, list[dict[str, str]]] = {}
        if wants(query, "members"):
            for row in ScimMembership.objects.filter(group__in=rows).order_by("pk"):
                entry = {"value": str(row.user_id), "$ref": f"{call.base_url}/Users/{row.user_id}", "type": "User"}
                members.setdefault(row.group_id, []).append(entry)
        return [
            {"displayName": group.display_name}
            | ({"externalId": group.external_id} if group.external_id else {})
            | ({"members": members[group.pk]} if group.pk in members else {})
            for group in rows
        ]
