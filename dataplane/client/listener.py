"""Listener mode: one connection to the application for each local TCP connection."""

import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

from dataplane.errors import CommandError
from dataplane.https import describe, is_loopback_name, parse_address
from dataplane.state import warn

MAX_CONNECTIONS = 128
Carry = Callable[[int, int], int]


def serve(text: str, carry: Carry) -> int:
    """Runs until interrupted. A failing connection is told on stderr and ends alone."""
    address = parse_address(urlsplit(text).netloc if "://" in text else text, default_port=None)
    host = "127.0.0.1" if is_loopback_name(address.host) else address.host
    if not (host == "::1" or host.startswith("127.")):
        warn(f"{host} is not a loopback address: everybody who reaches it will use your login")
    try:
        listener = socket.create_server((host, address.port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise CommandError(f"cannot listen on {text}: {describe(error)}") from error
    slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
    with listener:
        warn(f"listening on {host}:{listener.getsockname()[1]}")
        while True:
            slots.acquire()
            connection, _ = listener.accept()
            threading.Thread(target=_carry_one, args=(connection, carry, slots), daemon=True).start()


def _carry_one(connection: socket.socket, carry: Carry, slots: threading.BoundedSemaphore) -> None:
    try:
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            carry(connection.fileno(), connection.fileno())
    except (CommandError, OSError) as error:
        warn(str(error))
    finally:
        slots.release()
