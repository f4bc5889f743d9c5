"""Tunnel credentials: file and token, and the account certificate cert.pem (tunnel-edge.md 2, 3.1, 3.2)."""

import base64
import binascii
import json
import re
import textwrap
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

MIN_SECRET_BYTES = 32
MAX_DOCUMENT_BYTES = 64 * 1024
_CERT_BLOCK = "ARGO TUNNEL TOKEN"
_TOLERATED_BLOCKS = frozenset({_CERT_BLOCK, "PRIVATE KEY", "CERTIFICATE"})
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s*(.*?)\s*-----END \1-----", re.DOTALL)


class CredentialsError(ValueError):
    """Credentials that cannot be used; the message says what is wrong and never contains the secret."""


@dataclass(frozen=True, slots=True)
class TunnelCredentials:
    """What a connector needs to register. The secret never shows in repr."""

    account_tag: str
    secret: bytes = field(repr=False)
    tunnel_id: uuid.UUID
    endpoint: str = ""

    def __post_init__(self) -> None:
        if len(self.secret) < MIN_SECRET_BYTES:
            raise CredentialsError(f"tunnel secret must have at least {MIN_SECRET_BYTES} bytes")
        if not self.account_tag:
            raise CredentialsError("tunnel credentials have no account tag")

    def to_token(self) -> str:
        """One line for --token and TUNNEL_TOKEN: padded standard base64 of a small JSON object."""
        document = {"a": self.account_tag, "s": _encode_secret(self.secret), "t": str(self.tunnel_id)}
        if self.endpoint:
            document["e"] = self.endpoint
        return base64.b64encode(json.dumps(document, separators=(",", ":")).encode()).decode("ascii")

    @classmethod
    def from_token(cls, token: str) -> Self:
        text = token.strip()
        if not text:
            raise CredentialsError("the tunnel token is empty")
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise CredentialsError("the tunnel token is not base64; copy it whole, without line breaks") from None
        document = _load_object(raw, "tunnel token")
        return cls._from_fields(document, ("a", "s", "t", "e"), "tunnel token")

    def to_file_json(self) -> str:
        """Text of the credentials file; write it 0400."""
        return json.dumps(
            {
                "AccountTag": self.account_tag,
                "TunnelSecret": _encode_secret(self.secret),
                "TunnelID": str(self.tunnel_id),
                "Endpoint": self.endpoint,
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_file_json(cls, text: str | bytes) -> Self:
        raw = text.encode() if isinstance(text, str) else text
        document = _load_object(raw, "credentials file")
        return cls._from_fields(document, ("AccountTag", "TunnelSecret", "TunnelID", "Endpoint"), "credentials file")

    @classmethod
    def _from_fields(cls, document: Mapping[str, Any], keys: tuple[str, str, str, str], what: str) -> Self:
        account_tag, secret, tunnel_id, endpoint = (document.get(key) or "" for key in keys)
        if not all(isinstance(value, str) for value in (account_tag, secret, tunnel_id, endpoint)):
            raise CredentialsError(f"the {what} has a field that is not text")
        for key, value in zip(keys[:3], (account_tag, secret, tunnel_id), strict=True):
            if not value:
                raise CredentialsError(f"the {what} has no {key!r}")
        try:
            secret_bytes = base64.b64decode(secret, validate=True)
        except (binascii.Error, ValueError):
            raise CredentialsError(f"the secret in the {what} is not base64") from None
        try:
            identifier = uuid.UUID(tunnel_id)
        except ValueError:
            raise CredentialsError(f"the tunnel id in the {what} is not a UUID: {tunnel_id[:64]!r}") from None
        return cls(account_tag, secret_bytes, identifier, endpoint)


@dataclass(frozen=True, slots=True)
class AccountCertificate:
    """Content of cert.pem: which account and zone the command line works on, and its API token."""

    zone_id: str
    account_id: str
    api_token: str = field(repr=False)
    endpoint: str = ""

    def to_pem(self) -> str:
        document = {"zoneID": self.zone_id, "accountID": self.account_id, "apiToken": self.api_token}
        if self.endpoint:
            document["endpoint"] = self.endpoint
        body = base64.b64encode(json.dumps(document, separators=(",", ":")).encode()).decode("ascii")
        lines = "\n".join(textwrap.wrap(body, 64))
        return f"-----BEGIN {_CERT_BLOCK}-----\n{lines}\n-----END {_CERT_BLOCK}-----\n"

    @classmethod
    def from_pem(cls, text: str) -> Self:
        """Private key and certificate blocks of older files are tolerated, other blocks are refused."""
        bodies: list[str] = []
        for block_type, body in _PEM.findall(text[:MAX_DOCUMENT_BYTES]):
            if block_type not in _TOLERATED_BLOCKS:
                raise CredentialsError(f"cert.pem has an unknown block {block_type!r}")
            if block_type == _CERT_BLOCK:
                bodies.append(body)
        if len(bodies) != 1:
            raise CredentialsError(f"cert.pem must have exactly one {_CERT_BLOCK} block, found {len(bodies)}")
        try:
            raw = base64.b64decode("".join(bodies[0].split()), validate=True)
        except (binascii.Error, ValueError):
            raise CredentialsError("the token block of cert.pem is not base64") from None
        document = _load_object(raw, "token block of cert.pem")
        fields = [document.get(key) or "" for key in ("zoneID", "accountID", "apiToken", "endpoint")]
        if not all(isinstance(value, str) for value in fields):
            raise CredentialsError("cert.pem has a field that is not text")
        zone_id, account_id, api_token, endpoint = fields
        if not zone_id or not api_token:
            raise CredentialsError("cert.pem lacks a zone id or an API token; download it again")
        return cls(zone_id, account_id, api_token, endpoint)


def _encode_secret(secret: bytes) -> str:
    return base64.b64encode(secret).decode("ascii")


def _load_object(raw: bytes, what: str) -> Mapping[str, Any]:
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise CredentialsError(f"the {what} is larger than {MAX_DOCUMENT_BYTES} bytes")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        # No cause attached: a JSON error carries the document, and with it the secret.
        raise CredentialsError(f"the {what} is not JSON") from None
    if not isinstance(document, dict):
        raise CredentialsError(f"the {what} is not a JSON object")
    return document
