"""SCIM's /Groups: from calls to actions, and groups as JSON."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from accounts.actions import scim as actions
from accounts.api_base import rfc3339
from accounts.models import ScimGroup, ScimMembership
from accounts.scim import schemas
from accounts.scim.errors import ScimError
from accounts.scim.patch import read_operations
from accounts.scim.resources import read_group
from accounts.views.scim_lists import chosen_attributes, list_page, wants
from accounts.views.scim_users import Call

_COLUMNS = {
    "id": "id",
    "displayname": "display_name",
    "externalid": "external_id",
    "meta.created": "created_at",
    "meta.lastmodified": "updated_at",
}


def search(call: Call, query: Mapping[str, str]) -> dict[str, Any]:
    rows = ScimGroup.objects.for_organization(call.provider.organization).filter(provider=call.provider)
    return list_page(rows, query, _COLUMNS, lambda page: _shape_all(call, page, query))


def get(call: Call, group_id: uuid.UUID) -> dict[str, Any]:
    rows = ScimGroup.objects.for_organization(call.provider.organization)
    group = rows.filter(provider=call.provider, pk=group_id).first()
    if group is None:
        raise ScimError(404, f"There is no group {group_id} here.")
    return _shaped(call, group)


def create(call: Call) -> dict[str, Any]:
    return _shaped(call, actions.create_group(call.provider, read_group(call.body), actor=call.actor))


def replace(call: Call, group_id: uuid.UUID) -> dict[str, Any]:
    values = read_group(call.body)
    return _shaped(
        call,
        actions.replace_group(call.provider, group_id, values, if_match=call.if_match, actor=call.actor),
    )


def patch(call: Call, group_id: uuid.UUID) -> dict[str, Any]:
    operations = read_operations(call.body)
    return _shaped(
        call,
        actions.patch_group(call.provider, group_id, operations, if_match=call.if_match, actor=call.actor),
    )


def delete(call: Call, group_id: uuid.UUID) -> None:
    actions.delete_group(call.provider, group_id, if_match=call.if_match, actor=call.actor)


def _shaped(call: Call, group: ScimGroup) -> dict[str, Any]:
    return chosen_attributes(_shape_all(call, [group], call.request.GET)[0], call.request.GET)


def _shape_all(call: Call, groups: list[ScimGroup], query: Mapping[str, str]) -> list[dict[str, Any]]:
    members: dict[uuid.UUID, list[dict[str, str]]] = {}
    if wants(query, "members"):
        for row in ScimMembership.objects.filter(group__in=groups).order_by("pk"):
            entry = {
                "value": str(row.user_id),
                "$ref": f"{call.base_url}/Users/{row.user_id}",
                "type": "User",
            }
            members.setdefault(row.group_id, []).append(entry)
    return [_shape(call, group, members.get(group.pk, [])) for group in groups]


def _shape(call: Call, group: ScimGroup, members: list[dict[str, str]]) -> dict[str, Any]:
    document: dict[str, Any] = {"schemas": [schemas.GROUP], "id": str(group.pk), "displayName": group.display_name}
    if group.external_id:
        document["externalId"] = group.external_id
    if members:
        document["members"] = members
    document["meta"] = {
        "resourceType": "Group",
        "created": rfc3339(group.created_at),
        "lastModified": rfc3339(group.updated_at),
        "location": f"{call.base_url}/Groups/{group.pk}",
        "version": f'W/"{group.version}"',
    }
    return document
