"""OpenSSH user certificates (PROTOCOL.certkeys), read without a crypto import; types between ssh-gen's halves."""

import base64
import binascii
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from dataplane.client.grants import AppInfo, Grant
from dataplane.client.servicetoken import ServiceToken
from dataplane.client.target import Context, Target
from dataplane.errors import CommandError

MAX_CERTIFICATE_BYTES = 64 * 1024
_USER_CERTIFICATE = 1
# Public key fields between nonce and serial, per certificate type.
_KEY_FIELDS = {
    "ssh-ed25519-cert-v01@openssh.com": 1,
    "ecdsa-sha2-nistp256-cert-v01@openssh.com": 2,
}


class CertificateError(ValueError):
    """The text is not a user certificate this client can use."""


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    public_key: bytes  # the plain key's blob, as in the second word of a .pub line
    serial: int
    key_id: str
    principals: tuple[str, ...]
    valid_after: int  # epoch seconds
    valid_before: int


@dataclass(frozen=True, slots=True)
class SignedKey:
    private_pem: str = field(repr=False)
    public_line: str
    certificate_line: str


class SigningRefused(CommandError):
    """cert_sign said no. `token_is_worthless`: a new login may help, the stored token never will."""

    def __init__(self, message: str, *, token_is_worthless: bool, status: int) -> None:
        super().__init__(message)
        self.token_is_worthless = token_is_worthless
        self.status = status


class ObtainGrant(Protocol):
    """obtain.obtain_grant; handed in by the dispatcher so that the quick way never imports it."""

    def __call__(self, context: Context, target: Target, *, rejected: Grant | None = None) -> Grant: ...


SignKey = Callable[[Context, Grant, str], SignedKey]
SignForMachine = Callable[[Context, Target, ServiceToken, str], tuple[AppInfo, SignedKey]]


def read_certificate(line: str) -> CertificateFacts:
    """Raises CertificateError. The signature is sshd's to check, not ours."""
    words = line.split()
    if len(words) < 2 or words[0] not in _KEY_FIELDS or len(line) > MAX_CERTIFICATE_BYTES:
        raise CertificateError("not an Ed25519 or P-256 user certificate")
    try:
        blob = _Blob(base64.b64decode(words[1], validate=True))
        if blob.string() != words[0].encode():
            raise CertificateError("the certificate's type does not match its label")
        blob.string()  # nonce
        plain_type = words[0].removesuffix("-cert-v01@openssh.com").encode()
        fields = [plain_type, *(blob.string() for _ in range(_KEY_FIELDS[words[0]]))]
        serial, kind = blob.uint64(), blob.uint32()
        key_id, principals = blob.string().decode(), _Blob(blob.string()).strings()
        valid_after, valid_before = blob.uint64(), blob.uint64()
    except (binascii.Error, struct.error, UnicodeDecodeError) as error:
        raise CertificateError("malformed certificate") from error
    if kind != _USER_CERTIFICATE:
        raise CertificateError("not a user certificate")
    key = b"".join(struct.pack(">I", len(part)) + part for part in fields)
    names = tuple(name.decode("utf-8", "replace") for name in principals)
    return CertificateFacts(key, serial, key_id, names, valid_after, valid_before)


class _Blob:
    """SSH wire format (RFC 4251 section 5)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def uint32(self) -> int:
        return int(struct.unpack_from(">I", self._data, self._advance(4))[0])

    def uint64(self) -> int:
        return int(struct.unpack_from(">Q", self._data, self._advance(8))[0])

    def string(self) -> bytes:
        length = self.uint32()
        start = self._advance(length)
        return self._data[start : start + length]

    def strings(self) -> list[bytes]:
        found = []
        while self._at < len(self._data):
            found.append(self.string())
        return found

    def _advance(self, count: int) -> int:
        start = self._at
        if start + count > len(self._data):
            raise CertificateError("truncated certificate")
        self._at += count
        return start
