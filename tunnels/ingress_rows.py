"""The published-hostnames editor: rows of a form <-> the ingress list of a tunnel's configuration.

The last rule of a configuration answers everything else; the editor keeps it as a drop-down of its own. What a rule
holds beyond these fields (originRequest, set over the API) travels along unseen and is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accounts.form_rows import FormRows, row_prefixes
from dataplane.wire.ingress import IngressError, parse_ingress

KINDS = (
    ("ssh", "SSH"),
    ("bastion", "Bastion"),
    ("tcp", "TCP"),
    ("http", "HTTP"),
    ("https", "HTTPS"),
    ("unix", "Unix socket"),
    ("http_status", "HTTP status"),
    ("hello_world", "Hello world"),
    ("other", "Other"),
)
_BARE = frozenset({"bastion", "hello_world"})
_SCHEMES = frozenset({"ssh", "tcp", "http", "https"})
NOT_FOUND = "http_status:404"


@dataclass
class IngressRow:
    hostname: str = ""
    path: str = ""
    kind: str = "ssh"
    target: str = ""
    extra: str = "{}"
    error: str = ""

    @property
    def service(self) -> str:
        if self.kind in _BARE:
            return self.kind
        if self.kind in _SCHEMES:
            return f"{self.kind}://{self.target.removeprefix(f'{self.kind}://')}"
        if self.kind in {"unix", "http_status"}:
            return f"{self.kind}:{self.target.removeprefix(f'{self.kind}:')}"
        return self.target


class IngressRows(FormRows[IngressRow]):
    """The rows, the catch-all service, and what else the configuration holds."""

    kinds = KINDS

    def __init__(self, rows: list[IngressRow], *, fallback: str = NOT_FOUND) -> None:
        super().__init__(rows)
        self.fallback = fallback
        self.fallback_error = ""

    @classmethod
    def stored(cls, config: Mapping[str, Any]) -> IngressRows:
        rules = [rule for rule in config.get("ingress") or [] if isinstance(rule, Mapping)]
        fallback = str(rules.pop().get("service", NOT_FOUND)) if rules else NOT_FOUND
        return cls([_stored_row(rule) for rule in rules] or [IngressRow()], fallback=fallback)

    @classmethod
    def sent(cls, data: Mapping[str, str]) -> IngressRows:
        rows = [_sent_row(data, prefix) for prefix in row_prefixes(data, "host-", "-hostname")]
        return cls(rows, fallback=data.get("fallback", "").strip()[:300] or NOT_FOUND)

    def new_row(self) -> IngressRow:
        return IngressRow()

    def config(self, base: Mapping[str, Any]) -> dict[str, Any] | None:
        """The new configuration on top of the current one; None when a row cannot be read (its `error` says why)."""
        ingress = []
        for row in self.rows:
            if not row.hostname and not row.path:
                row.error = "Fill in the hostname, or remove the row."
            elif not row.target and row.kind not in _BARE:
                row.error = "Fill in where this goes, for example localhost:22."
            rule = _rule(row)
            row.error = row.error or _fault([rule, {"service": NOT_FOUND}], base)
            ingress.append(rule)
        self._mark_unreachable()
        self.fallback_error = _fault([{"service": self.fallback}], base)
        if self.fallback_error or any(row.error for row in self.rows):
            return None
        return {**base, "ingress": [*ingress, {"service": self.fallback}]}

    def _mark_unreachable(self) -> None:
        """A row below one with the same hostname and no path is never asked."""
        whole: set[str] = set()
        for row in self.rows:
            name = row.hostname.lower().removesuffix(".")
            if name in whole and not row.error:
                row.error = f"A row above already takes everything of {row.hostname}. Move this one up, or remove it."
            if not row.path:
                whole.add(name)

    def numbered(self) -> list[tuple[int, IngressRow]]:
        return list(enumerate(self.rows))


def hostnames_of(config: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Hostname, path and service of every rule but the catch-all, for display."""
    rules = [rule for rule in config.get("ingress") or [] if isinstance(rule, Mapping)]
    return [
        (str(rule.get("hostname", "")), str(rule.get("path", "")), str(rule.get("service", "")))
        for rule in rules
        if rule.get("hostname")
    ]


def _fault(rules: list[dict[str, Any]], base: Mapping[str, Any]) -> str:
    """What the connector's own reading says against the first of these rules."""
    try:
        parse_ingress({"ingress": rules, "originRequest": base.get("originRequest")})
    except IngressError as error:
        text = str(error).removeprefix("ingress rule 1").lstrip(": ")
        return f"{text[:1].upper()}{text[1:]}."
    return ""


def _stored_row(rule: Mapping[str, Any]) -> IngressRow:
    kind, target = _split(str(rule.get("service", "")))
    extra = {key: value for key, value in rule.items() if key not in {"hostname", "path", "service"}}
    return IngressRow(
        hostname=str(rule.get("hostname") or ""),
        path=str(rule.get("path") or ""),
        kind=kind,
        target=target,
        extra=json.dumps(extra, ensure_ascii=False),
    )


def _split(service: str) -> tuple[str, str]:
    if service in _BARE:
        return service, ""
    scheme, separator, rest = service.partition("://")
    if separator and scheme in _SCHEMES:
        return scheme, rest
    for kind in ("unix", "http_status"):
        if service.startswith(f"{kind}:"):
            return kind, service.removeprefix(f"{kind}:")
    return "other", service


def _sent_row(data: Mapping[str, str], prefix: str) -> IngressRow:
    kind = data.get(f"{prefix}kind", "")
    return IngressRow(
        hostname=data.get(f"{prefix}hostname", "").strip()[:300],
        path=data.get(f"{prefix}path", "").strip()[:600],
        kind=kind if kind in dict(KINDS) else "ssh",
        target=data.get(f"{prefix}target", "").strip()[:600],
        extra=data.get(f"{prefix}extra", "{}")[:20_000],
    )


def _rule(row: IngressRow) -> dict[str, Any]:
    rule: dict[str, Any] = {"service": row.service}
    if row.hostname:
        rule = {"hostname": row.hostname, **rule}
    if row.path:
        rule["path"] = row.path
    return {**_extra(row), **rule}


def _extra(row: IngressRow) -> dict[str, Any]:
    try:
        extra = json.loads(row.extra or "{}")
    except ValueError:
        return {}
    return extra if isinstance(extra, dict) else {}
