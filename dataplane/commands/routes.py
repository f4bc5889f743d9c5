"""`sallyport tunnel route dns`: a CNAME from a host name to a tunnel (tunnel-edge.md 1.3)."""

import argparse
import re
from collections.abc import Sequence

from dataplane.commands.options import add_api_options, find_tunnel, open_session
from dataplane.controlapi import ApiError
from dataplane.errors import CommandError, printable

_HOSTNAME = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_WORDS = {"new": "Added", "updated": "Changed", "unchanged": "Already there:"}


def run(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    hostname = _hostname(options.hostname)
    session = open_session(options)
    tunnel = find_tunnel(session, options.tunnel)
    zone_id = session.api.zone_of(hostname, session.account_id)
    body = {"type": "dns", "user_hostname": hostname, "overwrite_existing": options.overwrite}
    try:
        result = session.api.call("PUT", f"/zones/{zone_id}/tunnels/{tunnel['id']}/routes", body=body)
    except ApiError as error:
        if 400 <= error.status < 500 and not options.overwrite and "exist" in str(error):
            raise CommandError(f"{error}\n  What to do: to replace the record, add --overwrite-dns") from error
        raise
    change = _WORDS.get(str(result.get("cname")), "Set")
    name = printable(str(result.get("name") or hostname))
    print(f"{change} CNAME {name}, which routes to tunnel {tunnel['id']}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sallyport tunnel route dns", description="Route a host name to a tunnel.")
    parser.add_argument(
        "--overwrite-dns", "-f", dest="overwrite", action="store_true", help="replace an existing record"
    )
    parser.add_argument("tunnel", help="UUID or name")
    parser.add_argument("hostname")
    add_api_options(parser)
    return parser


def _hostname(text: str) -> str:
    try:
        name = (
            text.rstrip(".").encode("idna").decode("ascii").lower() if not text.isascii() else text.rstrip(".").lower()
        )
    except UnicodeError:
        name = ""
    if len(name) > 253 or not _HOSTNAME.fullmatch(name):
        raise CommandError(f"{text!r} is not a host name")
    return name
