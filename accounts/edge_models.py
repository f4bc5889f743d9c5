"""What edges have to learn of, as numbers that only rise. Imported by accounts.models."""

from __future__ import annotations

from django.db import models

from accounts.tenancy import TenantQuerySet


class EdgeVersion(models.Model):
    """One row: the version of everything edges need to know. Audit events that affect edges raise it."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    version = models.PositiveBigIntegerField(default=1)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_edge_version_row")]

    def __str__(self) -> str:
        return str(self.version)


class EdgeChange(models.Model):
    """The edge version of an organization's latest change: edges re-check its live streams, and nobody else's.

    Not a column of Organization: its row is locked by actions before the edge version is, this one only after."""

    organization = models.OneToOneField(
        "accounts.Organization", on_delete=models.CASCADE, primary_key=True, related_name="edge_change"
    )
    version = models.PositiveBigIntegerField()

    objects = TenantQuerySet["EdgeChange"].as_manager()

    def __str__(self) -> str:
        return f"{self.organization_id} at {self.version}"
