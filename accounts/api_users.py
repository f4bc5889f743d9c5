"""/client/v4 accounts/…/access/users: people as identity providers know them, and their sessions (product.md 1.12)."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from django.utils import timezone
from ninja import Field, Query, Schema

from accounts.actions.authenticators import reset_authenticators
from accounts.actions.identities import create_identity, delete_identity, disable_identity, enable_identity
from accounts.actions.sessions import revoke_session
from accounts.api_base import ApiRequest, ApiRouter, Deleted, Page, Paging, find, page_of, rfc3339
from accounts.errors import Conflict, InvalidInput, NotFound
from accounts.models import AccessSession, Identity, IdentityProvider
from accounts.permissions import Permission
from accounts.tenancy import TenantQuerySet

router = ApiRouter(tags=["Users and sessions"])
_MISSING = "No such user."


class UserFilters(Schema):
    name: str | None = None
    email: str | None = None
    search: str | None = None


class AccessUserResult(Schema):
    id: str
    uid: str
    email: str
    name: str
    access_seat: bool
    gateway_seat: bool = False
    seat_uid: str | None
    active_device_count: int = 0
    last_successful_login: str | None
    created_at: str | None
    updated_at: str | None
    # Ours: the provider that knows this person, whether their access is off, and whether an administrator blocked them.
    identity_provider_id: str
    disabled: bool
    blocked: bool


class UserBody(Schema):
    """`identity_provider_id` (ours): who is to know them; without it, one-time PIN. `subject` (ours): by which name."""

    email: str = Field(min_length=3, max_length=254)
    name: str = Field("", max_length=350)
    identity_provider_id: str | None = None
    subject: str = Field("", max_length=255)


class UserChanges(Schema):
    """`email` and `name` are what the login method says: they may be sent back as they are."""

    email: str | None = None
    name: str | None = None
    disabled: bool | None = None


class SessionMetadata(Schema):
    apps: dict[str, Any] = {}
    expires: int
    iat: int
    nonce: str
    ttl: int


class SessionResult(Schema):
    name: str
    expiration: int
    metadata: SessionMetadata


@router.route("GET", "/users", Permission.IDENTITY_READ, AccessUserResult, paged=True)
def list_users(request: ApiRequest, paging: Query[Paging], filters: Query[UserFilters]) -> Page:
    rows = Identity.objects.for_organization(request.organization).select_related("provider").order_by("email", "id")
    if filters.name is not None:
        rows = rows.filter(name=filters.name)
    if filters.email is not None:
        rows = rows.filter(email__iexact=filters.email)
    if filters.search:
        rows = rows.filter(Q(email__icontains=filters.search) | Q(name__icontains=filters.search))
    return page_of(rows, paging, shape_user)


@router.route("GET", "/users/{user_id}", Permission.IDENTITY_READ, AccessUserResult)
def get_access_user(request: ApiRequest, user_id: str) -> AccessUserResult:
    return shape_user(own_identity(request, user_id))


@router.route("POST", "/users", Permission.IDENTITY_EDIT, AccessUserResult)
def create_access_user(request: ApiRequest, body: UserBody) -> AccessUserResult:
    """A person before their first login. It lets nobody in: policies decide, and the login says who they are."""
    rows = IdentityProvider.objects.for_organization(request.organization).select_related("organization")
    if body.identity_provider_id is not None:
        provider = find(rows, body.identity_provider_id, "No such identity provider.")
    else:
        pin = rows.filter(type=IdentityProvider.Type.ONE_TIME_PIN).first()
        if pin is None:
            text = "There is no one-time PIN login here: say which identity provider knows them, and by which subject."
            raise InvalidInput(text, fields={"identity_provider_id": text})
        provider = pin
    identity = create_identity(provider, subject=body.subject, email=body.email, name=body.name, actor=request.actor)
    return shape_user(identity)


@router.route("DELETE", "/users/{user_id}", Permission.IDENTITY_EDIT, Deleted)
def delete_access_user(request: ApiRequest, user_id: str) -> Deleted:
    """Of somebody who never logged in. Others are disabled (PUT): certificates and logs name them."""
    identity = own_identity(request, user_id)
    identifier = str(identity.pk)
    delete_identity(identity, actor=request.actor)
    return Deleted(id=identifier)


@router.route("PUT", "/users/{user_id}", Permission.IDENTITY_EDIT, AccessUserResult)
def update_access_user(request: ApiRequest, user_id: str, body: UserChanges) -> AccessUserResult:
    """`disabled` blocks the person (sessions end, connections are cut), whatever their provider says later, and lifts
    that again."""
    identity = own_identity(request, user_id)
    for name in ("email", "name"):
        if getattr(body, name) not in (None, getattr(identity, name)):
            text = f"The {name} is what {identity.provider.name} says at each login; change it there."
            raise InvalidInput(text, fields={name: text})
    if body.disabled and not identity.is_blocked:
        disable_identity(identity, actor=request.actor)
    elif body.disabled is False and identity.disabled_at is not None:
        enable_identity(identity, actor=request.actor)
    return shape_user(own_identity(request, user_id))


@router.route("DELETE", "/users/{user_id}/authenticators", Permission.IDENTITY_EDIT, Deleted)
def reset_user_authenticators(request: ApiRequest, user_id: str) -> Deleted:
    """Ours: all second factors and recovery codes are gone; the person adds new ones."""
    identity = own_identity(request, user_id)
    reset_authenticators(identity, actor=request.actor)
    return Deleted(id=str(identity.pk))


@router.route("GET", "/users/{user_id}/active_sessions", Permission.IDENTITY_READ, SessionResult, paged=True)
def list_active_sessions(request: ApiRequest, user_id: str, paging: Query[Paging]) -> Page:
    sessions = _sessions(own_identity(request, user_id)).filter(revoked_at=None, expires_at__gt=timezone.now())
    return page_of(sessions, paging, _shape_session)


@router.route("GET", "/users/{user_id}/active_sessions/{nonce}", Permission.IDENTITY_READ, dict[str, Any])
def get_active_session(request: ApiRequest, user_id: str, nonce: str) -> dict[str, Any]:
    session = _sessions(own_identity(request, user_id)).filter(nonce=nonce).first()
    if session is None:
        raise NotFound("No such session.")
    return identity_document(session) | {"isActive": session.is_active(timezone.now())}


@router.route("DELETE", "/users/{user_id}/active_sessions/{nonce}", Permission.IDENTITY_EDIT, Deleted)
def end_active_session(request: ApiRequest, user_id: str, nonce: str) -> Deleted:
    """Ours: ends this one session. organizations/revoke_user ends all of a person's."""
    session = _sessions(own_identity(request, user_id)).filter(nonce=nonce).first()
    if session is None:
        raise NotFound("No such session.")
    if not revoke_session(session, actor=request.actor):
        raise Conflict("That session was ended before.", code="already_revoked")
    return Deleted(id=str(session.pk))


@router.route("GET", "/users/{user_id}/last_seen_identity", Permission.IDENTITY_READ, dict[str, Any])
def get_last_seen_identity(request: ApiRequest, user_id: str) -> dict[str, Any]:
    """The identity as of the person's last login."""
    session = _sessions(own_identity(request, user_id)).first()
    if session is None:
        raise NotFound("This user has not logged in yet.")
    return identity_document(session)


def own_identity(request: ApiRequest, user_id: str) -> Identity:
    return find(Identity.objects.for_organization(request.organization), user_id, _MISSING)


def shape_user(identity: Identity) -> AccessUserResult:
    identifier = str(identity.pk)
    gave_up_seat = identity.disabled_at is not None and identity.provider.scim_seat_deprovision
    logged_in = identity.last_login_at is not None and not gave_up_seat
    return AccessUserResult(
        id=identifier,
        uid=identifier,
        email=identity.email,
        name=identity.name,
        access_seat=logged_in,
        seat_uid=identifier if logged_in else None,
        last_successful_login=rfc3339(identity.last_login_at),
        created_at=rfc3339(identity.created_at),
        updated_at=rfc3339(identity.last_login_at or identity.created_at),
        identity_provider_id=str(identity.provider_id),
        disabled=identity.disabled_at is not None,
        blocked=identity.is_blocked,
    )


def identity_document(session: AccessSession) -> dict[str, Any]:
    """The identity in the shape of get-identity (product.md 2)."""
    identity = session.identity
    return {
        "id": identity.subject,
        "name": identity.name,
        "email": identity.email,
        "groups": identity.groups,
        "idp": {"id": str(identity.provider_id), "type": identity.provider.type},
        "geo": {"country": session.country},
        "user_uuid": str(identity.pk),
        "account_id": session.organization_id,
        "iat": int(session.created_at.timestamp()),
        "ip": session.ip_address,
        "amr": session.all_methods,
        "auth_status": "NONE",
        "common_name": "",
        "service_token_id": "",
        "service_token_status": False,
        "is_warp": False,
        "is_gateway": False,
        "version": 2,
    }


def _sessions(identity: Identity) -> TenantQuerySet[AccessSession]:
    rows = AccessSession.objects.for_organization(identity.organization).filter(identity=identity)
    return rows.select_related("identity__provider").order_by("-created_at", "-id")


def _shape_session(session: AccessSession) -> SessionResult:
    issued, expires = int(session.created_at.timestamp()), int(session.expires_at.timestamp())
    metadata = SessionMetadata(expires=expires, iat=issued, nonce=session.nonce, ttl=max(0, expires - issued))
    return SessionResult(name=str(session.pk), expiration=expires, metadata=metadata)
