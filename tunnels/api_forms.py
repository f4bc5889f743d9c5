"""Forms of tunnels and DNS as API requests ("Copy as API request"), made by the shapes the API answers with."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from accounts import api_requests
from accounts.api_requests import ApiCall, Asked, body_of, register_build, register_call
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


def _disconnected(asked: Asked) -> ApiCall:
    client = asked.data.get("client_id")
    path = f"/accounts/{asked.organization.pk}/cfd_tunnel/{asked.arguments['tunnel_id']}/connections"
    return ApiCall("DELETE", f"{path}?client_id={quote(client)}" if client else path, None)


def _deleted(asked: Asked) -> ApiCall:
    path = f"/accounts/{asked.organization.pk}/cfd_tunnel/{asked.arguments['tunnel_id']}"
    return ApiCall("DELETE", f"{path}?cascade=true" if asked.data.get("cascade") else path, None)


def _routed(asked: Asked) -> ApiCall | None:
    record = asked.target(DnsRecord)
    if record is None:
        return None
    body = {"type": "dns", "user_hostname": record.name, "overwrite_existing": False}
    return ApiCall("PUT", f"/zones/{record.zone_id}/tunnels/{asked.arguments['tunnel_id']}/routes", body)


def _of_record(method: str, rest: str = "") -> Callable[[Asked], ApiCall | None]:
    def build(asked: Asked) -> ApiCall | None:
        record = asked.target(DnsRecord)
        key = asked.arguments["record_id"]
        return ApiCall(method, f"/zones/{record.zone_id}/dns_records/{key}{rest}", None) if record else None

    return build


def register() -> None:
    _register_buttons()
    api_requests.register("tunnel_create", Tunnel, tunnel_request, is_new=True)
    api_requests.register("tunnel_rename", Tunnel, tunnel_request, is_new=False)
    api_requests.register("tunnel_hostnames", Tunnel, configuration_request, is_new=False)
    api_requests.register("record_add", DnsRecord, record_request, is_new=True)
    api_requests.register("record_edit", DnsRecord, record_request, is_new=False)
    api_requests.register("zone_add", Zone, zone_request, is_new=True)


def _register_buttons() -> None:
    tunnel = "{account}/cfd_tunnel/{tunnel_id}"
    register_call(
        "tunnel_rotate_token",
        "POST",
        f"{tunnel}/token",
        body=lambda asked: {"cut": bool(asked.data.get("cut"))},
        notes=("The answer is the new token.",),
    )
    register_build("tunnel_disconnect", _disconnected)
    register_build("tunnel_delete", _deleted)
    register_build("tunnel_route_hostname", _routed)
    api_requests.register("tunnel_version_publish", Tunnel, configuration_request, is_new=False)
    register_call("zone_verify", "PUT", "/zones/{zone_id}/activation_check")
    register_call("zone_delete", "DELETE", "/zones/{zone_id}")
    register_build("record_check", _of_record("POST", "/check"))
    register_build("record_delete", _of_record("DELETE"))
