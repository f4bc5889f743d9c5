"""The SCIM 2.0 service at <team domain>/cdn-cgi/access/scim/v2/<provider id>/ (RFC 7644). Bearer secret per provider.

Every change is logged as a ScimUpdate, also a refused one; the secret and passwords never are.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from django.db import transaction
from django.http import HttpRequest, HttpResponse

from accounts.actions.scim_settings import find_by_secret, scim_base_url
from accounts.actor import Actor, ActorKind
from accounts.errors import DomainError
from accounts.http import declares
from accounts.models import IdentityProvider, Organization, ScimUpdate
from accounts.permissions import Permission
from accounts.prepared import insert
from accounts.ratelimits import SCIM_WRONG_SECRET_BY_ADDRESS, TooManyAttempts, refuse_if_spent, spend
from accounts.scim import schemas
from accounts.scim.errors import ScimError
from accounts.views.scim_groups import Groups
from accounts.views.scim_resources import Resources
from accounts.views.scim_users import Users

CONTENT_TYPE = "application/scim+json"
MAX_BODY_BYTES = 1024 * 1024
MAX_LOGGED_CHARACTERS = 16_000
_HIDDEN = frozenset({"password"})
_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request. `parts` is the path below the provider's base URL."""

    request: HttpRequest
    provider: IdentityProvider
    base_url: str
    parts: tuple[str, ...]
    actor: Actor
    body: dict[str, Any]

    @property
    def method(self) -> str:
        return self.request.method or "GET"

    @property
    def if_match(self) -> str:
        return self.request.headers.get("If-Match", "")


@declares(Permission.PUBLIC)
def scim(request: HttpRequest, provider_id: uuid.UUID, path: str = "") -> HttpResponse:
    """Answers every method and path below a provider's base URL, errors included, as SCIM does."""
    provider: IdentityProvider | None = None
    body: dict[str, Any] = {}
    is_change = request.method in _CHANGES and not path.endswith(".search")
    try:
        provider = _authenticate(request, provider_id)
        body = _read_body(request)
        parts = tuple(part for part in path.split("/") if part)
        call = Call(request, provider, scim_base_url(provider), parts, _actor(request, provider), body)
        if not is_change:
            return _answer(call)
        # The change and its line in the log: one commit instead of two.
        with transaction.atomic():
            response = _answer(call)
            _log_update(request, provider, path, body, response, "")
        return response
    except ScimError as failure:
        response, error = _problem(failure.http_status, failure.message, failure.scim_type), failure.message
    except DomainError as failure:
        response, error = _problem(failure.status, failure.message), failure.message
    if provider is not None and is_change:
        _log_update(request, provider, path, body, response, error)
    return response


def _authenticate(request: HttpRequest, provider_id: uuid.UUID) -> IdentityProvider:
    context = cast(Any, request)
    organization: Organization = context.organization
    key = (organization.pk, context.client_ip)
    refuse_if_spent(SCIM_WRONG_SECRET_BY_ADDRESS, *key)
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    provider = find_by_secret(organization, provider_id, secret.strip()) if scheme.lower() == "bearer" else None
    if provider is None:
        try:
            spend(SCIM_WRONG_SECRET_BY_ADDRESS, *key)
        except TooManyAttempts as error:
            raise ScimError(429, error.message) from error
        raise ScimError(401, "The SCIM secret is missing or wrong, or SCIM is not enabled for this login method.")
    provider.organization = organization
    return provider


def _actor(request: HttpRequest, provider: IdentityProvider) -> Actor:
    return Actor(ActorKind.SCIM, str(provider.pk), f"SCIM of {provider.name}", cast(Any, request).client_ip)


def _answer(call: Call) -> HttpResponse:
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


def _resources(call: Call, kind: Resources[Any], identifier: str) -> HttpResponse:
    if identifier == ".search":
        if call.method != "POST":
            raise ScimError(405, "Send POST.")
        return _json(kind.search(call, _as_query(call.body)))
    if not identifier:
        if call.method == "GET":
            return _json(kind.search(call, call.request.GET))
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
        return _json(documents[0])
    if "filter" in call.request.GET:
        raise ScimError(403, "These lists cannot be filtered.")
    if not rest:
        return _json(
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
    return _json(found)


def _read_body(request: HttpRequest) -> dict[str, Any]:
    if request.method not in {"POST", "PUT", "PATCH"}:
        return {}
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
        raise ScimError(413, f"A body has at most {MAX_BODY_BYTES} bytes.")
    if not int(length):
        return {}
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise ScimError(400, "The body is not JSON.", "invalidSyntax") from error
    if not isinstance(body, dict):
        raise ScimError(400, "The body is a JSON object.", "invalidSyntax")
    return body


def _uuid(identifier: str) -> uuid.UUID:
    try:
        return uuid.UUID(identifier)
    except ValueError:
        raise ScimError(404, "There is no such resource here.") from None


def _resource(document: dict[str, Any], *, status: int = 200) -> HttpResponse:
    response = _json(document, status=status)
    response["ETag"] = document["meta"]["version"]
    response["Location"] = document["meta"]["location"]
    return response


def _json(document: dict[str, Any], *, status: int = 200) -> HttpResponse:
    return HttpResponse(json.dumps(document), content_type=CONTENT_TYPE, status=status)


def _problem(status: int, detail: str, scim_type: str = "") -> HttpResponse:
    document = {"schemas": [schemas.ERROR], "status": str(status), "detail": detail}
    response = _json(document | ({"scimType": scim_type} if scim_type else {}), status=status)
    if status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="SCIM"'
    return response


def _log_update(
    request: HttpRequest,
    provider: IdentityProvider,
    path: str,
    body: dict[str, Any],
    response: HttpResponse,
    error: str,
) -> None:
    answer = json.loads(response.content) if response.content else {}
    kind, _, identifier = path.strip("/").partition("/")
    described = answer if not error else body
    update = ScimUpdate(
        organization_id=provider.organization_id,
        provider=provider,
        method=request.method or "",
        resource_type="GROUP" if kind == "Groups" else "USER",
        resource_id=str(answer.get("id") or identifier)[:64],
        external_id=_short(described.get("externalId")),
        user_email=_short(described.get("userName")) if kind == "Users" else "",
        group_name=_short(described.get("displayName")) if kind == "Groups" else "",
        request_body=json.dumps(_without_passwords(body))[:MAX_LOGGED_CHARACTERS] if body else "",
        status=response.status_code,
        error=error[:300],
        ip_address=cast(Any, request).client_ip or None,
    )
    insert(update)


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
