"""/client/v4 (ours): rotation of an application's SSH authority, its account names, and the certificates issued."""

from __future__ import annotations

from ninja import Query, Schema

from access.actions.authorities import activate_next_authority, rotate_authority
from access.actions.certificates import revoke_certificate
from access.actions.principals import release_principal
from access.api_policies import own_application
from access.models import Certificate, PrincipalClaim, SshAuthority
from accounts.api_base import ApiRequest, ApiRouter, Deleted, Page, Paging, find, page_of, rfc3339
from accounts.errors import NotFound
from accounts.permissions import Permission

router = ApiRouter(tags=["SSH certificates"])
_MISSING = "No such certificate."
_MAX_KEY = 2**63


class GenerationResult(Schema):
    """One key of the authority: next, active, retiring or retired."""

    id: str
    state: str
    public_key: str
    fingerprint: str
    algorithm: str
    created_at: str | None
    activated_at: str | None


class PrincipalResult(Schema):
    """An account name, and who holds it; `user_id` null: service tokens."""

    id: str
    principal: str
    user_id: str | None
    shared: bool


class CertificateFilters(Schema):
    serial: str | None = None
    key_id: str | None = None
    app_id: str | None = None


class IssuedResult(Schema):
    id: str
    serial: str
    key_id: str
    status: str
    app_id: str
    user_id: str | None
    service_token_id: str | None
    principals: list[str]
    valid_after: str | None
    valid_before: str | None
    revoked_at: str | None


@router.route("GET", "/apps/{app_id}/ca/keys", Permission.ACCESS_READ, GenerationResult, paged=True)
def list_authority_keys(request: ApiRequest, app_id: str, paging: Query[Paging]) -> Page:
    rows = SshAuthority.objects.for_organization(request.organization).filter(
        application=own_application(request, app_id)
    )
    return page_of(rows.order_by("-created_at", "-pk"), paging, _shape_generation)


@router.route("POST", "/apps/{app_id}/ca/rotate", Permission.ACCESS_EDIT, GenerationResult)
def rotate_ssh_authority(request: ApiRequest, app_id: str) -> GenerationResult:
    """Has a worker make the next key. It signs nothing before ca/activate, or the end of the overlap."""
    return _shape_generation(rotate_authority(own_application(request, app_id), actor=request.actor))


@router.route("POST", "/apps/{app_id}/ca/activate", Permission.ACCESS_EDIT, GenerationResult)
def activate_ssh_authority(request: ApiRequest, app_id: str) -> GenerationResult:
    """The next key signs from now on: every host must have it in its ca.pub."""
    return _shape_generation(activate_next_authority(own_application(request, app_id), actor=request.actor))


@router.route("GET", "/apps/{app_id}/ca/principals", Permission.ACCESS_READ, PrincipalResult, paged=True)
def list_principals(request: ApiRequest, app_id: str, paging: Query[Paging]) -> Page:
    rows = PrincipalClaim.objects.for_organization(request.organization).filter(
        application=own_application(request, app_id)
    )
    return page_of(rows.order_by("principal", "pk"), paging, _shape_principal)


@router.route("DELETE", "/apps/{app_id}/ca/principals/{principal_id}", Permission.ACCESS_EDIT, Deleted)
def release_account_name(request: ApiRequest, app_id: str, principal_id: str) -> Deleted:
    """The name is free: the next person it fits may take it."""
    application = own_application(request, app_id)
    rows = PrincipalClaim.objects.for_organization(request.organization).filter(application=application)
    is_key = principal_id.isascii() and principal_id.isdigit() and int(principal_id[:20]) < _MAX_KEY
    claim = rows.filter(pk=int(principal_id[:20])).first() if is_key else None
    if claim is None:
        raise NotFound("Nobody holds that account name.")
    release_principal(claim, actor=request.actor)
    return Deleted(id=principal_id)


@router.route("GET", "/ssh_certificates", Permission.LOGS_READ, IssuedResult, paged=True)
def list_ssh_certificates(request: ApiRequest, paging: Query[Paging], filters: Query[CertificateFilters]) -> Page:
    """Newest first."""
    rows = Certificate.objects.for_organization(request.organization)
    if filters.serial is not None:
        rows = rows.filter(serial=filters.serial)
    if filters.key_id is not None:
        rows = rows.filter(key_id=filters.key_id)
    if filters.app_id is not None:
        rows = rows.filter(application=own_application(request, filters.app_id))
    return page_of(rows.order_by("-created_at", "-id"), paging, _shape)


@router.route("GET", "/ssh_certificates/{ssh_certificate_id}", Permission.LOGS_READ, IssuedResult)
def get_ssh_certificate(request: ApiRequest, ssh_certificate_id: str) -> IssuedResult:
    return _shape(_own(request, ssh_certificate_id))


@router.route("POST", "/ssh_certificates/{ssh_certificate_id}/revoke", Permission.ACCESS_EDIT, IssuedResult)
def revoke_ssh_certificate(request: ApiRequest, ssh_certificate_id: str) -> IssuedResult:
    """Hosts that use the revocation list refuse it from their next fetch on."""
    return _shape(revoke_certificate(_own(request, ssh_certificate_id), actor=request.actor))


def _own(request: ApiRequest, key: str) -> Certificate:
    rows = Certificate.objects.for_organization(request.organization).select_related("organization", "application")
    return find(rows, key, _MISSING)


def _shape(row: Certificate) -> IssuedResult:
    return IssuedResult(
        id=str(row.pk),
        serial=row.serial,
        key_id=row.key_id,
        status=row.status,
        app_id=str(row.application_id),
        user_id=str(row.identity_id) if row.identity_id else None,
        service_token_id=str(row.service_token_id) if row.service_token_id else None,
        principals=row.principals,
        valid_after=rfc3339(row.valid_after),
        valid_before=rfc3339(row.valid_before),
        revoked_at=rfc3339(row.revoked_at),
    )


def _shape_generation(row: SshAuthority) -> GenerationResult:
    return GenerationResult(
        id=row.pk.hex,
        state=row.state,
        public_key=row.public_key,
        fingerprint=row.fingerprint,
        algorithm=row.algorithm,
        created_at=rfc3339(row.created_at),
        activated_at=rfc3339(row.activated_at),
    )


def _shape_principal(row: PrincipalClaim) -> PrincipalResult:
    holder = str(row.identity_id) if row.identity_id else None
    return PrincipalResult(id=str(row.pk), principal=row.principal, user_id=holder, shared=row.shared)
