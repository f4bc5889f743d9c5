"""Facts for the first-login rail of many applications, with a fixed number of queries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

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


class _Known(NamedTuple):
    """Of one application."""

    policies: int
    letting_policies: int
    authority: str | None
    # Those that fetched the CA file lately, and what their sshd says of it.
    hosts: int
    hosts_trusting: int
    hosts_ignoring: int
    has_certificate: bool
    has_session: bool


_NOTHING = _Known(0, 0, None, 0, 0, 0, False, False)


class RailFacts:
    """What the rails of some applications of one organization need, loaded at once."""

    def __init__(self, organization: Organization, applications: Sequence[Application], now: datetime) -> None:
        self.organization = organization
        self.applications = _facts(organization, [application.pk for application in applications], now)
        self.records = _records(organization, applications)
        self.tunnels = {
            tunnel.pk: tunnel
            for tunnel in Tunnel.objects.for_organization(organization)
            .filter(deleted_at=None)
            .only("name", "config_source")[:_MAX_TUNNELS]
        }
        self.statuses = statuses(self.tunnels.values(), now)
        self.configurations = _configurations(organization, self._routed_ids())
        self.zones = list(Zone.objects.for_organization(organization).only("id", "name"))

    def facts(self, application: Application) -> Facts:
        record = self._record(application.hostname)
        tunnel, routed = self.tunnel(application), record is not None and self._pointed_at(record) is not None
        zone, known = self.zone(application), self.applications.get(application.pk, _NOTHING)
        return Facts(
            hostname=application.hostname,
            path=application.path,
            policies=known.policies,
            letting_policies=known.letting_policies,
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
            authority_state=known.authority or "",
            hosts_seen=known.hosts,
            hosts_trusting=known.hosts_trusting,
            hosts_ignoring=known.hosts_ignoring,
            host_script_url=f"{host_files_url(self.organization, application)}/host-setup.sh",
            certificates_issued=known.has_certificate,
            session_seen=known.has_session,
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


def _facts(organization: Organization, ids: Sequence[UUID], now: datetime) -> dict[UUID, _Known]:
    """One query for all of them. The logs are long, so they are asked with EXISTS, which stops at the first row."""
    links = ApplicationPolicy.objects.filter(application=OuterRef("pk"))
    states = (SshAuthority.State.ACTIVE, SshAuthority.State.PENDING)
    authorities = SshAuthority.objects.filter(application=OuterRef("pk"), state__in=states).order_by("state")
    hosts = HostFetch.objects.filter(application=OuterRef("pk"), ca_fetched_at__gt=now - _SEEN)
    issued = Certificate.objects.filter(application=OuterRef("pk"), status=Certificate.Status.ISSUED)
    connected = AccessRequest.objects.filter(application=OuterRef("pk"), action="connect", allowed=True)
    rows = (
        Application.objects.for_organization(organization)
        .filter(pk__in=ids)
        .order_by()
        .annotate(
            policies=_number_of(links),
            letting_policies=_number_of(links.exclude(policy__decision=Policy.Decision.DENY)),
            authority=Subquery(authorities.values("state")[:1]),
            hosts=_number_of(hosts),
            hosts_trusting=_number_of(hosts.filter(sshd="trusts")),
            hosts_ignoring=_number_of(hosts.filter(sshd="ignores")),
            has_certificate=Exists(issued),
            has_session=Exists(connected),
        )
    )
    return {row[0]: _Known(*row[1:]) for row in rows.values_list("pk", *_Known._fields)}


def _number_of(rows: QuerySet[Any]) -> Coalesce:
    counted = rows.order_by().values("application").annotate(number=Count("pk")).values("number")
    return Coalesce(Subquery(counted), 0)
