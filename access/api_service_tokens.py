"""/client/v4 {accounts|zones}/…/access/service_tokens. Secrets are in the create and rotate answers only."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
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
    ChangedServiceTokenResult,
    NewServiceTokenResult,
    RotateBody,
    ServiceTokenBody,
    ServiceTokenChanges,
    ServiceTokenResult,
    shape_changed_service_token,
    shape_new_service_token,
    shape_service_token,
    token_seconds,
)
from access.models import ServiceToken
from accounts.api_base import ApiRequest, ApiRouter, Page, Paging, find, page_of
from accounts.errors import InvalidInput
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
    if body.client_secret_version not in (None, 1):
        raise InvalidInput("A new token's secret has version 1.", fields={"client_secret_version": "Must be 1."})
    token, secret = create_service_token(
        request.organization,
        actor=request.actor,
        name=body.name,
        duration_seconds=token_seconds(body.duration),
        enabled=body.enabled,
    )
    return shape_new_service_token(token, secret)


@router.route("GET", "/service_tokens/{token_id}", Permission.SERVICE_TOKENS_READ, ServiceTokenResult)
def get_service_token(request: ApiRequest, token_id: str) -> ServiceTokenResult:
    return shape_service_token(_own(request, token_id))


@router.route("PUT", "/service_tokens/{token_id}", Permission.SERVICE_TOKENS_EDIT, ChangedServiceTokenResult)
def update_access_service_token(
    request: ApiRequest, token_id: str, body: ServiceTokenChanges
) -> ChangedServiceTokenResult:
    """Without `duration` the expiry stays; a disabled token can be enabled again. `client_secret_version` one above
    the present one rotates the secret, which this answer then shows."""
    token = _own(request, token_id)
    version = body.client_secret_version
    if version not in (None, token.secret_version, token.secret_version + 1):
        message = f"The secret's version is {token.secret_version}; the next one is {token.secret_version + 1}."
        raise InvalidInput(message, fields={"client_secret_version": message})
    seconds = token.duration_seconds if body.duration is None else token_seconds(body.duration)
    secret = None
    with transaction.atomic():
        updated = update_service_token(
            token,
            actor=request.actor,
            name=token.name if body.name is None else body.name,
            duration_seconds=seconds,
            enabled=body.enabled,
        )
        if version == token.secret_version + 1:
            secret = rotate_service_token(
                token, actor=request.actor, previous_expires_at=aware(body.previous_client_secret_expires_at)
            )
            updated = _own(request, token_id)
    return shape_changed_service_token(updated, secret)


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
def rotate_access_service_token(
    request: ApiRequest, token_id: str, body: RotateBody | None = None
) -> NewServiceTokenResult:
    """A new secret. The old one works until `previous_client_secret_expires_at`; without it, it stops at once."""
    token = _own(request, token_id)
    until = aware(body.previous_client_secret_expires_at) if body is not None else None
    secret = rotate_service_token(token, actor=request.actor, previous_expires_at=until)
    token.refresh_from_db()
    return shape_new_service_token(token, secret)


def aware(moment: datetime | None) -> datetime | None:
    if moment is not None and moment.tzinfo is None:
        message = "It needs a time zone, for example 2026-01-31T00:00:00Z."
        raise InvalidInput(message, fields={"previous_client_secret_expires_at": message})
    return moment


def _own(request: ApiRequest, token_id: str) -> ServiceToken:
    return find(ServiceToken.objects.for_organization(request.organization), token_id, _MISSING)
