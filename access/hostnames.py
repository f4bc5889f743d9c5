"""Which hostnames an organization may put behind an application, and how a domain is written.

Ownership is a fact about zones, which live in `tunnels`; that app installs its check here when it starts, because
`access` does not import it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from django.conf import settings

from accounts.errors import InvalidInput, PermissionDenied

if TYPE_CHECKING:  # read while apps are still loading, when models cannot be imported
    from accounts.models import Organization

OwnerCheck = Callable[["Organization", str], None]

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()+,;=:@%-]+)+/?")
_LONGEST_HOSTNAME = 253
_LONGEST_PATH = 255


def _refuse(organization: Organization, hostname: str) -> None:
    raise PermissionDenied(
        f"{hostname} cannot be used: no zone of this organization covers it.", code="hostname_not_owned"
    )


_check: OwnerCheck = _refuse


def set_owner_check(check: OwnerCheck) -> None:
    """Install the check: it returns for a hostname the organization owns and raises a DomainError otherwise."""
    global _check
    _check = check


def assert_owned(organization: Organization, hostname: str) -> None:
    """Raises a DomainError unless the organization proved that it owns `hostname` (lower case, maybe "*.")."""
    _check(organization, hostname)


def split_domain(domain: str) -> tuple[str, str]:
    """("ssh.example.com", "/path") of an application's domain, normalised. Raises InvalidInput."""
    host, slash, rest = domain.strip().partition("/")
    path = (slash + rest).rstrip("/")
    if path and (len(path) > _LONGEST_PATH or not _PATH.fullmatch(path)):
        raise _invalid(f"The path {path[:60]!r} holds characters that a URL path cannot hold, or is too long.")
    if path == "/cdn-cgi" or path.startswith("/cdn-cgi/"):
        raise _invalid("Paths below /cdn-cgi/ belong to the edge. Choose another path.")
    return normalise_hostname(host), path


def normalise_hostname(text: str) -> str:
    """Lower case, ASCII, no scheme, port or trailing dot; "*." may stand in front. Raises InvalidInput."""
    if "://" in text or ":" in text or "?" in text or "#" in text or "@" in text:
        raise _invalid("Write a hostname such as ssh.example.com: no scheme, port, user or query.")
    if not text.isascii():
        raise _invalid(f"{text[:60]!r} holds letters outside ASCII. Write such a name in its xn-- form.")
    hostname = text.lower().removesuffix(".")
    labels = hostname.removeprefix("*.").split(".")
    if len(hostname) > _LONGEST_HOSTNAME or len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _invalid(f"{text[:60]!r} is not a hostname such as ssh.example.com or *.example.com.")
    if _belongs_to_installation(hostname):
        raise _invalid(f"{hostname} belongs to this installation and cannot be an application.")
    return hostname


def _belongs_to_installation(hostname: str) -> bool:
    plain = hostname.removeprefix("*.")
    own = [settings.ACCESS_DOMAIN, settings.TUNNEL_DOMAIN]
    return (
        any(plain == name or plain.endswith(f".{name}") for name in own)
        or plain in settings.DASHBOARD_HOSTS
        or plain in settings.TRANSFER_HOSTS
    )


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(message, code="invalid_domain", fields={"domain": message})
