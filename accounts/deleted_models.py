"""What was deleted lately, with what it takes to make it again. Part of accounts.models."""

from __future__ import annotations

import uuid

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

from accounts.tenancy import TenantQuerySet


class DeletedObject(models.Model):
    """A deletion that can be undone (accounts/actions/deletions.py). The row goes when it is, or when its time is over.

    `document` is what the kind's create action takes, in words of the API; `sealed` are sealed bytes as they stood in
    the deleted row. Keys of authorities, service tokens, API tokens and tunnel secrets are never in here.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE, related_name="deleted_objects")
    kind = models.CharField(max_length=32)
    object_id = models.CharField(max_length=64)
    name = models.CharField(max_length=350)
    document = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    sealed = models.JSONField(default=dict)
    deleted_by = models.CharField(max_length=300)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)

    objects = TenantQuerySet["DeletedObject"].as_manager()

    class Meta:
        ordering = ["-created_at", "id"]
        indexes = [models.Index(fields=["organization", "-created_at"], name="deleted_of_organization")]

    def __str__(self) -> str:
        return self.name
