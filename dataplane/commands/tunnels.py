"""`sallyport tunnel create | list | info | delete | token | cleanup` (tunnel-edge.md 1.3)."""

import argparse
import base64
import binascii
import json
import secrets
import shlex
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dataplane.commands.options import Session, add_api_options, find_tunnel, is_uuid, open_session, table
from dataplane.controlapi import ApiError
from dataplane.errors import CommandError, printable
from dataplane.state import home_directory, warn, write_private
from dataplane.wire.credentials import MIN_SECRET_BYTES, CredentialsError, TunnelCredentials

CREDENTIALS_MODE = 0o400


def run(command: str, argv: Sequence[str]) -> int:
    configure, act = _COMMANDS[command]
    parser = argparse.ArgumentParser(prog=f"sallyport tunnel {command}")
    configure(parser)
    add_api_options(parser)
    options = parser.parse_args(argv)
    return act(options)


def _configure_create(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a name unique among the account's tunnels")
    parser.add_argument("--secret", "-s", help="base64 of at least 32 bytes; made at random if not given")
    parser.add_argument("--cred-file", "--credentials-file", metavar="FILE", help="default: ~/.sallyport/<UUID>.json")
    parser.add_argument("--output", "-o", choices=("json",))


def _create(options: argparse.Namespace) -> int:
    if is_uuid(options.name):
        raise CommandError("a tunnel's name must not be a UUID: names and ids could not be told apart")
    secret = _decode_secret(options.secret) if options.secret else secrets.token_bytes(MIN_SECRET_BYTES)
    target = _absolute(options.cred_file) if options.cred_file else None
    if target is not None and target.exists():
        raise CommandError(f"{target} exists; credentials are never overwritten")
    session = open_session(options)
    body = {"name": options.name, "tunnel_secret": base64.b64encode(secret).decode(), "config_src": "local"}
    try:
        tunnel = session.api.call("POST", session.tunnels_path, body=body)
    except ApiError as error:
        if error.status == 409:
            raise CommandError(f"a tunnel named {options.name!r} already exists; see: sallyport tunnel list") from error
        raise
    credentials = TunnelCredentials(session.account_id, secret, uuid.UUID(str(tunnel["id"])))
    path = target or session.state.path(f"{credentials.tunnel_id}.json")
    _write_or_undo(session, credentials, path)
    if options.output == "json":
        print(json.dumps({"id": str(credentials.tunnel_id), "name": options.name, "credentials_file": str(path)}))
        return 0
    print(f"Created tunnel {options.name} with id {credentials.tunnel_id}")
    print(f"Tunnel credentials written to {path}. Keep this file secret; delete the tunnel to revoke it.")
    print(f"Next: write {session.state.path('config.yml')} with tunnel:, credentials-file: and ingress:, then")
    print(f"  sallyport tunnel run {shlex.quote(options.name)}")
    return 0


def _write_or_undo(session: Session, credentials: TunnelCredentials, path: Path) -> None:
    """Without its file the secret is lost for good, so a tunnel that cannot be run is taken back."""
    try:
        session.state.ensure()
        write_private(path, credentials.to_file_json(), mode=CREDENTIALS_MODE)
    except CommandError:
        session.api.call("DELETE", f"{session.tunnels_path}/{credentials.tunnel_id}", query={"cascade": "true"})
        warn(f"tunnel {credentials.tunnel_id} was deleted again")
        raise


def _configure_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", "-n", help="only the tunnel with this name")
    parser.add_argument("--show-deleted", "-d", action="store_true")
    parser.add_argument("--output", "-o", choices=("json",))


def _list(options: argparse.Namespace) -> int:
    session = open_session(options)
    query = {} if options.show_deleted else {"is_deleted": "false"}
    if options.name:
        query["name"] = options.name
    tunnels = list(session.api.pages(session.tunnels_path, query=query))
    if options.output == "json":
        print(json.dumps(tunnels, indent=2))
        return 0
    if not tunnels:
        print("No tunnels. Make one with: sallyport tunnel create NAME")
        return 0
    rows = [["ID", "NAME", "CREATED", "STATUS", "CONNECTIONS"]]
    rows += [
        [
            *(_text(tunnel, key) for key in ("id", "name", "created_at")),
            _status(tunnel),
            _places(tunnel.get("connections")),
        ]
        for tunnel in tunnels
    ]
    print(table(rows))
    return 0


def _configure_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tunnel", help="UUID or name")
    parser.add_argument("--output", "-o", choices=("json",))


def _info(options: argparse.Namespace) -> int:
    session = open_session(options)
    tunnel = find_tunnel(session, options.tunnel)
    connectors = session.api.call("GET", f"{session.tunnels_path}/{tunnel['id']}/connections") or []
    if options.output == "json":
        print(json.dumps({**tunnel, "connectors": connectors}, indent=2))
        return 0
    print(f"NAME     {_text(tunnel, 'name')}\nID       {_text(tunnel, 'id')}")
    print(f"CREATED  {_text(tunnel, 'created_at')}\nSTATUS   {_status(tunnel)}\n")
    if not connectors:
        print(f"No connector is running. Start one with: sallyport tunnel run {shlex.quote(_text(tunnel, 'name'))}")
        return 0
    rows = [["CONNECTOR", "STARTED", "ARCHITECTURE", "VERSION", "ORIGIN IP", "EDGE"]]
    rows += [
        [
            *(_text(item, key) for key in ("id", "run_at", "arch", "version")),
            _origin(item),
            _places(item.get("conns")),
        ]
        for item in connectors
    ]
    print(table(rows))
    return 0


def _configure_delete(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tunnel", nargs="+", help="UUID or name")
    parser.add_argument("--force", "-f", action="store_true", help="also when connectors are running")


def _delete(options: argparse.Namespace) -> int:
    session = open_session(options)
    for name in options.tunnel:
        tunnel = find_tunnel(session, name)
        if tunnel.get("deleted_at"):
            raise CommandError(f"tunnel {name} is already deleted")
        query = {"cascade": "true"} if options.force else {}
        session.api.call("DELETE", f"{session.tunnels_path}/{tunnel['id']}", query=query)
        session.state.remove(f"{uuid.UUID(str(tunnel['id']))}.json")
        print(f"Deleted tunnel {_text(tunnel, 'name')} ({_text(tunnel, 'id')})")
    return 0


def _configure_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tunnel", help="UUID or name")
    parser.add_argument("--cred-file", "--credentials-file", metavar="FILE", help="write a credentials file instead")


def _token(options: argparse.Namespace) -> int:
    session = open_session(options)
    tunnel = find_tunnel(session, options.tunnel)
    text = session.api.call("GET", f"{session.tunnels_path}/{tunnel['id']}/token")
    try:
        credentials = TunnelCredentials.from_token(str(text or ""))
    except CredentialsError as error:
        raise CommandError(f"the control plane has no usable token for this tunnel: {error}") from error
    if not options.cred_file:
        print(credentials.to_token())
        return 0
    path = _absolute(options.cred_file)
    if path.exists():
        raise CommandError(f"{path} exists; credentials are never overwritten")
    write_private(path, credentials.to_file_json(), mode=CREDENTIALS_MODE)
    print(f"Tunnel credentials written to {path}")
    return 0


def _configure_cleanup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tunnel", nargs="+", help="UUID or name")
    parser.add_argument("--connector-id", "-c", metavar="UUID", help="only this connector's connections")


def _cleanup(options: argparse.Namespace) -> int:
    if options.connector_id and not is_uuid(options.connector_id):
        raise CommandError(f"{options.connector_id!r} is not a connector id; see: sallyport tunnel info")
    session = open_session(options)
    for name in options.tunnel:
        tunnel = find_tunnel(session, name)
        query = {"client_id": options.connector_id} if options.connector_id else {}
        session.api.call("DELETE", f"{session.tunnels_path}/{tunnel['id']}/connections", query=query)
        print(f"Closed the connections of tunnel {_text(tunnel, 'name')} ({_text(tunnel, 'id')})")
    return 0


def _decode_secret(text: str) -> bytes:
    warn(
        "a secret on the command line is visible to every user of this machine; leave --secret out to get a random one"
    )
    try:
        secret = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CommandError("--secret must be base64") from None
    if len(secret) < MIN_SECRET_BYTES:
        raise CommandError(f"--secret must decode to at least {MIN_SECRET_BYTES} bytes, not {len(secret)}")
    return secret


def _absolute(text: str) -> Path:
    return home_directory() / text[2:] if text.startswith("~/") else Path(text).absolute()


def _text(item: dict[str, Any], key: str) -> str:
    return printable(str(item.get(key) or "-"), limit=80)


def _status(tunnel: dict[str, Any]) -> str:
    return "deleted" if tunnel.get("deleted_at") else _text(tunnel, "status")


def _places(connections: Any) -> str:
    """ "2xhome, 2xoffice", as cloudflared prints them."""
    counts: dict[str, int] = {}
    for connection in connections if isinstance(connections, list) else []:
        if not connection.get("is_pending_reconnect"):
            place = _text(connection, "colo_name")
            counts[place] = counts.get(place, 0) + 1
    return ", ".join(f"{count}x{place}" for place, count in sorted(counts.items())) or "-"


def _origin(connector: dict[str, Any]) -> str:
    connections = connector.get("conns") or []
    return _text(connections[0], "origin_ip") if connections else "-"


_Configure = Callable[[argparse.ArgumentParser], None]
_COMMANDS: dict[str, tuple[_Configure, Callable[[argparse.Namespace], int]]] = {
    "create": (_configure_create, _create),
    "list": (_configure_list, _list),
    "info": (_configure_info, _info),
    "delete": (_configure_delete, _delete),
    "token": (_configure_token, _token),
    "cleanup": (_configure_cleanup, _cleanup),
}
