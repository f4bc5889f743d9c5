"""wire.h2 against the `h2` library as peer, against itself, and against malformed frames."""

import struct

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.wire import h2events as e
from dataplane.wire.h2 import ErrorCode, H2Connection, H2ProtocolError, StreamClosedError
from dataplane.wire.h2frames import PREFACE, frame_header, ping_frame, settings_frame, window_update_frame

REQUEST = [(":method", "GET"), (":scheme", "https"), (":authority", "ssh.example.com"), (":path", "/")]
RESPONSE = [(":status", "200"), ("content-type", "application/octet-stream")]


def drain(connection: H2Connection) -> bytes:
    return b"".join(bytes(piece) for piece in connection.data_to_send())


def exchange(one: H2Connection, other: H2Connection) -> tuple[list[e.Event], list[e.Event]]:
    """Carries bytes both ways until both are quiet; events of (one, other)."""
    one_events: list[e.Event] = []
    other_events: list[e.Event] = []
    while True:
        forward, back = drain(one), drain(other)
        if not forward and not back:
            return one_events, other_events
        other_events += other.receive_data(forward)
        one_events += one.receive_data(back)


def pair(**options: int) -> tuple[H2Connection, H2Connection]:
    client, server = H2Connection("client", **options), H2Connection("server", **options)
    client.initiate()
    server.initiate()
    exchange(client, server)
    return client, server


def kinds(events: list[e.Event]) -> list[type]:
    return [type(event) for event in events]


class LibraryPeer:
    """The hyper-h2 library on the other side."""

    def __init__(self, *, client_side: bool) -> None:
        config = h2.config.H2Configuration(client_side=client_side, header_encoding="utf-8")
        self.connection = h2.connection.H2Connection(config)
        self.connection.initiate_connection()

    def exchange(self, ours: H2Connection) -> tuple[list[e.Event], list[h2.events.Event]]:
        our_events: list[e.Event] = []
        their_events: list[h2.events.Event] = []
        while True:
            theirs, mine = self.connection.data_to_send(), drain(ours)
            if not theirs and not mine:
                return our_events, their_events
            our_events += ours.receive_data(theirs)
            if mine:
                their_events += self.connection.receive_data(mine)


def test_library_client_talks_to_our_server() -> None:
    peer, server = LibraryPeer(client_side=True), H2Connection("server")
    server.initiate()
    peer.exchange(server)
    peer.connection.send_headers(1, REQUEST)
    peer.connection.send_data(1, b"hello", pad_length=7)
    peer.connection.end_stream(1)
    events, _ = peer.exchange(server)
    assert kinds(events) == [e.HeadersReceived, e.DataReceived, e.StreamEnded]
    assert events[0].headers == REQUEST
    assert bytes(events[1].data) == b"hello"
    server.send_headers(1, RESPONSE)
    assert server.send_data(1, b"world") == 5
    server.send_headers(1, [("grpc-status", "0")], end_stream=True)
    _, their_events = peer.exchange(server)
    got = {type(event): event for event in their_events}
    assert got[h2.events.ResponseReceived].headers == RESPONSE
    assert got[h2.events.DataReceived].data == b"world"
    assert got[h2.events.TrailersReceived].headers == [("grpc-status", "0")]
    assert server.stream_count == 0


def test_our_client_talks_to_library_server() -> None:
    peer, client = LibraryPeer(client_side=False), H2Connection("client")
    client.initiate()
    peer.exchange(client)
    stream_id = client.open_stream([*REQUEST, ("cookie", "a=b")])
    assert client.send_data(stream_id, b"x" * 40_000) == 40_000
    _, their_events = peer.exchange(client)
    received = b"".join(event.data for event in their_events if isinstance(event, h2.events.DataReceived))
    assert received == b"x" * 40_000
    peer.connection.send_headers(stream_id, [(":status", "103")])
    peer.connection.send_headers(stream_id, RESPONSE)
    peer.connection.send_data(stream_id, b"y" * 10_000, end_stream=True)
    client_events, _ = peer.exchange(client)
    assert [event.headers[0] for event in client_events if isinstance(event, e.HeadersReceived)] == [
        (":status", "103"),
        (":status", "200"),
    ]
    assert sum(len(event.data) for event in client_events if isinstance(event, e.DataReceived)) == 10_000
    assert client_events[-1] == e.StreamEnded(stream_id)


def test_library_flow_control_agrees_with_ours_over_many_megabytes() -> None:
    peer, server = (
        LibraryPeer(client_side=True),
        H2Connection("server", stream_window=1 << 20, connection_window=1 << 21),
    )
    server.initiate()
    peer.exchange(server)
    peer.connection.send_headers(1, REQUEST)
    left, received = 20 << 20, 0
    while left:
        while left and (window := peer.connection.local_flow_control_window(1)):
            size = min(left, window, peer.connection.max_outbound_frame_size)
            peer.connection.send_data(1, bytes(size))
            left -= size
        events, _ = peer.exchange(server)
        for event in events:
            if isinstance(event, e.DataReceived):
                received += len(event.data)
                server.acknowledge(1, event.flow_length)
    assert received == 20 << 20


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=400), st.binary(min_size=1, max_size=3000))
def test_any_chunking_gives_the_same_events(sizes: list[int], body: bytes) -> None:
    library = LibraryPeer(client_side=True)
    library.connection.send_headers(1, [*REQUEST, ("x-long", "v" * 600)])
    library.connection.send_data(1, body, pad_length=len(body) % 50)
    library.connection.ping(b"12345678")
    library.connection.send_headers(3, REQUEST, end_stream=True)
    library.connection.end_stream(1)
    stream = library.connection.data_to_send() + frame_header(9, 0xEE, 0, 0) + b"unknown!!"
    server = H2Connection("server")
    events: list[e.Event] = []
    payload, position = b"", 0
    while position < len(stream):
        size = sizes[position % len(sizes)]
        for event in server.receive_data(stream[position : position + size]):
            if isinstance(event, e.DataReceived):
                payload += bytes(event.data)
                server.acknowledge(event.stream_id, event.flow_length)
            else:
                events.append(event)
        position += size
    assert payload == body
    assert kinds(events) == [
        e.SettingsReceived,
        e.HeadersReceived,
        e.PingReceived,
        e.HeadersReceived,
        e.StreamEnded,
        e.StreamEnded,
    ]
    assert dict(events[1].headers)["x-long"] == "v" * 600


def test_half_close_keeps_the_other_direction() -> None:
    client, server = pair()
    stream_id = client.open_stream(REQUEST, end_stream=True)
    _, events = exchange(client, server)
    assert kinds(events) == [e.HeadersReceived, e.StreamEnded]
    with pytest.raises(StreamClosedError):
        client.send_data(stream_id, b"late")
    server.send_headers(stream_id, RESPONSE)
    server.send_data(stream_id, b"still here", end_stream=True)
    events, _ = exchange(client, server)
    assert [bytes(event.data) for event in events if isinstance(event, e.DataReceived)] == [b"still here"]
    assert client.stream_count == server.stream_count == 0


def test_send_data_stops_at_the_window_and_goes_on_after_acknowledge() -> None:
    client, server = pair(stream_window=100_000)
    stream_id = client.open_stream(REQUEST)
    payload = bytes(range(256)) * 1000
    sent = client.send_data(stream_id, payload, end_stream=True)
    assert sent == 100_000
    assert client.send_data(stream_id, payload[sent:]) == 0
    received, has_ended = b"", False
    while not has_ended:
        _, events = exchange(client, server)
        for event in events:
            if isinstance(event, e.DataReceived):
                received += bytes(event.data)
                server.acknowledge(stream_id, event.flow_length)
        has_ended = e.StreamEnded(stream_id) in events
        exchange(client, server)
        if sent < len(payload):
            sent += client.send_data(stream_id, payload[sent:], end_stream=True)
    assert received == payload


def test_large_frames_are_cut_to_the_peers_maximum() -> None:
    client, _ = pair(max_frame_size=20_000)
    stream_id = client.open_stream(REQUEST)
    client.send_data(stream_id, bytes(50_000))
    pieces = [bytes(piece) for piece in client.data_to_send()[1:]]
    assert [len(piece) for piece in pieces] == [9, 20_000, 9, 20_000, 9, 10_000]


def test_header_blocks_larger_than_a_frame_use_continuation() -> None:
    client, server = pair(max_frame_size=16_384)
    headers = [*REQUEST, *((f"x-{number}", "~" * 3000) for number in range(20))]
    client.open_stream(headers, end_stream=True)
    _, events = exchange(client, server)
    assert events[0].headers == headers


def test_unacked_limit_leaves_the_connection_window_to_others() -> None:
    client, server = pair(stream_window=1 << 20, connection_window=1 << 20)
    client.unacked_limit = 256 * 1024
    stalled, other = client.open_stream(REQUEST), client.open_stream(REQUEST)
    assert client.send_data(stalled, bytes(1 << 20)) == 256 * 1024
    assert client.send_capacity(stalled) == 0
    _, events = exchange(client, server)
    assert client.send_data(other, b"quick") == 5
    for event in events:
        if isinstance(event, e.DataReceived):
            server.acknowledge(stalled, event.flow_length)
    exchange(client, server)
    assert client.send_capacity(stalled) == 256 * 1024


def test_reset_frees_the_stream_and_late_data_is_credited() -> None:
    client, server = pair(stream_window=60_000, connection_window=100_000)
    stream_id = client.open_stream(REQUEST)
    exchange(client, server)
    server.reset(stream_id, ErrorCode.CANCEL)
    for _ in range(3):  # more than the connection window in all, if nothing were credited
        client.send_data(stream_id, bytes(50_000))
        server.receive_data(drain(client))
        client.receive_data(b"")
        stream_id = client.open_stream(REQUEST)
        exchange(client, server)
        server.reset(stream_id)
    client_events, _ = exchange(client, server)
    assert e.StreamReset(stream_id, ErrorCode.CANCEL) in client_events
    assert server.stream_count == 0


def test_concurrent_stream_limit_refuses_the_excess_stream() -> None:
    client, server = pair(max_concurrent_streams=2)
    client._peer_max_streams = 1000  # a peer that ignores the limit
    ids = [client.open_stream(REQUEST) for _ in range(3)]
    client_events, server_events = exchange(client, server)
    assert len(server_events) == 2
    assert client_events == [e.StreamReset(ids[2], ErrorCode.REFUSED_STREAM)]


def test_goaway_keeps_streams_and_refuses_new_ones() -> None:
    client, server = pair()
    stream_id = client.open_stream(REQUEST)
    exchange(client, server)
    server.goaway()
    client_events, _ = exchange(client, server)
    assert client_events == [e.GoawayReceived(stream_id, ErrorCode.NO_ERROR, b"")]
    assert not client.can_open_stream
    with pytest.raises(StreamClosedError):
        client.open_stream(REQUEST)
    server.send_headers(stream_id, RESPONSE, end_stream=True)
    client_events, _ = exchange(client, server)
    assert kinds(client_events) == [e.HeadersReceived, e.StreamEnded]


def test_ping_is_answered() -> None:
    client, server = pair()
    client.ping(b"abcdefgh")
    client_events, server_events = exchange(client, server)
    assert client_events == [e.PingAcked(b"abcdefgh")]
    assert server_events == [e.PingReceived(b"abcdefgh")]


def frame(frame_type: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return frame_header(len(payload), frame_type, flags, stream_id) + payload


GET_BLOCK = bytes.fromhex("828784418aa0e41d139d09b8f01e07")  # :method GET, :scheme https, :path /, :authority
OPEN = frame(1, 4, 1, GET_BLOCK)
MALFORMED = {
    "wrong preface": (b"GET / HTTP/1.1\r\n", ErrorCode.PROTOCOL_ERROR),
    "first frame not settings": (PREFACE + ping_frame(b"12345678"), ErrorCode.PROTOCOL_ERROR),
    "oversized frame": (frame_header((1 << 20) + 1, 0, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
    "data on stream 0": (frame(0, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data on idle stream": (frame(0, 0, 9, b"x"), ErrorCode.PROTOCOL_ERROR),
    "padding longer than data": (OPEN + frame(0, 8, 1, b"\x05abc"), ErrorCode.PROTOCOL_ERROR),
    "padded data without length": (OPEN + frame(0, 8, 1), ErrorCode.FRAME_SIZE_ERROR),
    "headers on stream 0": (frame(1, 4, 0, GET_BLOCK), ErrorCode.PROTOCOL_ERROR),
    "headers on even stream": (frame(1, 4, 2, GET_BLOCK), ErrorCode.PROTOCOL_ERROR),
    "headers padding too long": (frame(1, 12, 1, b"\x30" + GET_BLOCK), ErrorCode.PROTOCOL_ERROR),
    "headers padding missing": (frame(1, 12, 1), ErrorCode.FRAME_SIZE_ERROR),
    "headers priority cut": (frame(1, 36, 1, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
    "hpack garbage": (frame(1, 4, 1, b"\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
    "interrupted header block": (frame(1, 0, 1, GET_BLOCK) + ping_frame(b"12345678"), ErrorCode.PROTOCOL_ERROR),
    "continuation on other stream": (frame(1, 0, 1, b"") + frame(9, 4, 3, b""), ErrorCode.PROTOCOL_ERROR),
    "continuation alone": (frame(9, 4, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "empty continuation flood": (frame(1, 0, 1, b"") + frame(9, 0, 1), ErrorCode.ENHANCE_YOUR_CALM),
    "endless header block": (frame(1, 0, 1, bytes(1 << 18)) + frame(9, 0, 1, b"x"), ErrorCode.ENHANCE_YOUR_CALM),
    "priority on stream 0": (frame(2, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
    "priority length": (frame(2, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
    "reset on stream 0": (frame(3, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "reset on idle stream": (frame(3, 0, 7, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "reset length": (OPEN + frame(3, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
    "settings on a stream": (frame(4, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "settings length": (frame(4, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "settings ack with payload": (frame(4, 1, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
    "settings window": (settings_frame({4: 1 << 31}), ErrorCode.FLOW_CONTROL_ERROR),
    "settings frame size": (settings_frame({5: 100}), ErrorCode.PROTOCOL_ERROR),
    "settings push": (settings_frame({2: 2}), ErrorCode.PROTOCOL_ERROR),
    "window shift overflow": (
        OPEN + window_update_frame(1, (1 << 31) - 1 - 65_535) + settings_frame({4: 65_536}),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "push promise": (frame(5, 4, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "ping length": (frame(6, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "ping on a stream": (frame(6, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "goaway on a stream": (frame(7, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "goaway length": (frame(7, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "window update length": (frame(8, 0, 0, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
    "window update of 0": (window_update_frame(0, 0), ErrorCode.PROTOCOL_ERROR),
    "window update on idle stream": (window_update_frame(5, 1), ErrorCode.PROTOCOL_ERROR),
    "connection window overflow": (window_update_frame(0, (1 << 31) - 1), ErrorCode.FLOW_CONTROL_ERROR),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_frames_end_the_connection_with_the_right_code(name: str) -> None:
    data, code = MALFORMED[name]
    server = H2Connection("server")
    server.initiate()
    drain(server)
    if not data.startswith((b"GET", PREFACE)):
        server.receive_data(PREFACE + settings_frame({}))
        drain(server)
    with pytest.raises(H2ProtocolError) as caught:
        server.receive_data(data)
    assert caught.value.code == code
    goaway = drain(server)
    assert struct.pack(">L", code) in goaway[-200:]
    assert server.is_terminated
    assert server.receive_data(b"anything") == []


def test_overrun_windows_end_the_connection() -> None:
    for options in ({"stream_window": 1000}, {"stream_window": 200_000, "connection_window": 65_535}):
        server = H2Connection("server", **options)
        server.receive_data(PREFACE + settings_frame({}) + OPEN)
        with pytest.raises(H2ProtocolError) as caught:
            server.receive_data(frame(0, 0, 1, bytes(70_000)))
        assert caught.value.code == ErrorCode.FLOW_CONTROL_ERROR


STREAM_FAULTS = {
    "no path": ([(":method", "GET"), (":scheme", "https")], ErrorCode.PROTOCOL_ERROR),
    "status in request": ([*REQUEST, (":status", "200")], ErrorCode.PROTOCOL_ERROR),
    "upper case": ([*REQUEST, ("X-Upper", "1")], ErrorCode.PROTOCOL_ERROR),
    "connection header": ([*REQUEST, ("connection", "close")], ErrorCode.PROTOCOL_ERROR),
    "line feed": ([*REQUEST, ("x-a", "a\nb: c")], ErrorCode.PROTOCOL_ERROR),
    "pseudo after regular": ([("x-a", "1"), *REQUEST], ErrorCode.PROTOCOL_ERROR),
    "pseudo twice": ([*REQUEST, (":path", "/other")], ErrorCode.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("name", STREAM_FAULTS)
def test_malformed_requests_reset_only_their_stream(name: str) -> None:
    headers, code = STREAM_FAULTS[name]
    client, server = pair()
    healthy = client.open_stream(REQUEST)
    broken = client.open_stream(headers)
    client_events, server_events = exchange(client, server)
    assert client_events == [e.StreamReset(broken, code)]
    assert kinds(server_events) == [e.HeadersReceived, e.StreamReset]
    server.send_headers(healthy, RESPONSE, end_stream=True)
    assert kinds(exchange(client, server)[0]) == [e.HeadersReceived, e.StreamEnded]


@pytest.mark.parametrize(
    "headers", [[(":status", "20")], [("x-a", "1")], [(":status", "200"), (":path", "/")], [(":status", "2x0")]]
)
def test_malformed_responses_reset_only_their_stream(headers: list[tuple[str, str]]) -> None:
    client, server = pair()
    stream_id = client.open_stream(REQUEST)
    exchange(client, server)
    server.send_headers(stream_id, headers)
    client_events, server_events = exchange(client, server)
    assert client_events == [e.StreamReset(stream_id, ErrorCode.PROTOCOL_ERROR, by_peer=False)]
    assert server_events == [e.StreamReset(stream_id, ErrorCode.PROTOCOL_ERROR)]


def test_data_before_response_headers_and_data_after_end_are_stream_errors() -> None:
    client, server = pair()
    stream_id = client.open_stream(REQUEST)
    exchange(client, server)
    server.send_data(stream_id, b"too early")
    assert e.StreamReset(stream_id, ErrorCode.PROTOCOL_ERROR, by_peer=False) in exchange(client, server)[0]
    server = H2Connection("server")
    events = server.receive_data(PREFACE + settings_frame({}) + frame(1, 5, 1, GET_BLOCK) + frame(0, 0, 1, b"x"))
    assert events[-1] == e.StreamReset(1, ErrorCode.STREAM_CLOSED, by_peer=False)


def test_trailers_must_end_the_stream() -> None:
    server = H2Connection("server")
    trailer = bytes.fromhex("4001780179")
    events = server.receive_data(PREFACE + settings_frame({}) + OPEN + frame(1, 4, 1, trailer))
    assert events[-1] == e.StreamReset(1, ErrorCode.PROTOCOL_ERROR, by_peer=False)


def test_frames_on_a_finished_stream_are_ignored() -> None:
    client, server = pair()
    stream_id = client.open_stream(REQUEST)
    exchange(client, server)
    server.reset(stream_id)
    drain(server)
    late = (
        window_update_frame(stream_id, 5)
        + frame(3, 0, stream_id, bytes(4))
        + frame(1, 5, stream_id, bytes.fromhex("4001780179"))
    )
    assert server.receive_data(late) == []


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=40)), max_size=12)
)
def test_random_frames_never_raise_anything_else(frames: list[tuple[int, int, int, bytes]]) -> None:
    for role in ("client", "server"):
        connection = H2Connection(role)
        connection.initiate()
        if role == "client":
            connection.open_stream(REQUEST)
        start = settings_frame({}) if role == "client" else PREFACE + settings_frame({}) + OPEN
        try:
            connection.receive_data(start + b"".join(frame(*parts) for parts in frames))
        except H2ProtocolError:
            assert connection.is_terminated
        drain(connection)
