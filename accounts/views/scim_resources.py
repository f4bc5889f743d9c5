"""What SCIM's /Users and /Groups have in common: one kind of resource, from calls to actions and rows to JSON."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from django.http import HttpRequest

from accounts.actor import Actor
from accounts.api_base import rfc3339
from accounts.models import IdentityProvider, ScimGroup, ScimUser
from accounts.scim.errors import ScimError
from accounts.views.scim_lists import Columns, chosen_attributes, list_page

RowT = TypeVar("RowT", ScimUser, ScimGroup)


class Call(Protocol):
    """What accounts.views.scim hands over."""

    @property
    def request(self) -> HttpRequest: ...
    @property
    def provider(self) -> IdentityProvider: ...
    @property
    def base_url(self) -> str: ...
    @property
    def actor(self) -> Actor: ...
    @property
    def body(self) -> dict[str, Any]: ...
    @property
    def if_match(self) -> str:
        """The version the caller saw (RFC 7644 section 3.14), "" for any."""


class Resources(Generic[RowT]):
    """`search` and `get` are the same for all kinds; changes are one action each, `shapes` a kind's own attributes."""

    model: type[RowT]
    word: ClassVar[str]
    schema: ClassVar[str]
    # The column of each attribute that can be filtered.
    columns: ClassVar[Columns]

    def search(self, call: Call, query: Mapping[str, str]) -> dict[str, Any]:
        rows = self.model.objects.for_organization(call.provider.organization).filter(provider=call.provider)
        return list_page(rows, query, self.columns, lambda page: self._documents(call, page, query))

    def get(self, call: Call, key: uuid.UUID) -> dict[str, Any]:
        rows = self.model.objects.for_organization(call.provider.organization)
        row = rows.filter(provider=call.provider, pk=key).first()
        if row is None:
            raise ScimError(404, f"There is no {self.word.lower()} {key} here.")
        return self.shaped(call, row)

    def create(self, call: Call) -> dict[str, Any]:
        raise NotImplementedError

    def replace(self, call: Call, key: uuid.UUID) -> dict[str, Any]:
        raise NotImplementedError

    def patch(self, call: Call, key: uuid.UUID) -> dict[str, Any]:
        raise NotImplementedError

    def delete(self, call: Call, key: uuid.UUID) -> None:
        raise NotImplementedError

    def shapes(self, call: Call, rows: list[RowT], query: Mapping[str, str]) -> list[dict[str, Any]]:
        """Of each row what is between its id and its meta."""
        raise NotImplementedError

    def shaped(self, call: Call, row: RowT) -> dict[str, Any]:
        return chosen_attributes(self._documents(call, [row], call.request.GET)[0], call.request.GET)

    def _documents(self, call: Call, rows: list[RowT], query: Mapping[str, str]) -> list[dict[str, Any]]:
        shapes = self.shapes(call, rows, query)
        return [
            {"schemas": [self.schema], "id": str(row.pk), **shape, "meta": self._meta(call, row)}
            for row, shape in zip(rows, shapes, strict=True)
        ]

    def _meta(self, call: Call, row: RowT) -> dict[str, str | None]:
        return {
            "resourceType": self.word,
            "created": rfc3339(row.created_at),
            "lastModified": rfc3339(row.updated_at),
            "location": f"{call.base_url}/{self.word}s/{row.pk}",
            "version": f'W/"{row.version}"',
        }
