"""/client/v4 user/tokens and accounts/{id}/tokens: API tokens, made and revoked by one that may.

A token bears no more than it holds itself and none that outlives it (accounts/actions/api_tokens.py).
"""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone
from ninja import Field, Query, Schema

from accounts.actions.api_tokens import create_api_token, revoke_api_token
from accounts.api_base import ApiRequest, ApiRouter, Deleted, Page, Paging, find, page_of, rfc3339
from accounts.errors import InvalidInput
from accounts.models import ApiToken
from accounts.permissions import Permission

router = ApiRouter(tags=["Accounts and tokens"])
_MISSING = "No such API token."


class TokenBody(Schema):
    """`scopes` as the dashboard names them, for example access.read."""

    name: str = Field(min_length=1, max_length=120)
    scopes: list[str] = Field(min_length=1, max_length=100)
    expires_on: datetime | None = None


class TokenResult(Schema):
    id: str
    name: str
    status: str
    scopes: list[str]
    issued_on: str | None
    expires_on: str | None
    last_used_on: str | None


class NewTokenResult(TokenResult):
    # The token itself, in this one answer.
    value: str


@router.route("GET", "/tokens", Permission.TOKENS_READ, TokenResult, paged=True)
def list_api_tokens(request: ApiRequest, paging: Query[Paging]) -> Page:
    return page_of(ApiToken.objects.for_organization(request.organization).order_by("-created_at"), paging, shape_token)


@router.route("POST", "/tokens", Permission.TOKENS_EDIT, NewTokenResult)
def create_token(request: ApiRequest, body: TokenBody) -> NewTokenResult:
    """Holds at most the scopes of the token that asks, and expires no later than it."""
    if body.expires_on is not None and body.expires_on.tzinfo is None:
        text = "It needs a time zone, for example 2026-01-31T00:00:00Z."
        raise InvalidInput(text, fields={"expires_on": text})
    token, value = create_api_token(
        request.organization,
        name=body.name,
        scopes=body.scopes,
        expires_at=body.expires_on,
        user=request.token.created_by,
        made_with=request.token,
        actor=request.actor,
    )
    return NewTokenResult(**dict(shape_token(token)), value=value)


@router.route("GET", "/tokens/{api_token_id}", Permission.TOKENS_READ, TokenResult)
def get_token(request: ApiRequest, api_token_id: str) -> TokenResult:
    return shape_token(_own(request, api_token_id))


@router.route("DELETE", "/tokens/{api_token_id}", Permission.TOKENS_EDIT, Deleted)
def delete_token(request: ApiRequest, api_token_id: str) -> Deleted:
    """Revokes it. It stays in the list, as revoked."""
    revoke_api_token(_own(request, api_token_id), actor=request.actor)
    return Deleted(id=api_token_id)


def _own(request: ApiRequest, key: str) -> ApiToken:
    return find(ApiToken.objects.for_organization(request.organization), key, _MISSING)


def shape_token(token: ApiToken) -> TokenResult:
    gone = token.expires_at is not None and token.expires_at <= timezone.now()
    status = "disabled" if token.revoked_at is not None else "expired" if gone else "active"
    return TokenResult(
        id=token.pk,
        name=token.name,
        status=status,
        scopes=sorted(token.scopes),
        issued_on=rfc3339(token.created_at),
        expires_on=rfc3339(token.expires_at),
        last_used_on=rfc3339(token.last_used_at),
    )
