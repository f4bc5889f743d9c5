"""SSH authority keys: made, sealed and used here, and only in processes that hold AUTHORITY_SEAL_KEY (workers).

The sealed form is bound to organization, application and authority: moved to another row it does not open. A PKCS#11
or KMS key is another implementation of Signer; nothing else knows where a key lives.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificateBuilder,
    load_der_private_key,
)

from access.sshcert import fingerprint
from accounts.sealing import SealError, seal, unseal

AuthorityKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
_GENERATORS: dict[str, Callable[[], AuthorityKey]] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ecdsa-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
}
_PURPOSE = "ssh-authority"
MAX_CACHED_KEYS = 256


class Signer(Protocol):
    """Signs certificates for one authority."""

    @property
    def public_key(self) -> str:
        """ "type base64", no comment."""
        ...

    def sign(self, builder: SSHCertificateBuilder) -> str:
        """The certificate as one line, "type base64"."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key belongs; the associated data of its sealed form."""

    organization_id: str
    application_id: str
    authority_id: str

    def context(self) -> tuple[str, str, str, str]:
        return (_PURPOSE, self.organization_id, self.application_id, self.authority_id)


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A new authority key, ready to be stored."""

    public_key: str
    fingerprint: str
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LocalSigner:
    """A key in this process's memory."""

    public_key: str
    _key: AuthorityKey = field(repr=False)

    def sign(self, builder: SSHCertificateBuilder) -> str:
        return builder.sign(self._key).public_bytes().decode("ascii")


def generate(algorithm: str, place: Place, *, seal_key: bytes) -> SealedKey:
    """A new key, sealed. Raises SealError before anything is generated when this process has no seal key."""
    if len(seal_key) != 32:
        raise SealError("This process does not hold AUTHORITY_SEAL_KEY, so it makes no authority keys.")
    key = _GENERATORS[algorithm]()
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    public = public_line(key)
    return SealedKey(
        public, fingerprint(base64.b64decode(public.split(" ")[1])), seal(seal_key, private, *place.context())
    )


def public_line(key: AuthorityKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")


class Keystore:
    """Opens sealed keys and keeps the newest MAX_CACHED_KEYS of them in memory (unsealing costs up to 0.5 ms).

    The cache key holds the sealed bytes' and the seal key's hash: a replaced row or a missing key never meets an old
    entry.
    """

    def __init__(self) -> None:
        self._signers: OrderedDict[tuple[Place, bytes], LocalSigner] = OrderedDict()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Keystore with {len(self._signers)} keys>"

    def open(self, sealed: bytes, place: Place, *, seal_key: bytes) -> Signer:
        """Raises SealError when the key cannot be opened here."""
        entry = (place, hashlib.sha256(seal_key + sealed).digest())
        with self._lock:
            if entry in self._signers:
                self._signers.move_to_end(entry)
                return self._signers[entry]
        signer = _unseal(sealed, place, seal_key)
        with self._lock:
            self._signers[entry] = signer
            while len(self._signers) > MAX_CACHED_KEYS:
                self._signers.popitem(last=False)
        return signer

    def forget(self) -> None:
        with self._lock:
            self._signers.clear()


def _unseal(sealed: bytes, place: Place, seal_key: bytes) -> LocalSigner:
    key = load_der_private_key(unseal(seal_key, sealed, *place.context()), password=None)
    if not isinstance(key, AuthorityKey):
        raise SealError("The sealed value is not a key of a known algorithm.")
    return LocalSigner(public_line(key), key)


keystore = Keystore()
