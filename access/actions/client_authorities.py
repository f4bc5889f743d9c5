"""Roots whose client certificates the edge accepts on hostnames of the organization (mutual TLS)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from django.db import IntegrityError, transaction

from access import events
from access.actions.groups import checked_name
from access.hostnames import assert_owned, normalise_hostname
from access.models import ClientAuthority
from accounts import audit
from accounts.actor import Actor
from accounts.errors import Conflict, DomainError, InvalidInput
from accounts.models import Organization

MAX_AUTHORITIES = 50
MAX_HOSTNAMES = 50
MAX_PEM_CHARACTERS = 16 * 1024
MIN_RSA_BITS = 2048


@transaction.atomic
def create_client_authority(
    organization: Organization,
    *,
    actor: Actor,
    name: str,
    certificate: str,
    associated_hostnames: Sequence[str] = (),
    now: datetime,
) -> ClientAuthority:
    """`certificate`: one CA certificate in PEM. Edges ask for client certificates on the hostnames from now on."""
    organization = Organization.objects.select_for_update().get(pk=organization.pk)
    if ClientAuthority.objects.for_organization(organization).count() >= MAX_AUTHORITIES:
        raise Conflict(f"An organization has at most {MAX_AUTHORITIES} client certificate authorities.")
    parsed = _checked_certificate(certificate, now)
    row = ClientAuthority(
        organization=organization,
        name=checked_name(name),
        certificate=_pem(parsed),
        subject=parsed.subject.rfc4514_string()[:500],
        fingerprint=parsed.fingerprint(hashes.SHA256()).hex(),
        associated_hostnames=_checked_hostnames(organization, associated_hostnames),
        expires_at=parsed.not_valid_after_utc,
    )
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError as error:
        raise Conflict("This certificate is in the list already.", code="client_authority_exists") from error
    audit.record(events.CLIENT_AUTHORITY_CREATED, organization=organization, actor=actor, target=row, new=_facts(row))
    return row


@transaction.atomic
def update_client_authority(
    row: ClientAuthority,
    *,
    actor: Actor,
    name: str | None = None,
    associated_hostnames: Sequence[str] | None = None,
) -> ClientAuthority:
    """None keeps a value. The certificate itself never changes: add another, then delete this one."""
    organization = row.organization
    row = ClientAuthority.objects.for_organization(organization).select_for_update().get(pk=row.pk)
    old = _facts(row)
    row.name = row.name if name is None else checked_name(name)
    if associated_hostnames is not None:
        row.associated_hostnames = _checked_hostnames(organization, associated_hostnames)
    row.save()
    audit.record(
        events.CLIENT_AUTHORITY_UPDATED, organization=organization, actor=actor, target=row, old=old, new=_facts(row)
    )
    return row


@transaction.atomic
def delete_client_authority(row: ClientAuthority, *, actor: Actor) -> None:
    """Its certificates count nowhere from now on; streams that rest on them are cut."""
    audit.record(
        events.CLIENT_AUTHORITY_DELETED, organization=row.organization, actor=actor, target=row, old=_facts(row)
    )
    row.delete()


def _checked_certificate(text: str, now: datetime) -> x509.Certificate:
    if len(text) > MAX_PEM_CHARACTERS or "PRIVATE KEY" in text:
        raise _invalid("Paste one certificate in PEM, without any private key.")
    try:
        found = x509.load_pem_x509_certificates(text.strip().encode())
    except ValueError as error:
        raise _invalid("This is no certificate in PEM (-----BEGIN CERTIFICATE-----).") from error
    if len(found) != 1:
        raise _invalid("Paste exactly one certificate: the root that signs your client certificates.")
    certificate = found[0]
    try:
        is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        is_authority = False
    if not is_authority:
        raise _invalid("This certificate is not one of an authority (basic constraints, CA: true).")
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise _invalid("This authority did not sign itself: paste the root, not an intermediate.") from error
    if certificate.not_valid_after_utc <= now:
        raise _invalid("This certificate has expired.")
    _check_key(certificate)
    return certificate


def _check_key(certificate: x509.Certificate) -> None:
    key = certificate.public_key()
    weak_rsa = isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS
    if weak_rsa or not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise _invalid(f"The authority's key must be RSA of at least {MIN_RSA_BITS} bits, ECDSA or Ed25519.")
    weak = (hashes.MD5, hashes.SHA1)
    if isinstance(certificate.signature_hash_algorithm, weak):
        raise _invalid("The certificate is signed with MD5 or SHA-1, which nobody can rely on any more.")


def _pem(certificate: x509.Certificate) -> str:
    # Encoded again: nothing but the certificate reaches the edges.
    return certificate.public_bytes(Encoding.PEM).decode()


def _checked_hostnames(organization: Organization, hostnames: Sequence[str]) -> list[str]:
    if len(hostnames) > MAX_HOSTNAMES:
        raise _invalid(f"At most {MAX_HOSTNAMES} hostnames.", "associated_hostnames")
    checked = []
    for text in hostnames:
        try:
            hostname = normalise_hostname(str(text))
            if hostname.startswith("*."):
                raise InvalidInput(f"{hostname}: name each hostname, without a wildcard.")
            assert_owned(organization, hostname)
        except DomainError as error:
            raise _invalid(error.message, "associated_hostnames") from error
        checked.append(hostname)
    return list(dict.fromkeys(checked))


def _facts(row: ClientAuthority) -> dict[str, Any]:
    return {
        "name": row.name,
        "subject": row.subject,
        "fingerprint": row.fingerprint,
        "associated_hostnames": row.associated_hostnames,
        "expires_at": row.expires_at.isoformat(),
    }


def _invalid(message: str, field: str = "certificate") -> InvalidInput:
    return InvalidInput(message, code="invalid_client_authority", fields={field: message})
