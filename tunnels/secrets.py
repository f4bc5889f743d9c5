"""Tunnel secrets. A connector may show either of two; edges know only their SHA-256 (both hold 256 random bits or
more, so no slow hash is needed).

* the secret a client made at creation (credentials file): its hash is stored, the secret never reaches us again;
* the secret of tokens shown in the dashboard: derived from the installation's key, never stored at all.
"""

from __future__ import annotations

import hashlib
import hmac
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

MIN_SECRET_BYTES = 32
MAX_SECRET_BYTES = 512


def token_secret(tunnel_id: UUID, generation: int) -> bytes:
    """The 32-byte secret inside the tunnel's token; another generation is another, unrelated secret."""
    if len(settings.SEAL_KEY) != 32:
        raise ImproperlyConfigured("SEAL_KEY is needed to derive tunnel tokens.")
    message = b"\0".join((b"tunnel-token", str(tunnel_id).encode(), str(generation).encode()))
    return hmac.new(settings.SEAL_KEY, message, hashlib.sha256).digest()


def secret_hash(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def accepted_hashes(tunnel_id: UUID, generation: int, stored_hash: str) -> list[str]:
    """What an edge accepts for a tunnel: the token's secret and, if the client made one, the client's."""
    hashes = [secret_hash(token_secret(tunnel_id, generation))]
    return [*hashes, stored_hash] if stored_hash else hashes
