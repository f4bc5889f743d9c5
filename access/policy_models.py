"""What policies refer to besides groups: lists, client certificate authorities, purposes and approvals.

A module of its own, imported by access.models; it names models of that module by their labels.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import models
from django.db.models import Q

from accounts.models import AccessSession, Identity, Organization
from accounts.tenancy import TenantQuerySet

MAX_APPROVED_SECONDS = 24 * 3600


class AccessList(models.Model):
    """A named list of e-mail addresses or IP ranges that rules refer to (My Team, Lists)."""

    class Type(models.TextChoices):
        EMAIL = "EMAIL", "E-mail addresses"
        IP = "IP", "IP ranges"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="access_lists")
    name = models.CharField(max_length=350)
    type = models.CharField(max_length=8, choices=Type.choices)
    description = models.CharField(max_length=500, blank=True)
    # [{"value": "...", "description": "..."}, ...]; values are unique.
    items = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TenantQuerySet["AccessList"].as_manager()

    class Meta:
        verbose_name = "list"
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="list_name_per_organization")]
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name


class ClientAuthority(models.Model):
    """A root whose client certificates the edge accepts on some hostnames of the organization (mutual TLS)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="client_authorities")
    name = models.CharField(max_length=350)
    certificate = models.TextField(help_text="PEM, the root.")
    intermediates = models.TextField(blank=True, help_text="PEM, authorities signed by the root or by each other.")
    subject = models.CharField(max_length=500)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of the certificate, hexadecimal.")
    # Exact names, or "*.example.com" for every name one label below.
    associated_hostnames = models.JSONField(default=list, blank=True)
    # Revocation lists (access.client_crls.read_lists): who issued them, until when they hold, what they revoke.
    revocations = models.JSONField(default=list, blank=True)
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TenantQuerySet["ClientAuthority"].as_manager()

    class Meta:
        verbose_name_plural = "client authorities"
        constraints = [
            models.UniqueConstraint(fields=["organization", "fingerprint"], name="client_authority_once"),
        ]
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name


class ClientHostname(models.Model):
    """What happens with client certificates at one hostname, besides being asked for."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="client_hostnames")
    hostname = models.CharField(max_length=253)
    client_certificate_forwarding = models.BooleanField(default=False)

    objects = TenantQuerySet["ClientHostname"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "hostname"], name="client_hostname_per_organization")
        ]
        ordering = ["hostname"]

    def __str__(self) -> str:
        return self.hostname


class Justification(models.Model):
    """What a person said in a session that access to an application is for; asked once (product.md 1.3)."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE)
    application = models.ForeignKey("access.Application", on_delete=models.CASCADE, related_name="justifications")
    session = models.ForeignKey(AccessSession, on_delete=models.CASCADE, related_name="justifications")
    text = models.CharField(max_length=500)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantQuerySet["Justification"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["application", "session"], name="justification_once_per_session")
        ]

    def __str__(self) -> str:
        return self.text


class ApprovalRequest(models.Model):
    """A person asks for temporary access under a policy that wants approval. `groups` is a copy of what the policy
    wanted when it was asked: [{"approvals_needed": 1, "emails": [...]}]."""

    class Status(models.TextChoices):
        PENDING = "pending", "Waiting"
        APPROVED = "approved", "Approved"
        DENIED = "denied", "Denied"
        WITHDRAWN = "withdrawn", "Withdrawn"
        ENDED = "ended", "Ended early"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="approval_requests")
    application = models.ForeignKey("access.Application", on_delete=models.CASCADE, related_name="approval_requests")
    policy = models.ForeignKey("access.Policy", on_delete=models.CASCADE, related_name="approval_requests")
    identity = models.ForeignKey(Identity, on_delete=models.CASCADE, related_name="approval_requests")
    reason = models.CharField(max_length=500)
    duration_seconds = models.PositiveIntegerField()
    groups = models.JSONField(default=list)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.PENDING)
    ip_address = models.GenericIPAddressField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    # Until when access is granted, once approved.
    ends_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["ApprovalRequest"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["application", "policy", "identity"],
                condition=Q(status="pending"),
                name="one_pending_approval_request",
            )
        ]
        indexes = [models.Index(fields=["organization", "-created_at"])]

    def __str__(self) -> str:
        return f"{self.identity} at {self.application}"

    def is_active(self, now: datetime) -> bool:
        """Whether it lets the person in now."""
        return self.status == self.Status.APPROVED and self.ends_at is not None and now < self.ends_at


class ApprovalVote(models.Model):
    """What one approver said, once."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE)
    request = models.ForeignKey(ApprovalRequest, on_delete=models.CASCADE, related_name="votes")
    # Null: a member of the dashboard, who is nobody at a login method.
    approver = models.ForeignKey(Identity, null=True, on_delete=models.CASCADE, related_name="approval_votes")
    email = models.CharField(max_length=254)
    approves = models.BooleanField()
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantQuerySet["ApprovalVote"].as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["request", "email"], name="one_vote_per_approver")]

    def __str__(self) -> str:
        return f"{self.email}: {'approve' if self.approves else 'deny'}"
