"""What is allowed: applications, policies, groups, service tokens, token keys, SSH authorities, certificates."""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime, timedelta
from typing import Self

from django.db import models
from django.db.models import Q

from access.draft_models import ApplicationDraft
from access.login_models import HandOver, Transfer
from access.look_models import CustomPage, Tag
from access.policy_models import (
    AccessList,
    ApprovalRequest,
    ApprovalVote,
    ClientAuthority,
    ClientHostname,
    Justification,
)
from access.simulation_models import SavedTest, Simulation, SimulationResult
from access.ssh_models import Certificate, HostFetch, PrincipalClaim, SshAuthority
from accounts.models import Identity, IdentityProvider, Organization, public_url
from accounts.tenancy import TenantQuerySet

__all__ = [
    "AccessList",
    "AccessRequest",
    "Application",
    "ApplicationDraft",
    "ApplicationPolicy",
    "ApprovalRequest",
    "ApprovalVote",
    "Certificate",
    "ClientAuthority",
    "ClientHostname",
    "CustomPage",
    "Group",
    "HandOver",
    "HostFetch",
    "Justification",
    "Policy",
    "PrincipalClaim",
    "SavedTest",
    "ServiceToken",
    "Simulation",
    "SimulationResult",
    "SshAuthority",
    "Tag",
    "TokenKey",
    "Transfer",
]

EXPIRY_WARNING = timedelta(days=7)
DEFAULT_EXTENSIONS = ("permit-port-forwarding", "permit-pty")


def new_aud() -> str:
    """Audience tag: 64 hex digits, never changed after creation."""
    return secrets.token_hex(32)


def default_extensions() -> list[str]:
    return list(DEFAULT_EXTENSIONS)


class Application(models.Model):
    """A hostname (and path) behind Access. It never points at a tunnel: routing is DNS's business."""

    class Type(models.TextChoices):
        SELF_HOSTED = "self_hosted", "Self-hosted"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="applications")
    type = models.CharField(max_length=32, choices=Type.choices, default=Type.SELF_HOSTED)
    name = models.CharField(max_length=350)
    hostname = models.CharField(max_length=253, help_text="Lower case; may start with '*.'.")
    path = models.CharField(max_length=255, blank=True, help_text="Empty, or starting with '/'.")
    # False while the organization does not prove that it owns the hostname (see tunnels.serving). Nothing is routed to
    # such an application, and its hostname is free for the organization that does prove it.
    is_served = models.BooleanField(default=True, db_default=True, editable=False)
    aud = models.CharField(max_length=64, unique=True, default=new_aud, editable=False)
    session_duration_seconds = models.PositiveIntegerField(default=24 * 3600)
    allowed_providers = models.ManyToManyField(IdentityProvider, blank=True, related_name="applications")
    tags = models.ManyToManyField(Tag, blank=True, related_name="applications")
    auto_redirect_to_identity = models.BooleanField(default=False)
    app_launcher_visible = models.BooleanField(default=True)
    skip_interstitial = models.BooleanField(default=False, help_text="Command-line logins need no Approve click.")
    # Public API fields kept as sent (cors_headers, logo_url, cookie attributes, custom_deny_message, ...).
    settings = models.JSONField(default=dict, blank=True)
    # Second factor asked for here (accounts/second_factor.py). Null: as the organization says.
    mfa_config = models.JSONField(null=True, blank=True)
    # --- SSH certificate profile
    certificate_lifetime_seconds = models.PositiveIntegerField(default=240)
    certificate_extensions = models.JSONField(default=default_extensions)
    # Explicit principal per identity e-mail, e.g. {"alice@example.com": "deploy"}; otherwise the local part.
    principal_overrides = models.JSONField(default=dict, blank=True)
    # Where a bastion stream may go: rules of dataplane.wire.destination, e.g. "10.0.0.5:22", "10.0.0.0/8:22".
    bastion_destinations = models.JSONField(default=list, blank=True)
    # Certificates only for clients that sign with the key to be certified (access/possession.py).
    require_key_proof = models.BooleanField(default=False)
    # Tokens issued up to this moment are refused ("Revoke existing tokens").
    tokens_revoked_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TenantQuerySet["Application"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["hostname", "path"], condition=Q(is_served=True), name="application_served_domain"
            )
        ]
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name

    @property
    def domain(self) -> str:
        return f"{self.hostname}{self.path}"

    @property
    def url(self) -> str:
        return public_url(self.hostname) + self.path


class Policy(models.Model):
    """A decision with rules in the public JSON shape. Reusable ones may hang on many applications, others on one."""

    class Decision(models.TextChoices):
        ALLOW = "allow", "Allow"
        DENY = "deny", "Block"
        BYPASS = "bypass", "Bypass"
        NON_IDENTITY = "non_identity", "Service Auth"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="policies")
    name = models.CharField(max_length=350)
    decision = models.CharField(max_length=16, choices=Decision.choices)
    include = models.JSONField(default=list)
    require = models.JSONField(default=list, blank=True)
    exclude = models.JSONField(default=list, blank=True)
    session_duration_seconds = models.PositiveIntegerField(null=True, blank=True, help_text="0: immediate.")
    # SSH rights (access.terms.SshRights.as_dict); null: as the application says. Certificates of service tokens name
    # the `usernames` of the Service Auth policy that lets them in, and nothing else.
    ssh = models.JSONField(null=True, blank=True)
    purpose_justification_required = models.BooleanField(default=False)
    purpose_justification_prompt = models.CharField(max_length=500, blank=True)
    approval_required = models.BooleanField(default=False)
    # [{"approvals_needed": 1, "email_addresses": [...], "email_list_uuid": "..."}] as the public API has them.
    approval_groups = models.JSONField(default=list, blank=True)
    mfa_config = models.JSONField(null=True, blank=True)
    reusable = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TenantQuerySet["Policy"].as_manager()

    class Meta:
        verbose_name_plural = "policies"
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name


class ApplicationPolicy(models.Model):
    """A policy's place in an application."""

    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="policy_links")
    policy = models.ForeignKey(Policy, on_delete=models.CASCADE, related_name="application_links")
    precedence = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["application", "policy"], name="policy_once_per_application"),
            models.UniqueConstraint(fields=["application", "precedence"], name="precedence_per_application"),
        ]
        ordering = ["precedence"]
        verbose_name_plural = "application policies"

    def __str__(self) -> str:
        return f"{self.precedence}. {self.policy}"


class Group(models.Model):
    """Reusable, nestable rule set ("Access group")."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="access_groups")
    name = models.CharField(max_length=350)
    include = models.JSONField(default=list)
    require = models.JSONField(default=list, blank=True)
    exclude = models.JSONField(default=list, blank=True)
    is_default = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TenantQuerySet["Group"].as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="group_name_per_organization")]
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name


class ServiceTokenQuerySet(TenantQuerySet["ServiceToken"]):
    def for_organization(self, organization: Organization) -> Self:
        """Deleted tokens stay as rows (certificates name them) but are not found here."""
        return super().for_organization(organization).filter(deleted_at__isnull=True)


class ServiceToken(models.Model):
    """Client id and secret for machines. Only the secrets' SHA-256 is stored (they hold 200+ random bits).

    After a rotation with overlap there are two: the previous one ends at `previous_secret_expires_at`.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="service_tokens")
    name = models.CharField(max_length=350)
    client_id = models.CharField(max_length=64, unique=True)
    secret_sha256 = models.CharField(max_length=64)
    secret_version = models.PositiveIntegerField(default=1)
    previous_secret_sha256 = models.CharField(max_length=64, blank=True)
    previous_secret_expires_at = models.DateTimeField(null=True, blank=True)
    duration_seconds = models.PositiveBigIntegerField(null=True, help_text="Null: does not expire.")
    expires_at = models.DateTimeField(null=True, blank=True)
    enabled = models.BooleanField(default=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    # The expires_at that owners and admins were warned of; a refreshed token has another one.
    warned_expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = ServiceTokenQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        indexes = [models.Index(fields=["expires_at"], condition=Q(deleted_at=None), name="service_tokens_ending")]
        constraints = [
            models.CheckConstraint(
                condition=Q(previous_secret_sha256="", previous_secret_expires_at=None)
                | (~Q(previous_secret_sha256="") & Q(previous_secret_expires_at__isnull=False)),
                name="previous_secret_has_an_end",
            )
        ]

    def __str__(self) -> str:
        return self.name

    def is_active(self, now: datetime) -> bool:
        return self.enabled and self.deleted_at is None and (self.expires_at is None or now < self.expires_at)

    def expires_soon(self, now: datetime) -> bool:
        """Within the week in which owners and admins are warned."""
        return self.expires_at is not None and now < self.expires_at <= now + EXPIRY_WARNING

    def has_previous_secret(self, now: datetime) -> bool:
        return self.previous_secret_expires_at is not None and now < self.previous_secret_expires_at


class TokenKey(models.Model):
    """RS256 key of an organization's tokens. `next` is published before it signs, `retiring` still verifies."""

    class State(models.TextChoices):
        NEXT = "next", "Next"
        ACTIVE = "active", "Active"
        RETIRING = "retiring", "Retiring"
        RETIRED = "retired", "Retired"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="token_keys")
    kid = models.CharField(max_length=64, unique=True)
    public_jwk = models.JSONField()
    private_sealed = models.BinaryField()
    state = models.CharField(max_length=16, choices=State.choices)
    created_at = models.DateTimeField(auto_now_add=True)
    activated_at = models.DateTimeField(null=True, blank=True)
    retires_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["TokenKey"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization"], condition=Q(state="active"), name="one_active_token_key"),
            models.UniqueConstraint(fields=["organization"], condition=Q(state="next"), name="one_next_token_key"),
        ]

    def __str__(self) -> str:
        return f"{self.kid[:12]} ({self.state})"


class AccessRequest(models.Model):
    """A decision about one request, with its trace (the access log)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="access_requests")
    application = models.ForeignKey(Application, null=True, on_delete=models.SET_NULL, related_name="access_requests")
    application_label = models.CharField(max_length=350)
    identity = models.ForeignKey(Identity, null=True, on_delete=models.SET_NULL, related_name="access_requests")
    email = models.CharField(max_length=350, blank=True, help_text="E-mail, or the service token's name.")
    action = models.CharField(max_length=20, help_text="login, connect, certificate, cut")
    allowed = models.BooleanField()
    reason = models.CharField(max_length=60)
    connection = models.CharField(max_length=60, blank=True, help_text="Identity provider type or 'service_token'.")
    ray_id = models.CharField(max_length=32, db_index=True)
    ip_address = models.GenericIPAddressField(null=True)
    country = models.CharField(max_length=2, blank=True)
    trace = models.JSONField(default=list)
    # Which set of policies and groups was asked (AC-86), and about what (access/decision_facts.py). Empty: none was.
    rules_version = models.CharField(max_length=16, blank=True)
    facts = models.JSONField(default=dict, blank=True)
    policy_label = models.CharField(max_length=350, blank=True, help_text="The policy that decided, if one did.")
    # Why the person said they need access, and who approved it (policies that ask for either).
    purpose = models.CharField(max_length=500, blank=True)
    approvers = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantQuerySet["AccessRequest"].as_manager()

    class Meta:
        indexes = [
            # Pages of the log by key (accounts/logbook.py), all of it and one person's.
            models.Index(fields=["organization", "-created_at", "-id"], name="access_log_by_time"),
            models.Index(fields=["organization", "email", "-created_at", "-id"], name="access_log_by_person"),
            # Replay: the decisions about one application, newest first.
            models.Index(fields=["application", "-created_at"]),
        ]

    def __str__(self) -> str:
        return f"{'allowed' if self.allowed else 'denied'} {self.email} {self.application_label}"
