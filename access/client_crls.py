"""Revocation lists of client certificate authorities: read, checked against their issuers, asked. Pure.

A list says which certificates of its issuer no longer count, and until when it is valid. An expired one refuses every
certificate of its issuer, and of the authorities below it: nobody can say any more which of them were revoked (RFC 5280
section 6.3). Where there are lists, a certificate by an authority that nobody added is refused too: a client may show
any intermediate of the root, and a list names revoked ones by a number only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

MAX_LISTS = 10
MAX_PEM_CHARACTERS = 4 * 1024 * 1024
MAX_REVOKED = 100_000
_BLOCK = re.compile(r"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)

REVOKED = "client_certificate_revoked"
LIST_EXPIRED = "client_revocation_list_expired"
UNKNOWN_ISSUER = "client_certificate_issuer_unknown"
MESSAGES = {
    REVOKED: "Your client certificate was revoked. Ask for a new one.",
    LIST_EXPIRED: "The revocation list of your client certificate's authority has expired, so no certificate of it "
    "counts. An administrator must upload a new one.",
    UNKNOWN_ISSUER: "Your client certificate comes from an intermediate authority that is unknown here, so nobody can "
    "say whether it was revoked. An administrator must add that authority.",
}


def read_lists(text: str, issuers: Sequence[x509.Certificate], *, now: datetime) -> list[dict[str, Any]]:
    """The lists as they are stored. Raises ValueError saying what is wrong with which."""
    if len(text) > MAX_PEM_CHARACTERS:
        raise ValueError(f"The lists are larger than {MAX_PEM_CHARACTERS // 1024 // 1024} MiB.")
    blocks = _BLOCK.findall(text)
    if not blocks or len(blocks) > MAX_LISTS or _BLOCK.sub("", text).strip():
        raise ValueError(f"Paste 1 to {MAX_LISTS} lists in PEM (-----BEGIN X509 CRL-----), and nothing else.")
    found = [_read(block, issuers, now) for block in blocks]
    names = [entry["issuer"] for entry in found]
    if len(set(names)) != len(names):
        raise ValueError("Two of these lists are of the same issuer: keep the newer one.")
    return found


def _read(block: str, issuers: Sequence[x509.Certificate], now: datetime) -> dict[str, Any]:
    try:
        crl = x509.load_pem_x509_crl(block.encode())
        next_update = crl.next_update_utc
        serials = [f"{entry.serial_number:x}" for entry in crl]
        is_partial = any(extension.critical for extension in crl.extensions)
    except ValueError as error:
        raise ValueError("A list can not be read.") from error
    issuer = next((one for one in issuers if one.subject == crl.issuer and _is_signed_by(crl, one)), None)
    if issuer is None:
        raise ValueError("A list is not signed by this authority, nor by one of its intermediates.")
    if is_partial:
        # Delta lists and those of one distribution point (RFC 5280 sections 5.2.4, 5.2.5): each leaves others out.
        raise ValueError("A list is only a part, or has a critical extension: upload the authority's complete list.")
    if isinstance(crl.signature_hash_algorithm, hashes.MD5 | hashes.SHA1):
        raise ValueError("A list is signed with MD5 or SHA-1, which nobody can rely on any more.")
    if next_update is None or next_update <= now:
        raise ValueError("A list has expired, or does not say until when it is valid (next update).")
    if crl.last_update_utc > now:
        raise ValueError("A list is valid only in the future; check the clocks.")
    if len(serials) > MAX_REVOKED:
        raise ValueError(f"A list names more than {MAX_REVOKED} certificates.")
    revoked = [one for one in issuers if f"{one.serial_number:x}" in set(serials)]
    return {
        "issuer": name_digest(issuer.subject),
        "issuer_text": issuer.subject.rfc4514_string()[:500],
        "next_update": next_update.timestamp(),
        "serials": sorted(serials),
        # Intermediates: their certificates, and those of authorities below them, are all revoked with them.
        "issuers": sorted(_with_those_below(revoked, issuers)),
        "below": sorted(_with_those_below([issuer], issuers)),
        "known": sorted(name_digest(one.subject) for one in issuers),
    }


def _with_those_below(tops: Sequence[x509.Certificate], issuers: Sequence[x509.Certificate]) -> set[str]:
    """Digests of the names of these authorities, and of all that they vouch for."""
    found: set[str] = set()
    waiting = list(tops)
    while waiting:
        top = waiting.pop()
        if name_digest(top.subject) not in found:
            found.add(name_digest(top.subject))
            waiting += [one for one in issuers if one.issuer == top.subject]
    return found


def issuers_in(text: str) -> set[str]:
    """Digests of the names of the authorities in a PEM bundle."""
    return {name_digest(one.subject) for one in x509.load_pem_x509_certificates(text.encode())}


def problem_of(lists: Iterable[Mapping[str, Any]], *, issuer: str, serial: str, now: datetime) -> str:
    """The reason why a certificate does not count, or "". `issuer`: name_digest of its issuer."""
    for entry in lists:
        if issuer in entry["issuers"]:
            return REVOKED
        if issuer in entry["below"] and now.timestamp() >= entry["next_update"]:
            return LIST_EXPIRED
        if issuer == entry["issuer"] and serial in entry["serials"]:
            return REVOKED
    return ""


def name_digest(name: x509.Name) -> str:
    return hashlib.sha256(name.public_bytes()).hexdigest()


def _is_signed_by(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key: Any = issuer.public_key()
    try:
        return crl.is_signature_valid(key)
    except (ValueError, TypeError):
        return False
