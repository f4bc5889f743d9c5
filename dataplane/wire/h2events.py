"""What H2Connection.receive_data reports: past participles, one small object each."""

from dataclasses import dataclass

from dataplane.wire.headers import Header


@dataclass(frozen=True, slots=True)
class HeadersReceived:
    """A request, a response, an informational response or trailers (`is_trailers`)."""

    stream_id: int
    headers: list[Header]
    end_stream: bool
    is_trailers: bool = False


@dataclass(slots=True)
class DataReceived:
    """A piece of a DATA frame; large frames arrive in several pieces.

    `data` points into the buffer given to receive_data: write it out or copy it before the next call.
    `flow_length` must be given to acknowledge exactly once, even when the stream has ended or was reset."""

    stream_id: int
    data: memoryview
    flow_length: int


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The peer will send no more on this stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The stream is gone. `by_peer` is False when we reset it because of the peer's stream error."""

    stream_id: int
    code: int
    by_peer: bool = True


@dataclass(frozen=True, slots=True)
class WindowUpdated:
    """More may be sent: on one stream, or on every stream when `stream_id` is 0."""

    stream_id: int
    increment: int


@dataclass(frozen=True, slots=True)
class PingReceived:
    """Already answered."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class PingAcked:
    payload: bytes


@dataclass(frozen=True, slots=True)
class GoawayReceived:
    last_stream_id: int
    code: int
    debug: bytes


@dataclass(frozen=True, slots=True)
class SettingsReceived:
    """The peer's settings, already applied and acknowledged; send windows may have grown."""

    settings: dict[int, int]


Event = (
    HeadersReceived
    | DataReceived
    | StreamEnded
    | StreamReset
    | WindowUpdated
    | PingReceived
    | PingAcked
    | GoawayReceived
    | SettingsReceived
)
