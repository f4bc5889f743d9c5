"""What the three log pages share: the page itself, its saved views, and the same rows as a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from django.db.models import Model, QuerySet
from django.http import HttpResponse

from accounts.actions.log_views import record_log_export
from accounts.exports import FORMATS, export_response
from accounts.http import OrganizationRequest
from accounts.logbook import EXPORT_ROWS, LogShape, export_rows, log_page, parameters
from accounts.models import SavedLogView
from accounts.pages import show
from accounts.permissions import Permission

ModelT = TypeVar("ModelT", bound=Model)


@dataclass(frozen=True)
class LogBook(Generic[ModelT]):
    """`columns` and `cells` are the file's; `things` is what an empty answer calls the rows."""

    log: SavedLogView.Log
    title: str
    template: str
    things: str
    shape: LogShape[ModelT]
    columns: Sequence[str]
    cells: Callable[[ModelT], Sequence[Any]]


def show_log(
    request: OrganizationRequest,
    book: LogBook[ModelT],
    rows: QuerySet[ModelT],
    context: Mapping[str, Any] | None = None,
) -> HttpResponse:
    kind = request.GET.get("format", "")
    if kind in FORMATS:
        query = parameters(request.GET)
        record_log_export(request.organization, log=book.log.value, kind=kind, query=query, actor=request.actor)
        found = export_rows(request, rows, book.shape)
        file = export_response(f"{book.log.value}-log", kind, book.columns, map(book.cells, found))
        return cast(HttpResponse, file)  # views answer HttpResponse; a stream is one to everybody but the type checker
    views = SavedLogView.objects.for_organization(request.organization).filter(log=book.log)
    return show(
        request,
        book.template,
        title=book.title,
        listing=log_page(request, rows, book.shape),
        log=book.log.value,
        things=book.things,
        views=views,
        may_save=request.can(Permission.ACCESS_EDIT),
        export_rows=EXPORT_ROWS,
        **(context or {}),
    )
