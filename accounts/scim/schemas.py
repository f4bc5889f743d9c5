"""What this service provider can do, and the attributes it knows (RFC 7643 sections 5 to 7)."""

from __future__ import annotations

from typing import Any

from accounts.scim.bulk import MAX_OPERATIONS

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
MAX_RESULTS = 200
# Of any request.
MAX_PAYLOAD_BYTES = 1024 * 1024


def attribute(name: str, text: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": "string",
        "multiValued": False,
        "description": text,
        "required": False,
        "caseExact": False,
        "mutability": "readWrite",
        "returned": "default",
        "uniqueness": "none",
    } | changes


def service_provider_config(base_url: str) -> dict[str, Any]:
    return {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": {"supported": True},
        "bulk": {"supported": True, "maxOperations": MAX_OPERATIONS, "maxPayloadSize": MAX_PAYLOAD_BYTES},
        "filter": {"supported": True, "maxResults": MAX_RESULTS},
        "changePassword": {"supported": False},
        "sort": {"supported": False},
        "etag": {"supported": True},
        "authenticationSchemes": [
            {
                "type": "oauthbearertoken",
                "name": "Bearer secret",
                "description": "The SCIM secret of the login method, as a bearer token.",
                "primary": True,
            }
        ],
        "meta": _meta("ServiceProviderConfig", f"{base_url}/ServiceProviderConfig"),
    }


def resource_types(base_url: str) -> list[dict[str, Any]]:
    return [
        {
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
            "id": name,
            "name": name,
            "endpoint": f"/{name}s",
            "description": text,
            "schema": schema,
            "schemaExtensions": [],
            "meta": _meta("ResourceType", f"{base_url}/ResourceTypes/{name}"),
        }
        for name, schema, text in (("User", USER, "A person"), ("Group", GROUP, "A group of people"))
    ]


def schemas(base_url: str) -> list[dict[str, Any]]:
    return [
        {
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
            "id": identifier,
            "name": name,
            "description": text,
            "attributes": attributes,
            "meta": _meta("Schema", f"{base_url}/Schemas/{identifier}"),
        }
        for identifier, name, text, attributes in (
            (USER, "User", "A person", _USER_ATTRIBUTES),
            (GROUP, "Group", "A group of people", _GROUP_ATTRIBUTES),
        )
    ]


def _meta(kind: str, location: str) -> dict[str, str]:
    return {"resourceType": kind, "location": location}


_REFERENCE = {
    "type": "reference",
    "caseExact": True,
    "mutability": "readOnly",
}
_USER_ATTRIBUTES = [
    attribute("userName", "The name at the provider, unique there", required=True, uniqueness="server"),
    attribute(
        "name",
        "The parts of the name",
        type="complex",
        subAttributes=[
            attribute("formatted", "The whole name"),
            attribute("familyName", "Family name"),
            attribute("givenName", "Given name"),
            attribute("middleName", "Middle names"),
            attribute("honorificPrefix", "Title before the name"),
            attribute("honorificSuffix", "Suffix after the name"),
        ],
    ),
    attribute("displayName", "The name as shown"),
    attribute("active", "Whether the person may log in", type="boolean", required=True),
    attribute(
        "emails",
        "Addresses; the primary one counts",
        type="complex",
        multiValued=True,
        subAttributes=[
            attribute("value", "The address"),
            attribute("display", "The address as shown", mutability="readWrite"),
            attribute("type", "What it is for", canonicalValues=["work", "home", "other"]),
            attribute("primary", "Whether it is the one that counts", type="boolean"),
        ],
    ),
    attribute(
        "groups",
        "The groups the person is in; changed at the groups",
        type="complex",
        multiValued=True,
        mutability="readOnly",
        subAttributes=[
            attribute("value", "The group's id", mutability="readOnly"),
            attribute("$ref", "The group", **(_REFERENCE | {"referenceTypes": ["Group"]})),
            attribute("display", "The group's name", mutability="readOnly"),
        ],
    ),
]
_GROUP_ATTRIBUTES = [
    attribute("displayName", "The name that policies ask for", required=True, uniqueness="server"),
    attribute(
        "members",
        "The people in the group",
        type="complex",
        multiValued=True,
        subAttributes=[
            attribute("value", "The person's id", mutability="immutable"),
            attribute("$ref", "The person", **(_REFERENCE | {"referenceTypes": ["User"], "mutability": "immutable"})),
            attribute("type", "User", mutability="immutable", canonicalValues=["User"]),
        ],
    ),
]
