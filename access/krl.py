"""Key revocation lists for sshd's RevokedKeys (OpenSSH PROTOCOL.krl). Pure.

Only what we need: per authority key, a list of certificate serials. sshd reads the file at every login; a missing or
truncated file refuses everybody, so hosts must replace it atomically (security.md 6.3).
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Mapping

_MAGIC = b"SSHKRL\n\x00"
_FORMAT_VERSION = 1
_SECTION_CERTIFICATES = 1
_SERIAL_LIST = 0x20


def build_krl(serials: Mapping[str, Iterable[int]], *, version: int, generated_at: int, comment: str) -> bytes:
    """`serials` by authority key ("type base64" line); `version` must grow from list to list; times in Unix seconds."""
    header = _MAGIC + struct.pack(">IQQQ", _FORMAT_VERSION, version, generated_at, 0)
    sections = [_authority_section(line, sorted(set(listed))) for line, listed in sorted(serials.items())]
    return header + _string(b"") + _string(comment.encode()) + b"".join(sections)


def _authority_section(line: str, serials: list[int]) -> bytes:
    if not serials:
        return b""
    authority = base64.b64decode(line.split(" ")[1])
    listed = struct.pack(f">{len(serials)}Q", *serials)
    data = _string(authority) + _string(b"") + bytes([_SERIAL_LIST]) + _string(listed)
    return bytes([_SECTION_CERTIFICATES]) + _string(data)


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
