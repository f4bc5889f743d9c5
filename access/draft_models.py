"""Applications that are not there yet: what a member has filled in so far. Imported by access.models."""

from __future__ import annotations

import uuid

from django.db import models

from accounts.models import Organization, User
from accounts.tenancy import TenantQuerySet


class ApplicationDraft(models.Model):
    """The three steps as their author left them; nobody else sees it. The forms judge `data` again whenever it is used.

    `data`: {"configure": fields, "setup": fields, "policies": [values]}, fields being what a form holds: name -> list
    of text.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="application_drafts")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="application_drafts")
    name = models.CharField(max_length=350, blank=True)
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    expires_at = models.DateTimeField(db_index=True)

    objects = TenantQuerySet["ApplicationDraft"].as_manager()

    class Meta:
        ordering = ["-updated_at", "id"]
        indexes = [models.Index(fields=["organization", "user", "-updated_at"], name="drafts_of_a_member")]

    def __str__(self) -> str:
        return self.name or "Application without a name"
