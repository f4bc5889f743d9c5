"""The head parser and body decoder, alone."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.edge.heads import BodyDecoder, HeadError, hostname_of, parse_cookies, parse_request_head
from dataplane.edge.webframes import FrameBoundary
from dataplane.wire.websocket import BINARY, encode_frame


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_give_a_head_or_a_head_error(data: bytes) -> None:
    with contextlib.suppress(HeadError):
        assert parse_request_head(data).hostname


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_any_header_bytes_give_a_head_or_a_head_error(data: bytes) -> None:
    try:
        head = parse_request_head(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + data)
    except HeadError:
        return
    assert all("\r" not in value and "\n" not in value and "\0" not in value for _, value in head.headers)


def test_absolute_form_becomes_origin_form() -> None:
    head = parse_request_head(b"GET https://a.example:8443/x?y HTTP/1.1\r\nHost: a.example:8443")
    assert (head.target, head.hostname) == ("/x?y", "a.example")


@pytest.mark.parametrize(("host", "name"), [("A.Example.", "a.example"), ("a:1", "a"), ("a", "a")])
def test_hostname_of(host: str, name: str) -> None:
    assert hostname_of(host) == name


def test_cookies_first_wins() -> None:
    assert parse_cookies(["a=1; b=2", 'a=3; c="4"; broken']) == {"a": "1", "b": "2", "c": "4"}


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.lists(st.integers(1, 30), min_size=1, max_size=50))
def test_chunked_body_in_any_pieces(chunks: list[bytes], steps: list[int]) -> None:
    stream = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\nTrailer: x\r\n\r\nNEXT"
    decoder, buffer, content, position = BodyDecoder(None, is_chunked=True), bytearray(), b"", 0
    for step in steps * (len(stream) // len(steps) + 1):
        buffer += stream[position : position + step]
        position += step
        content += decoder.take(buffer)
    assert decoder.is_complete
    assert content == b"".join(chunks)
    assert bytes(buffer) == b"NEXT"


@pytest.mark.parametrize(
    "data", [b"g\r\n", b"-1\r\n", b"\r\n", b"1\r\nab\r\n", b"1" * 300, b"f" * 20 + b"\r\n", b"1\n\r\n"]
)
def test_bad_chunks_are_refused(data: bytes) -> None:
    decoder = BodyDecoder(None, is_chunked=True)
    with pytest.raises(HeadError):
        decoder.take(bytearray(data))


@settings(deadline=None)
@given(st.lists(st.sampled_from([0, 1, 125, 126, 127, 300, 65535, 65536, 70000]), max_size=4), st.integers(1, 5000))
def test_frame_boundaries_are_found_in_any_pieces(sizes: list[int], step: int) -> None:
    stream, ends = b"", {0}
    for size in sizes:
        stream += encode_frame(BINARY, bytes(size), mask=None)
        ends.add(len(stream))
    boundary = FrameBoundary()
    for position in range(0, len(stream), step):
        boundary.feed(memoryview(stream)[position : position + step])
        assert boundary.is_between_frames == (min(position + step, len(stream)) in ends)
