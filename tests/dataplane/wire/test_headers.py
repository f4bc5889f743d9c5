"""Serialized headers, response meta, and what is stripped where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.wire import headers as h

# tunnel-edge.md 5.7
PUBLISHED = (
    "Q29ubmVjdGlvbg:VXBncmFkZQ;VXBncmFkZQ:d2Vic29ja2V0;"
    "U2VjLVdlYnNvY2tldC1BY2NlcHQ:czNwUExNQmlUeGFROWtZR3p6aFpSYksreE9vPQ"
)
UPGRADE = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-Websocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
]


def test_published_example_both_ways() -> None:
    assert h.serialize_headers(UPGRADE) == PUBLISHED
    assert h.parse_headers(PUBLISHED) == UPGRADE


def test_empty_and_repeated() -> None:
    assert h.parse_headers("") == []
    repeated = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Empty", "")]
    assert h.parse_headers(h.serialize_headers(repeated)) == repeated


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}", fullmatch=True),
            st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40),
        ),
        max_size=6,
    )
)
def test_round_trip(items: list[tuple[str, str]]) -> None:
    assert h.parse_headers(h.serialize_headers(items)) == items


MALFORMED = {
    "no colon": "Q29ubmVjdGlvbg",
    "not base64": "!!!:AA",
    "empty name": ":AA",
    "space in name": h.serialize_headers([("a b", "c")]),
    "line feed": h.serialize_headers([("a", "b\r\nSet-Cookie: x")]),
    "nul": h.serialize_headers([("a", "b\0")]),
    "empty item": "YQ:YQ;;YQ:YQ",
    "too large": "YQ:" + "A" * h.MAX_SERIALIZED_BYTES,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_is_refused(name: str) -> None:
    with pytest.raises(h.HeaderError):
        h.parse_headers(MALFORMED[name])


def test_hop_by_hop_and_named_by_connection() -> None:
    items = [("Connection", "close, X-Secret-Hop"), ("X-Secret-Hop", "1"), ("Te", "x"), ("Accept", "*/*")]
    assert h.strip_hop_by_hop(items) == [("Accept", "*/*")]


@pytest.mark.parametrize(
    "name",
    [
        "cf-cloudflared-proxy-connection-upgrade",
        "Cf-Cloudflared-Proxy-Src",
        "cf_cloudflared_proxy_src",
        "CF-INT-x",
        "cf-access-jwt-assertion",
        "Cf_Access_Jwt_Assertion",
        "cf-access-jump-destination",
        "cf-warp-tag-id",
        "cf-trace-id",
        "Upgrade",
    ],
)
def test_eyeballs_cannot_send_authority(name: str) -> None:
    assert h.strip_from_eyeball([(name, "1"), ("X-Fine", "1")]) == [("X-Fine", "1")]


def test_origins_cannot_send_tunnel_headers_but_may_upgrade() -> None:
    items = [("Cf-Int-A", "1"), ("CF-Cloudflared-B", "1"), ("cf-proxy-c", "1"), *UPGRADE]
    assert h.strip_from_origin(items) == UPGRADE


def test_response_meta_round_trip_and_garbage() -> None:
    meta = h.connector_failure("origin_refused", "connection refused by 127.0.0.1:22")
    assert str(meta) == (
        '{"src":"cloudflared","reason":"origin_refused","detail":"connection refused by 127.0.0.1:22"}'
    )
    assert h.parse_response_meta(str(meta)) == meta
    assert str(h.META_ORIGIN) == '{"src":"origin"}'
    assert h.parse_response_meta('{"src":"origin"}') == h.META_ORIGIN
    assert h.parse_response_meta('{"src":"cloudflared","flow_rate_limited":true}').is_flow_rate_limited
    assert "flow_rate_limited" in str(h.ResponseMeta("cloudflared", is_flow_rate_limited=True))
    for text in (None, "", "[]", "{", '{"src":5,"reason":7}', "[" * 100_000):
        assert h.parse_response_meta(text) == h.ResponseMeta("cloudflared")
