"""/ready, /healthcheck and /metrics on a listener of its own (tunnel-edge.md 7)."""

import asyncio
import contextlib
import json

from dataplane.connector.settings import EdgeAddress
from dataplane.connector.supervisor import Connector

REQUEST_TIMEOUT_SECONDS = 5.0
MAX_HEAD_BYTES = 8192


async def serve_metrics(connector: Connector, address: EdgeAddress) -> asyncio.Server:
    """Raises OSError when the address cannot be bound."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_respond(connector, head.split(b" ", 2)[1].partition(b"?")[0].decode("latin-1")))
                await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, address.host, address.port, limit=MAX_HEAD_BYTES)


def _respond(connector: Connector, path: str) -> bytes:
    status, content_type, body = "200 OK", "text/plain; charset=utf-8", ""
    if path == "/ready":
        ready = connector.ready_count
        status = "200 OK" if ready else "503 Service Unavailable"
        content_type = "application/json"
        body = json.dumps(
            {"status": int(status[:3]), "readyConnections": ready, "connectorId": str(connector.client_id)}
        )
    elif path == "/healthcheck":
        body = "OK\n"
    elif path == "/metrics":
        body = _metrics(connector)
    else:
        status, body = "404 Not Found", "not found\n"
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    return f"{head}\r\n{body}".encode()


def _metrics(connector: Connector) -> str:
    values = {
        "cloudflared_tunnel_ha_connections": connector.ready_count,
        "cloudflared_tunnel_concurrent_requests_per_tunnel": connector.stream_count,
        "cloudflared_tunnel_total_requests": connector.server.served_count,
        "cloudflared_tunnel_request_errors": connector.server.failed_count,
        "cloudflared_orchestration_config_version": connector.configuration.version,
    }
    return "".join(f"{name} {value}\n" for name, value in values.items())
