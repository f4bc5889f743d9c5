"""Questions to DNS resolvers (dnspython), answered as plain data. Only tasks call this: it waits for the network.

Names below `.localhost` are never asked for: RFC 6761 section 6.3 makes them loopback names on every machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import dns.exception
import dns.nameserver
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rdtypes.txtbase
import dns.resolver
from django.conf import settings

LOOKUP_SECONDS = 5.0
# How much of an answer is kept for people to read.
MAX_ANSWER_CHARACTERS = 500
LOOPBACK_ANSWER = "127.0.0.1 (RFC 6761: names below .localhost are loopback, no resolver is asked)"


class Outcome(StrEnum):
    FOUND = "found"
    ABSENT = "absent"  # the resolver says so: no such name, or no such record
    FAILED = "failed"  # nobody knows: time-out, SERVFAIL, no resolver


@dataclass(frozen=True, slots=True)
class Lookup:
    """`values` in presentation form, host names lower case without trailing dot; `text` is for people."""

    outcome: Outcome
    values: tuple[str, ...]
    text: str
    resolver: str = ""


def is_loopback_name(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


def lookup(name: str, record_type: str) -> Lookup:
    """One question, with a time limit over all resolvers and retries."""
    try:
        resolver = _resolver()
    except (dns.exception.DNSException, OSError, ValueError) as error:
        return Lookup(Outcome.FAILED, (), f"The question could not be asked: {type(error).__name__}.")
    try:
        answer = resolver.resolve(name, record_type, search=False, lifetime=LOOKUP_SECONDS)
    except dns.resolver.NXDOMAIN:
        return Lookup(Outcome.ABSENT, (), f"{name} does not exist.", _asked(resolver))
    except dns.resolver.NoAnswer:
        text = f"{name} exists, but has no {record_type} record."
        return Lookup(Outcome.ABSENT, (), text, _asked(resolver))
    except dns.resolver.LifetimeTimeout:
        text = f"No resolver answered within {LOOKUP_SECONDS:.0f} seconds."
        return Lookup(Outcome.FAILED, (), text, _asked(resolver))
    except dns.resolver.NoNameservers:
        text = "Every resolver answered with an error (SERVFAIL or REFUSED)."
        return Lookup(Outcome.FAILED, (), text, _asked(resolver))
    except (dns.exception.DNSException, OSError, ValueError) as error:
        return Lookup(Outcome.FAILED, (), f"The question could not be asked: {type(error).__name__}.")
    values = tuple(sorted(_value(rdata) for rdata in answer))
    text = f"{record_type} {', '.join(values)}"[:MAX_ANSWER_CHARACTERS]
    return Lookup(Outcome.FOUND, values, text, _address(answer.nameserver, answer.port))


def _asked(resolver: dns.resolver.Resolver) -> str:
    """All that may have been asked: dnspython does not say who of them told of an absence or a failure."""
    return ", ".join(map(_name_of, resolver.nameservers))


def _name_of(nameserver: object) -> str:
    if isinstance(nameserver, dns.nameserver.AddressAndPortNameserver):
        return _address(nameserver.address, nameserver.port)
    return str(nameserver)


def _address(host: str | None, port: int | None) -> str:
    """As DNS_RESOLVERS is written: the port only when it is not the usual one."""
    if not host:
        return ""
    if port in (None, 53):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _value(rdata: object) -> str:
    if isinstance(rdata, dns.rdtypes.txtbase.TXTBase):
        return b"".join(rdata.strings).decode("utf-8", "replace")
    if isinstance(rdata, dns.rdtypes.IN.A.A | dns.rdtypes.IN.AAAA.AAAA):
        return str(ipaddress.ip_address(rdata.address))
    return str(rdata).rstrip(".").lower()


def _resolver() -> dns.resolver.Resolver:
    configured: Sequence[str] = settings.DNS_RESOLVERS
    resolver = dns.resolver.Resolver(configure=not configured)
    if configured:
        resolver.nameservers = [dns.nameserver.Do53Nameserver(*_address_and_port(entry)) for entry in configured]
    resolver.cache = None
    # Two tries within the lifetime, so that one lost datagram is not an outage.
    resolver.timeout = LOOKUP_SECONDS / 2
    return resolver


def _address_and_port(entry: str) -> tuple[str, int]:
    """`192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353`."""
    host, port = entry, "53"
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        port = rest.removeprefix(":") or "53"
    elif entry.count(":") == 1:
        host, _, port = entry.partition(":")
    return str(ipaddress.ip_address(host)), int(port)
