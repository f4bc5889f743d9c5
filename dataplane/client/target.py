"""What the user named (application) and how to reach it (edge override, CA, state directory)."""

import argparse
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from dataplane.errors import CommandError
from dataplane.https import Address, Dialer, parse_address
from dataplane.state import State, safe_name


@dataclass(frozen=True, slots=True)
class Target:
    """An application address: host in lower case and punycode, port only when it was written, path and query kept."""

    host: str
    port: int | None
    path: str
    query: str

    @property
    def netloc(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"https://{self.netloc}{self.path or '/'}" + (f"?{self.query}" if self.query else "")

    @property
    def request_target(self) -> str:
        return (self.path or "/") + (f"?{self.query}" if self.query else "")

    @property
    def address(self) -> Address:
        return Address(self.host, self.port or 443)

    @property
    def file_stem(self) -> str:
        """Names the application's files (access-client.md section 3): host and path, `/` as `-`, never the port."""
        return safe_name(self.host + self.path.rstrip("/"))


def parse_target(text: str) -> Target:
    """HOST, HOST:PORT, HOST/path or a URL (access-client.md 2.2); http:// becomes https://."""
    value = text.strip()
    if "://" not in value:
        value = f"https://{value}"
    try:
        parts = urlsplit(value)
        host, port = (parts.hostname or "").rstrip("."), parts.port
        host = host.encode("idna").decode("ascii") if not host.isascii() else host
    except (ValueError, UnicodeError):
        raise CommandError(f"{text!r} is not a host name or URL") from None
    if parts.scheme not in ("https", "http") or not host or parts.username is not None or not _is_host(host):
        raise CommandError(f"{text!r} is not a host name or https URL; write for example --hostname ssh.example.com")
    return Target(host, port, "" if parts.path == "/" else parts.path, parts.query)


def _is_host(host: str) -> bool:
    return all(ch.isalnum() or ch in "-._:" for ch in host) and not host.startswith("-")


@dataclass(frozen=True, slots=True)
class Context:
    """One run of a client command."""

    state: State
    dialer: Dialer

    def browser_netloc(self, target: Target) -> str:
        """A browser cannot be told to dial the edge elsewhere, so it needs the edge's port if the user gave none."""
        edge = self.dialer.edge
        if target.port is None and edge is not None and edge.port != 443:
            return f"{target.host}:{edge.port}"
        return target.netloc


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--edge",
        metavar="HOST:PORT",
        default=os.environ.get("SALLYPORT_EDGE") or None,
        help="dial this address instead of resolving names [SALLYPORT_EDGE]",
    )
    parser.add_argument(
        "--cacert",
        metavar="FILE",
        default=os.environ.get("SALLYPORT_CACERT") or None,
        help="trust only the CAs in this PEM file [SALLYPORT_CACERT]",
    )


def make_context(options: argparse.Namespace) -> Context:
    edge = parse_address(options.edge) if options.edge else None
    return Context(State.for_user(), Dialer(edge=edge, cafile=options.cacert))


def key_stems(target: Target) -> tuple[str, str]:
    """File names of the two slots for a key with its certificate; see sshgen."""
    return f"{target.file_stem}-cf_key", f"{target.file_stem}-cf_key2"
