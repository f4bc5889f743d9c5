"""Frames both ways, any chunking, and every refusal."""

import contextlib
import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.wire import websocket as ws


def messages_of(events: list[ws.Event]) -> list[tuple[int, bytes]]:
    """Reassembled (opcode, payload) of whole messages."""
    done: list[tuple[int, bytes]] = []
    current = b""
    for event in events:
        if isinstance(event, ws.PayloadReceived):
            current += bytes(event.data)
            if event.is_message_end:
                done.append((event.opcode, current))
                current = b""
    return done


def test_accept_key_of_the_rfc_example() -> None:
    assert ws.accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_rfc_example_frames() -> None:
    assert ws.encode_frame(ws.TEXT, b"Hello", mask=None) == bytes.fromhex("810548656c6c6f")
    assert ws.encode_frame(ws.TEXT, b"Hello", mask=bytes.fromhex("37fa213d")) == bytes.fromhex("818537fa213d7f9f4d5158")
    assert ws.encode_frame(ws.BINARY, bytes(256), mask=None)[:4] == bytes.fromhex("827e0100")
    assert ws.encode_frame(ws.BINARY, bytes(65536), mask=None)[:10] == bytes.fromhex("827f0000000000010000")


@settings(deadline=None, max_examples=80)
@given(
    payloads=st.lists(st.binary(max_size=700) | st.just(bytes(70_000)), min_size=1, max_size=5),
    sizes=st.lists(st.integers(1, 97), min_size=1, max_size=50),
    is_masked=st.booleans(),
)
def test_any_chunking_gives_the_same_messages(payloads: list[bytes], sizes: list[int], is_masked: bool) -> None:
    stream = b"".join(
        ws.encode_frame(ws.BINARY, payload, mask=os.urandom(4) if is_masked else None) for payload in payloads
    )
    parser = ws.FrameParser(expects_mask=is_masked)
    received: list[bytes] = []
    current, position = b"", 0
    while position < len(stream):
        size = sizes[position % len(sizes)]
        for event in parser.receive_data(stream[position : position + size]):
            assert isinstance(event, ws.PayloadReceived)
            current += bytes(event.data)
            if event.is_message_end:
                received.append(current)
                current = b""
        position += size
    assert received == payloads


def test_fragments_with_a_ping_between_are_one_message() -> None:
    mask = b"abcd"
    stream = (
        ws.encode_frame(ws.BINARY, b"one ", mask=mask, fin=False)
        + ws.encode_frame(ws.PING, b"hi", mask=mask)
        + ws.encode_frame(ws.CONTINUATION, b"", mask=mask, fin=False)
        + ws.encode_frame(ws.CONTINUATION, b"two", mask=mask)
        + ws.encode_frame(ws.PONG, b"", mask=mask)
    )
    events = ws.FrameParser(expects_mask=True).receive_data(stream)
    assert messages_of(events) == [(ws.BINARY, b"one two")]
    assert ws.PingReceived(b"hi") in events
    assert ws.PongReceived(b"") in events


def test_empty_message_is_reported() -> None:
    events = ws.FrameParser(expects_mask=False).receive_data(ws.encode_frame(ws.TEXT, b"", mask=None))
    assert messages_of(events) == [(ws.TEXT, b"")]


def test_close_with_and_without_code() -> None:
    parser = ws.FrameParser(expects_mask=False)
    frame = ws.encode_close(ws.CLOSE_POLICY, "revoked", mask=None)
    assert parser.receive_data(frame + b"ignored") == [ws.CloseReceived(1008, "revoked")]
    assert parser.receive_data(b"\x81\x01x") == []
    bare = ws.encode_frame(ws.CLOSE, b"", mask=None)
    assert ws.FrameParser(expects_mask=False).receive_data(bare) == [ws.CloseReceived(1005, "")]


def test_close_reason_is_cut_between_characters() -> None:
    frame = ws.encode_close(1008, "ü" * 100, mask=None)
    assert len(frame) <= 127
    assert ws.FrameParser(expects_mask=False).receive_data(frame) == [ws.CloseReceived(1008, "ü" * 61)]


def test_message_limit() -> None:
    parser = ws.FrameParser(expects_mask=False, max_message_bytes=10)
    parser.receive_data(ws.encode_frame(ws.BINARY, bytes(6), mask=None, fin=False))
    with pytest.raises(ws.WebSocketError) as caught:
        parser.receive_data(ws.encode_frame(ws.CONTINUATION, bytes(6), mask=None))
    assert caught.value.close_code == ws.CLOSE_TOO_BIG


REFUSED = {
    "reserved bit": b"\xc2\x81abcdx",
    "unmasked": b"\x82\x01x",
    "unknown opcode": b"\x83\x81abcdx",
    "unknown control opcode": b"\x8b\x81abcdx",
    "long control": b"\x89\xfe\x00\x7eabcd",
    "fragmented control": b"\x09\x80abcd",
    "continuation first": b"\x80\x80abcd",
    "message in message": b"\x02\x80abcd\x82\x80abcd",
    "absurd length": b"\x82\xff" + struct.pack(">Q", 1 << 63) + b"abcd",
    "close of one byte": b"\x88\x81\0\0\0\0x",
    "close reason not utf-8": b"\x88\x84\0\0\0\0\x03\xe8\xff\xff",
}


@pytest.mark.parametrize("name", REFUSED)
def test_malformed_frames_are_refused(name: str) -> None:
    with pytest.raises(ws.WebSocketError) as caught:
        ws.FrameParser(expects_mask=True).receive_data(REFUSED[name])
    assert caught.value.close_code == ws.CLOSE_PROTOCOL_ERROR


def test_client_refuses_masked_frames() -> None:
    with pytest.raises(ws.WebSocketError):
        ws.FrameParser(expects_mask=False).receive_data(b"\x82\x81abcdx")


@given(
    st.binary(max_size=50) | st.binary(min_size=250, max_size=900), st.binary(min_size=4, max_size=4), st.integers(0, 9)
)
def test_mask_is_the_byte_loop(data: bytes, mask: bytes, offset: int) -> None:
    expected = bytes(byte ^ mask[(index + offset) % 4] for index, byte in enumerate(data))
    assert ws.apply_mask(data, mask, offset) == expected
    assert ws.apply_mask(expected, mask, offset) == data


@settings(max_examples=300)
@given(st.binary(max_size=60), st.booleans())
def test_random_bytes_raise_nothing_else(data: bytes, expects_mask: bool) -> None:
    parser = ws.FrameParser(expects_mask=expects_mask, max_message_bytes=1000)
    with contextlib.suppress(ws.WebSocketError):
        parser.receive_data(data)
