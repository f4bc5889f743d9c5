"""What a role or an API token may do. Every route declares one Permission (accounts.http.requires)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    EDITOR = "editor"
    AUDITOR = "auditor"
    VIEWER = "viewer"


class Permission(StrEnum):
    """`<area>.<read|edit>`; API tokens list these as scopes."""

    PUBLIC = "public"  # no login: landing, health, team-domain pages with their own checks
    SIGNED_IN = "signed_in"  # any dashboard user, no organization in the URL
    EDGE = "edge"  # the agent API
    STAFF = "staff"  # support staff: the staff area and Django admin
    ORGANIZATION_READ = "organization.read"
    ORGANIZATION_EDIT = "organization.edit"
    MEMBERS_READ = "members.read"
    MEMBERS_EDIT = "members.edit"
    TOKENS_READ = "tokens.read"
    TOKENS_EDIT = "tokens.edit"
    IDENTITY_READ = "identity.read"  # identity providers, identities, sessions
    IDENTITY_EDIT = "identity.edit"
    ACCESS_READ = "access.read"  # applications, policies, groups, SSH authorities
    ACCESS_EDIT = "access.edit"
    SERVICE_TOKENS_READ = "service_tokens.read"
    SERVICE_TOKENS_EDIT = "service_tokens.edit"
    TUNNELS_READ = "tunnels.read"
    TUNNELS_EDIT = "tunnels.edit"
    DNS_READ = "dns.read"
    DNS_EDIT = "dns.edit"
    LOGS_READ = "logs.read"


# Configuration. Logs say who did what and when, from where: not everybody who may look at the settings needs that.
_VIEW = frozenset(
    {
        Permission.ORGANIZATION_READ,
        Permission.MEMBERS_READ,
        Permission.IDENTITY_READ,
        Permission.ACCESS_READ,
        Permission.SERVICE_TOKENS_READ,
        Permission.TUNNELS_READ,
        Permission.DNS_READ,
    }
)
_AUDIT = _VIEW | {Permission.LOGS_READ, Permission.TOKENS_READ}
_EDIT = _VIEW | {
    Permission.LOGS_READ,
    Permission.ACCESS_EDIT,
    Permission.TUNNELS_EDIT,
    Permission.DNS_EDIT,
}
_ADMIN = (
    _EDIT
    | _AUDIT
    | {
        Permission.ORGANIZATION_EDIT,
        Permission.MEMBERS_EDIT,
        Permission.IDENTITY_EDIT,
        Permission.SERVICE_TOKENS_EDIT,
        Permission.TOKENS_EDIT,
    }
)
ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEW,
    Role.AUDITOR: frozenset(_AUDIT),
    Role.EDITOR: frozenset(_EDIT),
    Role.ADMIN: frozenset(_ADMIN),
    Role.OWNER: frozenset(_ADMIN),
}
# What support staff see in a support session.
SUPPORT_ROLE = Role.AUDITOR
# What an API token may be given. Roles bound it: a token never holds more than its creator does.
# (Members of role owner are out of every token's reach: accounts/actions/members.py.)
SCOPES: tuple[Permission, ...] = tuple(sorted(_ADMIN))


def role_allows(role: str, permission: Permission) -> bool:
    return permission in ROLE_PERMISSIONS[Role(role)]


# --- For people: the table of what each role may do, and its lines in forms ------------------------------------
ROLE_TEXTS = {
    Role.OWNER: "Owner: everything, including owners",
    Role.ADMIN: "Admin: everything but owners",
    Role.EDITOR: "Editor: applications, policies, groups, tunnels, DNS",
    Role.AUDITOR: "Auditor: reads configuration and logs, changes nothing",
    Role.VIEWER: "Viewer: reads configuration, no logs, changes nothing",
}
_AREAS: tuple[tuple[str, Permission, Permission | None], ...] = (
    ("Applications, policies, groups, lists, SSH authorities", Permission.ACCESS_READ, Permission.ACCESS_EDIT),
    ("Tunnels and connectors", Permission.TUNNELS_READ, Permission.TUNNELS_EDIT),
    ("Zones and DNS records", Permission.DNS_READ, Permission.DNS_EDIT),
    ("Service tokens", Permission.SERVICE_TOKENS_READ, Permission.SERVICE_TOKENS_EDIT),
    ("Login methods, users and their sessions", Permission.IDENTITY_READ, Permission.IDENTITY_EDIT),
    ("Logs: access, certificates, audit, exports", Permission.LOGS_READ, None),
    ("Members and invitations", Permission.MEMBERS_READ, Permission.MEMBERS_EDIT),
    ("API tokens", Permission.TOKENS_READ, Permission.TOKENS_EDIT),
    ("Organization and login page", Permission.ORGANIZATION_READ, Permission.ORGANIZATION_EDIT),
)


def permission_text(permission: Permission) -> str:
    """What a refused page is about: "changing zones and DNS records". Empty where no area has it."""
    for area, look, change in _AREAS:
        if permission in (look, change):
            verb = "changing" if permission == change else "reading"
            return f"{verb} {area if area[:2].isupper() else area[:1].lower() + area[1:]}"
    return ""


@dataclass(frozen=True)
class RoleTableRow:
    area: str
    cells: list[tuple[str, str]]  # role's name, and "changes", "looks" or ""


def role_table() -> list[RoleTableRow]:
    """What each role may do, area by area, as ROLE_PERMISSIONS says."""
    rows = []
    for area, look, change in _AREAS:
        cells = []
        for role, held in ROLE_PERMISSIONS.items():
            word = "changes" if change in held else "looks" if look in held else ""
            cells.append((role.value.title(), word))
        rows.append(RoleTableRow(area, cells[::-1]))
    owners = [(role.value.title(), "changes" if role == Role.OWNER else "") for role in ROLE_PERMISSIONS]
    return [*rows, RoleTableRow("Owners: make, change, remove", owners[::-1])]
