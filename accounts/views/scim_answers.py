"""Answers to authenticated SCIM calls: one at a time, or those of a bulk request (RFC 7644 section 3)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse

from accounts.actor import Actor
from accounts.errors import DomainError
from accounts.models import IdentityProvider, ScimUpdate
from accounts.scim import schemas
from accounts.scim.errors import ScimError
from accounts.views.scim_groups import Groups
from accounts.views.scim_resources import Resources
from accounts.views.scim_users import Users

CONTENT_TYPE = "application/scim+json"
MAX_LOGGED_CHARACTERS = 16_000
_HIDDEN = frozenset({"password"})


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request. `parts` is the path below the provider's base URL."""

    request: HttpRequest
    provider: IdentityProvider
    base_url: str
    parts: tuple[str, ...]
    actor: Actor
    body: dict[str, Any]
    # The request's own, or those of an operation in a bulk request.
    method: str
    if_match: str


def answer(call: Call) -> HttpResponse:
    kind, rest = call.parts[0] if call.parts else "", call.parts[1:]
    if kind in {"Users", "Groups"}:
        if len(rest) > 1:
            raise ScimError(404, "There is nothing under this address.")
        return _resources(call, Users() if kind == "Users" else Groups(), rest[0] if rest else "")
    if call.parts == (".search",):
        raise ScimError(501, "Users and groups are searched one at a time: POST /Users/.search or /Groups/.search.")
    if call.method not in {"GET", "HEAD"}:
        raise ScimError(405 if kind in _DISCOVERY else 404, "There is nothing to change under this address.")
    return _discovery(call, kind, rest)


def refusal(error: DomainError) -> HttpResponse:
    if isinstance(error, ScimError):
        return problem(error.http_status, error.message, error.scim_type)
    return problem(error.status, error.message)


def _resources(call: Call, kind: Resources[Any], identifier: str) -> HttpResponse:
    if identifier == ".search":
        if call.method != "POST":
            raise ScimError(405, "Send POST.")
        return json_answer(kind.search(call, _as_query(call.body)))
    if not identifier:
        if call.method == "GET":
            return json_answer(kind.search(call, call.request.GET))
        if call.method != "POST":
            raise ScimError(405, "Send GET or POST.")
        return _resource(kind.create(call), status=201)
    key = _uuid(identifier)
    if call.method == "GET":
        found = kind.get(call, key)
        if found["meta"]["version"] in call.request.headers.get("If-None-Match", ""):
            return HttpResponse(status=304, headers={"ETag": found["meta"]["version"]})
        return _resource(found)
    if call.method == "DELETE":
        kind.delete(call, key)
        return HttpResponse(status=204)
    if call.method not in {"PUT", "PATCH"}:
        raise ScimError(405, "Send GET, PUT, PATCH or DELETE.")
    return _resource(kind.replace(call, key) if call.method == "PUT" else kind.patch(call, key))


def _as_query(body: dict[str, Any]) -> dict[str, str]:
    """A SearchRequest (RFC 7644 section 3.4.3) as the query of a GET."""
    texts = {key: ",".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in body.items()}
    return {key: text for key, text in texts.items() if body[key] is not None}


_DISCOVERY: dict[str, Callable[[str], list[dict[str, Any]]]] = {
    "ResourceTypes": schemas.resource_types,
    "Schemas": schemas.schemas,
    "ServiceProviderConfig": lambda base_url: [schemas.service_provider_config(base_url)],
}


def _discovery(call: Call, kind: str, rest: tuple[str, ...]) -> HttpResponse:
    if kind not in _DISCOVERY or len(rest) > 1:
        raise ScimError(404, "There is nothing under this address.")
    documents = _DISCOVERY[kind](call.base_url)
    if kind == "ServiceProviderConfig":
        return json_answer(documents[0])
    if "filter" in call.request.GET:
        raise ScimError(403, "These lists cannot be filtered.")
    if not rest:
        return json_answer(
            {
                "schemas": [schemas.LIST],
                "totalResults": len(documents),
                "startIndex": 1,
                "itemsPerPage": len(documents),
                "Resources": documents,
            }
        )
    found = next((document for document in documents if document["id"] == rest[0]), None)
    if found is None:
        raise ScimError(404, "There is nothing under this address.")
    return json_answer(found)


def _uuid(identifier: str) -> uuid.UUID:
    try:
        return uuid.UUID(identifier)
    except ValueError:
        raise ScimError(404, "There is no such resource here.") from None


def _resource(document: dict[str, Any], *, status: int = 200) -> HttpResponse:
    response = json_answer(document, status=status)
    response["ETag"] = document["meta"]["version"]
    response["Location"] = document["meta"]["location"]
    return response


def json_answer(document: dict[str, Any], *, status: int = 200) -> HttpResponse:
    return HttpResponse(json.dumps(document), content_type=CONTENT_TYPE, status=status)


def problem(status: int, detail: str, scim_type: str = "") -> HttpResponse:
    document = {"schemas": [schemas.ERROR], "status": str(status), "detail": detail}
    response = json_answer(document | ({"scimType": scim_type} if scim_type else {}), status=status)
    if status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="SCIM"'
    return response


def update_of(call: Call, response: HttpResponse, error: str = "") -> ScimUpdate:
    """The line of a change in the log, not stored yet."""
    return new_update(call.request, call.provider, call.method, "/".join(call.parts), call.body, response, error)


def new_update(
    request: HttpRequest,
    provider: IdentityProvider,
    method: str,
    path: str,
    body: dict[str, Any],
    response: HttpResponse,
    error: str = "",
) -> ScimUpdate:
    answered = json.loads(response.content) if response.content else {}
    kind, _, identifier = path.strip("/").partition("/")
    described = answered if not error else body
    return ScimUpdate(
        organization_id=provider.organization_id,
        provider=provider,
        method=method,
        resource_type="GROUP" if kind == "Groups" else "USER",
        resource_id=_short(str(answered.get("id") or identifier))[:64],
        external_id=_short(described.get("externalId")),
        user_email=_short(described.get("userName")) if kind == "Users" else "",
        group_name=_short(described.get("displayName")) if kind == "Groups" else "",
        request_body=json.dumps(_without_passwords(body))[:MAX_LOGGED_CHARACTERS] if body else "",
        status=response.status_code,
        error=error[:300],
        ip_address=getattr(request, "client_ip", None) or None,
    )


def _short(value: object) -> str:
    return value[:255].replace("\0", "") if isinstance(value, str) else ""


def _without_passwords(value: Any) -> Any:
    if isinstance(value, dict):
        is_password = str(value.get("path", "")).lower().rpartition(":")[2] in _HIDDEN
        return {
            key: "(hidden)" if key.lower() in _HIDDEN or (is_password and key.lower() == "value") else kept
            for key, kept in ((key, _without_passwords(inner)) for key, inner in value.items())
        }
    return [_without_passwords(item) for item in value] if isinstance(value, list) else value
