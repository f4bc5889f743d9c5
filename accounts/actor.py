"""Who does something: given to every action, written into every audit event."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ActorKind(StrEnum):
    USER = "user"
    API_TOKEN = "api_token"  # noqa: S105 - the name of a kind, not a secret
    IDENTITY = "identity"
    SERVICE_TOKEN = "service_token"  # noqa: S105
    EDGE = "edge"
    SYSTEM = "system"
    SCIM = "scim"  # an identity provider that pushes its people and groups
    STAFF = "staff"


@dataclass(frozen=True, slots=True)
class Actor:
    """`id` is the row's id as text, `label` what people see (e-mail, token name); both outlive the row."""

    kind: ActorKind
    id: str
    label: str
    ip: str | None = None


def system(job: str) -> Actor:
    """A background job, named after its task or command."""
    return Actor(ActorKind.SYSTEM, job, job)
