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


class CustomPage(models.Model):
    """What an organization tells people who are refused, as HTML. Kept as sent; made harmless when it is shown."""

    class Type(models.TextChoices):
        IDENTITY_DENIED = "identity_denied", "People who are logged in and refused"
        FORBIDDEN = "forbidden", "Requests refused without a login (address, country, certificate)"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="custom_pages")
    name = models.CharField(max_length=350)
    type = models.CharField(max_length=20, choices=Type.choices)
    custom_html = models.TextField()
    contract_version = models.PositiveIntegerField(null=True, blank=True, help_text="Of the public API; kept as sent.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = TenantQuerySet["CustomPage"].as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "name"], name="custom_page_name_per_organization")
        ]
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name
