"""/client/v4: the token's own view: user, accounts, token verification (product.md 3.5)."""

from __future__ import annotations

from ninja import Query, Schema

from accounts.api_base import ApiRequest, ApiRouter, Page, Paging, page_of, rfc3339
from accounts.models import ApiToken, Organization
from accounts.permissions import Permission

router = ApiRouter(tags=["Accounts and tokens"])


class AccountSettings(Schema):
    enforce_twofactor: bool = False


class AccountResult(Schema):
    id: str
    name: str
    type: str = "standard"
    settings: AccountSettings = AccountSettings()
    created_on: str | None


class UserResult(Schema):
    id: str
    email: str
    first_name: str | None = None
    last_name: str | None = None
    suspended: bool = False
    organizations: list[AccountResult]


class TokenStatus(Schema):
    id: str
    status: str = "active"
    not_before: str | None
    expires_on: str | None


class AccountFilters(Schema):
    name: str | None = None


def shape_account(organization: Organization) -> AccountResult:
    return AccountResult(id=organization.id, name=organization.name, created_on=rfc3339(organization.created_at))


def _shape_token(token: ApiToken) -> TokenStatus:
    return TokenStatus(id=token.id, not_before=None, expires_on=rfc3339(token.expires_at))


@router.route("GET", "/user", Permission.SIGNED_IN, UserResult)
def get_user(request: ApiRequest) -> UserResult:
    """Who the token belongs to: the member who made it, or only its organization when that member is gone."""
    creator = request.token.created_by
    return UserResult(
        id=request.token.id,
        email=creator.email if creator else "",
        first_name=(creator.name or None) if creator else None,
        organizations=[shape_account(request.organization)],
    )


@router.route("GET", "/user/tokens/verify", Permission.SIGNED_IN, TokenStatus)
def verify_user_token(request: ApiRequest) -> TokenStatus:
    """200 when the token is valid; revoked and expired tokens get 401."""
    return _shape_token(request.token)


@router.route("GET", "/accounts", Permission.SIGNED_IN, AccountResult, paged=True)
def list_accounts(request: ApiRequest, paging: Query[Paging], filters: Query[AccountFilters]) -> Page:
    """The one organization the token is bound to."""
    own = request.organization
    wanted = filters.name is None or filters.name == own.name
    return page_of([own] if wanted else [], paging, shape_account)


@router.route("GET", "/accounts/{account_id}", Permission.SIGNED_IN, AccountResult)
def get_account(request: ApiRequest, account_id: str) -> AccountResult:
    return shape_account(request.organization)


@router.route("GET", "/accounts/{account_id}/tokens/verify", Permission.SIGNED_IN, TokenStatus)
def verify_account_token(request: ApiRequest, account_id: str) -> TokenStatus:
    return _shape_token(request.token)
