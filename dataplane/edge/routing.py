"""What kind of service answers a hostname and path behind a tunnel, by the tunnel's ingress rules. Pure."""

import enum
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dataplane.wire.ingress import Ingress, IngressError, Rule, parse_ingress
from dataplane.wire.services import BastionService, HttpStatusService, SocksService, TcpService

MAX_PARSED = 512


class RouteKind(enum.Enum):
    HTTP = enum.auto()
    # The connector dials TCP and frames WebSocket itself: only upgrades may be forwarded (tunnel-edge.md 11).
    TCP = enum.auto()
    UNKNOWN = enum.auto()


@dataclass(frozen=True, slots=True)
class MatchedRule:
    kind: RouteKind
    # Set when the matching rule is the catch-all http_status:N: an answer N then means "no rule for this
    # host".
    no_rule_status: int | None


UNKNOWN_RULE = MatchedRule(RouteKind.UNKNOWN, None)


class ServiceMap:
    """Remembers parsed configurations: they are asked for at every request and change rarely."""

    def __init__(self) -> None:
        self._parsed: OrderedDict[int, tuple[Mapping[str, Any], Ingress | None]] = OrderedDict()

    def find(self, config: Mapping[str, Any] | None, hostname: str, path: str) -> MatchedRule:
        ingress = self._ingress(config) if config is not None else None
        if ingress is None:
            return UNKNOWN_RULE
        index = ingress.match(hostname, path)
        if index is None:
            return MatchedRule(RouteKind.HTTP, 503)
        return _describe(ingress.rules[index])

    def _ingress(self, config: Mapping[str, Any]) -> Ingress | None:
        # By identity: a snapshot's or a registration's configuration is replaced, never changed. The mapping
        # is kept alive by the entry, so its id cannot come back for another one.
        cached = self._parsed.get(id(config))
        if cached is not None:
            return cached[1]
        try:
            ingress: Ingress | None = parse_ingress(config)
        except IngressError:
            ingress = None
        self._parsed[id(config)] = (config, ingress)
        while len(self._parsed) > MAX_PARSED:
            self._parsed.popitem(last=False)
        return ingress


def _describe(rule: Rule) -> MatchedRule:
    if isinstance(rule.service, TcpService | BastionService | SocksService):
        return MatchedRule(RouteKind.TCP, None)
    if isinstance(rule.service, HttpStatusService) and rule.is_catch_all and rule.service.status >= 400:
        return MatchedRule(RouteKind.HTTP, rule.service.status)
    return MatchedRule(RouteKind.HTTP, None)
