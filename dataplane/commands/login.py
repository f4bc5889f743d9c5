"""`sallyport login`: checks an API token and keeps it in ~/.sallyport/cert.pem for the tunnel commands."""

import argparse
from collections.abc import Sequence

from dataplane.commands.options import CERTIFICATE_FILE, add_api_options, choose_source, connect
from dataplane.errors import CommandError
from dataplane.state import State, warn
from dataplane.wire.credentials import AccountCertificate

# cert.pem must name a zone (tunnel-edge.md section 2); `route dns` looks the zone up by name, so any will do.
_NO_ZONE = "0" * 32


def run(argv: Sequence[str]) -> int:
    options = _parser().parse_args(argv)
    source = choose_source(options, None)
    api = connect(options, source)
    verified = api.call("GET", "/user/tokens/verify")
    if isinstance(verified, dict) and verified.get("status") not in (None, "active"):
        raise CommandError(f"the API token is {verified.get('status')}")
    account_id = options.account or api.sole_account()
    zone = next(api.pages("/zones", query={"account.id": account_id}), {})
    certificate = AccountCertificate(str(zone.get("id") or _NO_ZONE), account_id, source.token, source.url)
    state = State.for_user()
    state.write(CERTIFICATE_FILE, certificate.to_pem())
    warn(f"logged in to account {account_id}; stored in {state.path(CERTIFICATE_FILE)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sallyport login", description="Keep an API token for the tunnel commands.")
    add_api_options(parser)
    return parser
