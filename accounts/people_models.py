"""Invitations, saved log views, logos. Part of accounts.models; names models of that module by label."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q
from django.http import HttpResponse

from accounts.permissions import Role
from accounts.tenancy import TenantQuerySet

INVITATION_LIFETIME = timedelta(days=7)


class Invitation(models.Model):
    """An address asked to become a member. The link's token is made by the worker that mails it; only its hash is kept.

    Used, withdrawn and expired invitations stay as rows: their link still says what became of it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField(help_text="Lower case. Only this address may use the link.")
    role = models.CharField(max_length=16, choices=[(role.value, role.value.title()) for role in Role])
    # Empty until the mail is written.
    token_sha256 = models.CharField(max_length=64, blank=True)
    # The link stands on this member's right to invite, at the moment it is used.
    invited_by = models.ForeignKey("accounts.User", null=True, on_delete=models.SET_NULL, related_name="+")
    invited_by_label = models.CharField(max_length=300)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    accepted_at = models.DateTimeField(null=True, blank=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    objects = TenantQuerySet["Invitation"].as_manager()

    class Meta:
        indexes = [models.Index(fields=["organization", "-created_at"])]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "email"],
                condition=Q(accepted_at=None, withdrawn_at=None),
                name="one_open_invitation_per_address",
            ),
            models.UniqueConstraint(
                fields=["token_sha256"], condition=~Q(token_sha256=""), name="invitation_token_once"
            ),
        ]

    def __str__(self) -> str:
        return self.email

    def is_usable(self, now: datetime) -> bool:
        """To the second: at `expires_at` it has ended."""
        return self.accepted_at is None and self.withdrawn_at is None and now < self.expires_at


class SavedLogView(models.Model):
    """Filters of a log under a name, for everybody of the organization who may read logs."""

    class Log(models.TextChoices):
        ACCESS = "access", "Access"
        CERTIFICATES = "certificates", "Certificates"
        AUDIT = "audit", "Audit"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE, related_name="saved_log_views")
    log = models.CharField(max_length=16, choices=Log.choices)
    name = models.CharField(max_length=80)
    query = models.CharField(max_length=1000, help_text="The address's query string, known filters only.")
    created_by_label = models.CharField(max_length=300)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = TenantQuerySet["SavedLogView"].as_manager()

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "log", "name"], name="saved_log_view_name"),
        ]

    def __str__(self) -> str:
        return self.name


class OrganizationLogo(models.Model):
    """The image of an organization's login page, checked at upload (accounts/login_design.py)."""

    organization = models.OneToOneField("accounts.Organization", on_delete=models.CASCADE, related_name="logo")
    content = models.BinaryField()
    media_type = models.CharField(max_length=32)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TenantQuerySet["OrganizationLogo"].as_manager()

    def __str__(self) -> str:
        return f"logo of {self.organization}"

    def response(self) -> HttpResponse:
        """An image and nothing else, whatever a browser might make of its bytes."""
        answer = HttpResponse(bytes(self.content), content_type=self.media_type)
        answer["Content-Security-Policy"] = "default-src 'none'; sandbox"
        answer["Cache-Control"] = "private, max-age=86400"
        return answer
