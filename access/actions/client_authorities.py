"""Roots whose client certificates the edge accepts on hostnames of the organization (mutual TLS)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from django.db import IntegrityError, transaction

from access import events
from access.actions.groups import checked_name
from access.client_crls import read_lists
from access.hostnames import assert_owned, normalise_hostname
from access.models import ClientAuthority, ClientHostname
from accounts import audit
from accounts.actions.deletions import keep_deleted
from accounts.actor import Actor
from accounts.errors import Conflict, DomainError, InvalidInput, NotFound
from accounts.models import DeletedObject, Organization

MAX_AUTHORITIES = 50
MAX_HOSTNAMES = 50
MAX_CLIENT_HOSTNAMES = 500
MAX_INTERMEDIATES = 10
MAX_PEM_CHARACTERS = 64 * 1024
MIN_RSA_BITS = 2048


@transaction.atomic
def create_client_authority(
    organization: Organization,
    *,
    actor: Actor,
    name: str,
    certificate: str,
    associated_hostnames: Sequence[str] = (),
    forwarding: bool | None = None,
    now: datetime,
    revocations: Sequence[Mapping[str, Any]] = (),
    key: UUID | None = None,
) -> ClientAuthority:
    """`certificate`: the root in PEM, with its intermediates if there are any. Edges ask for client certificates on the
    hostnames from now on. `forwarding`: whether origins there get to see them, None: as it is.
    `revocations` and `key`: the checked lists and the id it had, when its deletion is undone."""
    organization = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    if ClientAuthority.objects.for_organization(organization).count() >= MAX_AUTHORITIES:
        raise Conflict(f"An organization has at most {MAX_AUTHORITIES} client certificate authorities.")
    parsed, intermediates = _checked_bundle(certificate, now)
    row = ClientAuthority(
        pk=key or uuid4(),
        organization=organization,
        revocations=list(revocations),
        name=checked_name(name),
        certificate=_pem(parsed),
        intermediates="".join(_pem(one) for one in intermediates),
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
    switched = {} if forwarding is None else _forward(organization, row.associated_hostnames, forwarding)
    audit.record(events.CLIENT_AUTHORITY_CREATED, organization=organization, actor=actor, target=row, new=_facts(row))
    _record_hostnames(organization, switched, actor)
    return row


@transaction.atomic
def update_client_authority(
    row: ClientAuthority,
    *,
    actor: Actor,
    name: str | None = None,
    associated_hostnames: Sequence[str] | None = None,
    forwarding: bool | None = None,
) -> ClientAuthority:
    """None keeps a value. The certificate itself never changes: add another, then delete this one."""
    organization = row.organization
    if forwarding is not None:
        organization = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    hostnames = None if associated_hostnames is None else _checked_hostnames(organization, associated_hostnames)
    row = ClientAuthority.objects.for_organization(organization).select_for_update(no_key=True).get(pk=row.pk)
    old = _facts(row)
    row.name = row.name if name is None else checked_name(name)
    row.associated_hostnames = row.associated_hostnames if hostnames is None else hostnames
    row.save()
    switched = {} if forwarding is None else _forward(organization, row.associated_hostnames, forwarding)
    audit.record(
        events.CLIENT_AUTHORITY_UPDATED, organization=organization, actor=actor, target=row, old=old, new=_facts(row)
    )
    _record_hostnames(organization, switched, actor)
    return row


@transaction.atomic
def delete_client_authority(row: ClientAuthority, *, actor: Actor) -> DeletedObject:
    """Its certificates count nowhere from now on; streams that rest on them are cut."""
    rows = ClientAuthority.objects.for_organization(row.organization).select_related("organization")
    current = rows.select_for_update(of=("self",), no_key=True).filter(pk=row.pk).first()
    if current is None:
        raise NotFound("The certificate authority was deleted meanwhile.")
    row = current
    document = {
        "name": row.name,
        "certificate": row.certificate + row.intermediates,
        "associated_hostnames": row.associated_hostnames,
        # A root that came back without them would admit what they refuse.
        "revocations": row.revocations,
    }
    kept = keep_deleted("client_authority", row.organization, key=row.pk, name=row.name, document=document, actor=actor)
    audit.delete(row)
    audit.record(
        events.CLIENT_AUTHORITY_DELETED, organization=row.organization, actor=actor, target=row, old=_facts(row)
    )
    return kept


@transaction.atomic
def set_revocations(row: ClientAuthority, *, actor: Actor, lists: str, now: datetime) -> ClientAuthority:
    """`lists`: revocation lists in PEM, each signed by the root or one of its intermediates; "" takes them away. They
    replace those of before; people whose certificate is on one lose what rests on it."""
    organization = row.organization
    row = ClientAuthority.objects.for_organization(organization).select_for_update(no_key=True).get(pk=row.pk)
    old = _list_facts(row)
    try:
        row.revocations = read_lists(lists, issuers_of(row), now=now) if lists.strip() else []
    except ValueError as error:
        raise _invalid(str(error), "lists") from error
    row.save(update_fields=["revocations", "updated_at"])
    audit.record(
        events.CLIENT_AUTHORITY_LISTS_CHANGED,
        organization=organization,
        actor=actor,
        target=row,
        old=old,
        new=_list_facts(row),
    )
    return row


@transaction.atomic
def set_client_hostnames(organization: Organization, forwarding: Mapping[str, bool], *, actor: Actor) -> None:
    """For each hostname, whether origins get to see the client's certificate. Others stay as they are."""
    organization = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    names = _checked_hostnames(organization, list(forwarding), field="settings")
    chosen = dict(zip(names, forwarding.values(), strict=True)) if len(names) == len(forwarding) else {}
    if len(chosen) != len(forwarding):
        raise _invalid("A hostname is listed twice.", "settings")
    old = {hostname: forwards for hostname, forwards in _forwarding_of(organization).items() if hostname in chosen}
    _record_hostnames(organization, _store_forwarding(organization, chosen), actor, old=old)


def _forwarding_of(organization: Organization) -> dict[str, bool]:
    rows = ClientHostname.objects.for_organization(organization)
    return dict(rows.values_list("hostname", "client_certificate_forwarding"))


def _forward(organization: Organization, hostnames: Sequence[str], forwarding: bool) -> dict[str, bool]:
    """One answer for all hostnames of an authority. Returns what changed. Call with the organization's row locked."""
    known = _forwarding_of(organization)
    changed = [hostname for hostname in sorted(hostnames) if known.get(hostname, False) is not forwarding]
    return _store_forwarding(organization, dict.fromkeys(changed, forwarding))


def _store_forwarding(organization: Organization, chosen: dict[str, bool]) -> dict[str, bool]:
    rows = ClientHostname.objects.for_organization(organization)
    for hostname, forwards in chosen.items():
        rows.update_or_create(
            organization=organization, hostname=hostname, defaults={"client_certificate_forwarding": forwards}
        )
    if rows.count() > MAX_CLIENT_HOSTNAMES:
        raise Conflict(f"An organization has at most {MAX_CLIENT_HOSTNAMES} such hostnames.", code="too_many_hostnames")
    return chosen


def _record_hostnames(
    organization: Organization, chosen: dict[str, bool], actor: Actor, *, old: dict[str, bool] | None = None
) -> None:
    if not chosen:
        return
    audit.record(
        events.CLIENT_HOSTNAMES_CHANGED,
        organization=organization,
        actor=actor,
        target_label=", ".join(chosen)[:350],
        old=old if old is not None else {hostname: not forwards for hostname, forwards in chosen.items()},
        new=chosen,
    )


def issuers_of(row: ClientAuthority) -> list[x509.Certificate]:
    """The root and its intermediates."""
    return x509.load_pem_x509_certificates((row.certificate + row.intermediates).encode())


def _checked_bundle(text: str, now: datetime) -> tuple[x509.Certificate, list[x509.Certificate]]:
    """The root and the intermediates, in the order in which each is signed by one before it."""
    if len(text) > MAX_PEM_CHARACTERS or "PRIVATE KEY" in text:
        raise _invalid("Paste certificates in PEM, without any private key.")
    try:
        found = x509.load_pem_x509_certificates(text.strip().encode())
    except ValueError as error:
        raise _invalid("This is no certificate in PEM (-----BEGIN CERTIFICATE-----).") from error
    if len(found) > MAX_INTERMEDIATES + 1:
        raise _invalid(f"Paste the root and at most {MAX_INTERMEDIATES} intermediates.")
    roots = [one for one in found if one.subject == one.issuer]
    if not roots and len(found) == 1:
        _checked_certificate(found[0], found[0], now)
    if len(roots) != 1:
        raise _invalid("Paste exactly one root: the self-signed certificate that your client certificates chain to.")
    root = roots[0]
    _checked_certificate(root, root, now)
    known, waiting = [root], [one for one in found if one is not root]
    while waiting:
        pair = next(((one, up) for one in waiting for up in known if one.issuer == up.subject), None)
        if pair is None:
            raise _invalid(f"{waiting[0].subject.rfc4514_string()[:200]} is not signed by a certificate of this list.")
        _checked_certificate(*pair, now)
        known.append(pair[0])
        waiting.remove(pair[0])
    return root, known[1:]


def _checked_certificate(certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
    try:
        is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        is_authority = False
    if not is_authority:
        raise _invalid("This certificate is not one of an authority (basic constraints, CA: true).")
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        if certificate is issuer:
            raise _invalid("This authority did not sign itself: paste the root with its intermediates.") from error
        raise _invalid("An intermediate is not signed by the certificate that it names as its issuer.") from error
    if certificate.not_valid_after_utc <= now:
        raise _invalid("This certificate has expired.")
    _check_key(certificate)


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


def _checked_hostnames(
    organization: Organization, hostnames: Sequence[str], field: str = "associated_hostnames"
) -> list[str]:
    if len(hostnames) > MAX_HOSTNAMES:
        raise _invalid(f"At most {MAX_HOSTNAMES} hostnames.", field)
    checked = []
    for text in hostnames:
        try:
            hostname = normalise_hostname(str(text))
            assert_owned(organization, hostname)
        except DomainError as error:
            raise _invalid(error.message, field) from error
        checked.append(hostname)
    return list(dict.fromkeys(checked))


def _facts(row: ClientAuthority) -> dict[str, Any]:
    return {
        "name": row.name,
        "subject": row.subject,
        "fingerprint": row.fingerprint,
        "intermediates": row.intermediates.count("BEGIN CERTIFICATE"),
        "associated_hostnames": row.associated_hostnames,
        "expires_at": row.expires_at.isoformat(),
    }


def _list_facts(row: ClientAuthority) -> dict[str, Any]:
    return {
        entry["issuer_text"]: {"revoked": len(entry["serials"]), "next_update": entry["next_update"]}
        for entry in row.revocations
    }


def _invalid(message: str, field: str = "certificate") -> InvalidInput:
    return InvalidInput(message, code="invalid_client_authority", fields={field: message})
