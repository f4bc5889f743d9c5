"""The kernel's own measurement of a TCP connection: how far away is the other end?"""

import asyncio
import socket
import sys

_RTT_OFFSET, _RTT_BYTES = 68, 4  # tcpi_rtt of Linux' struct tcp_info, in microseconds


def round_trip_seconds(transport: asyncio.BaseTransport | None) -> float | None:
    """Smoothed round trip; None where the system does not tell. It costs a system call and no packet."""
    tcp = transport.get_extra_info("socket") if transport is not None else None
    if tcp is None or sys.platform != "linux":
        return None
    try:
        told = tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT_OFFSET + _RTT_BYTES)
    except OSError:
        return None
    microseconds = int.from_bytes(told[_RTT_OFFSET:], sys.byteorder) if len(told) >= _RTT_OFFSET + _RTT_BYTES else 0
    return microseconds / 1e6 if microseconds else None
