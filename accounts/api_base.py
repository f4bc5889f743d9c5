"""What every operation of /client/v4 shares: bearer tokens and scopes, tenancy, the envelope, paging.

An operation declares its Permission where it is registered:

    router = ApiRouter(tags=["Groups"])

    @router.route("GET", "/groups/{group_id}", Permission.ACCESS_READ, GroupResult)
    def get_group(request: ApiRequest, group_id: str) -> GroupResult: ...

The order of checks is body size, token, scope, tenant, input; only then the view runs. A token belongs to one
organization: an account or zone id that is not that organization's answers exactly as one that does not exist.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Field, Router, Schema
from ninja.security import HttpBearer

from accounts.actions.api_tokens import authenticate
from accounts.actor import Actor, ActorKind
from accounts.errors import AuthenticationFailed, DomainError, NotFound, PermissionDenied
from accounts.models import ApiToken, Organization
from accounts.permissions import Permission
from accounts.text import in_words

DEFAULT_PER_PAGE = 50
MAX_PER_PAGE = 1000
_HEX_ID = re.compile(r"[0-9a-f]{32}")
_BEARER = re.compile(r"bearer +([0-9A-Za-z_-]{40,80}) *", re.IGNORECASE)

ResultT = TypeVar("ResultT")
ModelT = TypeVar("ModelT", bound=Model)
OperationView = Callable[..., Any]


class ApiRequest(HttpRequest):
    """A request whose token, scope and tenant have been checked."""

    token: ApiToken
    organization: Organization
    actor: Actor
    client_ip: str


class BadAuthorization(DomainError):
    """The Authorization header is not one of ours at all (public code 6003)."""

    code = "invalid_authorization_header"
    api_code = 6003


# --- Tenancy of zone paths ------------------------------------------------------------------------------------
ZoneOwner = Callable[[str], str | None]
_zone_owner: list[ZoneOwner] = []


def set_zone_owner(lookup: ZoneOwner) -> None:
    """Install the function that names the organization id of a zone id. The zones live above this package."""
    _zone_owner[:] = [lookup]


# --- Token, scope, tenant -------------------------------------------------------------------------------------
class ApiTokenAuth(HttpBearer):
    """Bearer token with one scope; binds token, organization and actor to the request."""

    def __init__(self, permission: Permission) -> None:
        super().__init__()
        self.permission = permission

    def __call__(self, request: HttpRequest) -> ApiToken:
        bound = cast(ApiRequest, request)
        token = authenticate(_bearer(request), now=timezone.now(), ip=bound.client_ip)
        if self.permission is not Permission.SIGNED_IN and self.permission.value not in token.scopes:
            raise PermissionDenied(f"This API token lacks the scope {self.permission.value}.", code="missing_scope")
        bound.token = token
        bound.organization = token.organization
        bound.actor = Actor(ActorKind.API_TOKEN, token.id, token.name, bound.client_ip)
        _require_own_tenant(bound)
        return token

    def authenticate(self, request: HttpRequest, token: str) -> ApiToken:
        return authenticate(token, now=timezone.now(), ip=cast(ApiRequest, request).client_ip)


def _bearer(request: HttpRequest) -> str:
    header = request.headers.get("Authorization", "")
    if not header:
        raise AuthenticationFailed("Send an API token: `Authorization: Bearer <token>`.")
    match = _BEARER.fullmatch(header.strip())
    if match is None:
        raise BadAuthorization("Invalid format for Authorization header: expected `Bearer <40-80 characters>`.")
    return match.group(1)


def _require_own_tenant(request: ApiRequest) -> None:
    placed = request.resolver_match.kwargs if request.resolver_match else {}
    account_id, zone_id = placed.get("account_id"), placed.get("zone_id")
    if account_id is not None and account_id != request.organization.id:
        raise NotFound("No such account.")
    if zone_id is not None and (not is_hex_id(zone_id) or _zone_owner[0](zone_id) != request.organization.id):
        raise NotFound("No such zone.")


# --- Envelope -------------------------------------------------------------------------------------------------
class ErrorItem(Schema):
    code: int
    message: str


class ResultInfo(Schema):
    page: int
    per_page: int
    count: int
    total_count: int
    total_pages: int


class Envelope(Schema, Generic[ResultT]):
    """The public envelope (product.md 3.1). `messages` stays empty: clients decode it as a list of text."""

    success: bool = True
    errors: list[ErrorItem] = []
    messages: list[str] = []
    result: ResultT


class ListEnvelope(Envelope[list[ResultT]], Generic[ResultT]):
    result_info: ResultInfo


@dataclass(frozen=True, slots=True)
class Page:
    items: list[Any]
    info: ResultInfo


def success(result: Any) -> HttpResponse:
    """HTTP 200, always: clients treat 201 and 204 as failures (tunnel-edge.md 1.2)."""
    body: dict[str, Any] = {"success": True, "errors": [], "messages": []}
    if isinstance(result, Page):
        return _json({**body, "result": result.items, "result_info": result.info}, 200)
    return _json({**body, "result": result}, 200)


def failure(status: int, errors: Iterable[Mapping[str, Any]]) -> HttpResponse:
    return _json({"success": False, "errors": list(errors), "messages": [], "result": None}, status)


def _json(body: Mapping[str, Any], status: int) -> HttpResponse:
    # Exactly this content type: with "; charset=utf-8" cloudflared does not read error bodies.
    return HttpResponse(json.dumps(body, default=_plain), status=status, content_type="application/json")


def _plain(value: object) -> object:
    if isinstance(value, Schema):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form.")


# --- Routes ---------------------------------------------------------------------------------------------------
class ApiRouter(Router):
    """A ninja router whose operations cannot be registered without a Permission."""

    def route(
        self, method: str, path: str, permission: Permission, result: Any, *, paged: bool = False
    ) -> Callable[[OperationView], OperationView]:
        """Register a view that returns a result of type `result` (a Page of them when `paged`)."""

        def register(view: OperationView) -> OperationView:
            @wraps(view)
            def answer(request: HttpRequest, **arguments: Any) -> HttpResponse:
                return success(view(request, **arguments))

            # Resolved here: ninja would look the annotations' names up in this module instead of the view's.
            cast(Any, answer).__signature__ = inspect.signature(view, eval_str=True)
            cast(Any, answer).permission = permission
            self.api_operation(
                [method],
                path,
                auth=ApiTokenAuth(permission),
                response=ListEnvelope[result] if paged else Envelope[result],
                summary=_summary(view.__name__),
                openapi_extra={"x-permission": permission.value},
            )(answer)
            return view

        return register


# --- Lists ----------------------------------------------------------------------------------------------------
class Paging(Schema):
    """`per_page` above the maximum is lowered to it, and result_info says so."""

    page: int = Field(1, ge=1, le=10**9)
    per_page: int = Field(DEFAULT_PER_PAGE, ge=1, le=10**9)

    @property
    def size(self) -> int:
        return min(self.per_page, MAX_PER_PAGE)


def page_of(rows: QuerySet[ModelT] | list[ModelT], paging: Paging, shape: Callable[[ModelT], Any]) -> Page:
    """One page of ordered rows; beyond the end it is empty (clients ask until they get an empty page)."""
    return page_of_all(rows, paging, lambda chosen: [shape(row) for row in chosen])


def page_of_all(
    rows: QuerySet[ModelT] | list[ModelT], paging: Paging, shape: Callable[[list[ModelT]], list[Any]]
) -> Page:
    """Like page_of, for shapes that need the whole page at once."""
    total = len(rows) if isinstance(rows, list) else rows.count()
    start = (paging.page - 1) * paging.size
    items = shape(list(rows[start : start + paging.size])) if start < total else []
    info = ResultInfo(
        page=paging.page,
        per_page=paging.size,
        count=len(items),
        total_count=total,
        total_pages=-(-total // paging.size),
    )
    return Page(items, info)


def find(rows: QuerySet[ModelT], key: str, missing: str, **lookups: Any) -> ModelT:
    """The row with this primary key among the caller's own, or the same NotFound for missing, foreign and malformed."""
    wanted = _primary_key(rows, key)
    row = None if wanted is None else rows.filter(pk=wanted, **lookups).first()
    if row is None:
        raise NotFound(missing)
    return row


def _primary_key(rows: QuerySet[ModelT], key: str) -> UUID | str | None:
    if rows.model._meta.pk.get_internal_type() != "UUIDField":
        return key if is_hex_id(key) else None
    return as_uuid(key)


def as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def is_hex_id(key: str) -> bool:
    return _HEX_ID.fullmatch(key) is not None


class Deleted(Schema):
    id: str


def rfc3339(moment: datetime | None) -> str | None:
    """UTC with a trailing Z, as Go's and Terraform's parsers want it."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _summary(name: str) -> str:
    text = in_words(name)
    return text[:1].upper() + text[1:]
