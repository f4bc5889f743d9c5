"""An application token by the cheapest way that works: stored, exchanged, or the browser (access-client.md 6)."""

import time

from dataplane.client.discovery import discover
from dataplane.client.exchange import exchange_org_token
from dataplane.client.grants import AppInfo, Grant, discard_token, stored_token
from dataplane.client.target import Context, Target
from dataplane.client.tokens import Token, TokenError, read_token
from dataplane.client.transfer import login_in_browser
from dataplane.state import warn


def obtain_grant(context: Context, target: Target, *, rejected: Grant | None = None) -> Grant:
    """`rejected` is a grant the server would not accept: its token is dropped and never returned again."""
    info = discover(context, target)
    if rejected is not None:
        discard_token(context, rejected)
    token = stored_token(context, info)
    if token is not None and not _is_rejected(token, rejected):
        return Grant(info, token)
    # Released at the end of the block: a second rejection in this process cannot wait for itself (access-client.md 11).
    with context.state.lock(f"{info.token_file}.lock", on_wait=lambda pid: _tell_waiting(context, info, pid)):
        token = stored_token(context, info)
        if token is None or _is_rejected(token, rejected):
            token = _fetch_token(context, target, info)
    return Grant(info, token)


def _fetch_token(context: Context, target: Target, info: AppInfo) -> Token:
    org_token = _stored_org_token(context, info)
    token = exchange_org_token(context, target, info, org_token) if org_token else None
    if token is None:
        transferred = login_in_browser(context, target, info)
        token = transferred.app_token
        if transferred.org_token:
            context.state.write(info.org_token_file, transferred.org_token)
    context.state.write(info.token_file, token.text)
    return token


def _stored_org_token(context: Context, info: AppInfo) -> str | None:
    text = context.state.read(info.org_token_file)
    if text is None:
        return None
    try:
        token = read_token(text)
    except TokenError:
        token = None
    if token is None or token.issuer_host != info.auth_host or time.time() > token.expires_at:
        context.state.remove(info.org_token_file)
        return None
    return token.text


def _is_rejected(token: Token, rejected: Grant | None) -> bool:
    return rejected is not None and token.text == rejected.token.text


def _tell_waiting(context: Context, info: AppInfo, pid: int | None) -> None:
    url = context.state.read(f"{info.token_file}.url")
    who = f"process {pid}" if pid else "another process"
    warn(f"{who} is already logging in to {info.hostname}; waiting for it" + (f". Its page: {url}" if url else ""))
