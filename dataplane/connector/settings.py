"""What a connector runs with: flags first, then environment, then the configuration file (tunnel-edge.md 3.3)."""

import argparse
import os
import stat
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dataplane.errors import CommandError
from dataplane.state import DIRECTORY_NAME, home_directory
from dataplane.wire.credentials import CredentialsError, TunnelCredentials
from dataplane.wire.ingress import Ingress, IngressError, parse_yaml_ingress
from dataplane.wire.origin_request import parse_duration

DEFAULT_EDGE_PORT = 7844
DEFAULT_CONNECTIONS = 4
MAX_CONNECTIONS = 16
DEFAULT_GRACE_SECONDS = 30.0
MAX_GRACE_SECONDS = 180.0
MAX_FILE_BYTES = 1 << 20
LOG_LEVELS = ("debug", "info", "warning", "error")
_LEVEL_ALIASES = {"warn": "warning", "fatal": "error", "panic": "error"}


@dataclass(frozen=True, slots=True)
class EdgeAddress:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    credentials: TunnelCredentials
    edges: tuple[EdgeAddress, ...]
    ca_file: Path | None
    ingress: Ingress
    connections: int
    grace_seconds: float
    metrics: EdgeAddress | None
    log_level: str
    log_format: str
    log_file: Path | None
    warnings: tuple[str, ...]
    # Where the last good configuration is kept; None: nowhere.
    state_directory: Path | None = None
    # Whether people with the right to edit the tunnel may watch this process's log in the dashboard.
    remote_logs: bool = True


def load_settings(argv: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Raises CommandError with one line that says what to change."""
    options = _parser().parse_args(argv)
    warnings: list[str] = []
    if options.token:
        warnings.append(
            "a token on the command line is visible to every user of this host; use TUNNEL_TOKEN or --token-file"
        )
    path = _config_path(options.config)
    document = _load_document(path) if path else {}
    lookup = _Lookup(options, environment, document, path)
    credentials = _credentials(lookup, warnings)
    _check_tunnel(lookup, options.tunnel, credentials)
    _check_protocol(lookup)
    log_level = str(lookup.get("loglevel", "TUNNEL_LOGLEVEL") or "info").lower()
    log_level = _LEVEL_ALIASES.get(log_level, log_level)
    if log_level not in LOG_LEVELS:
        raise CommandError(f"loglevel must be one of {', '.join(LOG_LEVELS)}, not {log_level!r}")
    metrics = lookup.get("metrics", "TUNNEL_METRICS")
    return Settings(
        credentials=credentials,
        edges=_edges(lookup),
        ca_file=lookup.path("cacert", "TUNNEL_CACERT"),
        ingress=_ingress(lookup, options.url),
        connections=_connections(lookup),
        grace_seconds=_grace_seconds(lookup),
        metrics=_parse_address(str(metrics), "metrics") if metrics else None,
        log_level=log_level,
        log_format=_log_format(lookup),
        log_file=_log_file(lookup, credentials.tunnel_id),
        warnings=tuple(warnings),
        state_directory=_state_directory(lookup),
        remote_logs=not lookup.get("no-remote-logs", "TUNNEL_NO_REMOTE_LOGS"),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sallyport tunnel run",
        description="Keeps connections to the edge open and carries what arrives there to local services.",
    )
    parser.add_argument("tunnel", nargs="?", metavar="TUNNEL", help="name or UUID; the credentials decide")
    parser.add_argument(
        "--config", metavar="FILE", help=f"default: ~/{DIRECTORY_NAME}/config.yml, /etc/sallyport/config.yml"
    )
    parser.add_argument("--token", help="tunnel token (better: TUNNEL_TOKEN)")
    parser.add_argument("--token-file", metavar="FILE", help="file with the tunnel token (TUNNEL_TOKEN_FILE)")
    parser.add_argument("--credentials-file", "--cred-file", metavar="FILE", help="JSON credentials (TUNNEL_CRED_FILE)")
    parser.add_argument(
        "--edge", action="append", metavar="HOST:PORT", help="repeat for more (TUNNEL_EDGE, comma list)"
    )
    parser.add_argument("--cacert", metavar="FILE", help="authority that signed the edge's certificate (TUNNEL_CACERT)")
    parser.add_argument("--url", metavar="SERVICE", help="one service for everything, instead of ingress rules")
    parser.add_argument("--ha-connections", metavar="N", help=f"connections to keep (default {DEFAULT_CONNECTIONS})")
    parser.add_argument("--grace-period", metavar="TIME", help="how long streams may go on after a stop (default 30s)")
    parser.add_argument(
        "--metrics", metavar="HOST:PORT", help="serve /ready, /healthcheck and /metrics (TUNNEL_METRICS)"
    )
    parser.add_argument("--loglevel", metavar="LEVEL", help="debug, info, warning or error (TUNNEL_LOGLEVEL)")
    parser.add_argument("--log-format", choices=("plain", "json"), help="of the lines on stderr (TUNNEL_LOG_FORMAT)")
    parser.add_argument("--logfile", metavar="FILE", help="write the log there too (TUNNEL_LOGFILE)")
    parser.add_argument(
        "--state-dir", metavar="DIR", help="keep the last good configuration there (TUNNEL_STATE_DIR); empty: nowhere"
    )
    parser.add_argument(
        "--no-remote-logs", action="store_true", help="the dashboard cannot watch this log (TUNNEL_NO_REMOTE_LOGS)"
    )
    parser.add_argument("--protocol", metavar="NAME", help="http2 (the only one)")
    parser.add_argument("--no-autoupdate", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--no-prechecks", action="store_true", help=argparse.SUPPRESS)
    return parser


class _Lookup:
    """One setting from its three sources."""

    def __init__(
        self,
        options: argparse.Namespace,
        environment: Mapping[str, str],
        document: Mapping[str, Any],
        path: Path | None,
    ) -> None:
        self._options = options
        self.environment = environment
        self.document = document
        self._directory = path.parent if path else None

    def get(self, key: str, variable: str = "") -> Any:
        value = getattr(self._options, key.replace("-", "_"), None)
        return value or self.environment.get(variable) or self.document.get(key)

    def options_value(self, name: str) -> str | None:
        value = getattr(self._options, name, None)
        return None if value is None else str(value)

    def path(self, key: str, variable: str = "") -> Path | None:
        """A relative path in the configuration file is relative to that file, never to the working directory."""
        given = getattr(self._options, key.replace("-", "_"), None) or self.environment.get(variable)
        if given:
            return Path(str(given)).expanduser()
        value = self.document.get(key)
        if not value:
            return None
        found = Path(str(value)).expanduser()
        return found if found.is_absolute() or self._directory is None else self._directory / found


def config_directories() -> list[Path]:
    home = home_directory()
    return [home / DIRECTORY_NAME, home / ".cloudflared", Path("/etc/sallyport"), Path("/etc/cloudflared")]


def _config_path(given: str | None) -> Path | None:
    if given:
        return Path(given).expanduser().absolute()
    candidates = (folder / name for folder in config_directories() for name in ("config.yml", "config.yaml"))
    return next((path for path in candidates if path.is_file()), None)


def _load_document(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(_read(path))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise CommandError(f"{path} is not YAML{where}: {getattr(error, 'problem', None) or 'malformed'}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise CommandError(f"{path} must hold keys such as tunnel, credentials-file and ingress")
    return document


def _credentials(lookup: _Lookup, warnings: list[str]) -> TunnelCredentials:
    token = lookup.get("token", "TUNNEL_TOKEN")
    token_file = lookup.path("token-file", "TUNNEL_TOKEN_FILE")
    contents = lookup.environment.get("TUNNEL_CRED_CONTENTS")
    credentials_file = lookup.path("credentials-file", "TUNNEL_CRED_FILE")
    try:
        if token:
            return TunnelCredentials.from_token(str(token))
        if token_file:
            return TunnelCredentials.from_token(_read_secret(token_file, warnings).decode("ascii", "replace"))
        if contents:
            return TunnelCredentials.from_file_json(contents)
        if credentials_file:
            return TunnelCredentials.from_file_json(_read_secret(credentials_file, warnings))
        found = _search_credentials(lookup)
        return TunnelCredentials.from_file_json(_read_secret(found, warnings))
    except CredentialsError as error:
        raise CommandError(str(error)) from None


def _search_credentials(lookup: _Lookup) -> Path:
    name = str(lookup.get("tunnel") or "")
    if not name:
        raise CommandError(
            "no tunnel to run: give --token-file or TUNNEL_TOKEN, or a configuration file with tunnel: and"
            " credentials-file:"
        )
    if _uuid(name) is None:
        raise CommandError(
            f"no credentials for tunnel {name!r}: put its UUID as tunnel: into the configuration file"
            f" (~/{DIRECTORY_NAME}/config.yml), or name its file with --credentials-file"
        )
    candidates = [folder / f"{_uuid(name)}.json" for folder in config_directories()]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise CommandError(f"no credentials file; looked for {', '.join(map(str, candidates))}")
    return found


def _check_tunnel(lookup: _Lookup, given: str | None, credentials: TunnelCredentials) -> None:
    for name in (given, lookup.document.get("tunnel")):
        identifier = _uuid(str(name)) if name else None
        if identifier is not None and identifier != credentials.tunnel_id:
            raise CommandError(f"the credentials belong to tunnel {credentials.tunnel_id}, not to {identifier}")


def _check_protocol(lookup: _Lookup) -> None:
    protocol = str(lookup.get("protocol", "TUNNEL_TRANSPORT_PROTOCOL") or "http2")
    if protocol not in ("http2", "auto"):
        raise CommandError(f"protocol {protocol!r} is not offered; use http2")


def _edges(lookup: _Lookup) -> tuple[EdgeAddress, ...]:
    value = lookup.get("edge", "TUNNEL_EDGE")
    items = value.split(",") if isinstance(value, str) else value or []
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise CommandError("edge must be a list of host:port")
    addresses = [_parse_address(part.strip(), "edge") for item in items for part in item.split(",") if part.strip()]
    if not addresses:
        raise CommandError(
            "no edge to connect to: give --edge HOST:PORT, TUNNEL_EDGE or edge: in the configuration file"
        )
    return tuple(dict.fromkeys(addresses))


def _parse_address(text: str, what: str) -> EdgeAddress:
    host, colon, port = text.rpartition(":")
    if text.startswith("[") and text.endswith("]"):
        host, port = text[1:-1], str(DEFAULT_EDGE_PORT)
    elif not colon:
        host, port = text, str(DEFAULT_EDGE_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise CommandError(f"{what} {text!r} is not host:port")
    return EdgeAddress(host, int(port))


def _ingress(lookup: _Lookup, url: str | None) -> Ingress:
    try:
        if url:
            return parse_yaml_ingress(
                {"ingress": [{"service": url}], "originRequest": lookup.document.get("originRequest")}
            )
        return parse_yaml_ingress(lookup.document)
    except IngressError as error:
        raise CommandError(str(error)) from None


def _connections(lookup: _Lookup) -> int:
    value = lookup.get("ha-connections", "TUNNEL_HA_CONNECTIONS") or DEFAULT_CONNECTIONS
    if not str(value).isdigit() or not 1 <= int(value) <= MAX_CONNECTIONS:
        raise CommandError(f"ha-connections must be from 1 to {MAX_CONNECTIONS}")
    return int(value)


def _grace_seconds(lookup: _Lookup) -> float:
    value = lookup.get("grace-period", "TUNNEL_GRACE_PERIOD")
    if value is None:
        return DEFAULT_GRACE_SECONDS
    try:
        seconds = parse_duration(value, "grace-period", text_durations=True)
    except IngressError as error:
        raise CommandError(str(error)) from None
    return min(seconds, MAX_GRACE_SECONDS)


def _log_format(lookup: _Lookup) -> str:
    value = str(lookup.get("log-format", "TUNNEL_LOG_FORMAT") or "plain")
    if value not in ("plain", "json"):
        raise CommandError(f"log-format must be plain or json, not {value!r}")
    return value


def _log_file(lookup: _Lookup, tunnel_id: uuid.UUID) -> Path | None:
    """logDirectory is the key of the tutorial, log-directory and logfile the public connector's."""
    direct = lookup.path("logfile", "TUNNEL_LOGFILE")
    if direct:
        return direct
    directory = lookup.path("log-directory", "TUNNEL_LOGDIRECTORY") or lookup.path("logDirectory")
    return directory / f"{tunnel_id}.log" if directory else None


def _state_directory(lookup: _Lookup) -> Path | None:
    """Given, else systemd's StateDirectory=, else the state directory of the user, if there is a home."""
    given = lookup.options_value("state_dir")
    if given is None:
        given = lookup.environment.get("TUNNEL_STATE_DIR")
    if given is not None:
        return Path(given).expanduser().absolute() if given else None
    of_service = lookup.environment.get("STATE_DIRECTORY", "").partition(":")[0]
    if of_service:
        return Path(of_service)
    try:
        return home_directory() / DIRECTORY_NAME
    except CommandError:
        return None


def _read_secret(path: Path, warnings: list[str]) -> bytes:
    data = _read(path)
    if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
        warnings.append(f"{path} can be read by other users of this host; run: chmod 600 {path}")
    return data


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            data = handle.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise CommandError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    return data


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
