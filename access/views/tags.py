"""Settings, Tags: words that applications carry."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Count
from django.http import HttpResponse
from django.views.decorators.http import require_GET, require_http_methods

from access.actions.tags import create_tag, delete_tag, update_tag
from access.forms import TagForm
from access.models import Tag
from accounts.http import OrganizationRequest, requires
from accounts.pages import at, confirmed, done, find, list_page, posted, refusals, show
from accounts.permissions import Permission


@requires(Permission.ACCESS_READ)
@require_GET
def tags(request: OrganizationRequest) -> HttpResponse:
    rows = Tag.objects.for_organization(request.organization).annotate(application_count=Count("applications"))
    listing = list_page(request, rows, search=("name",))
    return show(request, "access/tags.html", title="Tags", listing=listing)


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def tag_add(request: OrganizationRequest) -> HttpResponse:
    form = TagForm(posted(request))
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            tag = create_tag(request.organization, actor=request.actor, **form.cleaned_data)
            return done(request, f"The tag {tag.name} is added. Applications can carry it now.", "tags")
    return _page(request, form, title="Add a tag")


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def tag_edit(request: OrganizationRequest, tag_id: UUID) -> HttpResponse:
    tag = _own(request, tag_id)
    form = TagForm(posted(request), initial={"name": tag.name})
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            renamed = update_tag(tag, actor=request.actor, **form.cleaned_data)
            return done(request, f"The tag is called {renamed.name} now, on all its applications.", "tags")
    return _page(request, form, title=f"Rename {tag.name}")


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def tag_delete(request: OrganizationRequest, tag_id: UUID) -> HttpResponse:
    tag = _own(request, tag_id)
    carried = tag.applications.count()
    return confirmed(
        request,
        lambda: delete_tag(tag, actor=request.actor),
        said=f"The tag {tag.name} is deleted.",
        question=f"Delete the tag {tag.name}?",
        consequences=[
            f"It is taken off {carried} application{'' if carried == 1 else 's'}. Who may reach them does not change."
        ],
        button="Delete tag",
        can_undo=True,
        crumbs=[("Tags", at(request, "tags"))],
    )


def _own(request: OrganizationRequest, tag_id: UUID) -> Tag:
    return find(Tag.objects.for_organization(request.organization), pk=tag_id)


def _page(request: OrganizationRequest, form: TagForm, *, title: str) -> HttpResponse:
    context: dict[str, Any] = {"crumbs": [("Tags", at(request, "tags"))], "back": at(request, "tags")}
    return show(request, "form.html", title=title, form=form, button="Save tag", **context)
