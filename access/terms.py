"""What a policy adds to its yes: SSH rights, a purpose to be stated, an approval to be asked for. Pure.

Stored as the public API has it, read into these classes when rules are loaded; what cannot be read is an error, and
an error refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_USERNAMES = 32
# Stands for the account name inside a pattern such as "{}@example.com".
PLACEHOLDER = "{}"


@dataclass(frozen=True, slots=True)
class SshRights:
    """The rights of one policy. None: as the application says. An empty list of destinations means nowhere.

    Accounts are those in `usernames` (shared: everyone the policy lets in holds them), the values of the claim
    `username_claim` read by `username_pattern`, and with `allow_email_alias` the local part of the e-mail address.
    """

    usernames: tuple[str, ...] = ()
    allow_email_alias: bool = True
    username_claim: str = ""
    username_pattern: str = PLACEHOLDER
    certificate_lifetime_seconds: int | None = None
    extensions: tuple[str, ...] | None = None
    bastion_destinations: tuple[str, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "usernames": list(self.usernames),
            "allow_email_alias": self.allow_email_alias,
            "username_claim": self.username_claim,
            "username_pattern": self.username_pattern,
            "certificate_lifetime_seconds": self.certificate_lifetime_seconds,
            "extensions": None if self.extensions is None else list(self.extensions),
            "bastion_destinations": None if self.bastion_destinations is None else list(self.bastion_destinations),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SshRights:
        """Raises KeyError, TypeError or ValueError for anything but what as_dict writes."""
        extensions, destinations = values["extensions"], values["bastion_destinations"]
        return cls(
            usernames=_texts(values["usernames"]),
            allow_email_alias=values["allow_email_alias"] is True,
            username_claim=str(values["username_claim"]),
            username_pattern=str(values["username_pattern"]),
            certificate_lifetime_seconds=values["certificate_lifetime_seconds"],
            extensions=None if extensions is None else _texts(extensions),
            bastion_destinations=None if destinations is None else _texts(destinations),
        )


@dataclass(frozen=True, slots=True)
class Terms:
    ssh: SshRights | None = None
    needs_purpose: bool = False
    purpose_prompt: str = ""
    needs_approval: bool = False
    approval_groups: tuple[Mapping[str, Any], ...] = field(default=())
    # A second factor the policy asks for or waives (accounts.second_factor). None: as application or organization say.
    mfa_config: Mapping[str, Any] | None = None


NO_TERMS = Terms()


def name_in(value: str, pattern: str) -> str | None:
    """What stands at the placeholder when `value` has the pattern's shape: "alice" in "alice@corp.tech" by
    "{}@corp.tech". The text around it is literal (no regular expressions: nothing to get wrong, nothing to hang)."""
    before, _, after = pattern.partition(PLACEHOLDER)
    if len(value) <= len(before) + len(after) or not value.startswith(before) or not value.endswith(after):
        return None
    return value[len(before) : len(value) - len(after)]


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("a list of texts is expected")
    return tuple(values)
