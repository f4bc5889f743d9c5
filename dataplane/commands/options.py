"""Whom the management commands work for: API URL, token, account; from flags, environment or cert.pem, in order."""

import argparse
import os
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dataplane.controlapi import ControlApi
from dataplane.errors import CommandError
from dataplane.https import Dialer, parse_address
from dataplane.state import State, warn
from dataplane.wire.credentials import AccountCertificate, CredentialsError

CERTIFICATE_FILE = "cert.pem"


@dataclass(frozen=True, slots=True)
class Session:
    api: ControlApi
    account_id: str
    state: State

    @property
    def tunnels_path(self) -> str:
        return f"/accounts/{self.account_id}/cfd_tunnel"


def add_api_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--api-url", metavar="URL", help="control plane API, ends in /client/v4 [SALLYPORT_API_URL]")
    parser.add_argument(
        "--api-token",
        metavar="TOKEN",
        help="API token, or - to read it from standard input [SALLYPORT_API_TOKEN]",
    )
    parser.add_argument("--account", metavar="ID", help="account id, if the token reaches several")
    parser.add_argument("--edge", metavar="HOST:PORT", help="dial this address for an https API URL [SALLYPORT_EDGE]")
    parser.add_argument(
        "--cacert",
        metavar="FILE",
        default=os.environ.get("SALLYPORT_CACERT") or None,
        help="trust only the CAs in this PEM file [SALLYPORT_CACERT]",
    )


def open_session(options: argparse.Namespace) -> Session:
    """Raises CommandError that says which of the sources is missing."""
    state = State.for_user()
    certificate = read_account_certificate(state)
    source = choose_source(options, certificate)
    api = connect(options, source)
    known = certificate.account_id if certificate and source.token == certificate.api_token else ""
    return Session(api, options.account or known or api.sole_account(), state)


@dataclass(frozen=True, slots=True)
class ApiSource:
    url: str
    token: str = field(repr=False)


def choose_source(options: argparse.Namespace, certificate: AccountCertificate | None) -> ApiSource:
    """`--api-token -` reads the token from standard input, where no other user can see it."""
    flag = options.api_token
    if flag == "-":
        flag = sys.stdin.readline().strip()
    elif flag:
        warn("a token on the command line is visible to every user of this machine; prefer SALLYPORT_API_TOKEN")
    token = flag or _env("SALLYPORT_API_TOKEN") or (certificate.api_token if certificate else "")
    url = options.api_url or _env("SALLYPORT_API_URL") or (certificate.endpoint if certificate else "")
    if "://" not in url:
        raise CommandError("which control plane? Set SALLYPORT_API_URL (it ends in /client/v4) or run: sallyport login")
    if not token:
        raise CommandError("no API token: set SALLYPORT_API_TOKEN, or run: sallyport login")
    return ApiSource(url.rstrip("/"), token)


def connect(options: argparse.Namespace, source: ApiSource) -> ControlApi:
    # A plain API address is the control plane itself; only https goes through the edge.
    edge_text = options.edge or (_env("SALLYPORT_EDGE") if source.url.startswith("https:") else "")
    edge = parse_address(edge_text) if edge_text else None
    return ControlApi(base_url=source.url, token=source.token, dialer=Dialer(edge=edge, cafile=options.cacert))


def read_account_certificate(state: State) -> AccountCertificate | None:
    text = state.read(CERTIFICATE_FILE)
    if text is None:
        return None
    try:
        return AccountCertificate.from_pem(text)
    except CredentialsError as error:
        raise CommandError(f"{state.path(CERTIFICATE_FILE)}: {error}") from error


def find_tunnel(session: Session, name_or_id: str) -> dict[str, Any]:
    """By UUID, else by exact name among the tunnels that are not deleted."""
    if is_uuid(name_or_id):
        tunnel = session.api.call("GET", f"{session.tunnels_path}/{uuid.UUID(name_or_id)}")
        if not isinstance(tunnel, dict):
            raise CommandError(f"tunnel {name_or_id} does not exist")
        return tunnel
    query = {"name": name_or_id, "is_deleted": "false"}
    found = [item for item in session.api.pages(session.tunnels_path, query=query) if item.get("name") == name_or_id]
    if len(found) != 1:
        raise CommandError(
            f"there is no tunnel named {name_or_id!r}; see: sallyport tunnel list"
            if not found
            else f"{len(found)} tunnels are named {name_or_id!r}; use the UUID"
        )
    return found[0]


def is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _env(name: str) -> str:
    return os.environ.get(name, "").strip()
