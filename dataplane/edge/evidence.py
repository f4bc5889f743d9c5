"""What a request shows besides token and service token: a client certificate, a token of another application."""

import base64
import binascii
import hashlib
import json
import ssl
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from dataplane.edge.heads import RequestHead
from dataplane.edge.snapshot import Application
from dataplane.wire.shown import MAX_TEXT, ShownCertificate

# Set on a connection's TLS object when its client was asked for a certificate: SHA-256 of the roots it had to chain to.
ROOTS_ATTRIBUTE = "sallyport_client_roots"
MAX_TOKEN_CHARACTERS = 8192


@dataclass(frozen=True, slots=True)
class ClientCertificate(ShownCertificate):
    """With the certificate itself, which goes to origins that want it and to nobody else."""

    der: bytes = field(default=b"", repr=False)


def client_certificate(tls: object) -> ClientCertificate | None:
    """The certificate of a finished handshake, None when none was shown or asked for."""
    roots: tuple[str, ...] = getattr(tls, ROOTS_ATTRIBUTE, ())
    if not roots or not isinstance(tls, ssl.SSLObject | ssl.SSLSocket):
        return None
    der = tls.getpeercert(binary_form=True)
    if not der:
        return None
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = [
            name.value if isinstance(name.value, str) else name.value.decode("utf-8", "replace")
            for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        ]
        expires_at = certificate.not_valid_after_utc.timestamp()
        issuer = hashlib.sha256(certificate.issuer.public_bytes()).hexdigest()
        serial = f"{certificate.serial_number:x}"
    except ValueError:
        return None
    # Two common names would leave open which one a rule means.
    name = names[0] if len(names) == 1 and names[0].isprintable() else ""
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
    return ClientCertificate(name[:MAX_TEXT], fingerprint, expires_at, roots, issuer, serial, der)


def linked_token(head: RequestHead, application: Application) -> str | None:
    """A bearer token that claims to be of this application's team. Other bearer tokens are the origin's business and
    never leave the edge for the control plane."""
    kind, _, token = (head.get("authorization") or "").partition(" ")
    if kind.lower() != "bearer" or len(token) > MAX_TOKEN_CHARACTERS or token.count(".") != 2:
        return None
    part = token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    return token if isinstance(claims, dict) and claims.get("iss") == application.issuer else None
