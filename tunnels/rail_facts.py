"""Facts for the first-login rail of many applications, with a fixed number of queries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, Q

from access.models import AccessRequest, Application, ApplicationPolicy, Certificate, HostFetch, Policy, SshAuthority
from access.ssh_models import host_files_url
from accounts.models import Organization
from dataplane.wire.ingress import IngressError, parse_ingress
from tunnels.models import DnsRecord, Tunnel, TunnelConfiguration, Zone
from tunnels.names import is_within
from tunnels.rail import Facts
from tunnels.records import tunnel_of
from tunnels.status import statuses

_MAX_TUNNELS = 1000
_SEEN = timedelta(hours=1)
_USEFUL = ("healthy", "degraded", "down", "inactive")


class RailFacts:
    """What the rails of some applications of one organization need, loaded at once."""

    def __init__(self, organization: Organization, applications: Sequence[Application], now: datetime) -> None:
        self.organization = organization
        ids = [application.pk for application in applications]
        self.policies = _policies(ids)
        self.records = _records(organization, applications)
        self.tunnels = {
            tunnel.pk: tunnel
            for tunnel in Tunnel.objects.for_organization(organization).filter(deleted_at=None)[:_MAX_TUNNELS]
        }
        self.statuses = statuses(self.tunnels.values(), now)
        self.configurations = _configurations(organization, self._routed_ids())
        self.authorities = _authorities(ids)
        self.certified, self.connected = _used(organization, ids)
        self.hosts = _hosts(organization, ids, now)
        self.zones = list(Zone.objects.for_organization(organization).only("id", "name"))

    def facts(self, application: Application) -> Facts:
        record = self._record(application.hostname)
        tunnel, routed = self.tunnel(application), record is not None and self._pointed_at(record) is not None
        decisions = self.policies.get(application.pk, [])
        zone = self.zone(application)
        return Facts(
            hostname=application.hostname,
            path=application.path,
            policies=len(decisions),
            letting_policies=sum(decision != Policy.Decision.DENY for decision in decisions),
            record_name=record.name if record else "",
            record_state=record.verification if record else "",
            record_answer=record.last_answer if record else "",
            record_target=record.content if record else "",
            record_resolver=record.resolver if record else "",
            tunnel_name=tunnel.name if tunnel else "",
            tunnel_target=tunnel.target if tunnel else "",
            tunnel_status=self.statuses[tunnel.pk].value if tunnel else "",
            tunnel_is_local=tunnel is not None and tunnel.config_source == Tunnel.ConfigSource.LOCAL,
            tunnel_is_routed=routed,
            serves_hostname=self._serves(tunnel, application) if tunnel and routed else None,
            zone_name=zone.name if zone else "",
            authority_state=self.authorities.get(application.pk, ""),
            **self.hosts.get(application.pk, {}),
            host_script_url=f"{host_files_url(self.organization, application)}/host-setup.sh",
            certificates_issued=application.pk in self.certified,
            session_seen=application.pk in self.connected,
        )

    def tunnel(self, application: Application) -> Tunnel | None:
        """The tunnel the application's record points at, else the organization's tunnel in the best state."""
        record = self._record(application.hostname)
        pointed_at = self._pointed_at(record) if record else None
        if pointed_at is not None:
            return pointed_at
        ranked = sorted(self.tunnels.values(), key=lambda item: _USEFUL.index(self.statuses[item.pk].value))
        return ranked[0] if ranked else None

    def zone(self, application: Application) -> Zone | None:
        fitting = [zone for zone in self.zones if is_within(application.hostname.removeprefix("*."), zone.name)]
        return max(fitting, key=lambda zone: len(zone.name), default=None)

    def _record(self, hostname: str) -> DnsRecord | None:
        return self.records.get(hostname) or self.records.get(f"*.{hostname.partition('.')[2]}")

    def _pointed_at(self, record: DnsRecord) -> Tunnel | None:
        tunnel_id = tunnel_of(record.content)
        return self.tunnels.get(tunnel_id) if tunnel_id else None

    def _routed_ids(self) -> list[UUID]:
        return [tunnel.pk for record in self.records.values() if (tunnel := self._pointed_at(record))]

    def _serves(self, tunnel: Tunnel, application: Application) -> bool | None:
        config = self.configurations.get(tunnel.pk)
        if config is None:
            return None
        try:
            ingress = parse_ingress(config)
        except IngressError:
            return False
        index = ingress.match(application.hostname.replace("*", "any", 1), application.path or "/")
        if index is None:
            return False
        return not str(ingress.rules[index].document.get("service", "")).startswith("http_status:")


def _policies(ids: Sequence[UUID]) -> dict[UUID, list[str]]:
    found: dict[UUID, list[str]] = {}
    links = ApplicationPolicy.objects.filter(application_id__in=ids)
    for application_id, decision in links.values_list("application_id", "policy__decision"):
        found.setdefault(application_id, []).append(decision)
    return found


def _records(organization: Organization, applications: Sequence[Application]) -> dict[str, DnsRecord]:
    names = {application.hostname for application in applications}
    names |= {f"*.{name.partition('.')[2]}" for name in names}
    rows = DnsRecord.objects.for_organization(organization).filter(name__in=names, type=DnsRecord.Type.CNAME)
    return {record.name: record for record in rows}


def _configurations(organization: Organization, tunnel_ids: Sequence[UUID]) -> dict[UUID, Any]:
    """The newest version of each tunnel; a tunnel may have thousands of large ones."""
    newer = TunnelConfiguration.objects.filter(tunnel=OuterRef("tunnel"), version__gt=OuterRef("version"))
    rows = TunnelConfiguration.objects.for_organization(organization).filter(~Exists(newer), tunnel_id__in=tunnel_ids)
    return dict(rows.values_list("tunnel_id", "config"))


def _used(organization: Organization, ids: Sequence[UUID]) -> tuple[set[UUID], set[UUID]]:
    """Applications with an issued certificate, and those with a connection let through. Asked per application with
    EXISTS, which stops at the first row: the logs are long."""
    issued = Certificate.objects.filter(application=OuterRef("pk"), status=Certificate.Status.ISSUED)
    connected = AccessRequest.objects.filter(application=OuterRef("pk"), action="connect", allowed=True)
    rows = list(
        Application.objects.for_organization(organization)
        .filter(pk__in=ids)
        .order_by()
        .annotate(has_certificate=Exists(issued), has_session=Exists(connected))
        .values_list("pk", "has_certificate", "has_session")
    )
    return {pk for pk, has, _ in rows if has}, {pk for pk, _, has in rows if has}


def _hosts(organization: Organization, ids: Sequence[UUID], now: datetime) -> dict[UUID, dict[str, int]]:
    """How many hosts fetched each application's CA file lately, and what their sshd says of it."""
    rows = HostFetch.objects.for_organization(organization).filter(application__in=ids, ca_fetched_at__gt=now - _SEEN)
    counted = (
        rows.order_by()
        .values("application")
        .annotate(
            hosts_seen=Count("pk"),
            hosts_trusting=Count("pk", filter=Q(sshd="trusts")),
            hosts_ignoring=Count("pk", filter=Q(sshd="ignores")),
        )
    )
    names = ("hosts_seen", "hosts_trusting", "hosts_ignoring")
    return {row["application"]: {name: int(row[name]) for name in names} for row in counted}  # type: ignore[literal-required]


def _authorities(ids: Sequence[UUID]) -> dict[UUID, str]:
    states = (SshAuthority.State.ACTIVE, SshAuthority.State.PENDING)
    rows = SshAuthority.objects.all_organizations(reason="authorities of the caller's own applications")
    return dict(rows.filter(application_id__in=ids, state__in=states).values_list("application_id", "state"))
