"""Support staff of the installation: when they may look into an organization, and jobs that failed.

A module of its own, imported by accounts.models; it names models of that module by their labels.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import models
from django.db.models import Q

from accounts.tenancy import TenantQuerySet


class SupportSession(models.Model):
    """The time in which one staff member may look at one organization. Rows are its history and stay.

    Without `started_at` it waits for the organization's consent. It is over at `expires_at`, whoever notices.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE, related_name="support_sessions")
    staff = models.ForeignKey("accounts.User", null=True, on_delete=models.SET_NULL, related_name="support_sessions")
    staff_label = models.CharField(max_length=254, help_text="E-mail address, kept when the account goes.")
    reason = models.CharField(max_length=500)
    duration_seconds = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by = models.CharField(max_length=300, blank=True)
    # The page that was recorded last: a part of it that refreshes itself is not a page seen anew.
    last_page = models.CharField(max_length=300, blank=True)

    objects = TenantQuerySet["SupportSession"].as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "staff"], condition=Q(ended_at=None), name="one_open_support_session"
            )
        ]

    def __str__(self) -> str:
        return f"support session of {self.staff_label}"

    def is_active(self, now: datetime) -> bool:
        return self.ended_at is None and self.expires_at is not None and now < self.expires_at

    def is_waiting(self) -> bool:
        return self.ended_at is None and self.started_at is None


class JobFailure(models.Model):
    """A background job that ended with an exception. The exception's text is not kept: it may name anything."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    task = models.CharField(max_length=200)
    exception = models.CharField(max_length=200, help_text="Class of the exception.")
    place = models.CharField(max_length=300, blank=True, help_text="Module, function and line of ours it came from.")
    worker = models.CharField(max_length=200, blank=True)
    # Ids only, as tasks take them; null when the arguments were anything else: such a job cannot be sent again.
    arguments = models.JSONField(null=True)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    requeued_at = models.DateTimeField(null=True, blank=True)
    requeued_by = models.CharField(max_length=254, blank=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.task}: {self.exception}"
