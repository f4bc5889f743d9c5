"""Pages below /o/<team>/: home, tunnels, DNS."""

from __future__ import annotations

from django.urls import path

from tunnels.views import configurations, connectors, home, tunnels, way_in, zones

_TUNNEL = "tunnels/<uuid:tunnel_id>"
_CONNECTOR = f"{_TUNNEL}/connectors/<uuid:client_id>"

urlpatterns = [
    path("", home.organization_home, name="organization_home"),
    path("access/applications/<uuid:application_id>/way-in/", way_in.application_way_in, name="application_way_in"),
    path("tunnels/", tunnels.tunnels, name="tunnels"),
    path("tunnels/create/", tunnels.tunnel_create, name="tunnel_create"),
    path("tunnels/edge-ca.pem", tunnels.tunnel_edge_authority, name="tunnel_edge_authority"),
    path(f"{_TUNNEL}/", tunnels.tunnel_detail, name="tunnel_detail"),
    path(f"{_TUNNEL}/install/", tunnels.tunnel_install, name="tunnel_install"),
    path(f"{_TUNNEL}/rename/", tunnels.tunnel_rename, name="tunnel_rename"),
    path(f"{_TUNNEL}/rotate-token/", tunnels.tunnel_rotate_token, name="tunnel_rotate_token"),
    path(f"{_TUNNEL}/disconnect/", tunnels.tunnel_disconnect, name="tunnel_disconnect"),
    path(f"{_CONNECTOR}/", connectors.connector_detail, name="connector_detail"),
    path(f"{_CONNECTOR}/logs/", connectors.connector_logs, name="connector_logs"),
    path(f"{_CONNECTOR}/logs/watch/", connectors.connector_logs_watch, name="connector_logs_watch"),
    path(f"{_CONNECTOR}/logs/stop/", connectors.connector_logs_stop, name="connector_logs_stop"),
    path(f"{_TUNNEL}/delete/", tunnels.tunnel_delete, name="tunnel_delete"),
    path(f"{_TUNNEL}/hostnames/", configurations.tunnel_hostnames, name="tunnel_hostnames"),
    path(f"{_TUNNEL}/route-hostname/", configurations.tunnel_route_hostname, name="tunnel_route_hostname"),
    path(f"{_TUNNEL}/versions/", configurations.tunnel_versions, name="tunnel_versions"),
    path(f"{_TUNNEL}/versions/<int:version>/", configurations.tunnel_version, name="tunnel_version"),
    path(
        f"{_TUNNEL}/versions/<int:version>/publish/",
        configurations.tunnel_version_publish,
        name="tunnel_version_publish",
    ),
    path("dns/", zones.zones, name="zones"),
    path("dns/add/", zones.zone_add, name="zone_add"),
    path("dns/<slug:zone_id>/", zones.zone_detail, name="zone_detail"),
    path("dns/<slug:zone_id>/verify/", zones.zone_verify, name="zone_verify"),
    path("dns/<slug:zone_id>/delete/", zones.zone_delete, name="zone_delete"),
    path("dns/<slug:zone_id>/records/add/", zones.record_add, name="record_add"),
    path("dns/records/<slug:record_id>/edit/", zones.record_edit, name="record_edit"),
    path("dns/records/<slug:record_id>/check/", zones.record_check, name="record_check"),
    path("dns/records/<slug:record_id>/delete/", zones.record_delete, name="record_delete"),
]
