"""Bastion destinations and allow-lists: every spelling that parsers disagree about is refused."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.wire import destination as d

ACCEPTED = {
    "10.0.0.5:22": ("10.0.0.5", 22),
    "ssh://DB.Internal.:2222/path/more": ("db.internal", 2222),
    "[2001:DB8::1]:22": ("2001:db8::1", 22),
    "https://[::1]:443": ("::1", 443),
    "localhost:65535": ("localhost", 65535),
    "host_with_underscore.example:1": ("host_with_underscore.example", 1),
    "1password.com:443": ("1password.com", 443),
}


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted_destinations_are_normalised(text: str) -> None:
    destination = d.parse_destination(text)
    assert (destination.host, destination.port) == ACCEPTED[text]
    assert d.parse_destination(str(destination)) == destination


REFUSED = [
    "",
    "host",
    ":22",
    "host:",
    "host:0",
    "host:65536",
    "host:22x",
    "host:+22",
    "host: 22",
    "host:٢٢",
    "user@host:22",
    "2130706433:22",
    "0x7f000001:22",
    "0x7f.1:22",
    "0177.0.0.1:22",
    "127.1:22",
    "127.0.0.1.:22x",
    "1.2.3.4.5:22",
    "256.1.1.1:22",
    "host.0x1:22",
    "host.1:22",
    "::1:22",
    "[::1]",
    "[::1:22",
    "[127.0.0.1]:22",
    "[::ffff:127.0.0.1]:22",
    "[::ffff:7f00:1]:22",
    "[fe80::1%eth0]:22",
    "-host:22",
    "host-:22",
    "ho st:22",
    "ho\0st:22",
    "höst:22",
    "a..b:22",
    "a" * 64 + ".example:22",
    "unix:/run/socket",
    "a" * 2000 + ":22",
]


@pytest.mark.parametrize("text", REFUSED)
def test_refused_destinations(text: str) -> None:
    with pytest.raises(d.DestinationError):
        d.parse_destination(text)


@given(st.text(max_size=60))
def test_random_text_never_raises_anything_else(text: str) -> None:
    for parse in (d.parse_destination, d.parse_rule):
        try:
            parse(text)
        except d.DestinationError:
            pass


RULES = [
    ("10.0.0.0/8:22", "10.1.2.3:22", True),
    ("10.0.0.0/8:22", "10.1.2.3:23", False),
    ("10.0.0.0/8:22", "11.0.0.1:22", False),
    ("10.0.0.0/8:22", "ten.example:22", False),
    ("10.0.0.5:22", "10.0.0.5:22", True),
    ("10.0.0.0/8:*", "10.0.0.1:9999", True),
    ("[fd00::/8]:22", "[fd12::1]:22", True),
    ("[fd00::/8]:22", "[fe12::1]:22", False),
    ("[fd00::/8]:22", "10.0.0.1:22", False),
    ("db.internal:22", "DB.internal:22", True),
    ("db.internal:22", "xdb.internal:22", False),
    ("*.internal:22", "db.internal:22", True),
    ("*.internal:22", "a.db.internal:22", True),
    ("*.internal:22", "internal:22", False),
    ("*.internal:22", "dbinternal:22", False),
    ("host:*", "host:1", True),
    ("host:8000-8100", "host:8100", True),
    ("host:8000-8100", "host:8101", False),
    ("*:22", "anything.example:22", True),
    ("*:22", "10.0.0.1:22", True),
    ("*:22", "10.0.0.1:23", False),
]


@pytest.mark.parametrize(("rule", "destination", "expected"), RULES)
def test_rules(rule: str, destination: str, expected: bool) -> None:
    assert d.is_allowed(d.parse_destination(destination), [d.parse_rule(rule)]) is expected


def test_empty_list_allows_nothing() -> None:
    assert not d.is_allowed(d.parse_destination("host:22"), [])


@pytest.mark.parametrize(
    "text",
    ["", "host", "10.0.0.0/8", "10.0.0.1/8:22", "10.0.0.0/33:22", "host:5-4", "host:x", "[::ffff:0:0/96]:22", "a*b:22"],
)
def test_unusable_rules_are_refused(text: str) -> None:
    with pytest.raises(d.DestinationError):
        d.parse_rule(text)


FORBIDDEN = [
    "169.254.169.254",
    "169.254.0.1",
    "fe80::1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "0.0.0.0",
    "0.1.2.3",
    "::",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "100.100.100.200",
    "192.0.0.192",
    "fd00:ec2::254",
]


@pytest.mark.parametrize("text", FORBIDDEN)
def test_dangerous_addresses_have_a_reason(text: str) -> None:
    assert d.forbidden_reason(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["127.0.0.1", "10.0.0.1", "8.8.8.8", "::1", "fd12::1", "2001:db8::1"])
def test_ordinary_addresses_have_none(text: str) -> None:
    assert d.forbidden_reason(ipaddress.ip_address(text)) is None
