"""How the last request for each application hostname went between this edge and its host: did the connector reach the
service, and how long did that take? Measured on real requests, reported when there is something new."""

import time
from collections import OrderedDict
from dataclasses import dataclass

from dataplane.edge.exchange import CLIENT_CLOSED, TunnelExchange

# The oldest are forgotten beyond this: what matters is kept by the control plane.
MAX_KEPT = 10_000
MAX_TOLD = 500
# What the client or this edge did says nothing about the host.
_NOT_THE_HOST = frozenset({"access_revoked", "tunnel_not_connected", "tunnel_configuration_unknown"})


@dataclass(frozen=True, slots=True)
class Dial:
    """`reason` is empty when the service was reached; `seconds` until it answered or was given up."""

    tunnel_id: str
    hostname: str
    connection_id: str
    destination: str
    reason: str
    message: str
    seconds: float
    at: float


class Dials:
    def __init__(self) -> None:
        self._fresh: OrderedDict[tuple[str, str], Dial] = OrderedDict()

    def watch(
        self, exchange: TunnelExchange, *, tunnel_id: str, hostname: str, connection_id: str, destination: str | None
    ) -> None:
        """Notes how the exchange is answered."""
        started = time.monotonic()

        def answered(_: object) -> None:
            refusal = exchange.done.result() if exchange.done.done() else None
            if exchange.end_reason == CLIENT_CLOSED or (refusal is not None and refusal.reason in _NOT_THE_HOST):
                return
            reason, message = (refusal.reason, refusal.message) if refusal is not None else ("", "")
            seconds = time.monotonic() - started
            self._keep(
                Dial(tunnel_id, hostname, connection_id, destination or "", reason, message, seconds, time.time())
            )

        exchange.answered.add_done_callback(answered)

    def fresh(self) -> list[Dial]:
        """The newest of each hostname since the last report that arrived."""
        return list(self._fresh.values())[:MAX_TOLD]

    def told(self, dials: list[Dial]) -> None:
        for dial in dials:
            key = (dial.tunnel_id, dial.hostname)
            if self._fresh.get(key) is dial:
                del self._fresh[key]

    def _keep(self, dial: Dial) -> None:
        key = (dial.tunnel_id, dial.hostname)
        self._fresh[key] = dial
        self._fresh.move_to_end(key)
        while len(self._fresh) > MAX_KEPT:
            self._fresh.popitem(last=False)
