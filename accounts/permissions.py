"""What a role or an API token may do. Every route declares one Permission (accounts.http.requires)."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    EDITOR = "editor"
    VIEWER = "viewer"


class Permission(StrEnum):
    """`<area>.<read|edit>`; API tokens list these as scopes."""

    PUBLIC = "public"  # no login: landing, health, team-domain pages with their own checks
    SIGNED_IN = "signed_in"  # any dashboard user, no organization in the URL
    EDGE = "edge"  # the agent API
    STAFF = "staff"  # Django admin
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


_READ = frozenset(
    {
        Permission.ORGANIZATION_READ,
        Permission.MEMBERS_READ,
        Permission.IDENTITY_READ,
        Permission.ACCESS_READ,
        Permission.SERVICE_TOKENS_READ,
        Permission.TUNNELS_READ,
        Permission.DNS_READ,
        Permission.LOGS_READ,
    }
)
_EDIT = _READ | {
    Permission.ACCESS_EDIT,
    Permission.TUNNELS_EDIT,
    Permission.DNS_EDIT,
}
_ADMIN = _EDIT | {
    Permission.ORGANIZATION_EDIT,
    Permission.MEMBERS_EDIT,
    Permission.IDENTITY_EDIT,
    Permission.SERVICE_TOKENS_EDIT,
    Permission.TOKENS_READ,
    Permission.TOKENS_EDIT,
}
ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _READ,
    Role.EDITOR: frozenset(_EDIT),
    Role.ADMIN: frozenset(_ADMIN),
    Role.OWNER: frozenset(_ADMIN),
}
# What an API token may be given. Roles bound it: a token never holds more than its creator does.
SCOPES: tuple[Permission, ...] = tuple(
    sorted(_ADMIN - {Permission.MEMBERS_EDIT, Permission.TOKENS_EDIT, Permission.TOKENS_READ})
)


def role_allows(role: str, permission: Permission) -> bool:
    return permission in ROLE_PERMISSIONS[Role(role)]
