"""The edge's picture of the world: one parsed, immutable snapshot of the control plane (CONTRACT agent API).
Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import jwt
from jwt.algorithms import RSAAlgorithm

from dataplane.wire.names import MANAGEMENT_HOST

MAX_KEYS_PER_ORGANIZATION = 32


class SnapshotError(ValueError):
    """A snapshot that does not have the agreed shape; the edge keeps the one it has."""


@dataclass(frozen=True, slots=True)
class Application:
    id: str
    organization_id: str
    name: str
    hostname: str
    path: str
    aud: str
    issuer: str
    team_domain: str


@dataclass(frozen=True, slots=True)
class Route:
    hostname: str
    tunnel_id: str
    organization_id: str


@dataclass(frozen=True, slots=True)
class Tunnel:
    id: str
    organization_id: str
    name: str
    secret_sha256: tuple[str, ...] = field(repr=False)
    is_remote: bool
    config_version: int | None
    config: Mapping[str, Any] | None
    min_registered_at: float
    connectors: Mapping[str, float]

    def revocation_marks(self, client_id: str) -> tuple[float, float]:
        """The control plane's instants for the whole tunnel and for this connector. A connection lives as long as
        neither rises above what it was when the connection registered; they are compared with each other only, never
        with this machine's clock."""
        return self.min_registered_at, self.connectors.get(client_id, 0.0)


@dataclass(frozen=True, slots=True)
class ClientRoot:
    """A root whose client certificates count on a hostname. `fingerprint`: SHA-256, hexadecimal."""

    fingerprint: str
    pem: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Snapshot:
    version: int
    team_domains: Mapping[str, str]
    dashboard_hosts: frozenset[str]
    transfer_hosts: frozenset[str]
    applications: Mapping[str, tuple[Application, ...]]
    routes: Mapping[str, Route]
    tunnels: Mapping[str, Tunnel]
    keys: Mapping[str, Mapping[str, Any]]
    # By hostname, or by "*." and a parent name for every name one label below it.
    client_roots: Mapping[str, tuple[ClientRoot, ...]] = field(default_factory=dict)
    # Hostnames (as above) whose origins get to see the client's certificate.
    certificate_forwarding: frozenset[str] = frozenset()
    # Organization -> version of its latest change.
    changes: Mapping[str, int] = field(default_factory=dict)

    def changed_at(self, organization_id: str) -> int:
        """The version from which on decisions about the organization count; this one when we are not told."""
        return self.changes.get(organization_id, self.version)

    def roots_for(self, hostname: str) -> tuple[ClientRoot, ...]:
        """Of the name itself and of its wildcard, each once."""
        wildcard = f"*.{hostname.partition('.')[2]}"
        found = (*self.client_roots.get(hostname, ()), *self.client_roots.get(wildcard, ()))
        return tuple(dict.fromkeys(found))

    def forwards_certificate(self, hostname: str) -> bool:
        return not self.certificate_forwarding.isdisjoint((hostname, f"*.{hostname.partition('.')[2]}"))

    def is_known_host(self, hostname: str) -> bool:
        return (
            hostname in self.team_domains
            or hostname in self.dashboard_hosts
            or hostname in self.transfer_hosts
            or any(name in self.applications for name in _candidates(hostname))
        )

    def find_application(self, hostname: str, target: str) -> Application | None:
        """The application with the most specific hostname, then the longest path prefix, that covers the
        request.

        None as well when reading the path as sent and reading it decoded lead to different applications: an
        origin that decodes would serve one application's pages under the policy of the other.
        """
        path = target.partition("?")[0]
        as_sent = self._match(hostname, path)
        readings = _readings(path)
        return as_sent if all(self._match(hostname, reading) is as_sent for reading in readings) else None

    def find_route(self, hostname: str) -> Route | None:
        if hostname == MANAGEMENT_HOST:
            return None
        return next((self.routes[name] for name in _candidates(hostname) if name in self.routes), None)

    def _match(self, hostname: str, path: str) -> Application | None:
        for name in _candidates(hostname):
            # Sorted by path length, longest first, when the snapshot was parsed.
            for application in self.applications.get(name, ()):
                if _covers(application.path, path):
                    return application
        return None


EMPTY_SNAPSHOT = Snapshot(-1, {}, frozenset(), frozenset(), {}, {}, {}, {})


def parse_snapshot(document: object) -> Snapshot:
    """Raises SnapshotError; a half-understood snapshot must never be served."""
    try:
        return _parse(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SnapshotError(f"snapshot has an unexpected shape: {type(error).__name__}") from error


def _parse(document: Any) -> Snapshot:
    applications: dict[str, list[Application]] = {}
    for item in document["applications"]:
        application = _application(item)
        applications.setdefault(application.hostname, []).append(application)
    return Snapshot(
        version=int(document["version"]),
        team_domains={_host(name): str(org) for name, org in document["team_domains"].items()},
        dashboard_hosts=frozenset(_host(name) for name in document.get("dashboard_hosts", ())),
        transfer_hosts=frozenset(_host(name) for name in document.get("transfer_hosts", ())),
        applications={
            name: tuple(sorted(items, key=lambda item: len(item.path), reverse=True))
            for name, items in applications.items()
        },
        routes={
            _host(item["hostname"]): Route(
                _host(item["hostname"]), str(item["tunnel_id"]), str(item["organization_id"])
            )
            for item in document["routes"]
        },
        tunnels={str(item["id"]): _tunnel(item) for item in document["tunnels"]},
        keys={str(org): parse_keys(jwks.get("keys", ())) for org, jwks in document["jwks"].items()},
        client_roots={
            _host(name): tuple(ClientRoot(str(root["fingerprint"]), str(root["pem"])) for root in roots)
            for name, roots in (document.get("client_roots") or {}).items()
        },
        certificate_forwarding=frozenset(_host(name) for name in document.get("certificate_forwarding") or ()),
        changes={str(org): int(version) for org, version in (document.get("changes") or {}).items()},
    )


def _application(item: Mapping[str, Any]) -> Application:
    return Application(
        id=str(item["id"]),
        organization_id=str(item["organization_id"]),
        name=str(item["name"]),
        hostname=_host(item["hostname"]),
        path="/" + str(item.get("path") or "").strip("/"),
        aud=str(item["aud"]),
        issuer=str(item["issuer"]),
        team_domain=str(item["team_domain"]),
    )


def _tunnel(item: Mapping[str, Any]) -> Tunnel:
    version = item.get("config_version")
    return Tunnel(
        id=str(item["id"]),
        organization_id=str(item["organization_id"]),
        name=str(item["name"]),
        secret_sha256=tuple(str(digest).lower() for digest in item["secret_sha256"]),
        is_remote=bool(item["remote"]),
        config_version=int(version) if version is not None else None,
        config=item.get("config"),
        min_registered_at=float(item.get("min_registered_at") or 0.0),
        connectors={str(name): float(at or 0.0) for name, at in (item.get("connectors") or {}).items()},
    )


def parse_keys(keys: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """RS256 verification keys by key id. Keys of other kinds are left out: they can never verify anything
    here."""
    parsed: dict[str, Any] = {}
    for key in keys:
        if key.get("kty") != "RSA" or not key.get("kid") or len(parsed) >= MAX_KEYS_PER_ORGANIZATION:
            continue
        try:
            parsed[str(key["kid"])] = RSAAlgorithm.from_jwk({"kty": "RSA", "n": key["n"], "e": key["e"]})
        except (jwt.InvalidKeyError, KeyError) as error:
            raise ValueError("a token key cannot be read") from error
    return parsed


def _host(text: str) -> str:
    """Host without port, lower case, no trailing dot."""
    return str(text).partition(":")[0].strip().lower().rstrip(".")


def _candidates(hostname: str) -> list[str]:
    """The name itself, then its wildcards from the most to the least specific."""
    labels = hostname.split(".")
    return [hostname, *("*." + ".".join(labels[index:]) for index in range(1, len(labels)))]


def _covers(prefix: str, path: str) -> bool:
    return prefix == "/" or path == prefix or path.startswith(prefix + "/")


def _readings(path: str) -> set[str]:
    """As origins and the proxies before them may read it: decoded once or once more, and with path parameters
    (";x=1", which servlet containers drop before they resolve "..") or without."""
    once = unquote(path)
    return {_normalize_path(text, drop) for text in (once, unquote(once)) for drop in (False, True)}


def _normalize_path(path: str, drops_parameters: bool) -> str:
    """One slash per separator, dot segments resolved."""
    segments: list[str] = []
    for raw in path.replace("\\", "/").split("/"):
        segment = raw.partition(";")[0] if drops_parameters else raw
        if segment == "..":
            if segments:
                segments.pop()
        elif segment not in ("", "."):
            segments.append(segment)
    return "/" + "/".join(segments)
