"""Ingress rules: which service answers which hostname and path (tunnel-edge.md 3.3 and 8).

The connector serves by these rules and the control plane validates configurations with the same code, so a
configuration that is accepted in the dashboard is one that the connector accepts too.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataplane.wire.origin_request import IngressError, OriginRequest, parse_origin_request
from dataplane.wire.services import BastionService, Service, SocksService, parse_service

__all__ = ["Ingress", "IngressError", "Rule", "not_offered", "parse_ingress", "parse_yaml_ingress"]

MAX_RULES = 1000
MAX_PATH_PATTERN_LENGTH = 512
_HOST_LABEL = re.compile(r"^(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")


@dataclass(frozen=True, slots=True)
class Rule:
    """One ingress rule. An empty hostname matches every host; `path` is an unanchored regular expression."""

    hostname: str
    path: re.Pattern[str] | None
    service: Service
    origin_request: OriginRequest
    document: Mapping[str, Any]

    def matches(self, hostname: str, path: str) -> bool:
        if self.hostname and not _host_matches(self.hostname, hostname):
            return False
        return self.path is None or self.path.search(path) is not None

    @property
    def is_catch_all(self) -> bool:
        return not self.hostname and self.path is None


@dataclass(frozen=True, slots=True)
class Ingress:
    """An ordered, validated rule list; first match wins. An empty list answers 503 to everything."""

    rules: tuple[Rule, ...]

    def match(self, hostname: str, path: str) -> int | None:
        """Index of the first matching rule. A port in `hostname` is ignored. None only for an empty list."""
        host = normalise_host(hostname)
        for index, rule in enumerate(self.rules):
            if rule.matches(host, path):
                return index
        return None

    def to_document(self) -> dict[str, Any]:
        """JSON for updateLocalConfiguration, the global originRequest folded into each rule."""
        return {"ingress": [dict(rule.document) for rule in self.rules], "warp-routing": {}}


def parse_ingress(config: Mapping[str, Any]) -> Ingress:
    """`config` is the JSON form {"ingress": [...], "originRequest": {...}}; durations are integer seconds.

    Raises IngressError whose message names the rule and the fault. Unknown keys are ignored, as the public
    connector does."""
    return _parse(config, text_durations=False)


def parse_yaml_ingress(config: Mapping[str, Any]) -> Ingress:
    """Like parse_ingress for a file, where durations may also be text such as "10s" or "1m30s"."""
    return _parse(config, text_durations=True)


def not_offered(ingress: Ingress) -> str:
    """What of these rules our own connector refuses, because it would not enforce it: ignoring it silently would widen
    access. Empty when it serves all of them. Connectors of other makers may serve more."""
    for number, rule in enumerate(ingress.rules, start=1):
        if isinstance(rule.service, SocksService):
            return f"ingress rule {number}: socks-proxy is not offered by this connector; use bastion"
        access = rule.origin_request.access
        if access is not None and access.required:
            return (
                f"ingress rule {number}: originRequest.access.required is not offered by this connector;"
                " the edge checks every token before it opens a stream"
            )
    return ""


def normalise_host(host: str) -> str:
    """Lower case, without port and trailing dot."""
    name = host.lower()
    if name.startswith("["):
        return name.partition("]")[0][1:]
    return name.partition(":")[0].removesuffix(".")


def _parse(config: Mapping[str, Any], *, text_durations: bool) -> Ingress:
    if not isinstance(config, Mapping):
        raise IngressError("the configuration must be an object with an ingress list")
    entries = config.get("ingress") or []
    if not isinstance(entries, Sequence) or isinstance(entries, str | bytes):
        raise IngressError("ingress must be a list of rules")
    if len(entries) > MAX_RULES:
        raise IngressError(f"ingress has {len(entries)} rules; at most {MAX_RULES} are allowed")
    defaults = _mapping(config.get("originRequest"), "originRequest")
    parse_origin_request(defaults, "originRequest", text_durations=text_durations)
    rules = tuple(
        _parse_rule(entry, number, len(entries), defaults, text_durations=text_durations)
        for number, entry in enumerate(entries, start=1)
    )
    return Ingress(rules)


def _parse_rule(entry: object, number: int, count: int, defaults: Mapping[str, Any], *, text_durations: bool) -> Rule:
    where = f"ingress rule {number}"
    if not isinstance(entry, Mapping):
        raise IngressError(f"{where} must be an object with a service")
    hostname = _parse_hostname(entry.get("hostname"), where)
    path = _parse_path(entry.get("path"), where)
    merged = {**defaults, **_mapping(entry.get("originRequest"), f"{where}: originRequest")}
    origin_request = parse_origin_request(merged, f"{where}: originRequest", text_durations=text_durations)
    service_text = entry.get("service")
    if not isinstance(service_text, str) or not service_text:
        raise IngressError(f"{where} has no service; write for example ssh://localhost:22 or http_status:404")
    service = BastionService() if origin_request.bastion_mode else parse_service(service_text, where, origin_request)
    document = _rule_document(entry, service_text, origin_request)
    rule = Rule(hostname, path, service, origin_request, document)
    _check_position(rule, number, count)
    return rule


def _check_position(rule: Rule, number: int, count: int) -> None:
    if number == count and not rule.is_catch_all:
        raise IngressError(
            "the last ingress rule must match every request: leave out its hostname and path"
            " (for example: service: http_status:404)"
        )
    if number < count and rule.is_catch_all:
        raise IngressError(
            f"ingress rule {number} matches every request, so the rules after it are never used;"
            " give it a hostname or move it to the end"
        )


def _parse_hostname(value: object, where: str) -> str:
    if value is None or value in ("", "*"):
        return ""
    if not isinstance(value, str):
        raise IngressError(f"{where}: hostname must be text")
    hostname = value.lower().removesuffix(".")
    if ":" in hostname or "/" in hostname:
        raise IngressError(f"{where}: hostname {value!r} must be a bare name without scheme, port or path")
    bare = hostname.removeprefix("*.")
    if "*" in bare:
        raise IngressError(f"{where}: hostname {value!r} may have a wildcard only as first label (*.example.com)")
    try:
        bare = bare.encode("idna").decode("ascii") if not bare.isascii() else bare
    except UnicodeError as error:
        raise IngressError(f"{where}: hostname {value!r} is not a valid name") from error
    if len(bare) > 253 or not all(_HOST_LABEL.match(label) for label in bare.split(".")):
        raise IngressError(f"{where}: hostname {value!r} is not a valid name")
    return f"*.{bare}" if hostname.startswith("*.") else bare


def _parse_path(value: object, where: str) -> re.Pattern[str] | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_PATH_PATTERN_LENGTH:
        raise IngressError(f"{where}: path must be text of at most {MAX_PATH_PATTERN_LENGTH} characters")
    try:
        return re.compile(value)
    except re.error as error:
        raise IngressError(f"{where}: path {value!r} is not a regular expression: {error}") from error


def _rule_document(entry: Mapping[str, Any], service: str, origin_request: OriginRequest) -> dict[str, Any]:
    document: dict[str, Any] = {key: entry[key] for key in ("hostname", "path") if entry.get(key)}
    document["service"] = service
    document["originRequest"] = dict(origin_request.document)
    return document


def _host_matches(pattern: str, hostname: str) -> bool:
    if pattern.startswith("*."):
        return hostname.endswith(pattern[1:])
    return hostname == pattern


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise IngressError(f"{where} must be an object")
    return value
