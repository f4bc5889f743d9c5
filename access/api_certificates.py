"""/client/v4 {accounts|zones}/…/access/certificates: authorities of client certificates (mutual TLS)."""

from __future__ import annotations

import hashlib
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from django.utils import timezone
from ninja import Field, Query, Schema

from access.actions.client_authorities import (
    create_client_authority,
    delete_client_authority,
    update_client_authority,
)
from access.models import ClientAuthority
from accounts.api_base import ApiRequest, ApiRouter, Deleted, Page, Paging, find, page_of, rfc3339
from accounts.permissions import Permission

router = ApiRouter(tags=["Client certificates"])
_MISSING = "No such certificate."


class CertificateBody(Schema):
    name: str = Field(min_length=1, max_length=350)
    certificate: str = Field(max_length=16 * 1024)
    associated_hostnames: list[str] = []


class CertificateChanges(Schema):
    name: str | None = Field(None, min_length=1, max_length=350)
    associated_hostnames: list[str]


class CertificateResult(Schema):
    """`fingerprint` is MD5, as the public API has it; `sha256_fingerprint` is the one to compare."""

    id: str
    name: str
    associated_hostnames: list[str]
    fingerprint: str
    sha256_fingerprint: str
    expires_on: str | None
    created_at: str | None
    updated_at: str | None


@router.route("GET", "/certificates", Permission.ACCESS_READ, CertificateResult, paged=True)
def list_certificates(request: ApiRequest, paging: Query[Paging]) -> Page:
    rows = ClientAuthority.objects.for_organization(request.organization).order_by("name", "id")
    return page_of(rows, paging, shape_client_authority)


@router.route("POST", "/certificates", Permission.ACCESS_EDIT, CertificateResult)
def create_certificate(request: ApiRequest, body: CertificateBody) -> CertificateResult:
    values: dict[str, Any] = body.model_dump()
    row = create_client_authority(request.organization, actor=request.actor, now=timezone.now(), **values)
    return shape_client_authority(row)


@router.route("GET", "/certificates/{certificate_id}", Permission.ACCESS_READ, CertificateResult)
def get_certificate(request: ApiRequest, certificate_id: str) -> CertificateResult:
    return shape_client_authority(_own(request, certificate_id))


@router.route("PUT", "/certificates/{certificate_id}", Permission.ACCESS_EDIT, CertificateResult)
def update_certificate(request: ApiRequest, certificate_id: str, body: CertificateChanges) -> CertificateResult:
    row = update_client_authority(
        _own(request, certificate_id),
        actor=request.actor,
        name=body.name,
        associated_hostnames=body.associated_hostnames,
    )
    return shape_client_authority(row)


@router.route("DELETE", "/certificates/{certificate_id}", Permission.ACCESS_EDIT, Deleted)
def delete_certificate(request: ApiRequest, certificate_id: str) -> Deleted:
    row = _own(request, certificate_id)
    identifier = str(row.pk)
    delete_client_authority(row, actor=request.actor)
    return Deleted(id=identifier)


def _own(request: ApiRequest, certificate_id: str) -> ClientAuthority:
    return find(ClientAuthority.objects.for_organization(request.organization), certificate_id, _MISSING)


def shape_client_authority(row: ClientAuthority) -> CertificateResult:
    der = load_pem_x509_certificate(row.certificate.encode()).public_bytes(Encoding.DER)
    return CertificateResult(
        id=str(row.pk),
        name=row.name,
        associated_hostnames=row.associated_hostnames,
        # A label of the public API, compared with nothing here.
        fingerprint=hashlib.md5(der, usedforsecurity=False).hexdigest(),
        sha256_fingerprint=row.fingerprint,
        expires_on=rfc3339(row.expires_at),
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
    )
