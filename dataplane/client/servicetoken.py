"""A service token, as `access ssh`, `access tcp` and `access ssh-gen` take it: from the environment, or from flags."""

import argparse
import os
from dataclasses import dataclass, field

from dataplane.errors import CommandError
from dataplane.state import warn


@dataclass(frozen=True, slots=True)
class ServiceToken:
    client_id: str
    secret: str = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        return {"Cf-Access-Client-Id": self.client_id, "Cf-Access-Client-Secret": self.secret}


def add_service_token_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--service-token-id", "--id", help="[TUNNEL_SERVICE_TOKEN_ID]")
    parser.add_argument(
        "--service-token-secret", "--secret", help="prefer the environment [TUNNEL_SERVICE_TOKEN_SECRET]"
    )


def given_service_token(options: argparse.Namespace) -> ServiceToken | None:
    """None when a person is meant. Raises CommandError for half a token."""
    client_id = options.service_token_id or os.environ.get("TUNNEL_SERVICE_TOKEN_ID")
    secret = options.service_token_secret or os.environ.get("TUNNEL_SERVICE_TOKEN_SECRET")
    if bool(client_id) != bool(secret):
        raise CommandError("a service token needs both its id and its secret")
    if options.service_token_secret:
        warn(
            "a secret on the command line is visible to every user of this machine; prefer TUNNEL_SERVICE_TOKEN_SECRET"
        )
    if not client_id or not secret:
        return None
    if not (client_id + secret).isascii() or not (client_id + secret).isprintable():
        raise CommandError("the service token holds characters that no service token has; copy it again")
    return ServiceToken(client_id, secret)
