"""Names of this app's audit events."""

from __future__ import annotations

from accounts import audit

ZONE_CREATED = audit.register("tunnels.zone.created", "Zone added", affects_edge=True)
ZONE_CHECK_REQUESTED = audit.register("tunnels.zone.check_requested", "Zone check requested")
ZONE_ACTIVATED = audit.register("tunnels.zone.activated", "Zone ownership proved", affects_edge=True)
ZONE_PROOF_LOST = audit.register("tunnels.zone.proof_lost", "Zone proof no longer found, grace period started")
ZONE_PROOF_FOUND = audit.register("tunnels.zone.proof_found", "Zone proof found again")
ZONE_MOVED = audit.register("tunnels.zone.moved", "Zone no longer proved, not served any more", affects_edge=True)
ZONE_DELETED = audit.register("tunnels.zone.deleted", "Zone deleted", affects_edge=True)

RECORD_CREATED = audit.register("tunnels.record.created", "DNS record created", affects_edge=True)
RECORD_UPDATED = audit.register("tunnels.record.updated", "DNS record changed", affects_edge=True)
RECORD_DELETED = audit.register("tunnels.record.deleted", "DNS record deleted", affects_edge=True)
RECORD_CHECK_REQUESTED = audit.register("tunnels.record.check_requested", "DNS record check requested")

TUNNEL_CREATED = audit.register("tunnels.tunnel.created", "Tunnel created", affects_edge=True)
TUNNEL_RENAMED = audit.register("tunnels.tunnel.renamed", "Tunnel renamed", affects_edge=True)
TUNNEL_DELETED = audit.register("tunnels.tunnel.deleted", "Tunnel deleted", affects_edge=True)
TUNNEL_TOKEN_ROTATED = audit.register("tunnels.tunnel.token_rotated", "Tunnel token rotated", affects_edge=True)
TUNNEL_SECRET_REPLACED = audit.register("tunnels.tunnel.secret_replaced", "Tunnel secret replaced", affects_edge=True)
CONFIGURATION_PUBLISHED = audit.register(
    "tunnels.configuration.published", "Tunnel configuration published", affects_edge=True
)
CONNECTORS_DISCONNECTED = audit.register(
    "tunnels.connectors.disconnected", "Connectors disconnected", affects_edge=True
)
CONNECTOR_APPEARED = audit.register("tunnels.connector.appeared", "New connector appeared")
CONNECTOR_LOGS_VIEWED = audit.register("tunnels.connector.logs_viewed", "Connector logs viewed")
