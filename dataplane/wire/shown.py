"""The client certificate a request showed, as the edge tells the control plane and the control plane keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_TEXT = 500
_MAX_ID = 200


@dataclass(frozen=True, slots=True)
class ShownCertificate:
    """Verified in the handshake, against `roots` (SHA-256 of each) and nothing else."""

    common_name: str
    fingerprint: str
    expires_at: float
    roots: tuple[str, ...]
    # For revocation lists: digest of the issuer's name, and the serial number in hexadecimal; "" from edges that do
    # not tell.
    issuer: str = ""
    serial: str = ""

    def to_document(self) -> dict[str, Any]:
        return {
            "common_name": self.common_name,
            "fingerprint": self.fingerprint,
            "expires_at": self.expires_at,
            "roots": list(self.roots),
            "issuer": self.issuer,
            "serial": self.serial,
        }


def read_certificate(values: Any) -> ShownCertificate | None:
    """None for nothing. Raises ValueError for what no edge of ours sends."""
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise ValueError("a certificate is an object")
    roots = values.get("roots")
    texts = [values.get("common_name"), values.get("fingerprint"), *(roots if isinstance(roots, list) else [None])]
    expires_at = values.get("expires_at")
    known = all(isinstance(text, str) and len(text) <= MAX_TEXT for text in texts)
    if not known or not isinstance(expires_at, int | float):
        raise ValueError("a certificate has common_name, fingerprint, expires_at and roots")
    issuer, serial = (str(values.get(name) or "")[:_MAX_ID] for name in ("issuer", "serial"))
    roots_shown = tuple(str(text) for text in texts[2:])
    return ShownCertificate(str(texts[0]), str(texts[1]), float(expires_at), roots_shown, issuer, serial)
