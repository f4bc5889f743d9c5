"""What support staff may do in a support session: the dashboard's own actions, as themselves. None shows a secret.

Service tokens, tunnel tokens and API tokens are not here on purpose: rotating them makes a secret that has to be shown
to somebody, and that somebody is the customer. Rotating token keys and SSH authorities shows nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet
from django.utils import timezone

from access.actions.authorities import rotate_authority
from access.actions.token_keys import rotate_token_keys
from access.models import Application, SshAuthority
from accounts.actions.invitations import renew_invitation
from accounts.actions.sessions import revoke_identity_sessions
from accounts.actions.unlocking import unlock_identity, unlock_member
from accounts.actor import Actor
from accounts.models import Identity, Invitation, Membership, Organization
from tunnels.actions.connectors import disconnect_connectors
from tunnels.actions.records import verify_record
from tunnels.actions.zones import verify_zone
from tunnels.models import DnsRecord, Tunnel, Zone

SHOWN = 10


@dataclass(frozen=True, slots=True)
class Operation:
    """`done` is said afterwards, of the row's name."""

    name: str
    button: str
    do: Callable[[Any, Actor], object]
    done: str


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of object with what can be done to it."""

    key: str
    title: str
    rows: Callable[[Organization], QuerySet[Any]]
    columns: tuple[str, ...]
    operations: tuple[Operation, ...]
    label: Callable[[Any], str] = str
    detail: Callable[[Any], str] = lambda row: ""


def _invitations(organization: Organization) -> QuerySet[Any]:
    rows = Invitation.objects.for_organization(organization).filter(accepted_at=None, withdrawn_at=None)
    return rows.select_related("organization").order_by("-created_at")


def _people(organization: Organization) -> QuerySet[Any]:
    return Identity.objects.for_organization(organization).select_related("organization", "provider").order_by("email")


def _members(organization: Organization) -> QuerySet[Any]:
    rows = Membership.objects.for_organization(organization)
    return rows.select_related("organization", "user").order_by("user__email")


def _with_authority(organization: Organization) -> QuerySet[Any]:
    active = SshAuthority.objects.for_organization(organization).filter(state=SshAuthority.State.ACTIVE)
    rows = Application.objects.for_organization(organization).filter(pk__in=active.values("application"))
    return rows.select_related("organization")


SUBJECTS: tuple[Subject, ...] = (
    Subject(
        "invitation",
        "Open invitations",
        _invitations,
        ("email",),
        (
            Operation(
                "resend",
                "Send again",
                lambda row, actor: renew_invitation(row, user=None, actor=actor),
                "is mailed again, with a new link",
            ),
        ),
        label=lambda row: row.email,
        detail=lambda row: f"as {row.role}, ends {row.expires_at:%Y-%m-%d %H:%M} UTC",
    ),
    Subject(
        "member",
        "Members",
        _members,
        ("user__email",),
        (
            Operation(
                "unlock", "Unlock sign-in", lambda row, actor: unlock_member(row, actor=actor), "may try again now"
            ),
        ),
        label=lambda row: row.user.email,
        detail=lambda row: row.get_role_display(),
    ),
    Subject(
        "identity",
        "Users",
        _people,
        ("email", "name"),
        (
            Operation("unlock", "Unlock", lambda row, actor: unlock_identity(row, actor=actor), "may try again now"),
            Operation(
                "revoke",
                "Sign out everywhere",
                lambda row, actor: revoke_identity_sessions(row, actor=actor),
                "is signed out everywhere",
            ),
        ),
        detail=lambda row: row.provider.name,
    ),
    Subject(
        "zone",
        "Zones",
        lambda organization: Zone.objects.for_organization(organization).select_related("organization"),
        ("name",),
        (Operation("verify", "Check now", lambda row, actor: verify_zone(row, actor=actor), "is being checked"),),
        detail=lambda row: row.get_status_display(),
    ),
    Subject(
        "record",
        "DNS records",
        lambda organization: DnsRecord.objects.for_organization(organization).select_related("organization", "zone"),
        ("name",),
        (Operation("verify", "Check now", lambda row, actor: verify_record(row, actor=actor), "is being checked"),),
        detail=lambda row: row.get_verification_display(),
    ),
    Subject(
        "tunnel",
        "Tunnels",
        lambda organization: (
            Tunnel.objects.for_organization(organization).filter(deleted_at=None).select_related("organization")
        ),
        ("name",),
        (
            Operation(
                "disconnect",
                "Disconnect connectors",
                lambda row, actor: disconnect_connectors(row, actor=actor),
                "is disconnected; its connectors dial in again",
            ),
        ),
    ),
    Subject(
        "application",
        "SSH authorities",
        _with_authority,
        ("name", "hostname"),
        (
            Operation(
                "rotate",
                "Make the next generation",
                lambda row, actor: rotate_authority(row, actor=actor),
                "has a next SSH authority; hosts fetch it before the organization activates it",
            ),
        ),
        detail=lambda row: row.domain,
    ),
    Subject(
        "organization",
        "Token keys",
        lambda organization: Organization.objects.filter(pk=organization.pk),
        (),
        (
            Operation(
                "rotate",
                "Rotate token keys",
                lambda row, actor: rotate_token_keys(row, now=timezone.now(), actor=actor),
                "signs tokens with its next key; the old one verifies until they ended",
            ),
        ),
        label=lambda row: f"Keys of {row.name}",
    ),
)


@dataclass(frozen=True, slots=True)
class Line:
    key: str
    label: str
    detail: str


@dataclass(frozen=True, slots=True)
class Listed:
    subject: Subject
    lines: list[Line]
    has_more: bool


def listed(organization: Organization, text: str) -> list[Listed]:
    """The first few objects of each kind, or those with `text` in their name."""
    query = text.replace("\0", "").strip()[:200]
    return [_listed(organization, subject, query) for subject in SUBJECTS]


def _listed(organization: Organization, subject: Subject, query: str) -> Listed:
    rows = subject.rows(organization)
    if query and subject.columns:
        condition = Q()
        for column in subject.columns:
            condition |= Q(**{f"{column}__icontains": query})
        rows = rows.filter(condition)
    found = list(rows[: SHOWN + 1])
    lines = [Line(str(row.pk), subject.label(row), subject.detail(row)) for row in found[:SHOWN]]
    return Listed(subject, lines, len(found) > SHOWN)


def find_operation(key: str, name: str) -> tuple[Subject, Operation] | None:
    for subject in SUBJECTS:
        for operation in subject.operations:
            if (subject.key, operation.name) == (key, name):
                return subject, operation
    return None
