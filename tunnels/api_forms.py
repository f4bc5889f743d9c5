"""Forms of tunnels and DNS as API requests ("Copy as API request"), made by the shapes the API answers with."""

from __future__ import annotations

from accounts import api_requests
from accounts.api_requests import ApiCall, body_of
from tunnels.actions.configurations import current_configuration
from tunnels.api import ConfigurationBody, TunnelBody, TunnelChanges
from tunnels.api_records import RecordBody, shape_record
from tunnels.api_tunnel_shapes import shape_tunnel
from tunnels.api_zones import ZoneBody, shape_zone
from tunnels.models import DnsRecord, Tunnel, Zone

_RUN_HINT = "Without tunnel_secret the tunnel is run with its token, which the answer holds."


def tunnel_request(tunnel: Tunnel, is_new: bool) -> ApiCall:
    shaped = shape_tunnel(tunnel)
    base = f"/accounts/{tunnel.organization_id}/cfd_tunnel"
    if is_new:
        return ApiCall("POST", base, body_of(shaped, TunnelBody), (_RUN_HINT,))
    return ApiCall("PATCH", f"{base}/{tunnel.pk}", body_of(shaped, TunnelChanges))


def configuration_request(tunnel: Tunnel, is_new: bool) -> ApiCall:
    """The version that publishing makes; connectors report local ones themselves."""
    current = current_configuration(tunnel)
    body = ConfigurationBody(config=current.config if current is not None else {}).model_dump()
    return ApiCall("PUT", f"/accounts/{tunnel.organization_id}/cfd_tunnel/{tunnel.pk}/configurations", body)


def record_request(record: DnsRecord, is_new: bool) -> ApiCall:
    shaped = shape_record(record)
    body = body_of(shaped, RecordBody, keep=("ttl", "proxied"), settings=None)
    base = f"/zones/{record.zone_id}/dns_records"
    return ApiCall("POST", base, body) if is_new else ApiCall("PUT", f"{base}/{record.pk}", body)


def zone_request(zone: Zone, is_new: bool) -> ApiCall:
    return ApiCall("POST", "/zones", body_of(shape_zone(zone), ZoneBody, account={"id": zone.organization_id}))


def register() -> None:
    api_requests.register("tunnel_create", Tunnel, tunnel_request, is_new=True)
    api_requests.register("tunnel_rename", Tunnel, tunnel_request, is_new=False)
    api_requests.register("tunnel_hostnames", Tunnel, configuration_request, is_new=False)
    api_requests.register("record_add", DnsRecord, record_request, is_new=True)
    api_requests.register("record_edit", DnsRecord, record_request, is_new=False)
    api_requests.register("zone_add", Zone, zone_request, is_new=True)
