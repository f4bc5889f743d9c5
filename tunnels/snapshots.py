"""What edges know: one versioned document (agent API, CONTRACT). Building it is pure; loading takes a fixed number of
queries; the encoded document is cached by its version.

The version is read before the facts. A change that commits in between may already be in the document, under the older
number; it also raised the version, so the next poll fetches it under its own.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.cache import cache
from django.db.models import Max

from access.models import Application, ClientAuthority, ClientHostname, TokenKey
from accounts.audit import edge_version
from accounts.edge_models import EdgeChange
from accounts.models import Organization
from tunnels.models import Connector, DnsRecord, Tunnel, TunnelConfiguration, Zone
from tunnels.names import is_within
from tunnels.records import tunnel_of
from tunnels.routing import Alias, build_routes
from tunnels.secrets import accepted_hashes

CACHE_SECONDS = 600
_REASON = "the edge serves every tenant"


@dataclass(frozen=True, slots=True)
class OrganizationFacts:
    id: str
    team_domain: str
    issuer: str


@dataclass(frozen=True, slots=True)
class ApplicationFacts:
    id: UUID
    organization_id: str
    name: str
    hostname: str
    path: str
    aud: str


@dataclass(frozen=True, slots=True)
class TunnelFacts:
    """`min_registered_at` and the connectors' instants in epoch seconds, 0.0 for none."""

    id: UUID
    organization_id: str
    name: str
    secret_hashes: Sequence[str] = field(repr=False)
    is_remote: bool
    config_version: int | None
    config: Mapping[str, Any] | None
    min_registered_at: float
    connectors: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ClientRootFacts:
    """A root whose client certificates an organization accepts on some of its hostnames."""

    organization_id: str
    hostnames: Sequence[str]
    fingerprint: str
    pem: str


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """`zones`: active zone name -> organization. `keys`: organization -> public JWKs."""

    version: int
    dashboard_hosts: Sequence[str]
    transfer_hosts: Sequence[str]
    organizations: Sequence[OrganizationFacts]
    zones: Mapping[str, str]
    applications: Sequence[ApplicationFacts]
    aliases: Sequence[Alias]
    tunnels: Sequence[TunnelFacts]
    keys: Mapping[str, Sequence[Mapping[str, Any]]]
    client_roots: Sequence[ClientRootFacts] = ()
    # (organization, hostname) of the names whose origins get to see client certificates.
    certificate_forwarding: Sequence[tuple[str, str]] = ()
    # Organization -> version of its latest change.
    changes: Mapping[str, int] = field(default_factory=dict)


def build_snapshot(facts: SnapshotFacts) -> dict[str, Any]:
    """The document. An application outside its organization's active zones is left out: nobody vouches for its name."""
    organizations = {organization.id: organization for organization in facts.organizations}
    routes = build_routes(facts.aliases, {tunnel.id: tunnel.organization_id for tunnel in facts.tunnels})
    return {
        "version": facts.version,
        "changes": dict(facts.changes),
        "team_domains": {organization.team_domain: organization.id for organization in facts.organizations},
        "dashboard_hosts": list(facts.dashboard_hosts),
        "transfer_hosts": list(facts.transfer_hosts),
        "applications": [
            _application(application, organizations[application.organization_id])
            for application in facts.applications
            if application.organization_id in organizations and _is_covered(application, facts.zones)
        ],
        "routes": [
            {
                "hostname": route.hostname,
                "tunnel_id": str(route.tunnel_id),
                "organization_id": route.organization_id,
            }
            for route in routes
        ],
        "tunnels": [_tunnel(tunnel) for tunnel in facts.tunnels],
        "jwks": {organization: {"keys": list(keys)} for organization, keys in facts.keys.items()},
        "client_roots": _client_roots(facts),
        "certificate_forwarding": sorted(
            hostname
            for organization_id, hostname in facts.certificate_forwarding
            if _is_in_zones(hostname.removeprefix("*."), organization_id, facts.zones)
        ),
    }


def load_snapshot() -> dict[str, Any]:
    version = edge_version()
    return build_snapshot(
        SnapshotFacts(
            version=version,
            dashboard_hosts=settings.DASHBOARD_HOSTS,
            transfer_hosts=settings.TRANSFER_HOSTS,
            organizations=[
                OrganizationFacts(organization.id, organization.team_domain, organization.team_url)
                for organization in Organization.objects.only("id", "team_name").order_by("team_name")
            ],
            zones=_load_zones(),
            applications=_load_applications(),
            aliases=_load_aliases(),
            tunnels=_load_tunnels(),
            keys=_load_keys(),
            client_roots=_load_client_roots(),
            certificate_forwarding=_load_forwarding(),
            changes=dict(
                EdgeChange.objects.all_organizations(reason=_REASON).values_list("organization_id", "version")
            ),
        )
    )


def cached_snapshot(version: int) -> bytes:
    """The encoded document of `version` (what accounts.audit.edge_version said), or of a later one."""
    key = f"tunnels.snapshot.{version}"
    body: bytes | None = cache.get(key)
    if body is None:
        document = load_snapshot()
        body = json.dumps(document, separators=(",", ":")).encode()
        cache.set(f"tunnels.snapshot.{document['version']}", body, CACHE_SECONDS)
    return body


def _application(application: ApplicationFacts, organization: OrganizationFacts) -> dict[str, Any]:
    return {
        "id": str(application.id),
        "organization_id": application.organization_id,
        "name": application.name,
        "hostname": application.hostname,
        "path": application.path,
        "aud": application.aud,
        "issuer": organization.issuer,
        "team_domain": organization.team_domain,
    }


def _is_covered(application: ApplicationFacts, zones: Mapping[str, str]) -> bool:
    return _is_in_zones(application.hostname.removeprefix("*."), application.organization_id, zones)


def _is_in_zones(hostname: str, organization_id: str, zones: Mapping[str, str]) -> bool:
    labels = hostname.split(".")
    names = (".".join(labels[index:]) for index in range(len(labels)))
    return any(zones.get(name) == organization_id for name in names)


def _client_roots(facts: SnapshotFacts) -> dict[str, list[dict[str, str]]]:
    """Hostname -> roots. As with applications, only where the organization still proves that it owns the name."""
    roots: dict[str, list[dict[str, str]]] = defaultdict(list)
    for root in facts.client_roots:
        for hostname in root.hostnames:
            if _is_in_zones(hostname.removeprefix("*."), root.organization_id, facts.zones):
                roots[hostname].append({"fingerprint": root.fingerprint, "pem": root.pem})
    return dict(roots)


def _load_client_roots() -> list[ClientRootFacts]:
    fields = ("organization_id", "associated_hostnames", "fingerprint", "certificate", "intermediates")
    rows = ClientAuthority.objects.all_organizations(reason=_REASON).order_by("fingerprint").values_list(*fields)
    # One after the other in one text: what TLS needs to build a chain that ends at the root.
    return [
        ClientRootFacts(organization_id, hostnames, fingerprint, root + more)
        for organization_id, hostnames, fingerprint, root, more in rows
    ]


def _load_forwarding() -> list[tuple[str, str]]:
    rows = ClientHostname.objects.all_organizations(reason=_REASON).filter(client_certificate_forwarding=True)
    return list(rows.values_list("organization_id", "hostname"))


def _tunnel(tunnel: TunnelFacts) -> dict[str, Any]:
    return {
        "id": str(tunnel.id),
        "organization_id": tunnel.organization_id,
        "name": tunnel.name,
        "secret_sha256": list(tunnel.secret_hashes),
        "remote": tunnel.is_remote,
        "config_version": tunnel.config_version,
        "config": tunnel.config,
        "min_registered_at": tunnel.min_registered_at,
        "connectors": dict(tunnel.connectors),
    }


def _load_zones() -> dict[str, str]:
    zones = Zone.objects.all_organizations(reason=_REASON).filter(status=Zone.Status.ACTIVE)
    return dict(zones.values_list("name", "organization_id"))


def _load_applications() -> list[ApplicationFacts]:
    fields = ("id", "organization_id", "name", "hostname", "path", "aud")
    served = Application.objects.all_organizations(reason=_REASON).filter(is_served=True)
    rows = served.order_by("hostname", "path").values_list(*fields)
    return [ApplicationFacts(*row) for row in rows]


def _load_aliases() -> list[Alias]:
    rows = (
        DnsRecord.objects.all_organizations(reason=_REASON)
        .filter(
            type=DnsRecord.Type.CNAME,
            zone__status=Zone.Status.ACTIVE,
            content__endswith=f".{settings.TUNNEL_DOMAIN}",
        )
        .order_by("name", "pk")
        .values_list("name", "zone__name", "zone__organization_id", "content")
    )
    return [
        Alias(name, organization_id, tunnel_of(content))
        for name, zone_name, organization_id, content in rows
        if is_within(name.removeprefix("*."), zone_name)
    ]


def _load_tunnels() -> list[TunnelFacts]:
    live = Tunnel.objects.all_organizations(reason=_REASON).filter(deleted_at=None).order_by("pk")
    configurations = _load_configurations()
    connectors = _load_connector_limits()
    facts = []
    for tunnel in live:
        is_remote = tunnel.config_source == Tunnel.ConfigSource.REMOTE
        version, config = configurations.get(tunnel.pk, (None, None)) if is_remote else (None, None)
        facts.append(
            TunnelFacts(
                id=tunnel.pk,
                organization_id=tunnel.organization_id,
                name=tunnel.name,
                secret_hashes=accepted_hashes(tunnel.pk, tunnel.token_generation, tunnel.secret_sha256),
                is_remote=is_remote,
                config_version=version,
                config=config,
                min_registered_at=tunnel.reconnect_after.timestamp() if tunnel.reconnect_after else 0.0,
                connectors=connectors.get(tunnel.pk, {}),
            )
        )
    return facts


def _load_configurations() -> dict[UUID, tuple[int | None, dict[str, Any] | None]]:
    """The newest published version of each live, remotely managed tunnel."""
    published = TunnelConfiguration.objects.all_organizations(reason=_REASON).filter(
        source=Tunnel.ConfigSource.REMOTE,
        tunnel__deleted_at=None,
        tunnel__config_source=Tunnel.ConfigSource.REMOTE,
    )
    newest = dict(published.order_by().values_list("tunnel").annotate(highest=Max("version")))
    rows = published.filter(version__in=set(newest.values())).values_list("tunnel_id", "version", "config")
    return {tunnel_id: (version, config) for tunnel_id, version, config in rows if newest[tunnel_id] == version}


def _load_connector_limits() -> dict[UUID, dict[str, float]]:
    limits: dict[UUID, dict[str, float]] = defaultdict(dict)
    rows = (
        Connector.objects.all_organizations(reason=_REASON)
        .filter(tunnel__deleted_at=None, reconnect_after__isnull=False)
        .values_list("tunnel_id", "client_id", "reconnect_after")
    )
    for tunnel_id, client_id, instant in rows:
        if instant is not None:
            limits[tunnel_id][str(client_id)] = instant.timestamp()
    return dict(limits)


def _load_keys() -> dict[str, list[Mapping[str, Any]]]:
    """Keys that verify tokens now or soon: `next` is published before its first use."""
    states = [TokenKey.State.NEXT, TokenKey.State.ACTIVE, TokenKey.State.RETIRING]
    keys: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    rows = (
        TokenKey.objects.all_organizations(reason=_REASON)
        .filter(state__in=states)
        .order_by("created_at", "kid")
        .values_list("organization_id", "public_jwk")
    )
    for organization_id, jwk in rows:
        keys[organization_id].append(jwk)
    return dict(keys)
