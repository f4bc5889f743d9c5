"""What a public request means: control plane, login hand-over, or an application behind a tunnel."""

import asyncio
import logging
import os
import time
from collections.abc import Mapping

from dataplane.edge.agent import Allowed
from dataplane.edge.dials import Dials
from dataplane.edge.errors import Refusal
from dataplane.edge.exchange import TunnelExchange
from dataplane.edge.gate import AnsweredByAccess, Gate, LoginRedirect
from dataplane.edge.heads import RequestHead
from dataplane.edge.hygiene import tunnel_request_headers
from dataplane.edge.livestreams import LiveStream, LiveStreams
from dataplane.edge.public import PublicConnection
from dataplane.edge.routing import RouteKind, ServiceMap
from dataplane.edge.snapshot import Application, Route, Snapshot
from dataplane.edge.snapshots import SnapshotStore
from dataplane.edge.transfers import Transfers
from dataplane.edge.tunnels import Tunnels
from dataplane.edge.upstream import ControlPlaneProxy
from dataplane.wire.h2 import StreamClosedError
from dataplane.wire.names import H_CLIENT_ID, H_METADATA_REQUEST, MANAGEMENT_HOST

logger = logging.getLogger(__name__)

ACCESS_PREFIX = "/cdn-cgi/access/"
METADATA_TARGET = "/cdn-cgi/access/metadata"
TRANSFER_PREFIX = "/cdn-cgi/access/transfer/"
HOST_TRANSFER_PREFIX = "/transfer/"
# A connector dials an origin for up to 30 s (tunnel-edge.md 8); an HTTP origin may think for longer.
UPGRADE_TIMEOUT_SECONDS = 45.0
RESPONSE_TIMEOUT_SECONDS = 120.0
# A connection may close between choosing and using it.
OPEN_ATTEMPTS = 3


class Gateway:
    def __init__(
        self,
        snapshots: SnapshotStore,
        gate: Gate,
        tunnels: Tunnels,
        streams: LiveStreams,
        proxy: ControlPlaneProxy,
        transfers: Transfers,
        dials: Dials,
    ) -> None:
        self._snapshots = snapshots
        self._gate = gate
        self._tunnels = tunnels
        self._streams = streams
        self._proxy = proxy
        self._transfers = transfers
        self._dials = dials
        self._services = ServiceMap()

    async def serve(self, client: PublicConnection, head: RequestHead) -> None:
        """Answers the request. Raises Refusal when there is nothing but a reason to answer with."""
        client.reference = os.urandom(8).hex()
        snapshot = self._snapshots.current
        if head.hostname != client.server_name:
            raise _wrong_host(client.server_name, head, snapshot)
        if head.hostname in snapshot.transfer_hosts:
            await self._serve_transfer(client, head, HOST_TRANSFER_PREFIX)
        elif head.hostname in snapshot.team_domains and head.path.startswith(TRANSFER_PREFIX):
            await self._serve_transfer(client, head, TRANSFER_PREFIX)
        elif head.hostname in snapshot.team_domains or head.hostname in snapshot.dashboard_hosts:
            await self._proxy.serve(client, head, head.target)
        else:
            await self._serve_application(client, head, snapshot)

    async def _serve_transfer(self, client: PublicConnection, head: RequestHead, prefix: str) -> None:
        if head.method != "GET" or not head.path.startswith(prefix):
            raise Refusal(404, "not_found", "There is nothing at this address.")
        await self._transfers.serve(client, head.path[len(prefix) :])

    async def _serve_application(self, client: PublicConnection, head: RequestHead, snapshot: Snapshot) -> None:
        if head.hostname == MANAGEMENT_HOST or not snapshot.is_known_host(head.hostname):
            raise Refusal(404, "unknown_host", f"{head.hostname} is not served here.")
        if (head.get(H_METADATA_REQUEST) or "").lower() == "true":
            await self._proxy.serve(client, head, METADATA_TARGET)
            return
        if head.path.startswith(ACCESS_PREFIX):
            await self._proxy.serve(client, head, head.target)
            return
        application = snapshot.find_application(head.hostname, head.target)
        if application is None:
            raise Refusal(404, "unknown_application", "No application is served at this address.")
        if head.is_websocket:
            _check_upgrade(head)
        try:
            allowed = await self._gate.pass_through(
                head, application, snapshot, client.peer_ip, client.reference, client.certificate
            )
        except LoginRedirect as redirect:
            _send_login(client, redirect, application)
            return
        except AnsweredByAccess as answered:
            headers = [*answered.answer.headers, ("cf-ray", client.reference)]
            client.send_response(answered.answer.status, headers, b"")
            return
        await self._forward(client, head, application, allowed, snapshot)

    def _forwarded_certificate(self, client: PublicConnection, hostname: str) -> bytes | None:
        """What the origin gets to see: only where it was asked for, and only what the handshake verified."""
        if client.certificate is None or not self._snapshots.current.forwards_certificate(hostname):
            return None
        return client.certificate.der

    async def _forward(
        self,
        client: PublicConnection,
        head: RequestHead,
        application: Application,
        allowed: Allowed,
        snapshot: Snapshot,
    ) -> None:
        # Routes are read anew: the answer of the control plane may have taken its time.
        if self._snapshots.current.find_route(head.hostname) is None:
            # The record may have been made this very second. Only for those allowed: it costs a question.
            await self._snapshots.refresh()
        current = self._snapshots.current
        route = _find_route(head, application, current)
        rule = self._services.find(self._config_of(route, current), head.hostname, head.path)
        if not head.is_websocket:
            _check_plain_request(rule.kind)
        exchange = TunnelExchange(client, head, no_rule_status=rule.no_rule_status)
        # A session was let in by itself: whatever service token was shown beside it played no part.
        service_token_id = head.get(H_CLIENT_ID) if allowed.session_nonce is None else None
        stream = LiveStream(
            allowed,
            client.peer_ip,
            service_token_id,
            snapshot.version,
            exchange.cut,
            application.organization_id,
            head.hostname,
            head.path,
            round_trip=client.round_trip,
        )
        self._streams.add(stream)
        started = time.monotonic()
        try:
            await self._run(client, head, exchange, route, allowed, application.hostname)
        finally:
            self._streams.remove(stream)
            _log_end(client, head, application, exchange, time.monotonic() - started)

    async def _run(
        self,
        client: PublicConnection,
        head: RequestHead,
        exchange: TunnelExchange,
        route: Route,
        allowed: Allowed,
        hostname: str,
    ) -> None:
        headers = tunnel_request_headers(
            head,
            client_ip=client.peer_ip,
            reference=client.reference,
            assertion=allowed.assertion,
            # A machine's is the name somebody gave its service token: it may look like a person's address.
            identity=allowed.identity if allowed.session_nonce is not None else None,
            destination=allowed.destination,
            certificate=self._forwarded_certificate(client, head.hostname),
        )
        for _ in range(OPEN_ATTEMPTS):
            connection = self._tunnels.pick(route.tunnel_id)
            if connection is None:
                break
            try:
                stream = connection.open(headers, exchange, end_stream=not (head.has_body or head.is_websocket))
            except StreamClosedError:
                continue
            exchange.start(stream)
            self._dials.watch(
                exchange,
                tunnel_id=route.tunnel_id,
                # The application's, maybe "*.…": what visitors make up would fill memory and reports.
                hostname=hostname,
                connection_id=connection.id,
                destination=allowed.destination,
            )
            break
        else:
            connection = None
        if connection is None:
            raise Refusal(503, "tunnel_not_connected", "No connector of this application's tunnel is connected.")
        await _until_done(exchange, UPGRADE_TIMEOUT_SECONDS if head.is_websocket else RESPONSE_TIMEOUT_SECONDS)

    def _config_of(self, route: Route, snapshot: Snapshot) -> Mapping[str, object] | None:
        tunnel = snapshot.tunnels.get(route.tunnel_id)
        if tunnel is None:
            raise Refusal(503, "tunnel_not_connected", "The tunnel of this application does not exist any more.")
        return tunnel.config if tunnel.is_remote else self._tunnels.local_config(tunnel.id)


async def _until_done(exchange: TunnelExchange, timeout: float) -> None:
    try:
        async with asyncio.timeout(timeout):
            await asyncio.shield(exchange.answered)
    except TimeoutError:
        exchange.time_out()
    refusal = await exchange.done
    if refusal is not None:
        raise refusal


def _wrong_host(server_name: str, head: RequestHead, snapshot: Snapshot) -> Refusal:
    """TLS was made for one name, the request is for another: never guess which one was meant (AC-79)."""
    if not snapshot.is_known_host(server_name) and not snapshot.is_known_host(head.hostname):
        return Refusal(404, "unknown_host", f"{head.hostname} is not served here.", is_final=True)
    return Refusal(421, "misdirected_request", "The Host header and the TLS server name do not agree.", is_final=True)


def _find_route(head: RequestHead, application: Application, snapshot: Snapshot) -> Route:
    route = snapshot.find_route(head.hostname)
    # A route of another tenant must never carry this application's requests, however it came to be.
    if route is None or route.organization_id != application.organization_id:
        raise Refusal(503, "no_route", f"No tunnel is routed to {head.hostname}; add a DNS record for it.")
    return route


def _check_upgrade(head: RequestHead) -> None:
    if head.method != "GET" or head.has_body or head.minor_version == 0:
        raise Refusal(400, "bad_websocket_request", "A WebSocket upgrade is a GET request without a body.")
    if head.get("sec-websocket-version") != "13":
        raise Refusal(426, "bad_websocket_request", "Only WebSocket version 13 is spoken here.")
    if len(head.get_all("sec-websocket-key")) != 1:
        raise Refusal(400, "bad_websocket_request", "A WebSocket upgrade needs one Sec-WebSocket-Key.")


def _check_plain_request(kind: RouteKind) -> None:
    """A plain request to a TCP service would open a connection to it and get frames for an answer."""
    if kind is RouteKind.TCP:
        raise Refusal(
            400, "websocket_required", "This is an SSH or TCP application: connect with the sallyport client."
        )
    if kind is RouteKind.UNKNOWN:
        raise Refusal(
            503, "tunnel_configuration_unknown", "No connector has told what it serves yet; please try again."
        )


def _send_login(client: PublicConnection, redirect: LoginRedirect, application: Application) -> None:
    login = redirect.login
    headers = [
        ("location", login.location),
        ("cache-control", "no-store"),
        ("cf-ray", client.reference),
        # Clients up to 2026.7 find the application by these (access-client.md 5.2).
        ("cf-access-domain", application.hostname),
        ("cf-access-aud", application.aud),
        *(("set-cookie", cookie) for cookie in login.cookies),
    ]
    client.send_response(302, headers, b"")


def _log_end(
    client: PublicConnection, head: RequestHead, application: Application, exchange: TunnelExchange, seconds: float
) -> None:
    logger.info(
        "request %s: application %s, client %s, %s %s, %s, up %d, down %d, %.3f s",
        client.reference,
        application.id,
        client.peer_ip,
        "websocket" if head.is_websocket else head.method,
        head.hostname,
        exchange.end_reason,
        exchange.bytes_up,
        exchange.bytes_down,
        seconds,
    )
