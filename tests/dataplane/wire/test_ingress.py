"""Ingress rules: matching, services, merged originRequest, and a specific text for every mistake."""

import ipaddress
from typing import Any

import pytest

from dataplane.wire import services as s
from dataplane.wire.ingress import IngressError, parse_ingress, parse_yaml_ingress
from dataplane.wire.origin_request import is_address_allowed

LAST = {"service": "http_status:404"}
TUTORIAL = {
    "tunnel": "79a60ee2-9a98-4f5f-96c7-76c88b2075be",
    "logDirectory": "/var/log/cloudflared",
    "http2": True,
    "ingress": [{"hostname": "ssh-bastion.widgetcorp.tech", "service": "bastion"}, LAST],
}


def test_tutorial_configuration() -> None:
    ingress = parse_yaml_ingress(TUTORIAL)
    assert [rule.service for rule in ingress.rules] == [s.BastionService(), s.HttpStatusService(404)]
    assert ingress.match("SSH-Bastion.WidgetCorp.tech:8443", "/") == 0
    assert ingress.match("other.widgetcorp.tech", "/") == 1


def test_first_match_wins_with_wildcards_and_paths() -> None:
    ingress = parse_ingress(
        {
            "ingress": [
                {"hostname": "a.example.com", "path": "/admin", "service": "http_status:403"},
                {"hostname": "A.example.com", "service": "tcp://h:1"},
                {"hostname": "*.example.com", "service": "tcp://h:2"},
                {"path": "\\.(css|js)$", "service": "tcp://h:3"},
                {"hostname": "*", "service": "http_status:404"},
            ]
        }
    )
    cases = {
        ("a.example.com", "/x/admin"): 0,
        ("a.example.com", "/"): 1,
        ("b.example.com", "/"): 2,
        ("c.b.example.com.", "/"): 2,
        ("example.com", "/"): 4,
        ("example.com", "/a.css"): 3,
        ("notexample.com", "/"): 4,
        ("[::1]:443", "/"): 4,
    }
    assert {case: ingress.match(*case) for case in cases} == cases


def test_empty_list_matches_nothing() -> None:
    assert parse_ingress({}).match("x", "/") is None
    assert parse_ingress({"ingress": []}).to_document() == {"ingress": [], "warp-routing": {}}


SERVICES = {
    "ssh://h": s.TcpService("ssh", "h", 22),
    "ssh://H:2222": s.TcpService("ssh", "h", 2222),
    "rdp://h": s.TcpService("rdp", "h", 3389),
    "smb://h": s.TcpService("smb", "h", 445),
    "tcp://h": s.TcpService("tcp", "h", 7864),
    "tcp://[::1]:5": s.TcpService("tcp", "::1", 5),
    "postgres://db.internal:5432": s.TcpService("postgres", "db.internal", 5432),
    "http://h": s.HttpService(False, "h", 80),
    "ws://h:81/": s.HttpService(False, "h", 81),
    "https://h": s.HttpService(True, "h", 443),
    "wss://h": s.HttpService(True, "h", 443),
    "unix:/run/app.sock": s.UnixService(False, "/run/app.sock"),
    "unix:///run/app.sock": s.UnixService(False, "/run/app.sock"),
    "unix+tls:/run/app.sock": s.UnixService(True, "/run/app.sock"),
    "bastion": s.BastionService(),
    "socks-proxy": s.SocksService(),
    "hello_world": s.HelloWorldService(),
    "hello-world": s.HelloWorldService(),
    "http_status:999": s.HttpStatusService(999),
}


@pytest.mark.parametrize("text", SERVICES)
def test_services(text: str) -> None:
    (rule,) = parse_ingress({"ingress": [{"service": text}]}).rules
    assert rule.service == SERVICES[text]
    again = parse_ingress({"ingress": [{"service": str(rule.service)}]}).rules[0].service
    assert again == rule.service


def test_bastion_mode_and_socks_type_win_over_the_url() -> None:
    (rule,) = parse_ingress({"ingress": [{"service": "tcp://h:1", "originRequest": {"bastionMode": True}}]}).rules
    assert rule.service == s.BastionService()
    (rule,) = parse_ingress({"ingress": [{"service": "tcp://h:1", "originRequest": {"proxyType": "socks"}}]}).rules
    assert rule.service == s.SocksService()


def test_origin_request_is_merged_and_reported() -> None:
    config = {
        "originRequest": {"connectTimeout": 5, "noTLSVerify": True, "proxyAddress": "127.0.0.1"},
        "ingress": [
            {"hostname": "h", "service": "https://o", "originRequest": {"connectTimeout": 7, "httpHostHeader": "x"}},
            LAST,
        ],
    }
    first, last = parse_ingress(config).rules
    assert (first.origin_request.connect_timeout_seconds, last.origin_request.connect_timeout_seconds) == (7.0, 5.0)
    assert first.origin_request.no_tls_verify
    assert first.origin_request.http_host_header == "x"
    assert parse_ingress(config).to_document()["ingress"][0] == {
        "hostname": "h",
        "service": "https://o",
        "originRequest": {
            "connectTimeout": 7,
            "noTLSVerify": True,
            "httpHostHeader": "x",
            "proxyAddress": "127.0.0.1",
        },
    }
    assert parse_ingress(parse_ingress(config).to_document()) == parse_ingress(config)


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10.0), ("1m30s", 90.0), ("500ms", 0.5), ("1h", 3600.0), (3, 3.0)]
)
def test_durations_of_a_file(text: object, seconds: float) -> None:
    config = {"ingress": [{"service": "bastion", "originRequest": {"connectTimeout": text}}]}
    assert parse_yaml_ingress(config).rules[0].origin_request.connect_timeout_seconds == seconds


def test_ip_rules_first_match_decides_and_default_is_no() -> None:
    rules = [
        {"prefix": "10.0.0.5/32", "allow": False},
        {"prefix": "10.0.0.0/8", "ports": [22, 2222], "allow": True},
        {"prefix": "fd00::/8", "allow": True},
    ]
    config = {"ingress": [{"service": "bastion", "originRequest": {"ipRules": rules}}]}
    ip_rules = parse_ingress(config).rules[0].origin_request.ip_rules
    cases = {
        ("10.0.0.6", 22): True,
        ("10.0.0.6", 80): False,
        ("10.0.0.5", 22): False,
        ("::ffff:10.0.0.6", 22): True,
        ("::ffff:10.0.0.5", 22): False,
        ("fd00::1", 1): True,
        ("127.0.0.1", 22): False,
    }
    assert {case: is_address_allowed(ipaddress.ip_address(case[0]), case[1], ip_rules) for case in cases} == cases


def one(**rule: Any) -> dict[str, Any]:
    return {"ingress": [rule]}


MISTAKES: dict[str, tuple[Any, str]] = {
    "not an object": ([], "must be an object"),
    "not a list": ({"ingress": "x"}, "must be a list"),
    "rule is text": ({"ingress": ["x"]}, "ingress rule 1 must be an object"),
    "no service": (one(hostname=""), "ingress rule 1 has no service"),
    "last has hostname": (one(hostname="a.b", service="bastion"), "last ingress rule must match every request"),
    "last has path": (one(path="/x", service="bastion"), "last ingress rule must match every request"),
    "catch-all first": ({"ingress": [LAST, LAST]}, "rule 1 matches every request, so the rules after"),
    "port in hostname": (
        {"ingress": [{"hostname": "a:1", "service": "bastion"}, LAST]},
        "without scheme, port or path",
    ),
    "inner wildcard": ({"ingress": [{"hostname": "a.*.b", "service": "bastion"}, LAST]}, "only as first label"),
    "bad hostname": ({"ingress": [{"hostname": "a b", "service": "bastion"}, LAST]}, "not a valid name"),
    "hostname type": ({"ingress": [{"hostname": 5, "service": "bastion"}, LAST]}, "hostname must be text"),
    "bad regexp": ({"ingress": [{"path": "(", "service": "bastion"}, LAST]}, "not a regular expression"),
    "long regexp": ({"ingress": [{"path": "a" * 600, "service": "bastion"}, LAST]}, "at most 512"),
    "bare host": (one(service="localhost"), "needs a scheme and a host"),
    "host and port": (one(service="localhost:22"), "needs a scheme and a host"),
    "no host": (one(service="ssh://"), "needs a scheme and a host"),
    "path": (one(service="http://h/x"), "must not have a path"),
    "query": (one(service="http://h?x"), "must not have a path"),
    "credentials": (one(service="http://u:p@h"), "user name or password"),
    "port missing": (one(service="x://h"), "needs a port"),
    "port zero": (one(service="ssh://h:0"), "port must be from 1"),
    "port text": (one(service="ssh://h:x"), "not a valid URL"),
    "bad host": (one(service="ssh://h!"), "not a valid name or address"),
    "status text": (one(service="http_status:abc"), "status from 100 to 999"),
    "status range": (one(service="http_status:99"), "status from 100 to 999"),
    "relative socket": (one(service="unix:app.sock"), "absolute socket path"),
    "origin request type": (one(service="bastion", originRequest=5), "originRequest must be an object"),
    "duration text": (one(service="bastion", originRequest={"connectTimeout": "10s"}), "integer number of seconds"),
    "duration range": (one(service="bastion", originRequest={"tlsTimeout": -1}), "between 0 seconds and 24 hours"),
    "boolean": (one(service="bastion", originRequest={"noTLSVerify": "yes"}), "must be bool"),
    "number": (one(service="bastion", originRequest={"keepAliveConnections": True}), "must be int"),
    "proxy type": (one(service="bastion", originRequest={"proxyType": "x"}), 'empty or "socks"'),
    "ip rules type": (one(service="bastion", originRequest={"ipRules": "x"}), "ipRules must be a list"),
    "ip rule type": (one(service="bastion", originRequest={"ipRules": ["x"]}), "prefix, ports and allow"),
    "ip rule prefix": (one(service="bastion", originRequest={"ipRules": [{"prefix": "x"}]}), "is not a network"),
    "ip rule ports": (
        one(service="bastion", originRequest={"ipRules": [{"prefix": "::/0", "ports": [0]}]}),
        "ports must be numbers",
    ),
    "access type": (one(service="bastion", originRequest={"access": 5}), "access must be an object"),
    "access tags": (one(service="bastion", originRequest={"access": {"audTag": "x"}}), "list of texts"),
    "access empty": (one(service="bastion", originRequest={"access": {"required": True}}), "at least one audTag"),
    "too many": ({"ingress": [LAST] * 1001}, "at most 1000"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_has_its_text(name: str) -> None:
    config, text = MISTAKES[name]
    with pytest.raises(IngressError) as caught:
        parse_ingress(config)
    assert text in str(caught.value)


def test_file_duration_text_must_still_be_a_duration() -> None:
    with pytest.raises(IngressError, match="whole seconds or text"):
        parse_yaml_ingress(one(service="bastion", originRequest={"connectTimeout": "soon"}))


def test_unknown_keys_are_ignored() -> None:
    rule = {"service": "bastion", "colour": "blue", "originRequest": {"surprise": 1}}
    assert parse_ingress({"ingress": [rule], "warp-routing": {"enabled": True}}).rules[0].service == s.BastionService()
