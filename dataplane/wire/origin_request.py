"""originRequest: how the connector talks to an origin (tunnel-edge.md 8)."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dataplane.wire.destination import IPAddress, IPNetwork, unmapped

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_DURATION = re.compile(r"^(\d+(?:\.\d+)?(ms|s|m|h))+\Z")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_T = TypeVar("_T")
MAX_DURATION_SECONDS = 24 * 3600.0


class IngressError(ValueError):
    """A configuration that cannot be served; the message names the rule and the fault and is safe to show."""


@dataclass(frozen=True, slots=True)
class IpRule:
    """Allow or refuse a resolved address; no ports means every port."""

    network: IPNetwork
    ports: frozenset[int]
    allow: bool

    def matches(self, address: IPAddress, port: int) -> bool:
        plain = unmapped(address)
        in_network = plain.version == self.network.version and plain in self.network
        return in_network and (not self.ports or port in self.ports)


@dataclass(frozen=True, slots=True)
class AccessRequirement:
    """Connector-side check of the Access assertion."""

    required: bool
    team_name: str
    audience_tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OriginRequest:
    """Defaults are those of the public connector; all durations in seconds."""

    connect_timeout_seconds: float = 30.0
    tls_timeout_seconds: float = 10.0
    tcp_keep_alive_seconds: float = 30.0
    keep_alive_timeout_seconds: float = 90.0
    keep_alive_connections: int = 100
    http_host_header: str = ""
    origin_server_name: str = ""
    match_sni_to_host: bool = False
    ca_pool: str = ""
    no_tls_verify: bool = False
    disable_chunked_encoding: bool = False
    bastion_mode: bool = False
    http2_origin: bool = False
    proxy_type: str = ""
    ip_rules: tuple[IpRule, ...] = ()
    access: AccessRequirement | None = None
    document: Mapping[str, Any] = field(default_factory=dict, compare=False)


_DURATIONS = {
    "connectTimeout": "connect_timeout_seconds",
    "tlsTimeout": "tls_timeout_seconds",
    "tcpKeepAlive": "tcp_keep_alive_seconds",
    "keepAliveTimeout": "keep_alive_timeout_seconds",
}
_TEXTS = {
    "httpHostHeader": "http_host_header",
    "originServerName": "origin_server_name",
    "caPool": "ca_pool",
    "proxyType": "proxy_type",
}
_BOOLEANS = {
    "noTLSVerify": "no_tls_verify",
    "disableChunkedEncoding": "disable_chunked_encoding",
    "bastionMode": "bastion_mode",
    "http2Origin": "http2_origin",
    "matchSNItoHost": "match_sni_to_host",
}
# Accepted for compatibility, without effect here.
_IGNORED = ("noHappyEyeballs", "proxyAddress", "proxyPort")


def parse_origin_request(document: Mapping[str, Any], where: str, *, text_durations: bool) -> OriginRequest:
    """Raises IngressError; unknown keys are ignored."""
    values: dict[str, Any] = {}
    normalised: dict[str, Any] = {key: document[key] for key in _IGNORED if key in document}
    for key, attribute in _DURATIONS.items():
        if document.get(key) is not None:
            seconds = parse_duration(document[key], f"{where}: {key}", text_durations=text_durations)
            values[attribute] = seconds
            normalised[key] = max(1, round(seconds)) if seconds else 0
    for table, expected in ((_TEXTS, str), (_BOOLEANS, bool)):
        for key, attribute in table.items():
            if document.get(key) is not None:
                values[attribute] = normalised[key] = _typed(document[key], expected, f"{where}: {key}")
    if document.get("keepAliveConnections") is not None:
        count = _typed(document["keepAliveConnections"], int, f"{where}: keepAliveConnections")
        values["keep_alive_connections"] = normalised["keepAliveConnections"] = count
    if values.get("proxy_type", "") not in ("", "socks"):
        raise IngressError(f'{where}: proxyType must be empty or "socks"')
    if document.get("ipRules"):
        values["ip_rules"] = _parse_ip_rules(document["ipRules"], f"{where}: ipRules")
        normalised["ipRules"] = document["ipRules"]
    if document.get("access") is not None:
        values["access"] = _parse_access(document["access"], f"{where}: access")
        normalised["access"] = document["access"]
    return OriginRequest(**values, document=normalised)


def parse_duration(value: object, where: str, *, text_durations: bool) -> float:
    """Seconds from an integer, or with `text_durations` from text such as "10s", "500ms", "1m30s"."""
    seconds: float | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        seconds = float(value)
    elif text_durations and isinstance(value, str) and _DURATION.match(value):
        seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
    if seconds is None:
        hint = 'whole seconds or text such as "10s"' if text_durations else "an integer number of seconds"
        raise IngressError(f"{where} must be {hint}, not {str(value)[:32]!r}")
    if not 0 <= seconds <= MAX_DURATION_SECONDS:
        raise IngressError(f"{where} must be between 0 seconds and 24 hours")
    return seconds


def is_address_allowed(address: IPAddress, port: int, rules: Sequence[IpRule]) -> bool:
    """First matching rule decides; an address no rule matches is refused."""
    for rule in rules:
        if rule.matches(address, port):
            return rule.allow
    return False


def _parse_ip_rules(value: object, where: str) -> tuple[IpRule, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise IngressError(f"{where} must be a list")
    return tuple(_parse_ip_rule(item, f"{where}[{index}]") for index, item in enumerate(value))


def _parse_ip_rule(item: object, where: str) -> IpRule:
    if not isinstance(item, Mapping):
        raise IngressError(f"{where} must be an object with prefix, ports and allow")
    prefix = item.get("prefix")
    try:
        network = ipaddress.ip_network(prefix if isinstance(prefix, str) else "", strict=False)
    except ValueError as error:
        raise IngressError(f"{where}: prefix {prefix!r} is not a network such as 10.0.0.0/8") from error
    ports = item.get("ports") or []
    if not isinstance(ports, Sequence) or not all(_is_port(port) for port in ports):
        raise IngressError(f"{where}: ports must be numbers from 1 to 65535")
    allow = item.get("allow", False)
    return IpRule(network, frozenset(ports), _typed(allow, bool, f"{where}: allow"))


def _is_port(port: object) -> bool:
    return isinstance(port, int) and not isinstance(port, bool) and 1 <= port <= 65535


def _parse_access(value: object, where: str) -> AccessRequirement:
    if not isinstance(value, Mapping):
        raise IngressError(f"{where} must be an object")
    tags = value.get("audTag") or []
    if not isinstance(tags, Sequence) or isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
        raise IngressError(f"{where}: audTag must be a list of texts")
    required = _typed(value.get("required") or False, bool, f"{where}: required")
    team_name = _typed(value.get("teamName") or "", str, f"{where}: teamName")
    if required and (not team_name or not tags):
        raise IngressError(f"{where}: required needs teamName and at least one audTag")
    return AccessRequirement(required, team_name, tuple(tags))


def _typed(value: object, expected: type[_T], where: str) -> _T:
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise IngressError(f"{where} must be {expected.__name__}, not {type(value).__name__}")
    return value
