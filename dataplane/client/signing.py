"""A fresh key and its certificate from the team domain (access-client.md 7, product.md 4.3)."""

import base64
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from dataplane.client.answers import describe_answer, read_object, with_hint
from dataplane.client.certificates import (
    CertificateError,
    CertificateFacts,
    SignedKey,
    SigningRefused,
    read_certificate,
)
from dataplane.client.grants import AppInfo, Grant
from dataplane.client.possession import prove
from dataplane.client.target import Context
from dataplane.errors import CommandError
from dataplane.https import Response

SIGNING_TIMEOUT_SECONDS = 15.0
KEY_TYPES = ("ed25519", "ecdsa")
# A second factor that grew old is given at a login, like everything else a token rests on.
_WORTHLESS_TOKEN = re.compile(r"mfa_required|(invalid|expired|revoked|unknown)_(token|session)|(token|session)_[a-z_]+")


@dataclass(frozen=True, slots=True)
class FreshKey:
    private_pem: str = field(repr=False)
    public_line: str
    key: Ed25519PrivateKey | EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def generate(cls, key_type: str) -> Self:
        key = Ed25519PrivateKey.generate() if key_type == "ed25519" else generate_private_key(SECP256R1())
        return cls(
            key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode(),
            key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(),
            key,
        )


def sign_fresh_key(context: Context, grant: Grant, key_type: str) -> SignedKey:
    """Nothing is written; the private key exists only in the result. Raises SigningRefused or CommandError."""
    key = FreshKey.generate(key_type)
    request = {"public_key": f"{key.public_line}\n", "jwt": grant.token.text, "issuer": grant.token.issuer}
    return post_cert_sign(context, grant.info, key, request, issuer=grant.token.issuer, credential=grant.token.text)


def post_cert_sign(
    context: Context,
    info: AppInfo,
    key: FreshKey,
    request: Mapping[str, str],
    *,
    issuer: str,
    credential: str,
    headers: Mapping[str, str] | None = None,
) -> SignedKey:
    """`credential`: the token, or a machine's client id; `headers`: a machine's credentials. Beside the
    published fields goes a proof that this client holds the key; servers that do not know it do not mind.

    Raises SigningRefused or CommandError."""
    proof = prove(
        context.state, key.key, key.public_line, issuer=issuer.rstrip("/"), audience=info.aud, credential=credential
    )
    response = context.dialer.request(
        "POST",
        f"{issuer.rstrip('/')}/cdn-cgi/access/cert_sign",
        headers={"Content-Type": "application/json", "Accept": "application/json", **(headers or {})},
        body=json.dumps({**request, "proof": proof}).encode(),
        timeout=SIGNING_TIMEOUT_SECONDS,
    )
    if response.status != 200:
        raise _refusal(info, response, is_machine=headers is not None)
    certificate_line = _checked_certificate(info, key.public_line, read_object(response).get("certificate"))
    return SignedKey(key.private_pem, key.public_line, certificate_line)


def _refusal(info: AppInfo, response: Response, *, is_machine: bool) -> SigningRefused:
    reason = str(read_object(response).get("reason") or "")
    worthless = response.status == 401 or _WORTHLESS_TOKEN.fullmatch(reason) is not None
    text = f"{info.auth_domain} refused to sign a certificate: {describe_answer(response)}"
    if not (is_machine and response.status == 401):  # the hint would be to log in
        text = with_hint(text, response.status, info.hostname)
    return SigningRefused(text, token_is_worthless=worthless, status=response.status)


def _checked_certificate(info: AppInfo, public_line: str, certificate: object) -> str:
    """The client can tell what sshd would only log: wrong key, no principal, a clock that disagrees."""
    source = info.auth_domain
    if not isinstance(certificate, str) or "\n" in certificate.strip():
        raise CommandError(f"{source} answered without a certificate")
    try:
        facts = read_certificate(certificate.strip())
    except CertificateError as error:
        raise CommandError(f"{source} sent a certificate that cannot be used: {error}") from error
    if facts.public_key != base64.b64decode(public_line.split()[1]):
        raise CommandError(f"{source} sent a certificate for another key; not stored")
    if not facts.principals:
        raise CommandError(f"{source} sent a certificate without principals; not stored")
    _check_validity(source, facts, time.time())
    return certificate.strip()


def _check_validity(source: str, facts: CertificateFacts, now: float) -> None:
    if now < facts.valid_after:
        ahead = facts.valid_after - now
        raise CommandError(
            f"{source}'s certificate starts in {ahead:.0f} s; this machine's clock is behind (clock skew)"
        )
    if now >= facts.valid_before:
        raise CommandError(f"{source}'s certificate is already over; this machine's clock is ahead (clock skew)")
