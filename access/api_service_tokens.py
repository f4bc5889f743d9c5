"""/client/v4 {accounts|zones}/…/access/service_tokens. Secrets are in the create and rotate answers only."""

from __future__ import annotations

from ninja import Query

from access.actions.service_tokens import (
    create_service_token,
    delete_service_token,
    refresh_service_token,
    rotate_service_token,
    update_service_token,
)
from access.api_groups import NameFilters
from access.api_shapes import (
    NewServiceTokenResult,
    ServiceTokenBody,
    ServiceTokenChanges,
    ServiceTokenResult,
    shape_new_service_token,
    shape_service_token,
    token_seconds,
)
from access.models import ServiceToken
from accounts.api_base import ApiRequest, ApiRouter, Page, Paging, find, page_of
from accounts.permissions import Permission

router = ApiRouter(tags=["Service tokens"])
_MISSING = "No such service token."


@router.route("GET", "/service_tokens", Permission.SERVICE_TOKENS_READ, ServiceTokenResult, paged=True)
def list_service_tokens(request: ApiRequest, paging: Query[Paging], filters: Query[NameFilters]) -> Page:
    rows = ServiceToken.objects.for_organization(request.organization).order_by("name", "id")
    if filters.name is not None:
        rows = rows.filter(name=filters.name)
    if filters.search:
        rows = rows.filter(name__icontains=filters.search)
    return page_of(rows, paging, shape_service_token)


@router.route("POST", "/service_tokens", Permission.SERVICE_TOKENS_EDIT, NewServiceTokenResult)
def create_access_service_token(request: ApiRequest, body: ServiceTokenBody) -> NewServiceTokenResult:
    token, secret = create_service_token(
        request.organization,
        actor=request.actor,
        name=body.name,
        duration_seconds=token_seconds(body.duration),
    )
    return shape_new_service_token(token, secret)


@router.route("GET", "/service_tokens/{token_id}", Permission.SERVICE_TOKENS_READ, ServiceTokenResult)
def get_service_token(request: ApiRequest, token_id: str) -> ServiceTokenResult:
    return shape_service_token(_own(request, token_id))


@router.route("PUT", "/service_tokens/{token_id}", Permission.SERVICE_TOKENS_EDIT, ServiceTokenResult)
def update_access_service_token(request: ApiRequest, token_id: str, body: ServiceTokenChanges) -> ServiceTokenResult:
    """Without `duration` the expiry stays; a disabled token can be enabled again."""
    token = _own(request, token_id)
    seconds = token.duration_seconds if body.duration is None else token_seconds(body.duration)
    updated = update_service_token(
        token,
        actor=request.actor,
        name=token.name if body.name is None else body.name,
        duration_seconds=seconds,
        enabled=body.enabled,
    )
    return shape_service_token(updated)


@router.route("DELETE", "/service_tokens/{token_id}", Permission.SERVICE_TOKENS_EDIT, ServiceTokenResult)
def delete_access_service_token(request: ApiRequest, token_id: str) -> ServiceTokenResult:
    token = _own(request, token_id)
    result = shape_service_token(token)
    delete_service_token(token, actor=request.actor)
    return result


@router.route("POST", "/service_tokens/{token_id}/refresh", Permission.SERVICE_TOKENS_EDIT, ServiceTokenResult)
def refresh_access_service_token(request: ApiRequest, token_id: str) -> ServiceTokenResult:
    """Starts the token's duration anew from now."""
    return shape_service_token(refresh_service_token(_own(request, token_id), actor=request.actor))


@router.route("POST", "/service_tokens/{token_id}/rotate", Permission.SERVICE_TOKENS_EDIT, NewServiceTokenResult)
def rotate_access_service_token(request: ApiRequest, token_id: str) -> NewServiceTokenResult:
    """A new secret; the old one stops working at once."""
    token = _own(request, token_id)
    secret = rotate_service_token(token, actor=request.actor)
    token.refresh_from_db()
    return shape_new_service_token(token, secret)


def _own(request: ApiRequest, token_id: str) -> ServiceToken:
    return find(ServiceToken.objects.for_organization(request.organization), token_id, _MISSING)
