"""Names fixed by the tunnel protocol and the access client: a change breaks compatibility with cloudflared."""

from typing import Final

# TLS server names (tunnel-edge.md 4.2). The edge certificate must carry all three.
SNI_TUNNEL: Final = "h2.cftunnel.com"
SNI_QUIC: Final = "quic.cftunnel.com"
SNI_PROBE: Final = "probe.cftunnel.com"

# A request with this Host is served by the connector itself: eyeballs must never reach it (tunnel-edge.md 7).
MANAGEMENT_HOST: Final = "management.argotunnel.com"

# Stream kinds, edge to connector (tunnel-edge.md 5.2).
H_UPGRADE: Final = "cf-cloudflared-proxy-connection-upgrade"
H_TCP_SRC: Final = "cf-cloudflared-proxy-src"
UPGRADE_CONTROL: Final = "control-stream"
UPGRADE_WEBSOCKET: Final = "websocket"
UPGRADE_CONFIGURATION: Final = "update-configuration"

# Answers, connector to edge (tunnel-edge.md 5.7).
H_RESPONSE_HEADERS: Final = "cf-cloudflared-response-headers"
H_RESPONSE_META: Final = "cf-cloudflared-response-meta"
H_WARP_TAG_ID: Final = "cf-warp-tag-id"

# Access headers and cookies (access-client.md).
H_JUMP: Final = "cf-access-jump-destination"
H_ASSERTION: Final = "cf-access-jwt-assertion"
H_TOKEN: Final = "cf-access-token"  # noqa: S105 - a header name, not a secret
H_CLIENT_ID: Final = "cf-access-client-id"
H_CLIENT_SECRET: Final = "cf-access-client-secret"  # noqa: S105 - a header name, not a secret
H_METADATA_REQUEST: Final = "cf-access-metadata-request"
H_METADATA: Final = "cf-access-metadata"
H_CONNECTION_RAY: Final = "cf-ray"
COOKIE_AUTH: Final = "CF_Authorization"
COOKIE_APP_SESSION: Final = "CF_AppSession"

# Features a connector announces at registration (tunnel-edge.md 9, point 7).
FEATURE_REMOTE_CONFIG: Final = "allow_remote_config"
FEATURE_SERIALIZED_HEADERS: Final = "serialized_headers"
FEATURE_MANAGEMENT_LOGS: Final = "management_logs"
