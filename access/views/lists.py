"""My Team, Lists: e-mail addresses and IP ranges that policies and groups refer to."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Q
from django.http import HttpResponse
from django.views.decorators.http import require_GET, require_http_methods

from access.actions.lists import create_list, delete_list, update_list, users_of_lists
from access.forms import ListForm
from access.models import AccessList
from accounts.http import OrganizationRequest, requires
from accounts.pages import Filter, at, confirmed, done, find, list_page, posted, refusals, show
from accounts.permissions import Permission

_CHANGED = ("name", "description", "items", "override_reason")


@requires(Permission.ACCESS_READ)
@require_GET
def lists(request: OrganizationRequest) -> HttpResponse:
    kind = Filter(
        "type", "Type", list(AccessList.Type.choices), {value: Q(type=value) for value in AccessList.Type.values}
    )
    rows = AccessList.objects.for_organization(request.organization)
    listing = list_page(request, rows, search=("name", "description"), filters=[kind])
    users = users_of_lists(request.organization, [row.pk for row in listing])
    entries = [(row, users[row.pk]) for row in listing]
    return show(request, "access/lists.html", title="Lists", listing=listing, entries=entries)


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def list_add(request: OrganizationRequest) -> HttpResponse:
    form = ListForm(posted(request))
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            values = {name: value for name, value in form.cleaned_data.items() if name != "override_reason"}
            row = create_list(request.organization, actor=request.actor, **values)
            return done(request, f"The list {row.name} is added. Rules can name it now.", "lists")
    return _page(request, form, title="Add a list")


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def list_edit(request: OrganizationRequest, list_id: UUID) -> HttpResponse:
    row = _own(request, list_id)
    form = ListForm(posted(request), initial=ListForm.initial_of(row), changes=row)
    if request.method == "POST" and form.is_valid():
        values: dict[str, Any] = {name: form.cleaned_data[name] for name in _CHANGED}
        with refusals(form):
            update_list(row, actor=request.actor, **values)
            return done(request, f"The list {values['name']} is saved, wherever it is used.", "lists")
    return _page(request, form, title=f"Edit {row.name}")


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def list_delete(request: OrganizationRequest, list_id: UUID) -> HttpResponse:
    row = _own(request, list_id)
    return confirmed(
        request,
        lambda: delete_list(row, actor=request.actor),
        said=f"The list {row.name} is deleted.",
        question=f"Delete the list {row.name}?",
        consequences=["It can only be deleted while no policy and no group uses it."],
        button="Delete list",
        can_undo=True,
        crumbs=[("Lists", at(request, "lists"))],
    )


def _own(request: OrganizationRequest, list_id: UUID) -> AccessList:
    return find(AccessList.objects.for_organization(request.organization).select_related("organization"), pk=list_id)


def _page(request: OrganizationRequest, form: ListForm, *, title: str) -> HttpResponse:
    back = at(request, "lists")
    return show(request, "access/list_form.html", title=title, crumbs=[("Lists", back)], form=form, back=back)
