"""Organizations: made with their owner and a first login method, so that nobody is locked out of a new one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.conf import settings as django_settings
from django.db import IntegrityError, transaction

from accounts import audit, events
from accounts.actor import Actor
from accounts.errors import Conflict, InvalidInput
from accounts.models import IdentityProvider, Membership, Organization, User
from accounts.permissions import Role
from accounts.second_factor import checked_organization_config

_TEAM_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# Names an operator serves beside team domains, or that would be taken for ours.
_RESERVED = frozenset({"www", "api", "app", "admin", "dashboard", "login", "auth", "edge", "mail", "static", "support"})
MIN_SESSION_SECONDS = 15 * 60
MAX_SESSION_SECONDS = 31 * 24 * 3600


@transaction.atomic
def create_organization(name: str, *, team_name: str, owner: User | None, actor: Actor) -> Organization:
    clean_name, team = _clean_name(name), _clean_team_name(team_name)
    taken = Conflict(f"The team name {team} is taken. Choose another.", fields={"team_name": "Taken."})
    if Organization.objects.filter(team_name=team).exists():
        raise taken
    try:
        with transaction.atomic():
            organization = Organization.objects.create(name=clean_name, team_name=team)
    except IntegrityError as error:
        raise taken from error
    if owner is not None:
        Membership.objects.create(organization=organization, user=owner, role=Role.OWNER)
    IdentityProvider.objects.create(
        organization=organization, type=IdentityProvider.Type.ONE_TIME_PIN, name="One-time PIN"
    )
    audit.record(
        events.ORGANIZATION_CREATED,
        organization=organization,
        actor=actor,
        target=organization,
        new={"name": clean_name, "team_name": team, "owner": owner.email if owner else None},
    )
    return organization


@transaction.atomic
def update_organization(
    organization: Organization,
    *,
    actor: Actor,
    name: str | None = None,
    session_duration_seconds: int | None = None,
    auto_redirect_to_identity: bool | None = None,
    settings: Mapping[str, Any] | None = None,
    mfa_config: Mapping[str, Any] | None = None,
    mfa_required_for_all_apps: bool | None = None,
    support_needs_consent: bool | None = None,
) -> Organization:
    """Only what is given changes; an empty `mfa_config` takes it away. The team name never does: tokens and client
    files carry it."""
    changes: dict[str, Any] = {}
    if name is not None:
        changes["name"] = _clean_name(name)
    if session_duration_seconds is not None:
        changes["session_duration_seconds"] = _clean_duration(session_duration_seconds)
    if auto_redirect_to_identity is not None:
        changes["auto_redirect_to_identity"] = auto_redirect_to_identity
    if support_needs_consent is not None:
        changes["support_needs_consent"] = support_needs_consent
    if settings is not None:
        changes["settings"] = dict(settings)
    if mfa_config is not None:
        changes["mfa_config"] = checked_organization_config(mfa_config or None)
    if mfa_required_for_all_apps is not None:
        changes["mfa_required_for_all_apps"] = mfa_required_for_all_apps
    old = {field: getattr(organization, field) for field in changes}
    for field, value in changes.items():
        setattr(organization, field, value)
    organization.save(update_fields=list(changes))
    audit.record(
        events.ORGANIZATION_UPDATED, organization=organization, actor=actor, target=organization, old=old, new=changes
    )
    if changes.keys() & {"mfa_config", "mfa_required_for_all_apps"}:
        audit.raise_edge_version(organization)  # live streams are looked at again
    return organization


def _clean_name(name: str) -> str:
    clean = " ".join(name.split())
    if not 1 <= len(clean) <= 200 or not clean.isprintable():
        message = "The name must have 1 to 200 printable characters."
        raise InvalidInput(message, fields={"name": message})
    return clean


def _clean_team_name(team_name: str) -> str:
    team = team_name.strip().lower()
    if not _TEAM_NAME.fullmatch(team) or team.startswith("xn--"):
        message = "The team name must have 1 to 63 letters a-z, digits and hyphens, no hyphen at either end."
        raise InvalidInput(message, fields={"team_name": message})
    if team in _RESERVED or f"{team}.{django_settings.ACCESS_DOMAIN}" in django_settings.TRANSFER_HOSTS:
        message = f"The team name {team} is reserved. Choose another."
        raise InvalidInput(message, fields={"team_name": message})
    return team


def _clean_duration(seconds: int) -> int:
    if not MIN_SESSION_SECONDS <= seconds <= MAX_SESSION_SECONDS:
        message = "The session duration must be between 15 minutes and 31 days."
        raise InvalidInput(message, fields={"session_duration": message})
    return seconds
