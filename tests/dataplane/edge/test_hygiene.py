"""Headers on their way behind the edge, as pure functions (AC-61)."""

from __future__ import annotations

import pytest

from dataplane.edge.heads import parse_request_head
from dataplane.edge.hygiene import control_plane_headers, tunnel_request_headers

EDGE_SETS = {
    "sallyport-edge-token": "edge-token",
    "sallyport-client-ip": "192.0.2.1",
    "sallyport-ray": "ray",
    "x-forwarded-proto": "https",
}


def to_control_plane(*lines: str) -> list[tuple[str, str]]:
    head = parse_request_head("\r\n".join(("GET /x HTTP/1.1", "Host: Team.example:8443", *lines)).encode())
    return control_plane_headers(head, client_ip="192.0.2.1", reference="ray", edge_token="edge-token")


@pytest.mark.parametrize(
    "line",
    [
        "Connection: host, sallyport-edge-token, sallyport-client-ip, x-forwarded-proto",
        "Sallyport_Edge_Token: forged",
        "SALLYPORT-CLIENT-IP: 127.0.0.1",
        "Sallyport.Client.Ip: 127.0.0.1",
        "X-Forwarded-Proto: http",
        "X_Forwarded_Host: evil.example",
        "Transfer_Encoding: chunked",
        "Content_Length: 5",
        "Remote_User: root",
        "Forwarded: host=evil.example",
        "Cf_Access_Token: x",
    ],
)
def test_ac61_nothing_of_the_edge_can_be_said_by_a_client(line: str) -> None:
    sent = to_control_plane("Accept: */*", line)
    assert sorted(sent) == sorted([("host", "Team.example:8443"), ("accept", "*/*"), *EDGE_SETS.items()])


def test_what_the_control_plane_needs_is_kept() -> None:
    kept = {"cf-access-token": "t", "cookie": "a=b", "origin": "https://team.example", "authorization": "Bearer x"}
    sent = dict(to_control_plane(*(f"{name.title()}: {value}" for name, value in kept.items())))
    assert kept.items() <= sent.items()


def test_ac61_connection_cannot_name_away_what_the_edge_says_to_origins() -> None:
    named = "Connection: cf-access-jwt-assertion, x-forwarded-for, cf-connecting-ip, upgrade"
    head = parse_request_head(f"GET /x HTTP/1.1\r\nHost: a.example\r\n{named}\r\nUpgrade: h2c".encode())
    sent = dict(
        tunnel_request_headers(
            head, client_ip="192.0.2.1", reference="ray", assertion="jwt", identity="a@b.example", destination="h:22"
        )
    )
    assert sent["cf-access-jwt-assertion"] == "jwt"
    assert sent["cf-connecting-ip"] == sent["x-forwarded-for"] == "192.0.2.1"
    assert sent["cf-access-authenticated-user-email"] == "a@b.example"
    assert sent["cf-access-jump-destination"] == "h:22"
    assert not {"connection", "upgrade"} & sent.keys()
