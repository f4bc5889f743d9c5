"""What every login method is: a small class that sends a browser to a provider and reads the provider's answer.

    begin(provider, flow)            -> address for the browser, with state, nonce and PKCE challenge of the flow
    finish(provider, flow, answer)   -> Person, or LoginFailed saying what the provider did wrong

Nothing here writes rows: sessions and identities are made by actions from a Person. Tokens of a provider live in
local variables only: never stored, logged, or put into an error (AC-37).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol

from accounts.errors import AuthenticationFailed
from accounts.models import IdentityProvider
from accounts.text import ascii_lower

MAX_GROUPS = 2000
MAX_TEXT = 255
MAX_EMAIL = 254
MAX_METHODS = 20


class LoginFailed(AuthenticationFailed):
    """A login that did not end in an identity. `code` is the reason code; the message names the login method."""

    code = "login_failed"


@dataclass(frozen=True, slots=True)
class Person:
    """What a login method says about who logged in. Only `email_verified` e-mails ever match e-mail rules.

    groups: names or ids as the provider's class documents them; claims: what policies may ask about besides;
    authentication_methods: RFC 8176 words; authenticated_at: when the person proved who they are, if it was told.
    """

    subject: str
    email: str
    email_verified: bool
    name: str
    groups: list[str]
    claims: dict[str, Any]
    authentication_methods: list[str]
    authenticated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """One login under way: values that must come back unchanged, and the address the answer is sent to."""

    redirect_uri: str
    state: str = field(repr=False)
    nonce: str = field(repr=False)
    code_verifier: str = field(repr=False)


class LoginMethod(Protocol):
    """One type of identity provider. Instances hold no state: everything comes from the row and the flow."""

    kind: ClassVar[IdentityProvider.Type]
    # Configuration key -> how it is cleaned (accounts.providers.config).
    keys: ClassVar[Mapping[str, str]]
    required: ClassVar[tuple[str, ...]]
    needs_client_secret: ClassVar[bool]
    # Further secrets, kept sealed beside the client secret.
    secret_names: ClassVar[tuple[str, ...]]
    # How the browser brings the answer: "GET" (OAuth) or "POST" (SAML).
    answer_method: ClassVar[str]

    def callback_slug(self, provider: IdentityProvider) -> str:
        """Last part of the redirect URL; "" is the shared /cdn-cgi/access/callback (AC-44)."""

    def begin(self, provider: IdentityProvider, flow: Flow) -> str: ...

    def finish(self, provider: IdentityProvider, flow: Flow, answer: Mapping[str, str]) -> Person:
        """Network: never inside a transaction. Raises LoginFailed."""


def clean_email(value: object) -> str:
    """An e-mail address as the provider wrote it, A-Z in lower case; "" for what cannot be one.

    Nothing else is folded, trimmed or repaired: two addresses of the provider must never become one of ours (AC-05).
    """
    if not isinstance(value, str) or len(value) > MAX_EMAIL or not value.isprintable() or value.strip() != value:
        return ""
    return ascii_lower(value)


def counts_as_verified(provider: IdentityProvider, email: str, *, said: bool | None) -> bool:
    """The provider's own word, or, where it says nothing, an admin's trust in it for the address's domain (AC-11).

    A provider that says "not verified" is believed in every case.
    """
    if not email or said is False:
        return False
    local, _, domain = email.partition("@")
    is_trusted = bool(local) and domain in provider.config.get("email_trusted_domains", ())
    return said is True or is_trusted


def text(value: object) -> str:
    return _storable(value[:MAX_TEXT]) if isinstance(value, str) else ""


def texts(value: object) -> list[str]:
    items = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [_storable(item[:MAX_TEXT]) for item in items if isinstance(item, str)]


def _storable(item: str) -> str:
    """Without what PostgreSQL cannot hold: NUL and lone surrogates."""
    return item.replace("\0", "").encode("utf-8", "ignore").decode()


def all_groups(provider: IdentityProvider, groups: list[str]) -> list[str]:
    """A cut list would hide a group that a Block or Exclude names, so too many is a refusal, never a cut."""
    if len(groups) > MAX_GROUPS:
        raise LoginFailed(
            f"{provider.name} names more than {MAX_GROUPS} groups. Narrow the groups it sends.", code="too_many_groups"
        )
    return list(dict.fromkeys(groups))
