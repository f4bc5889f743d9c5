"""What a DNS record may hold, and whether DNS says what is stored. Pure except for the settings' domain names."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from uuid import UUID

from django.conf import settings

from accounts.errors import InvalidInput
from tunnels.dns import LOOPBACK_ANSWER, MAX_ANSWER_CHARACTERS, Lookup, Outcome, is_loopback_name
from tunnels.models import DnsRecord
from tunnels.names import is_within, normalize_domain, normalize_hostname

AUTOMATIC_TTL = 1
MIN_TTL_SECONDS, MAX_TTL_SECONDS = 60, 86400
MAX_TXT_BYTES = 2048
MAX_COMMENT_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class RecordFields:
    """A record's checked and normalized fields."""

    type: str
    name: str
    content: str
    ttl: int
    proxied: bool
    comment: str


@dataclass(frozen=True, slots=True)
class Verdict:
    verification: str
    text: str
    resolver: str = ""


def check_fields(
    zone_name: str,
    *,
    type: str,  # noqa: A002 - the field's name in the public API
    name: str,
    content: str,
    ttl: int,
    proxied: bool,
    comment: str,
) -> RecordFields:
    """Raises InvalidInput naming the field and the fault."""
    if type not in DnsRecord.Type.values:
        message = f"Records of type {type[:20]!r} are not supported. Use one of {', '.join(DnsRecord.Type.values)}."
        raise InvalidInput(message, fields={"type": message})
    if ttl != AUTOMATIC_TTL and not MIN_TTL_SECONDS <= ttl <= MAX_TTL_SECONDS:
        message = f"The TTL must be 1 (automatic) or from {MIN_TTL_SECONDS} to {MAX_TTL_SECONDS} seconds."
        raise InvalidInput(message, fields={"ttl": message})
    if len(comment) > MAX_COMMENT_CHARACTERS:
        message = f"The comment has more than {MAX_COMMENT_CHARACTERS} characters."
        raise InvalidInput(message, fields={"comment": message})
    full_name = record_name(zone_name, name)
    try:
        checked = _check_content(type, content)
    except InvalidInput as error:
        raise InvalidInput(error.message, code=error.code, fields={"content": error.message}) from error
    if type == DnsRecord.Type.CNAME and checked == full_name:
        raise InvalidInput("A CNAME cannot point at itself.", fields={"content": "points at itself"})
    return RecordFields(type, full_name, checked, ttl, proxied, comment.strip())


def record_name(zone_name: str, name: str) -> str:
    """The full name: `@` is the zone itself, a single label is put before the zone, anything else must be inside it."""
    text = name.strip()
    if text in ("", "@"):
        return zone_name
    try:
        full = f"*.{zone_name}" if text == "*" else normalize_hostname(text)
        if "." not in full:
            full = normalize_domain(f"{full}.{zone_name}")
    except InvalidInput as error:
        raise InvalidInput(error.message, code=error.code, fields={"name": error.message}) from error
    if not is_within(full.removeprefix("*."), zone_name):
        message = f"{full} is not inside {zone_name}; write the name in full, for example ssh.{zone_name}."
        raise InvalidInput(message, code="name_outside_zone", fields={"name": message})
    return full


def tunnel_of(content: str) -> UUID | None:
    """The tunnel a CNAME target `<uuid>.<TUNNEL_DOMAIN>` names, else None."""
    label, _, domain = content.partition(".")
    if domain != settings.TUNNEL_DOMAIN:
        return None
    try:
        tunnel_id = UUID(label)
    except ValueError:
        return None
    # UUID() also reads braces, urn: and hyphenless forms; a target has one spelling.
    return tunnel_id if str(tunnel_id) == label else None


def is_tunnel_target(content: str) -> bool:
    return is_within(content, settings.TUNNEL_DOMAIN)


def judge(record: DnsRecord, answer: Lookup, target_answer: Lookup | None) -> Verdict:
    """Compare a record with the resolver's answer. `target_answer` holds the addresses of a CNAME's target, asked for
    when the name has addresses but no CNAME (an apex alias is published flattened)."""
    text = answer.text[:MAX_ANSWER_CHARACTERS]
    if answer.outcome is Outcome.FAILED:
        return Verdict(DnsRecord.Verification.ERROR, text, answer.resolver)
    if record.content in answer.values:
        return Verdict(DnsRecord.Verification.OK, text, answer.resolver)
    if target_answer is not None and answer.values and set(answer.values) <= set(target_answer.values):
        text = f"{text} (the addresses of {record.content})"[:MAX_ANSWER_CHARACTERS]
        return Verdict(DnsRecord.Verification.OK, text, answer.resolver)
    return Verdict(DnsRecord.Verification.MISMATCH, text, answer.resolver)


def judge_loopback(record: DnsRecord) -> Verdict:
    """A record below .localhost: every machine answers loopback, whatever is stored."""
    kind, content = record.type, record.content
    is_true = (
        (kind == DnsRecord.Type.CNAME and is_loopback_name(content))
        or (kind == DnsRecord.Type.A and content.startswith("127."))
        or (kind == DnsRecord.Type.AAAA and content == "::1")
    )
    return Verdict(DnsRecord.Verification.OK if is_true else DnsRecord.Verification.MISMATCH, LOOPBACK_ANSWER)


def _check_content(kind: str, content: str) -> str:
    if kind == DnsRecord.Type.TXT:
        return _check_txt(content)
    if kind == DnsRecord.Type.CNAME:
        return normalize_domain(content)
    version = 4 if kind == DnsRecord.Type.A else 6
    try:
        address = ipaddress.ip_address(content.strip())
    except ValueError as error:
        raise InvalidInput(f"{content[:60]!r} is not an IPv{version} address.", code="invalid_content") from error
    if address.version != version or getattr(address, "scope_id", None):
        raise InvalidInput(f"{content[:60]!r} is not an IPv{version} address.", code="invalid_content")
    return str(address)


def _check_txt(content: str) -> str:
    if not content or len(content.encode()) > MAX_TXT_BYTES:
        raise InvalidInput(f"A TXT record holds 1 to {MAX_TXT_BYTES} bytes.", code="invalid_content")
    if not content.isprintable():
        raise InvalidInput("A TXT record must not hold control characters or line breaks.", code="invalid_content")
    return content
