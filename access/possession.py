"""Proof of possession at the signing endpoint (security.md AC-22, AC-34).

Who asks for a certificate may show, beside the published fields, that it holds the key to be certified and the device
key its token is bound to: {"proof": {"timestamp", "nonce", "signature", "device_key", "device_signature"}}. Tokens that
carry `cnf` always need it; an application may ask everybody for it. Clients that know nothing of this send nothing, and
go on as long as nobody asks.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from django.core.cache import cache

from access.models import Application
from access.sshcert import PublicKey
from accounts.errors import PolicyDenied
from dataplane.wire.possession import (
    DEVICE_PREFIX,
    NONCE_CHARACTERS,
    PossessionError,
    ecdsa_numbers,
    from_base64url,
    signed_data,
    statement,
    take_string,
    thumbprint,
    unpack_signature,
)

WINDOW_SECONDS = 300
_CURVE_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
_RSA_HASHES: Mapping[bytes, hashes.HashAlgorithm] = {b"rsa-sha2-256": hashes.SHA256(), b"rsa-sha2-512": hashes.SHA512()}


class ProofMissing(PolicyDenied):
    code = "key_proof_required"


class ProofRefused(PolicyDenied):
    code = "key_proof_invalid"


class OtherDevice(PolicyDenied):
    """Named like a token's fault, because that is what clients drop the token for, and log in again."""

    code = "token_bound_to_another_device"


@dataclass(frozen=True, slots=True)
class Shown:
    """What came with a request: the token or client id, the device key the token is bound to, and the proof."""

    credential: str = field(repr=False)
    bound_to: str = ""
    proof: Any = None


def check_possession(application: Application, key: PublicKey, shown: Shown, *, now: datetime) -> None:
    """Raises ProofMissing, ProofRefused or OtherDevice. A proof that is sent is checked, wanted or not."""
    if shown.proof is None:
        if shown.bound_to:
            raise OtherDevice("This login belongs to the device it was made on. Log in again on this one.")
        if application.require_key_proof:
            raise ProofMissing(
                "This application certifies only keys whose holder signs for them. Use a current sallyport client."
            )
        return
    proof = shown.proof if isinstance(shown.proof, dict) else {}
    timestamp, nonce = _checked_time(proof.get("timestamp"), now), proof.get("nonce")
    if not isinstance(nonce, str) or not NONCE_CHARACTERS[0] <= len(nonce) <= NONCE_CHARACTERS[1]:
        raise ProofRefused(f"The proof's nonce has {NONCE_CHARACTERS[0]} to {NONCE_CHARACTERS[1]} characters.")
    said = statement(
        issuer=application.organization.team_url,
        audience=application.aud,
        credential=shown.credential,
        public_line=key.line,
        timestamp=timestamp,
        nonce=nonce,
    )
    if shown.bound_to:
        _check_device(shown.bound_to, proof, said)
    _check_key(key, proof.get("signature"), said)
    # Last, so that a stranger cannot use up somebody else's number.
    _use_nonce(application, nonce)


def _checked_time(timestamp: Any, now: datetime) -> int:
    if not isinstance(timestamp, int) or isinstance(timestamp, bool):
        raise ProofRefused("The proof has no timestamp.")
    if abs(now.timestamp() - timestamp) > WINDOW_SECONDS:
        raise ProofRefused("The proof is too old or too new: is this machine's clock right (clock skew)?")
    return timestamp


def _check_device(bound_to: str, proof: Mapping[str, Any], said: bytes) -> None:
    other = OtherDevice("This login belongs to another device. Log in again on this one.")
    try:
        device_key = from_base64url(_text(proof, "device_key"))
        signature = from_base64url(_text(proof, "device_signature"))
        if thumbprint(device_key) != bound_to:
            raise other
        ed25519.Ed25519PublicKey.from_public_bytes(device_key).verify(signature, DEVICE_PREFIX + said)
    except (PossessionError, InvalidSignature, ValueError) as error:
        raise other from error


def _check_key(key: PublicKey, signature: Any, said: bytes) -> None:
    try:
        blob, signed = unpack_signature(signature if isinstance(signature, str) else "")
        algorithm, rest = take_string(signed)
        raw, rest = take_string(rest)
        if rest or blob != base64.b64decode(key.line.split()[1]):
            raise PossessionError("signed by another key")
        _verify(key, algorithm, raw, signed_data(said))
    except (PossessionError, InvalidSignature, ValueError) as error:
        message = "The proof is not a signature by the key that is to be certified."
        raise ProofRefused(message) from error


def _verify(key: PublicKey, algorithm: bytes, raw: bytes, data: bytes) -> None:
    public = serialization.load_ssh_public_key(key.line.encode())
    if isinstance(public, ed25519.Ed25519PublicKey) and algorithm == b"ssh-ed25519":
        public.verify(raw, data)
    elif isinstance(public, ec.EllipticCurvePublicKey) and algorithm == key.algorithm.encode():
        der = encode_dss_signature(*ecdsa_numbers(raw))
        public.verify(der, data, ec.ECDSA(_CURVE_HASHES[public.curve.name]))
    elif isinstance(public, rsa.RSAPublicKey) and algorithm in _RSA_HASHES:
        public.verify(raw, data, padding.PKCS1v15(), _RSA_HASHES[algorithm])
    else:
        raise PossessionError("another kind of signature than the key's")


def _use_nonce(application: Application, nonce: str) -> None:
    digest = hashlib.sha256(f"{application.organization_id}\0{nonce}".encode()).hexdigest()
    # Twice the window: from the earliest to the latest moment at which its timestamp is accepted.
    if not cache.add(f"cert-sign-nonce:{digest}", 1, 2 * WINDOW_SECONDS):
        raise ProofRefused("This proof was used already.")


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""
