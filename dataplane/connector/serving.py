"""Decides what a stream from the edge is for, and starts serving it."""

import asyncio
import json
import logging
from collections.abc import Coroutine
from typing import Any

from dataplane.connector.dialing import (
    DialError,
    allow_any,
    bastion_policy,
    dial_tcp,
    dial_unix,
    tls_options,
)
from dataplane.connector.edgestream import EdgeStream
from dataplane.connector.hello import hello_page
from dataplane.connector.http1 import Http1Error, build_request
from dataplane.connector.httpexchange import HttpExchange, request_header
from dataplane.connector.liveconfig import MAX_DOCUMENT_BYTES, LiveConfiguration, PushError
from dataplane.connector.logstream import LogStream, has_room
from dataplane.connector.relay import RawCodec, Relay, WebSocketCodec
from dataplane.transport import spawn
from dataplane.wire.destination import Destination, DestinationError, parse_destination
from dataplane.wire.headers import Header, connector_failure
from dataplane.wire.ingress import Rule, normalise_host
from dataplane.wire.management import LOGS_PATH
from dataplane.wire.names import H_CONNECTION_RAY, H_JUMP, H_WARP_TAG_ID, MANAGEMENT_HOST
from dataplane.wire.origin_request import OriginRequest
from dataplane.wire.services import (
    BastionService,
    HelloWorldService,
    HttpService,
    HttpStatusService,
    TcpService,
    UnixService,
)
from dataplane.wire.websocket import accept_key

logger = logging.getLogger(__name__)


class StreamServer:
    """Shared by all connections of the process; the configuration may change between two streams."""

    def __init__(
        self,
        configuration: LiveConfiguration,
        client_id: str,
        *,
        metrics_port: int | None = None,
        remote_logs: bool = True,
    ) -> None:
        self._remote_logs = remote_logs
        self._configuration = configuration
        self._metrics_port = metrics_port
        self._client_id = client_id
        self.served_count = 0
        self.failed_count = 0

    def dispatch(self, stream: EdgeStream, kind: str, headers: list[Header], has_ended: bool) -> None:
        """Called for every data stream; never raises on account of what the edge sent."""
        if kind == "config":
            ConfigurationPush(stream, self._configuration)
            return
        self.served_count += 1
        if kind == "tcp":
            self._serve_raw(stream, headers)
        else:
            self._serve_by_rule(stream, kind, headers, has_ended)

    # ---- by ingress rule ---------------------------------------------------------------------------------------

    def _serve_by_rule(self, stream: EdgeStream, kind: str, headers: list[Header], has_ended: bool) -> None:
        host = normalise_host(request_header(headers, ":authority"))
        path = request_header(headers, ":path").partition("?")[0]
        if host == MANAGEMENT_HOST:
            self._serve_management(stream, kind, headers, path)
            return
        ingress = self._configuration.ingress
        index = ingress.match(host, path)
        if index is None:
            self._refuse(stream, headers, 503, "no_ingress", "this connector has no ingress rules yet")
            return
        rule = ingress.rules[index]
        service = rule.service
        if isinstance(service, HttpStatusService):
            stream.respond(service.status, [], content_length="0", end_stream=True)
            stream.reset_rest()
        elif isinstance(service, HelloWorldService):
            self._serve_hello(stream, headers, host)
        elif isinstance(service, HttpService | UnixService):
            self._serve_http(stream, kind, headers, has_ended, rule)
        elif kind != "websocket":
            detail = f"{service} takes WebSocket connections only"
            self._refuse(stream, headers, 400, "websocket_required", detail)
        elif isinstance(service, TcpService):
            self._serve_tcp(stream, headers, service.host, service.port, rule.origin_request)
        else:
            assert isinstance(service, BastionService), "check_supported refuses every other service"
            self._serve_bastion(stream, headers, rule.origin_request)

    def _serve_management(self, stream: EdgeStream, kind: str, headers: list[Header], path: str) -> None:
        """Only the edge can ask: it passes no stream of its clients to this host (tunnel-edge.md 7)."""
        if kind != "websocket" or path != LOGS_PATH or not self._remote_logs:
            detail = f"the management service offers {LOGS_PATH} over a WebSocket only"
            self._refuse(stream, headers, 404, "management_unavailable", detail)
        elif not has_room():
            self._refuse(stream, headers, 503, "management_busy", "too many log streams are open")
        else:
            LogStream(stream, upgrade_answer(headers))

    def _serve_tcp(
        self, stream: EdgeStream, headers: list[Header], host: str, port: int, origin_request: OriginRequest
    ) -> None:
        relay = Relay(stream, WebSocketCodec(), upgrade_answer(headers))
        dial = dial_tcp(lambda: relay, host, port, origin_request)
        relay.dialing = spawn(self._connect(stream, headers, relay, dial), name="dial")

    def _serve_bastion(self, stream: EdgeStream, headers: list[Header], origin_request: OriginRequest) -> None:
        text = request_header(headers, H_JUMP)
        if not text:
            detail = "a bastion needs a destination; connect with --destination host:port"
            self._refuse(stream, headers, 502, "destination_missing", detail)
            return
        try:
            destination = parse_destination(text)
        except DestinationError as error:
            self._refuse(stream, headers, 502, "destination_invalid", str(error))
            return
        relay = Relay(stream, WebSocketCodec(), upgrade_answer(headers))
        policy = bastion_policy(origin_request, self._metrics_port)
        dial = dial_tcp(lambda: relay, destination.host, destination.port, origin_request, policy=policy)
        relay.dialing = spawn(self._connect(stream, headers, relay, dial), name="dial")

    def _serve_http(self, stream: EdgeStream, kind: str, headers: list[Header], has_ended: bool, rule: Rule) -> None:
        origin_request, service = rule.origin_request, rule.service
        authority = request_header(headers, ":authority")
        is_upgrade = kind == "websocket"
        has_body = not has_ended and not is_upgrade
        try:
            request = build_request(
                headers,
                host=origin_request.http_host_header or authority,
                is_upgrade=is_upgrade,
                has_body=has_body,
                extra=[(H_WARP_TAG_ID, self._client_id)],
            )
        except Http1Error as error:
            self._refuse(stream, headers, 400, "request_invalid", str(error))
            return
        exchange = HttpExchange(stream, request_header(headers, ":method"), request, has_body=has_body)
        dial = _dial_http(exchange, service, origin_request, authority)
        exchange.dialing = spawn(self._connect(stream, headers, exchange, dial), name="dial")

    def _serve_hello(self, stream: EdgeStream, headers: list[Header], host: str) -> None:
        page = hello_page(host)
        is_head = request_header(headers, ":method") == "HEAD"
        answer = [("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", "default-src 'none'")]
        stream.respond(200, answer, content_length=str(len(page)), end_stream=is_head)
        if not is_head:
            stream.send(page)
            stream.finish()
        stream.reset_rest()

    # ---- raw TCP -----------------------------------------------------------------------------------------------

    def _serve_raw(self, stream: EdgeStream, headers: list[Header]) -> None:
        """Goes only where an ingress rule goes: raw streams name their own destination (tunnel-edge.md 5.8)."""
        try:
            destination = parse_destination(request_header(headers, ":authority"))
        except DestinationError as error:
            self._refuse(stream, headers, 502, "destination_invalid", str(error))
            return
        if destination.ip_address() is None:
            self._refuse(stream, headers, 502, "destination_invalid", "raw streams need an IP address")
            return
        origin_request = self._raw_permission(destination)
        if origin_request is None:
            detail = f"no ingress rule of this connector leads to {destination}"
            self._refuse(stream, headers, 502, "destination_refused", detail)
            return
        relay = Relay(stream, RawCodec(), [])
        dial = dial_tcp(lambda: relay, destination.host, destination.port, origin_request)
        relay.dialing = spawn(self._connect(stream, headers, relay, dial), name="dial")

    def _raw_permission(self, destination: Destination) -> OriginRequest | None:
        address = destination.ip_address()
        assert address is not None
        for rule in self._configuration.ingress.rules:
            service = rule.service
            if isinstance(service, BastionService):
                if bastion_policy(rule.origin_request, self._metrics_port)(address, destination.port) is None:
                    return rule.origin_request
            elif isinstance(service, TcpService) and service.port == destination.port:
                is_local = service.host == "localhost" and address.is_loopback
                if is_local or service.host == destination.host:
                    return rule.origin_request
        return None

    # ---- common ------------------------------------------------------------------------------------------------

    async def _connect(
        self,
        stream: EdgeStream,
        headers: list[Header],
        protocol: Relay | HttpExchange,
        dial: Coroutine[Any, Any, asyncio.Transport],
    ) -> None:
        """The protocol answers by itself once it is connected."""
        try:
            await dial
        except DialError as error:
            self._refuse(stream, headers, 502, error.reason, error.detail)
            protocol.abandon()

    def _refuse(self, stream: EdgeStream, headers: list[Header], status: int, reason: str, detail: str) -> None:
        self.failed_count += 1
        logger.warning(
            "stream refused: %s",
            detail,
            extra={
                "reason": reason,
                "status": status,
                "hostname": request_header(headers, ":authority"),
                "ray": request_header(headers, H_CONNECTION_RAY),
            },
        )
        stream.respond(status, [], meta=connector_failure(reason, detail), content_length="0", end_stream=True)
        stream.reset_rest()


class ConfigurationPush:
    """Collects the body of a push and answers with the version in force."""

    def __init__(self, stream: EdgeStream, configuration: LiveConfiguration) -> None:
        self._stream = stream
        self._configuration = configuration
        self._body = bytearray()
        stream.handler = self

    def stream_data(self, data: memoryview) -> None:
        self._stream.acknowledge(len(data))
        self._body += data
        if len(self._body) > MAX_DOCUMENT_BYTES:
            self._body.clear()
            self._refuse(f"a configuration push may have {MAX_DOCUMENT_BYTES} bytes")

    def stream_ended(self) -> None:
        if not self._stream.can_send:
            return
        try:
            version, error = self._configuration.apply(bytes(self._body))
        except PushError as fault:
            self._refuse(str(fault))
            return
        answer = json.dumps({"lastAppliedVersion": version, "err": error}).encode()
        self._stream.respond(200, [("Content-Type", "application/json")], content_length=str(len(answer)))
        self._stream.send(answer)
        self._stream.finish()

    def stream_lost(self) -> None:
        self._body.clear()

    def stream_drained(self) -> None:
        """Nothing more to send."""

    def stream_finished(self) -> None:
        """The edge ends its side by itself."""

    def keep_alive(self, now: float) -> None:
        """Pushes are short."""

    def _refuse(self, detail: str) -> None:
        logger.error("configuration push refused: %s", detail)
        meta = connector_failure("configuration_invalid", detail)
        self._stream.respond(502, [], meta=meta, content_length="0", end_stream=True)
        self._stream.reset_rest()


def upgrade_answer(headers: list[Header]) -> list[Header]:
    """The origin headers of a 101 that the connector makes itself."""
    answer = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
    key = request_header(headers, "sec-websocket-key")
    if key:
        answer.append(("Sec-Websocket-Accept", accept_key(key)))
    return answer


async def _dial_http(
    exchange: HttpExchange,
    service: object,
    origin_request: OriginRequest,
    authority: str,
) -> asyncio.Transport:
    """Raises DialError."""
    server_name = normalise_host(authority) if origin_request.match_sni_to_host else ""
    if isinstance(service, UnixService):
        tls = tls_options(origin_request, server_name or "localhost") if service.is_tls else None
        return await dial_unix(lambda: exchange, service.path, origin_request, tls=tls)
    assert isinstance(service, HttpService)
    tls = tls_options(origin_request, server_name or service.host) if service.is_tls else None
    return await dial_tcp(lambda: exchange, service.host, service.port, origin_request, policy=allow_any, tls=tls)
