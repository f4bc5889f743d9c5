"""The server name in a TLS ClientHello that has not been answered yet (RFC 8446 section 4.1.2, RFC 6066 section 3).

Whether a client is asked for a certificate must be settled before the handshake begins: OpenSSL's server-name callback
comes too late for that. What is read here only chooses the settings of the handshake; the name that counts is the one
the TLS library reports. Pure.
"""

from __future__ import annotations

MAX_HELLO_BYTES = 16 * 1024
_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 22, 1, 0, 0
_RECORD_HEADER = 5


class IncompleteError(Exception):
    """More bytes are needed."""


def server_name_of(data: bytes) -> str:
    """Lower case, "" when there is none or this is no ClientHello. Raises IncompleteError."""
    hello = _handshake_bytes(data)
    if hello is None:
        return ""
    try:
        return _name_in(hello)
    except (IndexError, UnicodeDecodeError):
        return ""


def _handshake_bytes(data: bytes) -> bytes | None:
    """The ClientHello, put together from its records; None for anything else."""
    collected, position = b"", 0
    while True:
        header = data[position : position + _RECORD_HEADER]
        if header and header[0] != _HANDSHAKE:
            return None
        if len(header) < _RECORD_HEADER:
            raise IncompleteError
        length = int.from_bytes(header[3:5])
        collected += data[position + _RECORD_HEADER : position + _RECORD_HEADER + length]
        if collected and collected[0] != _CLIENT_HELLO:
            return None
        if len(collected) >= 4:
            wanted = 4 + int.from_bytes(collected[1:4])
            if wanted > MAX_HELLO_BYTES:
                return None
            if len(collected) >= wanted:
                return collected[4:wanted]
        position += _RECORD_HEADER + length
        if position > len(data) or position >= MAX_HELLO_BYTES:
            raise IncompleteError


def _name_in(hello: bytes) -> str:
    position = 2 + 32  # version, random
    position += 1 + hello[position]  # session id
    position += 2 + int.from_bytes(hello[position : position + 2])  # cipher suites
    position += 1 + hello[position]  # compression methods
    end = position + 2 + int.from_bytes(hello[position : position + 2])
    position += 2
    while position + 4 <= min(end, len(hello)):
        kind = int.from_bytes(hello[position : position + 2])
        length = int.from_bytes(hello[position + 2 : position + 4])
        body = hello[position + 4 : position + 4 + length]
        if kind == _SERVER_NAME:
            if len(body) < 5 or body[2] != _HOST_NAME:
                return ""
            size = int.from_bytes(body[3:5])
            return body[5 : 5 + size].decode("ascii").lower().rstrip(".")
        position += 4 + length
    return ""
