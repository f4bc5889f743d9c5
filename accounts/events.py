"""Audit events of accounts. Imported by AccountsConfig.ready()."""

from __future__ import annotations

from accounts import audit

ORGANIZATION_CREATED = audit.register("accounts.organization.created", "Organization created", affects_edge=True)
ORGANIZATION_UPDATED = audit.register("accounts.organization.updated", "Organization settings changed")
MEMBER_ADDED = audit.register("accounts.member.added", "Member added")
MEMBER_ROLE_CHANGED = audit.register("accounts.member.role_changed", "Member's role changed")
MEMBER_REMOVED = audit.register("accounts.member.removed", "Member removed")
MEMBER_INVITED = audit.register("accounts.invitation.created", "Member invited")
INVITATION_SENT = audit.register("accounts.invitation.sent", "Invitation mailed")
INVITATION_RENEWED = audit.register("accounts.invitation.renewed", "Invitation sent again")
INVITATION_WITHDRAWN = audit.register("accounts.invitation.withdrawn", "Invitation withdrawn")
INVITATION_ACCEPTED = audit.register("accounts.invitation.accepted", "Invitation accepted, member added")
INVITATION_REFUSED = audit.register("accounts.invitation.refused", "Invitation refused")
API_TOKEN_CREATED = audit.register("accounts.api_token.created", "API token created")
API_TOKEN_REVOKED = audit.register("accounts.api_token.revoked", "API token revoked")
PROVIDER_CREATED = audit.register("accounts.identity_provider.created", "Login method created")
PROVIDER_UPDATED = audit.register("accounts.identity_provider.updated", "Login method changed")
PROVIDER_DELETED = audit.register(
    "accounts.identity_provider.deleted", "Login method deleted, its sessions ended", affects_edge=True
)
PROVIDER_RESTORED = audit.register("accounts.identity_provider.restored", "Deleted login method restored")
PROVIDER_SCIM_CHANGED = audit.register("accounts.identity_provider.scim_changed", "SCIM settings changed")
PROVIDER_SCIM_SECRET_MADE = audit.register("accounts.identity_provider.scim_secret_made", "New SCIM secret made")
# Those that change who may do what also raise the edge version (actions/scim.py).
SCIM_USER_CREATED = audit.register("accounts.scim.user_created", "User provisioned by SCIM")
SCIM_USER_CHANGED = audit.register("accounts.scim.user_changed", "User changed by SCIM")
SCIM_USER_DELETED = audit.register("accounts.scim.user_deleted", "User deleted by SCIM")
SCIM_GROUP_CREATED = audit.register("accounts.scim.group_created", "Group provisioned by SCIM")
SCIM_GROUP_CHANGED = audit.register("accounts.scim.group_changed", "Group changed by SCIM")
SCIM_GROUP_DELETED = audit.register("accounts.scim.group_deleted", "Group deleted by SCIM")
PROVIDER_TEST_STARTED = audit.register("accounts.identity_provider.test_started", "Test of a login method started")
PROVIDER_TESTED = audit.register("accounts.identity_provider.tested", "Login method tested")
LOGIN_STARTED = audit.register("accounts.login.started", "Login started")
LOGIN_PIN_SENT = audit.register("accounts.login.pin_sent", "One-time PIN sent")
LOGIN_SUCCEEDED = audit.register("accounts.login.succeeded", "Logged in")
LOGIN_FAILED = audit.register("accounts.login.failed", "Login failed")
IDENTITY_CREATED = audit.register("accounts.identity.created", "User added before their first login")
IDENTITY_DELETED = audit.register("accounts.identity.deleted", "User without a login deleted")
IDENTITY_DISABLED = audit.register(
    "accounts.identity.disabled", "Person blocked, their sessions ended", affects_edge=True
)
IDENTITY_ENABLED = audit.register("accounts.identity.enabled", "Person unblocked", affects_edge=True)
SESSION_REVOKED = audit.register("accounts.session.revoked", "Session revoked", affects_edge=True)
SESSIONS_REVOKED = audit.register(
    "accounts.session.all_revoked", "All sessions of an identity revoked", affects_edge=True
)
LOG_EXPORTED = audit.register("accounts.log.exported", "Log exported")
LOG_VIEW_SAVED = audit.register("accounts.log_view.saved", "Log view saved")
LOG_VIEW_DELETED = audit.register("accounts.log_view.deleted", "Saved log view deleted")
PREFERENCES_CHANGED = audit.register("accounts.preferences.changed", "Own preferences changed")
LOGIN_PAGE_CHANGED = audit.register("accounts.login_page.changed", "Login page changed")
FACTOR_ENROLLED = audit.register("accounts.second_factor.enrolled", "Authenticator added")
FACTOR_RENAMED = audit.register("accounts.second_factor.renamed", "Authenticator renamed")
FACTOR_REMOVED = audit.register("accounts.second_factor.removed", "Authenticator removed", affects_edge=True)
FACTORS_RESET = audit.register(
    "accounts.second_factor.reset",
    "Authenticators of a person reset, sessions that relied on them ended",
    affects_edge=True,
)
FACTOR_CHECKED = audit.register("accounts.second_factor.checked", "Second factor given")
FACTOR_FAILED = audit.register("accounts.second_factor.failed", "Second factor refused")
FACTOR_COPIED = audit.register(
    "accounts.second_factor.copied", "Passkey refused: its counter went back, as if it had been copied"
)
RECOVERY_CODES_MADE = audit.register("accounts.second_factor.recovery_codes_made", "New recovery codes made")
SUPPORT_REQUESTED = audit.register("accounts.support.requested", "Support session asked for, waiting for consent")
SUPPORT_STARTED = audit.register("accounts.support.started", "Support session started")
SUPPORT_EXTENDED = audit.register("accounts.support.extended", "Support session extended")
SUPPORT_ENDED = audit.register("accounts.support.ended", "Support session ended")
SUPPORT_PAGE_VIEWED = audit.register("accounts.support.page_viewed", "Page looked at by support staff")
IDENTITY_UNLOCKED = audit.register("accounts.identity.unlocked", "Waiting time after too many login attempts ended")
MEMBER_UNLOCKED = audit.register("accounts.member.unlocked", "Member's waiting time after failed sign-ins ended")
DELETED_RESTORED = audit.register("accounts.deleted_object.restored", "Deletion undone", affects_edge=True)
