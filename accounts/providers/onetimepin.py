"""One-time PIN by mail: no provider to go to, so nothing to begin or finish there (accounts.actions.login)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from accounts.models import IdentityProvider
from accounts.providers.base import Flow, LoginFailed, Person


class OneTimePin:
    kind: ClassVar[IdentityProvider.Type] = IdentityProvider.Type.ONE_TIME_PIN
    keys: ClassVar[Mapping[str, str]] = {}
    required: ClassVar[tuple[str, ...]] = ()
    needs_client_secret: ClassVar[bool] = False
    secret_names: ClassVar[tuple[str, ...]] = ()
    answer_method: ClassVar[str] = ""

    def callback_slug(self, provider: IdentityProvider) -> str:
        return ""

    def begin(self, provider: IdentityProvider, flow: Flow) -> str:
        raise self._no_redirect(provider)

    def finish(self, provider: IdentityProvider, flow: Flow, answer: Mapping[str, str]) -> Person:
        raise self._no_redirect(provider)

    def _no_redirect(self, provider: IdentityProvider) -> LoginFailed:
        return LoginFailed(f"{provider.name} sends a PIN and redirects nobody.", code="state_unknown")


def pin_person(email: str) -> Person:
    """Whoever typed the PIN reads this mailbox: that proves the address, and nothing else."""
    return Person(
        subject=email,
        email=email,
        email_verified=True,
        name="",
        groups=[],
        claims={},
        authentication_methods=["otp"],
    )
