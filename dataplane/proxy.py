"""HTTPS_PROXY and NO_PROXY for the command line: which proxy stands between us and a host (CONNECT, RFC 9110 9.3.6)."""

import base64
import os
import socket
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from dataplane.errors import CommandError

MAX_ANSWER_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Proxy:
    host: str
    port: int
    authorization: str | None = field(repr=False)


def proxy_for(host: str) -> Proxy | None:
    """The proxy from the environment, or None. Raises CommandError for a proxy URL that cannot be used."""
    text = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY") or ""
    if not text or _is_excepted(host, os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""):
        return None
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme != "http" or not parts.hostname:
        raise CommandError("HTTPS_PROXY must be an http:// URL such as http://proxy.example:3128")
    return Proxy(parts.hostname, port or 80, _basic(parts.username, parts.password))


def open_tunnel(connection: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Asks the connected proxy to pass everything on to host:port. Raises CommandError with the proxy's status."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < MAX_ANSWER_BYTES:
        # One byte at a time: what follows the head belongs to TLS and must stay in the socket.
        piece = connection.recv(1)
        if not piece:
            break
        answer += piece
    words = answer.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].startswith("2"):
        status = words[1] if len(words) > 1 and words[1].isdigit() else "no proper answer"
        raise CommandError(f"the proxy {proxy.host}:{proxy.port} refused the way to {target}: {status}")


def _is_excepted(host: str, no_proxy: str) -> bool:
    names = [name.strip().lower().lstrip(".") for name in no_proxy.split(",") if name.strip()]
    return any(name == "*" or host == name or host.endswith(f".{name}") for name in names)


def _basic(username: str | None, password: str | None) -> str | None:
    if username is None:
        return None
    return "Basic " + base64.b64encode(f"{unquote(username)}:{unquote(password or '')}".encode()).decode("ascii")
