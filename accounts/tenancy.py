"""Tenancy is explicit: querysets are narrowed by for_organization(); reaching wider needs a stated reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypeVar

from django.db import models

if TYPE_CHECKING:
    from accounts.models import Organization

ModelT = TypeVar("ModelT", bound=models.Model)


class TenantQuerySet(models.QuerySet[ModelT]):
    """For models with an `organization` foreign key."""

    def for_organization(self, organization: Organization) -> Self:
        return self.filter(organization=organization)

    def all_organizations(self, *, reason: str) -> Self:
        """Rows of every tenant: admin pages, sweepers, the edge snapshot. `reason` is for the reader of the code."""
        if not reason:
            raise ValueError("all_organizations needs a reason")
        return self.all()
