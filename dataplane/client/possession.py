"""The client's side of dataplane.wire.possession: the device key beside the tokens, and the two signatures."""

import base64
import secrets
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dataplane.state import State
from dataplane.wire.possession import (
    DEVICE_PREFIX,
    PossessionError,
    base64url,
    ecdsa_raw,
    from_base64url,
    pack_signature,
    signature_blob,
    signed_data,
    statement,
    thumbprint,
)

DEVICE_KEY_FILE = "device_key"


def device_thumbprint(state: State) -> str:
    """Of this device's key, made at the first login; 0600 like the tokens it binds."""
    key = read_device_key(state)
    if key is None:
        key = Ed25519PrivateKey.generate()
        state.write(DEVICE_KEY_FILE, base64url(key.private_bytes_raw()))
    return thumbprint(key.public_key().public_bytes_raw())


def read_device_key(state: State) -> Ed25519PrivateKey | None:
    text = state.read(DEVICE_KEY_FILE)
    try:
        return None if text is None else Ed25519PrivateKey.from_private_bytes(from_base64url(text))
    except (PossessionError, ValueError):
        return None  # damaged: the next login makes another


def prove(
    state: State,
    key: Ed25519PrivateKey | EllipticCurvePrivateKey,
    public_line: str,
    *,
    issuer: str,
    audience: str,
    credential: str,
) -> dict[str, object]:
    """The `proof` of a request for a certificate."""
    timestamp, nonce = int(time.time()), secrets.token_urlsafe(24)
    said = statement(
        issuer=issuer,
        audience=audience,
        credential=credential,
        public_line=public_line,
        timestamp=timestamp,
        nonce=nonce,
    )
    proof: dict[str, object] = {"timestamp": timestamp, "nonce": nonce, "signature": _by_key(key, said)}
    device = read_device_key(state)
    if device is not None:
        proof["device_key"] = base64url(device.public_key().public_bytes_raw())
        proof["device_signature"] = base64url(device.sign(DEVICE_PREFIX + said))
    return proof


def _by_key(key: Ed25519PrivateKey | EllipticCurvePrivateKey, said: bytes) -> str:
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode().split()
    data = signed_data(said)
    if isinstance(key, Ed25519PrivateKey):
        raw = key.sign(data)
    else:
        raw = ecdsa_raw(*decode_dss_signature(key.sign(data, ECDSA(hashes.SHA256()))))
    return pack_signature(base64.b64decode(line[1]), signature_blob(line[0], raw))
