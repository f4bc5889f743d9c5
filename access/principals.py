"""Which Unix account name a certificate may carry for an identity. Pure; security.md group A.

The name is exactly the local part of a confirmed e-mail address, or what the application maps that address to.
Nothing is folded, stripped or suffixed: a name that is not plain is refused, so two people can never be merged.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from access.terms import name_in
from accounts.errors import PolicyDenied
from accounts.text import ascii_lower

MAX_PRINCIPAL = 32
PRINCIPAL = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
# Accounts with standing powers. An explicit mapping of an address to one of them is the administrator's decision.
_RESERVED_NAMES = """
root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats nobody nogroup sshd ssh
git svn ubuntu debian fedora centos rocky alma almalinux ec2-user azureuser opc vagrant core admin administrator
adm wheel sudo operator toor system systemd systemd-network systemd-resolve messagebus polkitd tss ntp chrony
postgres mysql redis mongodb nginx apache httpd tomcat jenkins docker containerd kubernetes ansible puppet chef
halt shutdown reboot ftp dbus avahi rpc rpcuser nfsnobody cloud-user cloudflared sallyport
"""
RESERVED = frozenset(_RESERVED_NAMES.split())


class PrincipalRefused(PolicyDenied):
    """No certificate: this identity has no acceptable account name here."""

    status = 422
    code = "principal_invalid"


def principal_of(
    *, email: str, email_verified: bool, overrides: Mapping[str, str], reserved: Collection[str] = ()
) -> str:
    """The account name. `reserved` adds to RESERVED. Raises PrincipalRefused with a reason a person can act on."""
    if email_verified is not True:
        raise PrincipalRefused(
            "Your login method did not confirm your e-mail address, so no account name can be taken from it.",
            code="email_not_verified",
        )
    mapped = overridden(email, overrides)
    if mapped is not None:
        return check_principal(mapped)
    local, at, _ = email.rpartition("@")
    if not at or not local:
        raise PrincipalRefused("Your login method gave no e-mail address, so there is no account name to use.")
    name = check_principal(local)
    if name in RESERVED or name in reserved:
        raise PrincipalRefused(
            f'The account name "{name}" is reserved. An administrator can map your address to an account of your own.',
            code="principal_reserved",
        )
    return name


def overridden(email: str, overrides: Mapping[str, str]) -> str | None:
    """What the application maps this address to, if anything (A-Z compare without case, nothing else is folded)."""
    wanted = ascii_lower(email)
    return next((name for address, name in overrides.items() if ascii_lower(address) == wanted), None)


def names_in_claim(value: object, pattern: str, *, reserved: Collection[str] = ()) -> list[str]:
    """Account names in a claim's value or values, read by access.terms.name_in. Raises PrincipalRefused for a name
    that is not plain or reserved: the provider said it, nobody here did."""
    values = value if isinstance(value, list | tuple) else [value]
    found = [name_in(text, pattern) for text in values if isinstance(text, str)]
    names = list(dict.fromkeys(check_principal(name) for name in found if name is not None))
    taken = next((name for name in names if name in RESERVED or name in reserved), None)
    if taken is not None:
        raise PrincipalRefused(f'The account name "{taken}" is reserved.', code="principal_reserved")
    return names


def check_principal(name: str, *, named: bool = False) -> str:
    """`name` itself when it is a plain account name. Raises PrincipalRefused. `named`: an administrator wrote it."""
    if name.isdecimal() and name.isascii():
        raise PrincipalRefused(
            f'"{name}" is only digits, which a host may read as a user id. Ask an administrator to map your address.',
            code="principal_numeric",
        )
    if not named and ascii_lower(name) in RESERVED and name not in RESERVED:
        raise PrincipalRefused(
            f'The account name "{name}" is reserved. An administrator can map your address to an account of your own.',
            code="principal_reserved",
        )
    if not PRINCIPAL.fullmatch(name):
        shown = name.encode("unicode_escape").decode()[:60]
        raise PrincipalRefused(
            f'"{shown}" is not a plain account name (a-z, 0-9, "_" and "-", at most {MAX_PRINCIPAL}, not starting with '
            'a digit or "-"). Ask an administrator to map your e-mail address to an account.'
        )
    return name
