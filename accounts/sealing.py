"""Secrets at rest: AES-256-GCM, bound to where they belong by the associated data.

Sealed form: version byte 1, 12-byte random nonce, ciphertext with tag. The associated data is the `context` words
joined by NUL, so a sealed value moved to another row, column or tenant no longer opens.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = b"\x01"
_NONCE_BYTES = 12


class SealError(Exception):
    """The key is missing or the sealed value does not open under it. Never carries the value."""


def seal(key: bytes, plaintext: bytes, *context: str) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return _VERSION + nonce + _cipher(key).encrypt(nonce, plaintext, _associated(context))


def unseal(key: bytes, sealed: bytes, *context: str) -> bytes:
    if sealed[:1] != _VERSION or len(sealed) < 1 + _NONCE_BYTES + 16:
        raise SealError("The sealed value has an unknown form.")
    nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    try:
        return _cipher(key).decrypt(nonce, body, _associated(context))
    except InvalidTag as error:
        raise SealError("The sealed value does not open: wrong key, or moved from where it belongs.") from error


def _cipher(key: bytes) -> AESGCM:
    if len(key) != 32:
        raise SealError("This process does not hold the key that opens this secret.")
    return AESGCM(key)


def _associated(context: tuple[str, ...]) -> bytes:
    if not context or any("\0" in word for word in context):
        raise SealError("A sealed value needs context words without NUL.")
    return "\0".join(context).encode()
