"""The SCIM 2.0 service at <team domain>/cdn-cgi/access/scim/v2/<provider id>/ (RFC 7644). Bearer secret per provider.

Every change is logged as a ScimUpdate, also a refused one; the secret and passwords never are.
"""

from __future__ import annotations

import json
import re
import uuid
from typing import Any, cast

from django.db import transaction
from django.http import HttpRequest, HttpResponse

from accounts.actions.scim_settings import find_by_secret, scim_base_url
from accounts.actor import Actor, ActorKind
from accounts.errors import DomainError
from accounts.http import declares
from accounts.models import IdentityProvider, Organization
from accounts.permissions import Permission
from accounts.prepared import insert
from accounts.ratelimits import SCIM_WRONG_SECRET_BY_ADDRESS, TooManyAttempts, refuse_if_spent, spend
from accounts.scim.errors import ScimError
from accounts.scim.schemas import MAX_PAYLOAD_BYTES
from accounts.views.scim_answers import Call, answer, new_update, refusal, update_of
from accounts.views.scim_bulk import BULK, answer_bulk

_MAX_DEPTH = 32
_HALF_A_PAIR = re.compile(rb"\\u[dD]")
_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@declares(Permission.PUBLIC)
def scim(request: HttpRequest, provider_id: uuid.UUID, path: str = "") -> HttpResponse:
    """Answers every method and path below a provider's base URL, errors included, as SCIM does."""
    provider: IdentityProvider | None = None
    body: dict[str, Any] = {}
    is_change = request.method in _CHANGES and not path.endswith(".search")
    try:
        provider = _authenticate(request, provider_id)
        body = _read_body(request)
        call = _call(request, provider, path, body)
        if call.parts == (BULK,):
            return answer_bulk(call)
        if not is_change:
            return answer(call)
        # The change and its line in the log: one commit instead of two.
        with transaction.atomic():
            response = answer(call)
            insert(update_of(call, response))
        return response
    except DomainError as error:
        response = refusal(error)
        if provider is not None and is_change:
            insert(new_update(request, provider, request.method or "", path, body, response, error.message))
        return response


def _call(request: HttpRequest, provider: IdentityProvider, path: str, body: dict[str, Any]) -> Call:
    return Call(
        request,
        provider,
        scim_base_url(provider),
        tuple(part for part in path.split("/") if part),
        _actor(request, provider),
        body,
        method=request.method or "GET",
        if_match=request.headers.get("If-Match", ""),
    )


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


def _read_body(request: HttpRequest) -> dict[str, Any]:
    if request.method not in {"POST", "PUT", "PATCH"}:
        return {}
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdecimal() or int(length) > MAX_PAYLOAD_BYTES:
        raise ScimError(413, f"A body has at most {MAX_PAYLOAD_BYTES} bytes.")
    if not int(length):
        return {}
    try:
        body = json.loads(request.body)
        if _HALF_A_PAIR.search(request.body):
            json.dumps(body, ensure_ascii=False).encode()  # half of a surrogate pair is no text that can be stored
    except (ValueError, RecursionError) as error:
        raise ScimError(400, "The body is not JSON.", "invalidSyntax") from error
    if not isinstance(body, dict):
        raise ScimError(400, "The body is a JSON object.", "invalidSyntax")
    if _is_deep(body):
        raise ScimError(400, f"The body is nested more than {_MAX_DEPTH} levels deep.", "invalidSyntax")
    return body


def _is_deep(body: Any) -> bool:
    """Deeper than any resource: what follows goes through it by recursion."""
    level = [body]
    for _ in range(_MAX_DEPTH):
        containers = [value for value in level if isinstance(value, dict | list)]
        level = [inner for one in containers for inner in (one.values() if isinstance(one, dict) else one)]
    return bool(level)
