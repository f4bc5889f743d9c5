"""What dashboard pages share: rendering with title and permissions, search and paging, refusals shown in forms.

A view parses input, calls one action and answers: `show` a page, `done` (message and redirect), or `confirmed`. Inside
`refusals(form)` an action's DomainError becomes an error of the form, and the page is shown again with its input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import wraps
from typing import Any, Generic, TypeVar, cast

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone

from accounts.actions.deletions import UNDO_HINT
from accounts.api_requests import has_api_request
from accounts.errors import DomainError, NotFound, PermissionDenied
from accounts.forms import PlainForm
from accounts.http import OrganizationRequest
from accounts.models import DeletedObject
from accounts.permissions import Permission
from accounts.repeats import answer_once

ModelT = TypeVar("ModelT", bound=Model)
FormT = TypeVar("FormT", bound=forms.BaseForm)
Crumbs = Sequence[tuple[str, str | None]]
PER_PAGE = 25
MAX_PAGE = 4000
# How many of the newest entries of a log one search looks through; it says so, and goes on further back when asked.
SEARCHED_ENTRIES = 50_000


# --- Answers ---------------------------------------------------------------------------------------------------
def at(request: OrganizationRequest, name: str, *args: object) -> str:
    """The address of a page in the request's organization."""
    return reverse(name, args=[request.organization.team_name, *args])


def show(
    request: OrganizationRequest, template: str, *, title: str, crumbs: Crumbs = (), status: int = 200, **context: Any
) -> HttpResponse:
    """Render a page. A `form` that was sent and refused makes the status 422, with its input kept."""
    form = context.get("form")
    if status == 200 and isinstance(form, forms.BaseForm) and form.is_bound and form.errors:
        status = 422
    allowed = {permission.name.lower(): request.can(permission) for permission in Permission}
    match = request.resolver_match
    api_request = match is not None and has_api_request(match.url_name or "")
    last = context.pop("crumb", title)  # where the title says again what the way to the page says
    page: dict[str, Any] = {"title": title, "crumbs": [*crumbs, (last, None)], "can": allowed}
    page |= {"api_request": api_request, "live": api_request, **context}
    return render(request, template, page, status=status)


def done(request: OrganizationRequest, message: str, name: str, *args: object) -> HttpResponseRedirect:
    """Say what happened and go on to a page of the organization."""
    messages.success(request, message)
    return HttpResponseRedirect(at(request, name, *args))


def confirmed(
    request: OrganizationRequest,
    act: Callable[[], object],
    *,
    said: str = "",
    to: str = "",
    question: str,
    consequences: Sequence[str],
    button: str,
    crumbs: Crumbs,
    title: str = "",
    back: str = "",
    danger: bool = True,
    form: forms.BaseForm | None = None,
    can_undo: bool = False,
    obstacle: str = "",
) -> HttpResponse:
    """Ask first; once confirmed, `act`, say what was done and go on to `to`, or answer with what `act` answers. What
    `act` keeps (a DeletedObject) gets an Undo button in the message; `can_undo` says so beforehand.

    `back`, where Cancel leads and by default `to` too, is the last of `crumbs` unless it is named. With an `obstacle`,
    which `act` would refuse, there is no button to press in vain.
    """
    form = PlainForm(posted(request)) if form is None else form
    back = back or crumbs[-1][1] or ""
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            answer = act()
            if isinstance(answer, HttpResponseBase):
                return cast(HttpResponse, answer)
            messages.success(request, said, extra_tags=_undo_tag(request, answer))
            return HttpResponseRedirect(to or back)
    return show(
        request,
        "confirm.html",
        title=title or button,
        crumbs=crumbs,
        question=question,
        consequences=[*consequences, UNDO_HINT] if can_undo and not obstacle else consequences,
        button=button,
        danger=danger,
        obstacle=obstacle,
        back=back,
        form=form,
    )


def _undo_tag(request: OrganizationRequest, answer: object) -> str:
    """Where the message's Undo button posts to (components/_messages.html)."""
    return f"undo:{at(request, 'deleted_restore', answer.pk)}" if isinstance(answer, DeletedObject) else ""


@contextmanager
def refusals(form: forms.BaseForm, **renamed: str) -> Iterator[None]:
    """A refused action becomes errors of `form`: at the fields it names, otherwise on top.

    `renamed`: where the form's field has another name than the action's, as domain="subdomain".
    """
    try:
        yield
    except (NotFound, PermissionDenied):
        raise
    except DomainError as error:
        named = {renamed.get(name, name): text for name, text in error.fields.items()}
        known = {name: text for name, text in named.items() if name in form.fields}
        for name, text in known.items():
            form.add_error(name, text if len(error.fields) > 1 else error.message)
        if not known:
            form.add_error(None, error.message)


@contextmanager
def telling(request: HttpRequest) -> Iterator[None]:
    """For buttons: a refused action becomes a message on the next page."""
    try:
        yield
    except (NotFound, PermissionDenied):
        raise
    except DomainError as error:
        messages.error(request, error.message)


def sent_once(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """For pages outside an organization; `requires` holds back repeated forms of all others (accounts/repeats.py)."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return answer_once(request, lambda: view(request, *args, **kwargs))

    return guarded


def posted(request: HttpRequest) -> QueryDict | None:
    """The data for a form: a form of a GET is unbound, one of a POST is bound even when nothing was sent."""
    return request.POST if request.method == "POST" else None


def with_input(form: FormT, data: QueryDict) -> FormT:
    """An unbound form that shows what was typed, unjudged: for submits that only change the form ("Add row")."""
    form.initial = {
        name: data.getlist(name) if isinstance(field, forms.MultipleChoiceField) else data.get(name, "")
        for name, field in form.fields.items()
    }
    return form


def find(queryset: QuerySet[ModelT], **lookup: Any) -> ModelT:
    """One object of the (already scoped) queryset, or 404."""
    return get_object_or_404(queryset, **lookup)


# --- Lists -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Filter:
    """A drop-down above a list. Values outside `choices` are ignored; `lookups` maps a value to a condition."""

    name: str
    label: str
    choices: Sequence[tuple[str, str]]
    lookups: Mapping[str, Q]
    value: str = ""


@dataclass(frozen=True)
class Listing(Generic[ModelT]):
    """One page of a list. `total` is None where counting would read the whole table (logs)."""

    rows: list[ModelT]
    number: int
    has_next: bool
    total: int | None
    query: str
    filters: list[Filter]
    per_page: int = PER_PAGE
    # Where a search in a log stopped: of the entry, as ?before= takes it, and the day for people.
    stopped_at: str = ""
    stopped_day: datetime | None = None

    @property
    def has_previous(self) -> bool:
        return self.number > 1

    @property
    def previous(self) -> int:
        return self.number - 1

    @property
    def next(self) -> int:
        return self.number + 1

    @property
    def first(self) -> int:
        return (self.number - 1) * self.per_page + 1

    @property
    def last(self) -> int:
        return self.first + len(self.rows) - 1

    @property
    def is_narrowed(self) -> bool:
        return bool(self.query) or any(item.value for item in self.filters)

    def __iter__(self) -> Iterator[ModelT]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def list_page(
    request: HttpRequest,
    queryset: QuerySet[ModelT],
    *,
    search: Sequence[str],
    filters: Sequence[Filter] = (),
    counted: bool = True,
) -> Listing[ModelT]:
    """Narrow by ?q= over the named columns and by the filters' drop-downs, and cut out ?page=.

    `counted=False` is for logs: nothing is counted, and what is searched for is looked for among the newest entries.
    """
    query = request.GET.get("q", "").replace("\0", "").strip()[:200]
    chosen = [replace(item, value=_chosen(request, item)) for item in filters]
    narrowed = bool(query) or any(item.value for item in chosen)
    reach = Reach() if counted or not narrowed else _reach(request, queryset)
    queryset = queryset.filter(reach.condition)
    if query:
        condition = Q()
        for column in search:
            condition |= (
                Q(**{f"{column}__icontains": query}) if counted else _contains(request, queryset, column, query)
            )
        queryset = queryset.filter(condition)
    for item in chosen:
        if item.value:
            queryset = queryset.filter(item.lookups[item.value])
    number = _page_number(request.GET.get("page", ""))
    start = (number - 1) * PER_PAGE
    rows = list(_cut(queryset, start))
    has_next = len(rows) > PER_PAGE
    return Listing(
        rows=rows[:PER_PAGE],
        number=number,
        has_next=has_next,
        total=queryset.count() if counted else None,
        query=query,
        filters=chosen,
        stopped_at="" if has_next else reach.stopped_at,
        stopped_day=reach.stopped_day,
    )


def _cut(queryset: QuerySet[ModelT], start: int) -> QuerySet[ModelT]:
    """One row more than the page, to see whether another follows. What a list looks up for each row is looked up for
    this page only, not for the rows before it as well."""
    part = slice(start, start + PER_PAGE + 1)
    if not start:
        return queryset[part]
    return queryset.filter(pk__in=list(queryset.values_list("pk", flat=True)[part]))


def _contains(request: HttpRequest, queryset: QuerySet[Any], column: str, query: str) -> Q:
    """A column of a related row is looked for among the organization's rows of that kind first: they are far fewer than
    the entries of a log."""
    relation, _, rest = column.partition("__")
    if not rest:
        return Q(**{f"{column}__icontains": query})
    related = queryset.model._meta.get_field(relation).related_model
    rows = related._base_manager.filter(organization=cast(OrganizationRequest, request).organization)
    return Q(**{f"{relation}__in": rows.filter(**{f"{rest}__icontains": query}).values("pk")})


def _chosen(request: HttpRequest, item: Filter) -> str:
    value = request.GET.get(item.name, "")
    return value if value in item.lookups else ""


@dataclass(frozen=True)
class Reach:
    """The part of a log that one search looks through."""

    condition: Q = field(default_factory=Q)
    stopped_at: str = ""
    stopped_day: datetime | None = None


def _reach(request: HttpRequest, queryset: QuerySet[ModelT]) -> Reach:
    """The newest entries, or those before ?before=. The log is ordered by one column, newest first, that is indexed."""
    order = str(queryset.query.order_by[0])
    column = order.removeprefix("-")
    before = _moment(queryset.model._meta.get_field(column), request.GET.get("before", ""))
    condition = Q() if before is None else Q(**{f"{column}__lt": before})
    stop = queryset.filter(condition).values_list(column, "created_at")[SEARCHED_ENTRIES:].first()
    if stop is None:
        return Reach(condition)
    text = stop[0].isoformat() if isinstance(stop[0], datetime) else str(stop[0])
    return Reach(condition & Q(**{f"{column}__gte": stop[0]}), text, stop[1])


def _moment(column: Any, text: str) -> Any:
    try:
        value = column.to_python(text[:40]) if text else None
    except ValidationError:
        return None
    return timezone.make_aware(value) if isinstance(value, datetime) and timezone.is_naive(value) else value


def _page_number(text: str) -> int:
    return min(int(text), MAX_PAGE) if text.isascii() and text.isdigit() and len(text) < 6 and int(text) > 0 else 1
