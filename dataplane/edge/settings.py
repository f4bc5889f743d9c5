"""Settings of the edge, read once from the environment. A bad value refuses to start: nothing is guessed."""

import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_PORT = 8443
DEFAULT_TUNNEL_PORT = 7844
MIN_TOKEN_CHARACTERS = 16


class SettingsError(Exception):
    """A setting is missing or wrong; the message names it."""


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    host: str
    port: int
    tunnel_port: int
    control_port: int
    public_port: int
    control_plane_url: str
    token: str = field(repr=False)
    state_dir: Path
    name: str
    location: str
    certificate_dir: Path | None
    outage_grace_seconds: float
    drain_seconds: float
    edge_id: str


def read_settings(environ: Mapping[str, str]) -> EdgeSettings:
    """Raises SettingsError with the name of the variable and what is expected."""
    port = _integer(environ, "EDGE_PORT", DEFAULT_PORT, 65535)
    state_dir = Path(_required(environ, "EDGE_STATE_DIR"))
    certificate_dir = environ.get("EDGE_CERT_DIR") or None
    if certificate_dir is not None and not Path(certificate_dir).is_dir():
        raise SettingsError(f"EDGE_CERT_DIR: {certificate_dir} is not a directory")
    name = environ.get("EDGE_NAME") or socket.gethostname()
    return EdgeSettings(
        host=environ.get("EDGE_HOST") or "127.0.0.1",
        port=port,
        tunnel_port=_integer(environ, "TUNNEL_PORT", DEFAULT_TUNNEL_PORT, 65535),
        control_port=_integer(environ, "EDGE_CONTROL_PORT", 0, 65535),
        public_port=_integer(environ, "EDGE_PUBLIC_PORT", port, 65535),
        control_plane_url=_url(environ, "CONTROL_PLANE_URL"),
        token=_token(environ),
        state_dir=state_dir,
        name=name,
        location=environ.get("EDGE_LOCATION") or name,
        certificate_dir=Path(certificate_dir) if certificate_dir else None,
        outage_grace_seconds=_integer(environ, "EDGE_OUTAGE_GRACE_SECONDS", 0, 86400),
        drain_seconds=_integer(environ, "EDGE_DRAIN_SECONDS", 10, 3600),
        edge_id=_edge_id(state_dir),
    )


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise SettingsError(f"{name} is not set")
    return value


def _integer(environ: Mapping[str, str], name: str, default: int, maximum: int) -> int:
    text = environ.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or int(text) > maximum:
        raise SettingsError(f"{name}: {text!r} is not a whole number from 0 to {maximum}")
    return int(text)


def _url(environ: Mapping[str, str], name: str) -> str:
    text = _required(environ, name).rstrip("/")
    try:
        parts = urlsplit(text)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_valid = False
    if not is_valid or parts.path or parts.query or parts.username:
        raise SettingsError(f"{name}: expected http(s)://host[:port] without a path")
    return text


def _token(environ: Mapping[str, str]) -> str:
    path = environ.get("EDGE_TOKEN_FILE", "")
    try:
        token = Path(path).read_text(encoding="utf-8").strip() if path else environ.get("EDGE_TOKEN", "")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"EDGE_TOKEN_FILE: cannot read {path}") from error
    if len(token) < MIN_TOKEN_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(
            f"EDGE_TOKEN or EDGE_TOKEN_FILE must give at least {MIN_TOKEN_CHARACTERS} printable characters"
        )
    return token


def _edge_id(state_dir: Path) -> str:
    """Stable over restarts, so that the dashboard shows one edge and not a new one per start."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = state_dir / "edge-id"
        if path.exists():
            return str(uuid.UUID(path.read_text(encoding="ascii").strip()))
        edge_id = str(uuid.uuid4())
        path.write_text(edge_id + "\n", encoding="ascii")
    except (OSError, ValueError) as error:
        raise SettingsError(f"EDGE_STATE_DIR: cannot use {state_dir}: {error}") from error
    return edge_id
