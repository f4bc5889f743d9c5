"""What a client signs to show that it holds a key, when it asks for a certificate. Pure; both sides use it.

The statement names everything that must not be exchanged: issuer, application, the token that was shown (its hash),
the key to be certified, a time and a number used once. It is signed twice: by the SSH key itself, in OpenSSH's own
signature format (so that `ssh-keygen -Y sign -n cert-sign@sallyport` can do it), and by the device key a token may be
bound to.
"""

import base64
import binascii
import hashlib
import struct

SSHSIG_NAMESPACE = "cert-sign@sallyport"
# Before the statement when the device key signs it: a signature of one kind is never good for the other.
DEVICE_PREFIX = b"sallyport-device-v1\n"
_VERSION_LINE = "sallyport-cert-sign-v1"
_MAGIC = b"SSHSIG"
_HASH = b"sha512"
_ARMOR = ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----")
MAX_SIGNATURE_CHARACTERS = 4096
NONCE_CHARACTERS = (16, 64)


class PossessionError(ValueError):
    """A signature that cannot be read."""


def statement(*, issuer: str, audience: str, credential: str, public_line: str, timestamp: int, nonce: str) -> bytes:
    """`credential`: the token, or a machine's client id. `public_line`: "type base64", without comment."""
    digest = hashlib.sha256(credential.encode()).hexdigest()
    words = public_line.split()
    lines = (_VERSION_LINE, issuer, audience, digest, " ".join(words[:2]), str(timestamp), nonce)
    return "".join(f"{line}\n" for line in lines).encode()


def thumbprint(device_key: bytes) -> str:
    """RFC 7638 of an Ed25519 key as a JWK (RFC 8037): what a token's `cnf` carries as `jkt`."""
    text = f'{{"crv":"Ed25519","kty":"OKP","x":"{base64url(device_key)}"}}'
    return base64url(hashlib.sha256(text.encode()).digest())


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def from_base64url(text: str) -> bytes:
    """Raises PossessionError."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise PossessionError("not base64url") from error


# --- SSHSIG (OpenSSH's PROTOCOL.sshsig) -----------------------------------------------------------------------


def signed_data(message: bytes) -> bytes:
    """What the SSH key's signature is over."""
    digest = hashlib.sha512(message).digest()
    return _MAGIC + b"".join(_string(part) for part in (SSHSIG_NAMESPACE.encode(), b"", _HASH, digest))


def pack_signature(public_blob: bytes, signature: bytes) -> str:
    """`signature` is an SSH signature blob (RFC 4253, section 6.6). Base64 without armor."""
    parts = (public_blob, SSHSIG_NAMESPACE.encode(), b"", _HASH, signature)
    body = _MAGIC + struct.pack(">I", 1) + b"".join(_string(part) for part in parts)
    return base64.b64encode(body).decode()


def unpack_signature(text: str) -> tuple[bytes, bytes]:
    """The public key's blob and the signature blob, with or without armor. Raises PossessionError for another
    namespace, version or hash: what was signed for something else proves nothing here."""
    if len(text) > MAX_SIGNATURE_CHARACTERS:
        raise PossessionError("the signature is too long")
    bare = "".join(text.replace(_ARMOR[0], "").replace(_ARMOR[1], "").split())
    try:
        data = base64.b64decode(bare, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PossessionError("the signature is not base64") from error
    if data[:6] != _MAGIC or data[6:10] != struct.pack(">I", 1):
        raise PossessionError("not an SSH signature of version 1")
    parts, rest = [], data[10:]
    for _ in range(5):
        part, rest = take_string(rest)
        parts.append(part)
    if rest or parts[1] != SSHSIG_NAMESPACE.encode() or parts[2] or parts[3] != _HASH:
        raise PossessionError("signed for something else")
    return parts[0], parts[4]


def take_string(data: bytes) -> tuple[bytes, bytes]:
    """The first length-prefixed string, and what follows it."""
    if len(data) < 4:
        raise PossessionError("truncated")
    (length,) = struct.unpack(">I", data[:4])
    if len(data) < 4 + length:
        raise PossessionError("truncated")
    return data[4 : 4 + length], data[4 + length :]


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def signature_blob(algorithm: str, raw: bytes) -> bytes:
    return _string(algorithm.encode()) + _string(raw)


def ecdsa_raw(r: int, s: int) -> bytes:
    """RFC 5656, section 3.1.2: two mpints."""
    return _string(_mpint(r)) + _string(_mpint(s))


def ecdsa_numbers(raw: bytes) -> tuple[int, int]:
    r, rest = take_string(raw)
    s, rest = take_string(rest)
    if rest:
        raise PossessionError("the signature has a tail")
    return int.from_bytes(r, "big"), int.from_bytes(s, "big")


def _mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")
