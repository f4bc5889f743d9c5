"""State of one HTTP/2 stream, as far as a relay needs it (RFC 9113 section 5.1)."""


class StreamClosedError(Exception):
    """The caller tried to send where nothing may be sent any more: a race, or a local mistake."""


class Stream:
    """open -> half closed (one flag False) -> closed (both False, and gone from the connection's table)."""

    __slots__ = (
        "credit",
        "has_headers",
        "is_local_open",
        "is_remote_open",
        "receive_window",
        "send_window",
        "stream_id",
    )

    def __init__(self, stream_id: int, send_window: int, receive_window: int) -> None:
        self.stream_id = stream_id
        self.send_window = send_window
        self.receive_window = receive_window
        self.credit = 0
        self.is_local_open = True
        self.is_remote_open = True
        self.has_headers = False
