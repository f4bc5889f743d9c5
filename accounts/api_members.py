"""/client/v4/accounts/{id}/members and roles: who uses the dashboard, and who is invited to.

A pending invitation is a member of status `pending`, under its own id, as the public API has it. What a token does to
members it does by the right of the member who made it, and owners are out of its reach (accounts/actions/members.py).
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from ninja import Field, Query, Schema

from accounts.actions.invitations import invite_member, renew_invitation, withdraw_invitation
from accounts.actions.members import change_role, remove_member
from accounts.api_base import ApiRequest, ApiRouter, Deleted, Page, Paging, as_uuid, page_of, rfc3339
from accounts.errors import Conflict, InvalidInput, NotFound, PermissionDenied
from accounts.models import Invitation, Membership, User
from accounts.permissions import ROLE_PERMISSIONS, ROLE_TEXTS, Permission, Role

router = ApiRouter(tags=["Members"])
_MISSING = "No such member."
_MAX_KEY = 2**31


class RoleReference(Schema):
    id: str = Field(max_length=32)


class RoleResult(Schema):
    id: str
    name: str
    description: str
    permissions: dict[str, dict[str, bool]]


class MemberUser(Schema):
    id: str
    email: str
    first_name: str | None
    two_factor_authentication_enabled: bool = False


class MemberResult(Schema):
    id: str
    email: str
    status: str
    roles: list[RoleResult]
    user: MemberUser | None
    # Ours: of an invitation.
    expires_on: str | None = None


class MemberBody(Schema):
    """`roles` holds one role, by its id or as an object with an id."""

    email: str = Field(max_length=254)
    roles: list[str | RoleReference] = Field(min_length=1, max_length=1)
    status: str | None = None


class MemberChanges(Schema):
    roles: list[str | RoleReference] = Field(min_length=1, max_length=1)


@router.route("GET", "/roles", Permission.MEMBERS_READ, RoleResult, paged=True)
def list_roles(request: ApiRequest, paging: Query[Paging]) -> Page:
    return page_of(list(Role), paging, _shape_role)  # type: ignore[type-var]


@router.route("GET", "/members", Permission.MEMBERS_READ, MemberResult, paged=True)
def list_members(request: ApiRequest, paging: Query[Paging]) -> Page:
    members = [_shape(row) for row in _memberships(request).order_by("user__email", "pk")]
    pending = [_shape_invitation(row) for row in _invitations(request).order_by("email", "pk")]
    return page_of([*members, *pending], paging, lambda row: row)  # type: ignore[type-var]


@router.route("POST", "/members", Permission.MEMBERS_EDIT, MemberResult)
def add_account_member(request: ApiRequest, body: MemberBody) -> MemberResult:
    """Sends an invitation. It stands on the right of the member who made the token."""
    invitation = invite_member(
        request.organization, email=body.email, role=_role(body.roles), user=_inviter(request), actor=request.actor
    )
    return _shape_invitation(invitation)


@router.route("GET", "/members/{member_id}", Permission.MEMBERS_READ, MemberResult)
def get_account_member(request: ApiRequest, member_id: str) -> MemberResult:
    found = _own(request, member_id)
    return _shape(found) if isinstance(found, Membership) else _shape_invitation(found)


@router.route("PUT", "/members/{member_id}", Permission.MEMBERS_EDIT, MemberResult)
def update_account_member(request: ApiRequest, member_id: str, body: MemberChanges) -> MemberResult:
    """Another role. Who is only invited keeps the role of the invitation: withdraw it and invite again."""
    found = _own(request, member_id)
    if isinstance(found, Invitation):
        raise Conflict("An invitation keeps its role. Withdraw it, and invite again.", code="invitation_pending")
    change_role(found, role=_role(body.roles), actor=request.actor)
    return _shape(_memberships(request).get(pk=found.pk))


@router.route("DELETE", "/members/{member_id}", Permission.MEMBERS_EDIT, Deleted)
def remove_account_member(request: ApiRequest, member_id: str) -> Deleted:
    """Removes a member, or withdraws an invitation."""
    found = _own(request, member_id)
    if isinstance(found, Membership):
        remove_member(found, actor=request.actor)
    else:
        withdraw_invitation(found, actor=request.actor)
    return Deleted(id=member_id)


@router.route("POST", "/members/{member_id}/resend", Permission.MEMBERS_EDIT, MemberResult)
def resend_account_invitation(request: ApiRequest, member_id: str) -> MemberResult:
    """Ours: a new mail with a new link, for another 7 days."""
    found = _own(request, member_id)
    if isinstance(found, Membership):
        raise Conflict("They are a member already.", code="already_member")
    return _shape_invitation(renew_invitation(found, user=_inviter(request), actor=request.actor))


def _inviter(request: ApiRequest) -> User:
    user = request.token.created_by
    if user is None:
        raise PermissionDenied("The member who made this token is gone, so nobody vouches for an invitation.")
    return user


def _role(sent: list[str | RoleReference]) -> str:
    wanted = sent[0] if isinstance(sent[0], str) else sent[0].id
    if wanted not in set(Role):
        text = f"Roles are {', '.join(role.value for role in Role)}."
        raise InvalidInput(text, fields={"roles": text})
    return wanted


def _own(request: ApiRequest, key: str) -> Membership | Invitation:
    invitation_id = as_uuid(key)
    row: Membership | Invitation | None = None
    if invitation_id is not None:
        row = _invitations(request).filter(pk=invitation_id).first()
    elif key.isascii() and key.isdigit() and int(key[:12]) < _MAX_KEY:
        row = _memberships(request).filter(pk=int(key[:12])).first()
    if row is None:
        raise NotFound(_MISSING)
    return row


def _memberships(request: ApiRequest) -> Any:
    return Membership.objects.for_organization(request.organization).select_related("user", "organization")


def _invitations(request: ApiRequest) -> Any:
    rows = Invitation.objects.for_organization(request.organization).select_related("organization")
    return rows.filter(accepted_at=None, withdrawn_at=None)


def _shape(row: Membership) -> MemberResult:
    user = MemberUser(id=str(row.user_id), email=row.user.email, first_name=row.user.name or None)
    roles = [_shape_role(Role(row.role))]
    return MemberResult(id=str(row.pk), email=row.user.email, status="accepted", roles=roles, user=user)


def _shape_invitation(row: Invitation) -> MemberResult:
    roles = [_shape_role(Role(row.role))]
    expires = rfc3339(row.expires_at)
    key = row.pk.hex if isinstance(row.pk, UUID) else str(row.pk)
    return MemberResult(id=key, email=row.email, status="pending", roles=roles, user=None, expires_on=expires)


def _shape_role(role: Role) -> RoleResult:
    name, _, text = ROLE_TEXTS[role].partition(": ")
    areas: dict[str, dict[str, bool]] = {}
    for permission in ROLE_PERMISSIONS[role]:
        area, _, verb = permission.value.partition(".")
        areas.setdefault(area, {"read": False, "edit": False})[verb] = True
    return RoleResult(id=role.value, name=name, description=text, permissions=dict(sorted(areas.items())))
