"""The audit log's rows. Written only by accounts/audit.py.

A module of its own, imported by accounts.models; it names models of that module by their labels.
"""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from accounts.tenancy import TenantQuerySet


class AuditEvent(models.Model):
    """What was done, by whom, to what. Append-only; names and labels are copies and outlive the objects."""

    organization = models.ForeignKey(
        "accounts.Organization", null=True, on_delete=models.SET_NULL, related_name="audit_events"
    )
    name = models.CharField(max_length=80)
    actor_kind = models.CharField(max_length=20)
    actor_id = models.CharField(max_length=64)
    actor_label = models.CharField(max_length=300)
    ip_address = models.GenericIPAddressField(null=True)
    target_type = models.CharField(max_length=40, blank=True)
    target_id = models.CharField(max_length=64, blank=True)
    target_label = models.CharField(max_length=350, blank=True)
    old = models.JSONField(null=True)
    new = models.JSONField(null=True)
    # Known before the row is stored: the digest covers it.
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Place in the organization's chain (accounts/audit_chain.py); "" is the chain of the installation itself.
    chain = models.CharField(max_length=32, blank=True, default="", db_default="", editable=False)
    sequence = models.PositiveBigIntegerField(null=True, editable=False)
    digest = models.CharField(max_length=64, blank=True, default="", db_default="", editable=False)

    objects = TenantQuerySet["AuditEvent"].as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["organization", "-id"]),
            models.Index(fields=["organization", "-created_at", "-id"], name="audit_log_by_time"),
            models.Index(fields=["name", "-id"]),
        ]
        constraints = [models.UniqueConstraint(fields=["chain", "sequence"], name="audit_event_place_in_chain")]

    def __str__(self) -> str:
        return f"{self.name} by {self.actor_label}"


class AuditChain(models.Model):
    """The last event of an organization's audit log, locked while the next one is written; and the last check of it.

    Keyed by text, because a chain outlives its organization."""

    id = models.CharField(primary_key=True, max_length=32, editable=False, help_text='"": the installation itself.')
    sequence = models.PositiveBigIntegerField(default=0)
    digest = models.CharField(max_length=64, blank=True)
    verified_sequence = models.PositiveBigIntegerField(default=0)
    verified_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return f"{self.id or 'installation'} {self.sequence}"
