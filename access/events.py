"""Audit events of applications, policies, groups, service tokens, SSH authorities and certificates."""

from __future__ import annotations

from accounts import audit

APPLICATION_CREATED = audit.register("access.application.created", "Application created", affects_edge=True)
APPLICATION_UPDATED = audit.register("access.application.updated", "Application changed", affects_edge=True)
APPLICATION_DELETED = audit.register("access.application.deleted", "Application deleted", affects_edge=True)
APPLICATION_DRAFT_SAVED = audit.register("access.application_draft.saved", "Draft of an application saved")
APPLICATION_DRAFT_DISCARDED = audit.register("access.application_draft.discarded", "Draft of an application discarded")
APPLICATION_TOKENS_REVOKED = audit.register(
    "access.application.tokens_revoked", "Tokens of an application revoked", affects_edge=True
)

POLICY_CREATED = audit.register("access.policy.created", "Policy created", affects_edge=True)
POLICY_UPDATED = audit.register("access.policy.updated", "Policy changed", affects_edge=True)
POLICY_DELETED = audit.register("access.policy.deleted", "Policy deleted", affects_edge=True)
# Who may reach what stays the same: edges need not look again.
POLICY_MADE_REUSABLE = audit.register("access.policy.made_reusable", "Policy of one application made reusable")
POLICY_ATTACHED = audit.register("access.policy.attached", "Policy attached to an application", affects_edge=True)
POLICY_DETACHED = audit.register("access.policy.detached", "Policy detached from an application", affects_edge=True)
POLICIES_REORDERED = audit.register("access.policy.reordered", "Policies of an application ordered", affects_edge=True)

GROUP_CREATED = audit.register("access.group.created", "Access group created", affects_edge=True)
GROUP_UPDATED = audit.register("access.group.updated", "Access group changed", affects_edge=True)
GROUP_DELETED = audit.register("access.group.deleted", "Access group deleted", affects_edge=True)

CUSTOM_PAGE_CREATED = audit.register("access.custom_page.created", "Custom page created")
CUSTOM_PAGE_UPDATED = audit.register("access.custom_page.updated", "Custom page changed")
CUSTOM_PAGE_DELETED = audit.register("access.custom_page.deleted", "Custom page deleted")

TAG_CREATED = audit.register("access.tag.created", "Tag created")
TAG_UPDATED = audit.register("access.tag.updated", "Tag renamed")
TAG_DELETED = audit.register("access.tag.deleted", "Tag deleted and taken off its applications")

LIST_CREATED = audit.register("access.list.created", "List created", affects_edge=True)
LIST_UPDATED = audit.register("access.list.updated", "List changed", affects_edge=True)
LIST_DELETED = audit.register("access.list.deleted", "List deleted", affects_edge=True)

CLIENT_AUTHORITY_CREATED = audit.register(
    "access.client_authority.created", "Client certificate authority added", affects_edge=True
)
CLIENT_AUTHORITY_UPDATED = audit.register(
    "access.client_authority.updated", "Client certificate authority changed", affects_edge=True
)
CLIENT_AUTHORITY_DELETED = audit.register(
    "access.client_authority.deleted", "Client certificate authority deleted", affects_edge=True
)

CLIENT_AUTHORITY_LISTS_CHANGED = audit.register(
    "access.client_authority.revocations_changed",
    "Revocation lists of a client certificate authority changed",
    affects_edge=True,
)
CLIENT_HOSTNAMES_CHANGED = audit.register(
    "access.client_hostnames.updated", "Forwarding of client certificates changed", affects_edge=True
)

PURPOSE_STATED = audit.register("access.purpose.stated", "Purpose of access stated")
APPROVAL_REQUESTED = audit.register("access.approval.requested", "Temporary access requested")
APPROVAL_GIVEN = audit.register("access.approval.given", "Temporary access approved by one approver")
APPROVAL_GRANTED = audit.register("access.approval.granted", "Temporary access granted", affects_edge=True)
APPROVAL_DENIED = audit.register("access.approval.denied", "Temporary access denied")
APPROVAL_ENDED = audit.register("access.approval.ended", "Temporary access ended early", affects_edge=True)

SERVICE_TOKEN_CREATED = audit.register("access.service_token.created", "Service token created", affects_edge=True)
SERVICE_TOKEN_UPDATED = audit.register("access.service_token.updated", "Service token changed", affects_edge=True)
SERVICE_TOKEN_ROTATED = audit.register("access.service_token.rotated", "Service token rotated", affects_edge=True)
SERVICE_TOKEN_REFRESHED = audit.register("access.service_token.refreshed", "Service token extended", affects_edge=True)
SERVICE_TOKEN_DELETED = audit.register("access.service_token.deleted", "Service token deleted", affects_edge=True)
SERVICE_TOKEN_EXPIRY_WARNED = audit.register(
    "access.service_token.expiry_warned", "Owners and admins warned that a service token ends soon"
)

# Hosts read SSH authorities, edges do not: no edge version.
AUTHORITY_CREATED = audit.register("access.ssh_authority.created", "SSH authority requested")
AUTHORITY_ROTATION_STARTED = audit.register("access.ssh_authority.rotation_started", "SSH authority rotation started")
AUTHORITY_ACTIVATED = audit.register("access.ssh_authority.activated", "Next SSH authority activated")
AUTHORITY_RETIRED = audit.register("access.ssh_authority.retired", "Old SSH authority retired")
AUTHORITIES_DELETED = audit.register("access.ssh_authority.deleted", "SSH authority deleted")

CERTIFICATE_APPROVED = audit.register("access.certificate.approved", "Certificate approved for signing")
CERTIFICATE_REFUSED = audit.register("access.certificate.refused", "Certificate refused")
CERTIFICATE_FAILED = audit.register("access.certificate.failed", "Approved certificate was not signed")
CERTIFICATE_REVOKED = audit.register("access.certificate.revoked", "Certificate revoked")
PRINCIPAL_COLLISION = audit.register(
    "access.principal.collision", "Certificate refused: another person holds this account name"
)
PRINCIPAL_RELEASED = audit.register("access.principal.released", "Account name released from its holder")
PUBLIC_KEY_REUSED = audit.register(
    "access.certificate.public_key_reused", "Certificate refused: the public key belongs to another person"
)

SAVED_TEST_CREATED = audit.register("access.saved_test.created", "Saved test created")
SAVED_TEST_UPDATED = audit.register("access.saved_test.updated", "Saved test changed")
SAVED_TEST_DELETED = audit.register("access.saved_test.deleted", "Saved test deleted")
SIMULATION_STARTED = audit.register("access.simulation.started", "Simulation of policies started")
SIGNING_LIMIT_REACHED = audit.register(
    "access.certificate.limit_reached", "Too many certificates asked for; more are refused for up to a minute"
)
