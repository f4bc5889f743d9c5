"""`sallyport access ssh | tcp`: carries a byte stream to an application, as ssh's ProxyCommand or behind a listener."""

import argparse
import os
import signal
from collections.abc import Sequence
from types import FrameType

from dataplane.client.answers import describe_answer, is_login_redirect, with_hint
from dataplane.client.certificates import ObtainGrant
from dataplane.client.grants import Grant, forget_info, stored_grant
from dataplane.client.listener import serve
from dataplane.client.relay import Outcome, Relay
from dataplane.client.servicetoken import add_service_token_options, given_service_token
from dataplane.client.target import Context, Target, add_connection_options, make_context, parse_target
from dataplane.client.websocket import Opened, open_websocket, parse_header
from dataplane.errors import CommandError, printable
from dataplane.https import Response
from dataplane.state import warn

STDIN, STDOUT = 0, 1


def run(argv: Sequence[str], *, obtain: ObtainGrant) -> int:
    options = _parser().parse_args(argv)
    stream = Stream(make_context(options), parse_target(options.hostname), _headers(options), obtain)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    listen_on = options.url or options.listener
    if listen_on:
        return serve(listen_on, stream.carry)
    _require_open(STDIN, STDOUT)
    return stream.carry(STDIN, STDOUT)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sallyport access ssh", description="Carry a connection to an application.")
    parser.add_argument("--hostname", "--tunnel-host", "-T", required=True, help="the application's host name")
    parser.add_argument("--destination", metavar="HOST:PORT", help="where a bastion application shall connect to")
    parser.add_argument(
        "--url", "--listener", "-L", metavar="HOST:PORT", help="listen here instead of using stdin and stdout"
    )
    parser.add_argument("listener", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument(
        "--header", "-H", action="append", default=[], metavar="NAME:VALUE", help="extra request header"
    )
    add_service_token_options(parser)
    add_connection_options(parser)
    return parser


def _headers(options: argparse.Namespace) -> dict[str, str]:
    token = given_service_token(options)
    headers = dict(token.headers) if token is not None else {}
    if options.destination:
        headers["Cf-Access-Jump-Destination"] = options.destination
    for text in options.header:
        name, value = parse_header(text)
        headers = {key: kept for key, kept in headers.items() if key.lower() != name.lower()} | {name: value}
    return headers


class Stream:
    """Opens connections to one application and joins each to a pair of descriptors."""

    def __init__(self, context: Context, target: Target, headers: dict[str, str], obtain: ObtainGrant) -> None:
        self._context = context
        self._target = target
        self._headers = headers
        self._obtain = obtain

    def carry(self, source: int, sink: int) -> int:
        """Exit code. Raises CommandError when the connection cannot be opened."""
        outcome = Relay(self._open(), source=source, sink=sink).run()
        if outcome.is_clean:
            return 0
        warn(f"{self._target.host}: {_describe(outcome)}")
        return 1

    def _open(self) -> Opened:
        given = {name.lower() for name in self._headers}
        if given & {"cf-access-client-id", "cf-access-token"}:
            answer = self._attempt(None)
            return answer if isinstance(answer, Opened) else self._refuse(answer, is_own_credential=True)
        grant = stored_grant(self._context, self._target) or self._obtain(self._context, self._target)
        answer = self._attempt(grant)
        if isinstance(answer, Response):
            answer = self._again(grant, answer)
        return answer if isinstance(answer, Opened) else self._refuse(answer)

    def _again(self, grant: Grant, answer: Response) -> Opened | Response:
        """One more try with a new token when a login would help, or when the application is not the one we remember."""
        if is_login_redirect(answer, self._target.url):
            return self._attempt(self._obtain(self._context, self._target, rejected=grant))
        if answer.status not in (401, 403):
            return answer
        forget_info(self._context, self._target)
        current = self._obtain(self._context, self._target)
        return answer if current.info == grant.info else self._attempt(current)

    def _attempt(self, grant: Grant | None) -> Opened | Response:
        token = {"Cf-Access-Token": grant.token.text} if grant else {}
        return open_websocket(self._context, self._target, {**self._headers, **token})

    def _refuse(self, answer: Response, *, is_own_credential: bool = False) -> Opened:
        host = self._target.host
        if is_login_redirect(answer, self._target.url):
            text = f"{host} asks for a login: it does not accept "
            raise CommandError(
                text + ("this service token or header" if is_own_credential else "the token it just gave")
            )
        raise CommandError(with_hint(f"{host} refused the connection: {describe_answer(answer)}", answer.status, host))


def _describe(outcome: Outcome) -> str:
    if outcome.close_code is None:
        return outcome.reason
    return printable(outcome.reason) or f"the edge closed the connection with code {outcome.close_code}"


def _require_open(*descriptors: int) -> None:
    """A closed one would be given to the next socket, which would then be read as our input."""
    try:
        for descriptor in descriptors:
            os.fstat(descriptor)
    except OSError:
        raise CommandError("standard input and output must be open; for a local port use --url HOST:PORT") from None


def _stop(number: int, _frame: FrameType | None) -> None:
    """The relay says goodbye and ends; ssh sends SIGHUP to its ProxyCommand."""
    raise SystemExit(128 + number)
