"""How applications present themselves to people: tags to find them by, pages shown to those who are refused.

A module of its own, imported by access.models.
"""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models.functions import Lower

from accounts.models import Organization
from accounts.tenancy import TenantQuerySet

MAX_TAG_NAME = 35
MAX_TAGS_PER_APPLICATION = 25


class Tag(models.Model):
    """A word that applications carry, for lists and the team's start page. It decides nothing about access."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="tags")
    name = models.CharField(max_length=MAX_TAG_NAME)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TenantQuerySet["Tag"].as_manager()

    class Meta:
        # "Prod" and "prod" side by side would be one tag to everybody but the database.
        constraints = [models.UniqueConstraint("organization", Lower("name"), name="tag_name_per_organization")]
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name
