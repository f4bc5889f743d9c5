"""`sallyport access login | token`."""

import argparse
import sys
from collections.abc import Callable, Sequence

from dataplane.client.answers import is_login_redirect
from dataplane.client.certificates import ObtainGrant
from dataplane.client.grants import AppInfo, Grant, stored_token
from dataplane.client.target import Context, Target, add_connection_options, make_context, parse_target
from dataplane.errors import CommandError
from dataplane.state import warn

CHECK_TIMEOUT_SECONDS = 5.0

FindApp = Callable[[Context, Target], AppInfo]


def run_login(argv: Sequence[str], *, obtain: ObtainGrant) -> int:
    """Logs in if there is no token that works, and prints the token unless --quiet."""
    parser = _parser("login", "Log in to an application and keep its token.")
    parser.add_argument("--quiet", "-q", action="store_true", help="do not print the token")
    parser.add_argument("--no-verbose", action="store_true", help="print the bare token")
    options = parser.parse_args(argv)
    context, target = make_context(options), _target(options)
    grant = obtain(context, target)
    if not _is_accepted(context, target, grant):
        grant = obtain(context, target, rejected=grant)
        if not _is_accepted(context, target, grant):
            raise CommandError(f"{target.host} does not accept the token it just gave; is this machine's clock right?")
    if options.quiet:
        return 0
    bare = options.no_verbose or options.app
    sys.stdout.write(grant.token.text if bare else f"Successfully fetched your token:\n\n{grant.token.text}\n\n")
    return 0


def run_token(argv: Sequence[str], *, find: FindApp) -> int:
    """Prints the stored token; never logs in (access-client.md 4.3, but exit code 1 also for an expired token)."""
    options = _parser("token", "Print the stored token of an application.").parse_args(argv)
    context, target = make_context(options), _target(options)
    token = stored_token(context, find(context, target))
    if token is None:
        warn(f"no valid token for {target.host}; run: sallyport access login {target.url}")
        return 1
    sys.stdout.write(token.text)
    return 0


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"sallyport access {command}", description=description)
    parser.add_argument("url", nargs="?", metavar="URL", help="the application, as host name or URL")
    parser.add_argument("--app", metavar="URL", help="the same; the output is then the bare token")
    add_connection_options(parser)
    return parser


def _target(options: argparse.Namespace) -> Target:
    if not (options.url or options.app):
        raise CommandError("which application? Give its host name, for example: sallyport access login ssh.example.com")
    return parse_target(options.url or options.app)


def _is_accepted(context: Context, target: Target, grant: Grant) -> bool:
    """Only the login redirect means no; a 403 or 502 is not the token's fault (access-client.md 6.3)."""
    query = "&".join(filter(None, ("cloudflared_token_check=true", target.query)))
    response = context.dialer.request(
        "GET",
        f"https://{target.netloc}{target.path or '/'}?{query}",
        headers={"Cf-Access-Token": grant.token.text},
        timeout=CHECK_TIMEOUT_SECONDS,
    )
    return not is_login_redirect(response, target.url)
