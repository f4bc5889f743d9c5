"""Organization token -> application token, without a browser (access-client.md 6.1).

The organization token opens every application of its owner, so it leaves this machine on one kind of request only:
https, to the verified team domain, on a login path. A redirect anywhere else ends the exchange.
"""

import time
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

from dataplane.client.answers import LOGIN_PATH
from dataplane.client.grants import AppInfo
from dataplane.client.target import Context, Target
from dataplane.client.tokens import Token, TokenError, check_app_token
from dataplane.https import Address, HttpError, Response, parse_address

EXCHANGE_TIMEOUT_SECONDS = 7.0
MAX_HOPS = 10
AUTHORIZED_PATH = "/cdn-cgi/access/authorized"


def exchange_org_token(context: Context, target: Target, info: AppInfo, org_token: str) -> Token | None:
    """None when the team domain wants an interactive login; the reason is its own to show, in the browser."""
    deadline = time.monotonic() + EXCHANGE_TIMEOUT_SECONDS
    auth_address = parse_address(info.auth_domain)
    # Behind --edge the application's own links carry the edge's port, also when the user gave none.
    app_addresses = (target.address, parse_address(context.browser_netloc(target)))
    url, session = target.url, None
    for _ in range(MAX_HOPS):
        cookie = _cookie_for(url, app_addresses, auth_address, org_token, session)
        left = deadline - time.monotonic()
        if cookie is None or left <= 0:
            return None
        try:
            response = context.dialer.request("HEAD", url, headers={"Cookie": cookie} if cookie else {}, timeout=left)
        except HttpError:
            return None
        token = _app_token_in(response, info)
        if token is not None:
            return token
        location = response.header("location")
        if response.status not in (301, 302, 303, 307, 308) or not location:
            return None
        if _address(url) in app_addresses:
            session = _set_cookies(response).get("CF_AppSession", session)
        url = urljoin(url, location)
    return None


def _cookie_for(url: str, app: tuple[Address, ...], auth: Address, org_token: str, session: str | None) -> str | None:
    """The Cookie header for this hop ("" for none), or None when the hop must not be made at all."""
    parts = urlsplit(url)
    address = _address(url)
    if parts.scheme != "https" or address not in (*app, auth):
        return None
    if address == auth and _is_under(parts.path, LOGIN_PATH):
        return f"CF_Authorization={org_token}"
    if address in app and _is_under(parts.path, AUTHORIZED_PATH) and session is not None:
        return f"CF_AppSession={session}"
    return ""


def _is_under(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def _address(url: str) -> Address | None:
    parts = urlsplit(url)
    try:
        return Address(parts.hostname or "", parts.port or 443) if parts.username is None else None
    except ValueError:
        return None


def _app_token_in(response: Response, info: AppInfo) -> Token | None:
    text = _set_cookies(response).get("CF_Authorization")
    try:
        return check_app_token(text, aud=info.aud, auth_host=info.auth_host, now=time.time()) if text else None
    except TokenError:
        return None  # The team domain renews its own cookie under the same name.


def _set_cookies(response: Response) -> dict[str, str]:
    """Cookies that live: a past Expires or Max-Age=0 is a deletion."""
    cookies: dict[str, str] = {}
    for line in response.all("set-cookie"):
        pair, *attributes = (piece.strip() for piece in line.split(";"))
        name, _, value = pair.partition("=")
        if value and not any(_is_deletion(attribute) for attribute in attributes):
            cookies.setdefault(name, value.strip('"'))
    return cookies


def _is_deletion(attribute: str) -> bool:
    name, _, value = attribute.partition("=")
    if name.lower() == "max-age":
        return value.strip().startswith("-") or value.strip() == "0"
    if name.lower() != "expires":
        return False
    try:
        return parsedate_to_datetime(value).timestamp() <= time.time()
    except (ValueError, TypeError):
        return True
