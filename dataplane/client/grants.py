"""What a verified discovery said about an application, and the token stored for it."""

import json
import re
import time
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from dataplane.client.target import Context, Target
from dataplane.client.tokens import Token, TokenError, check_app_token
from dataplane.state import safe_name

# Discovery costs a TLS handshake and the crypto imports, about 100 ms of every ssh.
# A wrong memory heals at the first refusal.
REMEMBER_SECONDS = 3600
_AUD = re.compile(r"[0-9A-Za-z_-]{8,128}")


@dataclass(frozen=True, slots=True)
class AppInfo:
    """Made only from a verified metadata token (discovery.py), or from our own file that keeps one."""

    hostname: str
    auth_domain: str  # host or host:port of the team domain
    aud: str
    app_hostname: str  # may be a wildcard; names the token file only

    @property
    def auth_host(self) -> str:
        return urlsplit(f"//{self.auth_domain}").hostname or ""

    @property
    def token_file(self) -> str:
        return f"{safe_name(self.app_hostname)}-{safe_name(self.aud)}-token"

    @property
    def org_token_file(self) -> str:
        return f"{safe_name(self.auth_host)}-org-token"

    @property
    def jwks_file(self) -> str:
        return f"{safe_name(self.auth_host)}-jwks"


@dataclass(frozen=True, slots=True)
class Grant:
    info: AppInfo
    token: Token


def is_aud(value: object) -> bool:
    return isinstance(value, str) and _AUD.fullmatch(value) is not None


def remember_info(context: Context, target: Target, info: AppInfo) -> None:
    context.state.write(_memory_file(target), json.dumps({**asdict(info), "verified_at": int(time.time())}))


def forget_info(context: Context, target: Target) -> None:
    context.state.remove(_memory_file(target))


def remembered_info(context: Context, target: Target) -> AppInfo | None:
    text = context.state.read(_memory_file(target))
    if text is None:
        return None
    try:
        memory = json.loads(text)
        age = time.time() - memory.pop("verified_at")
        info = AppInfo(**memory)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    fresh = 0 <= age <= REMEMBER_SECONDS and is_aud(info.aud) and info.hostname == target.host
    return info if fresh and all(isinstance(value, str) for value in asdict(info).values()) else None


def stored_token(context: Context, info: AppInfo) -> Token | None:
    """The stored application token if it may be sent; one that never can be again is deleted."""
    text = context.state.read(info.token_file)
    if text is None:
        return None
    try:
        return check_app_token(text, aud=info.aud, auth_host=info.auth_host, now=time.time())
    except TokenError:
        context.state.remove(info.token_file)
        return None


def discard_token(context: Context, grant: Grant) -> None:
    """Drops the token from disk, unless another process has put a newer one there meanwhile."""
    if context.state.read(grant.info.token_file) == grant.token.text:
        context.state.remove(grant.info.token_file)


def stored_grant(context: Context, target: Target) -> Grant | None:
    """The quick way: no network, no crypto. None when anything is missing or old."""
    info = remembered_info(context, target)
    token = stored_token(context, info) if info else None
    return Grant(info, token) if info and token else None


def _memory_file(target: Target) -> str:
    return f"{target.file_stem}-app"
