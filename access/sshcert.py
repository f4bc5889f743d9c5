"""OpenSSH user certificates: check a public key, build what was approved, lint what was signed. Pure.

Format: PROTOCOL.certkeys. The builder of `cryptography` signs empty or newline-ridden principals, serial 0 and
"forever" without complaint (security.md 6.6); therefore nothing leaves the worker before `lint` has read the signed
bytes back, with a parser of our own, and found exactly the intent.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    SSHCertificate,
    SSHCertificateBuilder,
    SSHCertificateType,
    load_ssh_public_identity,
    load_ssh_public_key,
)

from access.principals import PRINCIPAL

MAX_PUBLIC_KEY_BYTES = 16 * 1024
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
MIN_LIFETIME_SECONDS, MAX_LIFETIME_SECONDS = 60, 24 * 3600
# How far valid_after lies before the moment of signing, for hosts whose clock is behind.
BACKDATE_SECONDS = 60
MAX_PRINCIPALS = 16
MAX_KEY_ID_BYTES = 200
MAX_SERIAL = 2**63 - 1
# Everything sshd knows (PROTOCOL.certkeys); no-touch-required concerns FIDO keys, which are not signed here.
EXTENSIONS = frozenset(
    {
        "permit-X11-forwarding",
        "permit-agent-forwarding",
        "permit-port-forwarding",
        "permit-pty",
        "permit-user-rc",
    }
)
# team / application / identity. No control characters: sshd writes the key id raw into its log (AC-98).
KEY_ID = re.compile(r"[a-z0-9-]{1,63}/[a-z0-9.-]{1,253}/[A-Za-z0-9@._+-]{1,254}")

_USER_CERTIFICATE = 1
_KEY_TYPES = {
    "ssh-ed25519": 1,  # number of fields of the public key after its type
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "ssh-rsa": 2,
}
_AUTHORITY_TYPES = frozenset({"ssh-ed25519", "ecdsa-sha2-nistp256"})
_CERTIFICATE_SUFFIX = "-cert-v01@openssh.com"

UserKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class PublicKeyRefused(ValueError):
    """The submitted public key cannot be certified; `reason` is a stable code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class LintError(ValueError):
    """The signed certificate is not what was approved. `problems` lists every difference."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """`line` is "type base64" without comment; `fingerprint` as ssh-keygen prints it."""

    line: str
    algorithm: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Intent:
    """What was approved, to the byte. Times are whole seconds of Unix time; keys are "type base64" lines."""

    serial: int
    key_id: str
    principals: tuple[str, ...]
    extensions: tuple[str, ...]
    public_key: str
    valid_after: int
    valid_before: int
    authority_key: str


@dataclass(frozen=True, slots=True)
class ParsedCertificate:
    """A certificate as it is on the wire; nothing normalised."""

    certificate_type: str
    nonce: bytes
    key_fields: tuple[bytes, ...]
    serial: int
    type: int
    key_id: bytes
    principals: tuple[bytes, ...]
    valid_after: int
    valid_before: int
    critical_options: tuple[tuple[bytes, bytes], ...]
    extensions: tuple[tuple[bytes, bytes], ...]
    reserved: bytes
    authority_key: bytes
    signature: bytes


# --- Public keys ----------------------------------------------------------------------------------------------
def parse_public_key(text: str) -> PublicKey:
    """Exactly one authorized_keys line without options: "type base64 [comment]". Raises PublicKeyRefused."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_PUBLIC_KEY_BYTES:
        raise PublicKeyRefused("public_key_too_long", f"The public key is longer than {MAX_PUBLIC_KEY_BYTES} bytes.")
    body = text.removesuffix("\n").removesuffix("\r")
    if not body.isascii() or not body.isprintable():
        raise PublicKeyRefused("public_key_malformed", "The public key must be one line of plain text.")
    words = body.split(" ", 2)
    algorithm = words[0]
    if algorithm not in _KEY_TYPES:
        raise _unknown_type(algorithm)
    if len(words) < 2:
        raise PublicKeyRefused("public_key_malformed", 'The public key must be a line "type base64".')
    blob = _blob_of(algorithm, words[1])
    line = f"{algorithm} {base64.b64encode(blob).decode()}"
    _check_strength(_load(line))
    return PublicKey(line, algorithm, fingerprint(blob))


def _unknown_type(algorithm: str) -> PublicKeyRefused:
    if algorithm.startswith("sk-"):
        message = "Keys on security tokens (sk-…) cannot be certified yet. Use an Ed25519 or ECDSA key."
    elif algorithm in {"ssh-dss", "ssh-dsa"}:
        message = "DSA keys are refused by every current OpenSSH. Use an Ed25519 or ECDSA key."
    elif algorithm.endswith(_CERTIFICATE_SUFFIX):
        message = "This is a certificate. Send the public key it was made for."
    else:
        message = f"The line must start with the key's type ({', '.join(_KEY_TYPES)}), without options before it."
    return PublicKeyRefused("public_key_type", message)


def _blob_of(algorithm: str, encoded: str) -> bytes:
    try:
        blob = base64.b64decode(encoded, validate=True)
        reader = _Reader(blob)
        name = reader.string()
        for _ in range(_KEY_TYPES[algorithm]):
            reader.string()
        reader.finish()
    except (binascii.Error, ValueError) as error:
        raise PublicKeyRefused("public_key_malformed", "The public key's data cannot be read.") from error
    if name != algorithm.encode():
        raise PublicKeyRefused("public_key_malformed", "The public key's data is of another type than its line says.")
    return blob


def _load(line: str) -> UserKey:
    try:
        key = load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PublicKeyRefused("public_key_malformed", "The public key's data is not a valid key.") from error
    if not isinstance(key, UserKey):
        raise PublicKeyRefused("public_key_type", "Keys of this type cannot be certified.")
    return key


def _check_strength(key: UserKey) -> None:
    if isinstance(key, rsa.RSAPublicKey) and not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise PublicKeyRefused(
            "public_key_weak", f"RSA keys need {MIN_RSA_BITS} to {MAX_RSA_BITS} bits; this one has {key.key_size}."
        )


def fingerprint(blob: bytes) -> str:
    """ "SHA256:…" of a public key blob, as ssh-keygen -l prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


# --- Building -------------------------------------------------------------------------------------------------
def build(intent: Intent) -> SSHCertificateBuilder:
    """Ready to be signed. The type is a constant: no path leads to a host certificate (AC-24)."""
    builder = (
        SSHCertificateBuilder()
        .public_key(_load(intent.public_key))
        .serial(intent.serial)
        .type(SSHCertificateType.USER)
        .key_id(intent.key_id.encode())
        .valid_principals([principal.encode() for principal in intent.principals])
        .valid_after(intent.valid_after)
        .valid_before(intent.valid_before)
    )
    for name in intent.extensions:
        builder = builder.add_extension(name.encode(), b"")
    return builder


# --- Reading --------------------------------------------------------------------------------------------------
class _Reader:
    """Reads SSH wire data (RFC 4251 section 5). Raises ValueError at the first byte that does not fit."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise ValueError("the data ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def string(self) -> bytes:
        return self.take(self.number(4))

    def at_end(self) -> bool:
        return self._at == len(self._data)

    def finish(self) -> None:
        if not self.at_end():
            raise ValueError("there is data after the end")


def parse_certificate(line: str) -> ParsedCertificate:
    """Reads "type base64". Raises ValueError for anything that is not one complete certificate."""
    words = line.split(" ")
    if len(words) != 2 or not line.isascii() or not line.isprintable():
        raise ValueError("not one line of type and base64")
    reader = _Reader(base64.b64decode(words[1], validate=True))
    certificate_type = reader.string().decode("ascii")
    key_type = certificate_type.removesuffix(_CERTIFICATE_SUFFIX)
    if certificate_type != words[0] or key_type == certificate_type or key_type not in _KEY_TYPES:
        raise ValueError(f"unknown certificate type {certificate_type[:60]!r}")
    parsed = ParsedCertificate(
        certificate_type=certificate_type,
        nonce=reader.string(),
        key_fields=tuple(reader.string() for _ in range(_KEY_TYPES[key_type])),
        serial=reader.number(8),
        type=reader.number(4),
        key_id=reader.string(),
        principals=_strings(reader.string()),
        valid_after=reader.number(8),
        valid_before=reader.number(8),
        critical_options=_pairs(reader.string()),
        extensions=_pairs(reader.string()),
        reserved=reader.string(),
        authority_key=reader.string(),
        signature=reader.string(),
    )
    reader.finish()
    return parsed


def _strings(data: bytes) -> tuple[bytes, ...]:
    reader, found = _Reader(data), []
    while not reader.at_end():
        found.append(reader.string())
    return tuple(found)


def _pairs(data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    found = _strings(data)
    if len(found) % 2:
        raise ValueError("an option has no value field")
    return tuple(zip(found[::2], found[1::2], strict=True))


# --- Linting --------------------------------------------------------------------------------------------------
def check_intent(intent: Intent) -> None:
    """Raises LintError unless the intent itself is one we may sign; done before signing, and again by `lint`."""
    problems = _intent_problems(intent)
    if problems:
        raise LintError(problems)


def lint(line: str, intent: Intent) -> ParsedCertificate:
    """Read the signed bytes back and compare everything with the intent. Raises LintError with all differences."""
    problems = _intent_problems(intent)
    try:
        parsed = parse_certificate(line)
    except ValueError as error:
        raise LintError([*problems, f"the certificate cannot be parsed: {error}"]) from error
    problems += _identity_problems(parsed, intent) + _limit_problems(parsed, intent)
    problems += _signature_problems(line, parsed, intent)
    if problems:
        raise LintError(problems)
    return parsed


def _intent_problems(intent: Intent) -> list[str]:
    life = intent.valid_before - intent.valid_after - BACKDATE_SECONDS
    checks = [
        (1 <= intent.serial <= MAX_SERIAL, "the serial is out of range"),
        (is_key_id(intent.key_id), "the key id does not fit its grammar"),
        (1 <= len(intent.principals) <= MAX_PRINCIPALS, "the number of principals is out of range"),
        (all(PRINCIPAL.fullmatch(name) for name in intent.principals), "a principal is not a plain account name"),
        (len(set(intent.principals)) == len(intent.principals), "a principal is repeated"),
        (set(intent.extensions) <= EXTENSIONS, "an extension is unknown"),
        (len(set(intent.extensions)) == len(intent.extensions), "an extension is repeated"),
        (intent.valid_after > 0, "valid_after is not a time"),
        (MIN_LIFETIME_SECONDS <= life <= MAX_LIFETIME_SECONDS, "the lifetime is out of range"),
        (intent.authority_key.split(" ")[0] in _AUTHORITY_TYPES, "the authority's algorithm is not allowed"),
    ]
    return [problem for holds, problem in checks if not holds]


def _identity_problems(parsed: ParsedCertificate, intent: Intent) -> list[str]:
    algorithm = intent.public_key.split(" ")[0]
    expected_fields = _key_fields(intent.public_key)
    checks = [
        (parsed.type == _USER_CERTIFICATE, "it is not a user certificate"),
        (parsed.certificate_type == algorithm + _CERTIFICATE_SUFFIX, "the key type differs"),
        (parsed.key_fields == expected_fields, "the public key differs"),
        (16 <= len(parsed.nonce) <= 32, "the nonce has a wrong size"),
        (parsed.serial == intent.serial and parsed.serial != 0, "the serial differs"),
        (parsed.key_id == intent.key_id.encode(), "the key id differs"),
        (parsed.principals == tuple(name.encode() for name in intent.principals), "the principals differ"),
        (bool(parsed.principals), "there are no principals"),
        (all(_is_plain(name) for name in parsed.principals), "a principal is not a plain account name"),
    ]
    return [problem for holds, problem in checks if not holds]


def _limit_problems(parsed: ParsedCertificate, intent: Intent) -> list[str]:
    names = [name for name, _ in parsed.extensions]
    life = parsed.valid_before - parsed.valid_after - BACKDATE_SECONDS
    checks = [
        (parsed.valid_after == intent.valid_after, "valid_after differs"),
        (parsed.valid_before == intent.valid_before, "valid_before differs"),
        (0 < life <= MAX_LIFETIME_SECONDS, "the lifetime is out of range"),
        (parsed.critical_options == (), "there are critical options"),
        (names == sorted(name.encode() for name in intent.extensions), "the extensions differ"),
        (all(value == b"" for _, value in parsed.extensions), "an extension has a value"),
        (parsed.reserved == b"", "the reserved field is used"),
    ]
    return [problem for holds, problem in checks if not holds]


def _signature_problems(line: str, parsed: ParsedCertificate, intent: Intent) -> list[str]:
    algorithm, encoded = intent.authority_key.split(" ")[:2]
    if parsed.authority_key != base64.b64decode(encoded):
        return ["it is signed by another authority"]
    try:
        if _Reader(parsed.signature).string() != algorithm.encode():
            return ["the signature's algorithm differs from the authority's"]
        certificate = load_ssh_public_identity(line.encode())
        if not isinstance(certificate, SSHCertificate):
            return ["it is not a certificate"]
        certificate.verify_cert_signature()
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return ["the signature does not verify"]
    return []


def is_key_id(text: str) -> bool:
    return len(text.encode()) <= MAX_KEY_ID_BYTES and KEY_ID.fullmatch(text) is not None


def _is_plain(name: bytes) -> bool:
    return name.isascii() and PRINCIPAL.fullmatch(name.decode("ascii")) is not None


def _key_fields(line: str) -> tuple[bytes, ...]:
    return _strings(base64.b64decode(line.split(" ")[1]))[1:]
