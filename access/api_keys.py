"""/client/v4 accounts/…/access/keys: the RS256 keys that sign this organization's tokens (product.md 1.14)."""

from __future__ import annotations

from django.utils import timezone
from ninja import Field, Schema

from access.actions.token_keys import ROTATION_INTERVAL, rotate_token_keys
from access.models import TokenKey
from accounts.api_base import ApiRequest, ApiRouter, rfc3339
from accounts.errors import InvalidInput
from accounts.models import Organization
from accounts.permissions import Permission

router = ApiRouter(tags=["Token keys"])


class KeysBody(Schema):
    key_rotation_interval_days: int = Field(ge=1, le=3650)


class KeysResult(Schema):
    key_rotation_interval_days: int
    last_key_rotation_at: str | None
    days_until_next_rotation: int


@router.route("GET", "/keys", Permission.ORGANIZATION_READ, KeysResult)
def get_token_keys(request: ApiRequest) -> KeysResult:
    """`last_key_rotation_at` is null before the first login, when there are no keys yet."""
    return _shape(request.organization)


@router.route("PUT", "/keys", Permission.ORGANIZATION_EDIT, KeysResult)
def put_token_keys(request: ApiRequest, body: KeysBody) -> KeysResult:
    """For tools that send the setting back: the interval is the installation's and cannot be changed."""
    if body.key_rotation_interval_days != ROTATION_INTERVAL.days:
        message = f"Token keys rotate every {ROTATION_INTERVAL.days} days on every organization; rotate at will."
        raise InvalidInput(message, fields={"key_rotation_interval_days": message})
    return _shape(request.organization)


@router.route("POST", "/keys/rotate", Permission.ORGANIZATION_EDIT, KeysResult)
def rotate_keys(request: ApiRequest) -> KeysResult:
    """The next key signs from now on; tokens of the old one stay valid until they end."""
    rotate_token_keys(request.organization, now=timezone.now(), actor=request.actor)
    return _shape(request.organization)


def _shape(organization: Organization) -> KeysResult:
    key = TokenKey.objects.for_organization(organization).filter(state=TokenKey.State.ACTIVE).first()
    rotated_at = (key.activated_at or key.created_at) if key else None
    left = ROTATION_INTERVAL if rotated_at is None else rotated_at + ROTATION_INTERVAL - timezone.now()
    return KeysResult(
        key_rotation_interval_days=ROTATION_INTERVAL.days,
        last_key_rotation_at=rfc3339(rotated_at),
        days_until_next_rotation=max(0, left.days),
    )
