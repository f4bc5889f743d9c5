"""Where a bastion stream wants to go, and the allow-list that limits it (security.md AC-62).

A destination is "[scheme://]host:port[/path]". Spellings of IP addresses that parsers read differently
(decimal, octal, hexadecimal, short forms, IPv4-mapped IPv6) are refused, never interpreted.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_TEXT_LENGTH = 1024
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_LABEL = re.compile(r"^(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")
_NUMBER_LIKE = re.compile(r"^(0x[0-9a-f]*|[0-9]+)\Z")
_PORT = re.compile(r"^[0-9]{1,5}\Z")

# Never dialled unless a rule names them: cloud metadata services hand out credentials to anyone on the host.
_METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(text) for text in ("100.100.100.200", "192.0.0.192", "fd00:ec2::254")
)

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class DestinationError(ValueError):
    """Text that is no usable destination or rule; the message names the fault."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A normalised host (lower case, no trailing dot, IPv6 without brackets) and port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def ip_address(self) -> IPAddress | None:
        """The address when the host is a literal, None when it is a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class DestinationRule:
    """One line of an allow-list: a network or a host pattern, and an inclusive port range."""

    network: IPNetwork | None
    host_pattern: str | None
    first_port: int
    last_port: int
    text: str

    def matches(self, destination: Destination) -> bool:
        if not self.first_port <= destination.port <= self.last_port:
            return False
        address = destination.ip_address()
        if self.network is not None:
            return address is not None and address.version == self.network.version and address in self.network
        if self.host_pattern == "*":
            return True
        if address is not None or self.host_pattern is None:
            return False
        if self.host_pattern.startswith("*."):
            return destination.host.endswith(self.host_pattern[1:])
        return destination.host == self.host_pattern


def parse_destination(text: str) -> Destination:
    """Scheme and path are dropped, a port is required. Raises DestinationError."""
    if not text or len(text) > MAX_TEXT_LENGTH:
        raise DestinationError("the destination is empty" if not text else "the destination is too long")
    scheme = _SCHEME.match(text)
    authority = text[scheme.end() :] if scheme else text
    authority = authority.split("/", 1)[0]
    if "@" in authority:
        raise DestinationError("a destination must not contain a user name")
    host_text, port_text = _split_port(authority)
    return Destination(_parse_host(host_text), _parse_port(port_text))


def parse_rule(text: str) -> DestinationRule:
    """ "10.0.0.0/8:22", "[fd00::/8]:22", "db.internal:22", "*.internal:8000-8100", "host:*" or "*:22"."""
    stripped = text.strip()
    if not stripped or len(stripped) > MAX_TEXT_LENGTH:
        raise DestinationError("an allowed destination must be host:port or network:port")
    host_text, port_text = _split_port(stripped)
    first_port, last_port = _parse_port_range(port_text)
    if "/" in host_text or ":" in host_text or _is_number_like(host_text):
        return DestinationRule(_parse_network(host_text), None, first_port, last_port, stripped)
    if host_text == "*":
        return DestinationRule(None, "*", first_port, last_port, stripped)
    wildcard, name = ("*.", host_text[2:]) if host_text.startswith("*.") else ("", host_text)
    return DestinationRule(None, wildcard + _parse_host(name), first_port, last_port, stripped)


def is_allowed(destination: Destination, rules: Iterable[DestinationRule]) -> bool:
    """True when any rule matches; an empty list allows nothing."""
    return any(rule.matches(destination) for rule in rules)


def unmapped(address: IPAddress) -> IPAddress:
    """The IPv4 address behind ::ffff:a.b.c.d, so that a resolver cannot smuggle one past a rule."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _embedded(address: IPAddress) -> IPAddress:
    """The IPv4 address that a translator or tunnel on the way would make of `address` (RFC 6052, RFC 3056)."""
    plain = unmapped(address)
    if not isinstance(plain, ipaddress.IPv6Address):
        return plain
    if plain in _NAT64:
        return ipaddress.IPv4Address(int(plain) & 0xFFFFFFFF)
    return plain.sixtofour or plain


def forbidden_reason(address: IPAddress) -> str | None:
    """Why `address` is not dialled without an explicit rule, or None."""
    plain = _embedded(address)
    if plain in _METADATA_ADDRESSES:
        return "a cloud metadata address"
    if plain.is_link_local:
        return "a link-local address"
    if plain.is_unspecified or (plain.version == 4 and plain in ipaddress.ip_network("0.0.0.0/8")):
        return "an unspecified address"
    if plain.is_multicast or plain == ipaddress.IPv4Address("255.255.255.255"):
        return "a multicast or broadcast address"
    return None


def _split_port(authority: str) -> tuple[str, str]:
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise DestinationError("an IPv6 destination must be written [address]:port")
        if ":" not in host:
            raise DestinationError("square brackets are for IPv6 addresses only")
        return host, rest[1:]
    host, colon, port = authority.rpartition(":")
    if not colon:
        raise DestinationError("the destination has no port; write host:port")
    if ":" in host:
        raise DestinationError("an IPv6 destination must be written [address]:port")
    return host, port


def _parse_port(text: str) -> int:
    if not _PORT.match(text) or not 1 <= int(text) <= 65535:
        raise DestinationError(f"the destination port {text[:16]!r} is not a number from 1 to 65535")
    return int(text)


def _parse_port_range(text: str) -> tuple[int, int]:
    if text == "*":
        return 1, 65535
    first, dash, last = text.partition("-")
    first_port = _parse_port(first)
    last_port = _parse_port(last) if dash else first_port
    if last_port < first_port:
        raise DestinationError(f"the port range {text!r} is upside down")
    return first_port, last_port


def _parse_host(text: str) -> str:
    host = text.lower()
    if not host:
        raise DestinationError("the destination has no host")
    if ":" in host:
        return str(_parse_ipv6(host))
    host = host.removesuffix(".")
    if _is_number_like(host):
        return str(_parse_ipv4(host))
    if len(host) > 253 or not all(_LABEL.match(label) for label in host.split(".")):
        raise DestinationError(f"the destination host {text[:64]!r} is not a valid name")
    return host


def _is_number_like(host: str) -> bool:
    # WHATWG URL, "ends in a number": inet_aton would read such a name as an IPv4 address.
    return bool(_NUMBER_LIKE.match(host.lower().rpartition(".")[2]))


def _parse_ipv4(host: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(host)  # refuses octal, hexadecimal, decimal and short forms
    except ValueError as error:
        raise DestinationError(f"{host[:64]!r} is not a plain IPv4 address such as 10.0.0.5") from error


def _parse_ipv6(host: str) -> ipaddress.IPv6Address:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError as error:
        raise DestinationError(f"{host[:64]!r} is not an IPv6 address") from error
    if address.ipv4_mapped is not None:
        raise DestinationError("write the IPv4 address itself, not its IPv6-mapped form")
    if address.scope_id is not None:
        raise DestinationError("an IPv6 destination must not have a zone")
    return address


def _parse_network(text: str) -> IPNetwork:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise DestinationError(f"{text[:64]!r} is not a network such as 10.0.0.0/8") from error
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise DestinationError("write the IPv4 network itself, not its IPv6-mapped form")
    return network
