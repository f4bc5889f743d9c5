"""Login through the browser: the tokens come back sealed to a key of this one attempt (access-client.md 6.2)."""

import base64
import binascii
import json
import sys
import time
from dataclasses import dataclass
from urllib.parse import urlencode

from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey

from dataplane.client.answers import describe_answer
from dataplane.client.browser import open_browser
from dataplane.client.grants import AppInfo
from dataplane.client.possession import device_thumbprint
from dataplane.client.target import Context, Target
from dataplane.client.tokens import Token, TokenError, check_app_token, read_token
from dataplane.errors import CommandError
from dataplane.https import HttpError, Response
from dataplane.wire.confirmation import confirmation_code

LOGIN_TIMEOUT_SECONDS = 600.0
POLL_TIMEOUT_SECONDS = 60.0
MIN_POLL_INTERVAL_SECONDS = 1.0  # a server that answers "not yet" at once must not be hammered
RETRY_SECONDS = 2.0
# ssh runs its ProxyCommand although ssh-gen failed; the second of the two must not open the same browser page again.
REFUSAL_REMEMBERED_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Transferred:
    app_token: Token
    org_token: str | None


def login_in_browser(context: Context, target: Target, info: AppInfo) -> Transferred:
    """Prints and opens the login page, waits up to ten minutes for the approval. Raises CommandError."""
    refused = _refused_just_now(context, info)
    if refused:
        raise CommandError(refused)
    key = PrivateKey.generate()
    public_text = base64.urlsafe_b64encode(bytes(key.public_key)).decode()
    url = _login_url(context, target, info, public_text)
    context.state.write(f"{info.token_file}.url", url)
    _show(url, info, public_text, opened=open_browser(url))
    try:
        response = _await_transfer(context, info, public_text)
    finally:
        context.state.remove(f"{info.token_file}.url")
    return _unseal(key, response, info)


def _login_url(context: Context, target: Target, info: AppInfo, public_text: str) -> str:
    netloc = context.browser_netloc(target)
    query = urlencode(
        {
            "aud": info.aud,
            # Binds the tokens to this device: certificates want its signature (dataplane/wire/possession.py).
            "cnf": device_thumbprint(context.state),
            "edge_token_transfer": "true",
            "redirect_url": f"https://{netloc}{target.request_target}",
            "send_org_token": "true",
            "token": public_text,
        }
    )
    return f"https://{netloc}/cdn-cgi/access/cli?{query}"


def _show(url: str, info: AppInfo, public_text: str, *, opened: bool) -> None:
    first = "A browser window should have opened. If not, open this URL:"
    print(
        f"{first if opened else 'Open this URL in your browser to log in:'}\n\n{url}\n\n"
        f"Approve only if the page shows this code: {confirmation_code(public_text)}\n"
        f"Waiting for your login to {info.hostname} (at most {LOGIN_TIMEOUT_SECONDS / 60:.0f} minutes)...",
        file=sys.stderr,
        flush=True,
    )


def _await_transfer(context: Context, info: AppInfo, public_text: str) -> Response:
    url = f"https://{info.auth_domain}/cdn-cgi/access/transfer/{public_text}"
    deadline = time.monotonic() + LOGIN_TIMEOUT_SECONDS
    while True:
        started = time.monotonic()
        if started >= deadline:
            raise CommandError("nobody approved the login within 10 minutes; run the command again")
        pause = MIN_POLL_INTERVAL_SECONDS
        try:
            timeout = min(POLL_TIMEOUT_SECONDS, deadline - started)
            response = context.dialer.request("GET", url, headers={"Accept": "application/json"}, timeout=timeout)
        except HttpError:
            pause = RETRY_SECONDS  # An edge restart must not waste a login that a person is typing.
        else:
            if response.status == 200 and response.body:
                return response
            if response.status not in (200, 202, 404, 408, 429, 502, 503, 504):
                message = f"login was not completed: {describe_answer(response)}"
                context.state.write(_refusal_file(info), json.dumps({"at": time.time(), "message": message}))
                raise CommandError(message)
        time.sleep(max(0.0, min(pause - (time.monotonic() - started), deadline - time.monotonic())))


def _refusal_file(info: AppInfo) -> str:
    return f"{info.token_file}.refused"


def _refused_just_now(context: Context, info: AppInfo) -> str:
    try:
        note = json.loads(context.state.read(_refusal_file(info)) or "{}")
        is_fresh = 0 <= time.time() - float(note["at"]) <= REFUSAL_REMEMBERED_SECONDS
        return str(note["message"]) if is_fresh else ""
    except (ValueError, KeyError, TypeError):
        return ""


def _unseal(key: PrivateKey, response: Response, info: AppInfo) -> Transferred:
    try:
        peer = PublicKey(base64.urlsafe_b64decode(response.header("service-public-key") or ""))
        opened = Box(key, peer).decrypt(base64.b64decode(b"".join(response.body.split()), validate=True))
        document = json.loads(opened)
        app_text, org_text = document["app_token"], document.get("org_token")
    except (CryptoError, binascii.Error, ValueError, TypeError, KeyError):
        raise CommandError(f"{info.auth_domain} sent a login result that cannot be opened; try again") from None
    try:
        app_token = check_app_token(str(app_text), aud=info.aud, auth_host=info.auth_host, now=time.time())
    except TokenError as error:
        raise CommandError(
            f"{info.auth_domain} sent a token that cannot be used: {error}; is this machine's clock right?"
        ) from error
    return Transferred(app_token, _usable_org_token(org_text, info))


def _usable_org_token(text: object, info: AppInfo) -> str | None:
    try:
        token = read_token(text) if isinstance(text, str) else None
    except TokenError:
        return None
    return token.text if token is not None and token.issuer_host == info.auth_host else None
