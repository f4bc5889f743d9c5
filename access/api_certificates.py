"""/client/v4 {accounts|zones}/…/access/certificates: authorities of client certificates (mutual TLS)."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from django.utils import timezone
from ninja import Field, Query, Schema

from access.actions.client_authorities import (
    MAX_PEM_CHARACTERS,
    create_client_authority,
    delete_client_authority,
    set_client_hostnames,
    set_revocations,
    update_client_authority,
)
from access.client_crls import MAX_PEM_CHARACTERS as MAX_LISTS_CHARACTERS
from access.models import ClientAuthority, ClientHostname
from accounts.api_base import ApiRequest, ApiRouter, Deleted, Page, Paging, find, page_of, rfc3339
from accounts.errors import InvalidInput
from accounts.permissions import Permission

router = ApiRouter(tags=["Client certificates"])
_MISSING = "No such certificate."


class CertificateBody(Schema):
    name: str = Field(min_length=1, max_length=350)
    certificate: str = Field(max_length=MAX_PEM_CHARACTERS)
    associated_hostnames: list[str] = []


class CertificateChanges(Schema):
    name: str | None = Field(None, min_length=1, max_length=350)
    associated_hostnames: list[str]


class RevocationList(Schema):
    issuer: str
    next_update: str | None
    revoked: int


class RevocationBody(Schema):
    """Lists in PEM, each signed by the root or one of its intermediates; empty takes them away."""

    crl: str = Field(max_length=MAX_LISTS_CHARACTERS)


class HostnameSetting(Schema):
    hostname: str = Field(max_length=253)
    china_network: bool = False
    client_certificate_forwarding: bool = False


class SettingsBody(Schema):
    settings: list[HostnameSetting] = Field(max_length=100)


class CertificateResult(Schema):
    """`fingerprint` is MD5, as the public API has it; `sha256_fingerprint` is the one to compare."""

    id: str
    name: str
    associated_hostnames: list[str]
    fingerprint: str
    sha256_fingerprint: str
    # Ours: how many intermediates came with the root, and its revocation lists.
    intermediates: int
    revocation_lists: list[RevocationList]
    expires_on: str | None
    created_at: str | None
    updated_at: str | None


@router.route("GET", "/certificates", Permission.ACCESS_READ, CertificateResult, paged=True)
def list_certificates(request: ApiRequest, paging: Query[Paging]) -> Page:
    rows = ClientAuthority.objects.for_organization(request.organization).order_by("name", "id")
    return page_of(rows, paging, shape_client_authority)


@router.route("GET", "/certificates/settings", Permission.ACCESS_READ, HostnameSetting, paged=True)
def list_certificate_settings(request: ApiRequest, paging: Query[Paging]) -> Page:
    return page_of(_settings(request), paging, lambda setting: setting)


@router.route("PUT", "/certificates/settings", Permission.ACCESS_EDIT, HostnameSetting, paged=True)
def update_certificate_settings(request: ApiRequest, body: SettingsBody) -> Page:
    """Of the hostnames that are named; others stay. With forwarding, origins get the certificate that was verified in
    the headers Cf-Client-Cert-Der-Base64 and Cf-Client-Cert-Sha256."""
    if any(setting.china_network for setting in body.settings):
        raise InvalidInput("china_network is not available.", fields={"settings": "china_network is not available."})
    forwarding = {setting.hostname: setting.client_certificate_forwarding for setting in body.settings}
    set_client_hostnames(request.organization, forwarding, actor=request.actor)
    return page_of(_settings(request), Paging(page=1, per_page=500), lambda setting: setting)


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


@router.route("PUT", "/certificates/{certificate_id}/revocation_lists", Permission.ACCESS_EDIT, CertificateResult)
def update_revocation_lists(request: ApiRequest, certificate_id: str, body: RevocationBody) -> CertificateResult:
    """Not in the public API. An expired list refuses every certificate of its issuer."""
    row = set_revocations(_own(request, certificate_id), actor=request.actor, lists=body.crl, now=timezone.now())
    return shape_client_authority(row)


@router.route("DELETE", "/certificates/{certificate_id}", Permission.ACCESS_EDIT, Deleted)
def delete_certificate(request: ApiRequest, certificate_id: str) -> Deleted:
    row = _own(request, certificate_id)
    identifier = str(row.pk)
    delete_client_authority(row, actor=request.actor)
    return Deleted(id=identifier)


def _own(request: ApiRequest, certificate_id: str) -> ClientAuthority:
    return find(ClientAuthority.objects.for_organization(request.organization), certificate_id, _MISSING)


def _settings(request: ApiRequest) -> list[Any]:
    rows = ClientHostname.objects.for_organization(request.organization)
    return [
        HostnameSetting(hostname=row.hostname, client_certificate_forwarding=row.client_certificate_forwarding)
        for row in rows
    ]


def shape_client_authority(row: ClientAuthority) -> CertificateResult:
    der = load_pem_x509_certificate(row.certificate.encode()).public_bytes(Encoding.DER)
    return CertificateResult(
        id=str(row.pk),
        name=row.name,
        associated_hostnames=row.associated_hostnames,
        # A label of the public API, compared with nothing here.
        fingerprint=hashlib.md5(der, usedforsecurity=False).hexdigest(),
        sha256_fingerprint=row.fingerprint,
        intermediates=row.intermediates.count("BEGIN CERTIFICATE"),
        revocation_lists=[
            RevocationList(
                issuer=entry["issuer_text"],
                next_update=rfc3339(datetime.fromtimestamp(entry["next_update"], tz=UTC)),
                revoked=len(entry["serials"]),
            )
            for entry in row.revocations
        ],
        expires_on=rfc3339(row.expires_at),
        created_at=rfc3339(row.created_at),
        updated_at=rfc3339(row.updated_at),
    )
