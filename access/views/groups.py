"""Access, Groups."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.views.decorators.http import require_GET, require_http_methods

from access.actions.groups import create_group, delete_group, update_group
from access.forms import GroupForm
from access.models import Group
from access.rule_builder import RuleBuilder
from access.rule_text import RuleNames
from accounts.forms import PlainForm
from accounts.http import OrganizationRequest, requires
from accounts.pages import at, done, find, list_page, posted, refusals, sent_once, show, with_input
from accounts.permissions import Permission


@requires(Permission.ACCESS_READ)
@require_GET
def groups(request: OrganizationRequest) -> HttpResponse:
    listing = list_page(request, Group.objects.for_organization(request.organization), search=("name",))
    names = RuleNames(request.organization)
    entries = [(group, names.lines(group.include, group.require, group.exclude)) for group in listing]
    return show(request, "access/groups.html", title="Groups", listing=listing, entries=entries)


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
@sent_once
def group_add(request: OrganizationRequest) -> HttpResponse:
    form, builder, saving = _sent(request)
    lists: dict[str, Any] | None = builder.read() if saving else None
    if lists is not None and form.is_valid():
        with refusals(form):
            group = create_group(request.organization, actor=request.actor, **form.cleaned_data, **lists)
            return done(request, f"The group {group.name} is added.", "groups")
    return _page(request, form, builder, title="Add a group")


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def group_edit(request: OrganizationRequest, group_id: UUID) -> HttpResponse:
    group = find(Group.objects.for_organization(request.organization).select_related("organization"), pk=group_id)
    form, builder, saving = _sent(request, group)
    lists: dict[str, Any] | None = builder.read() if saving else None
    if lists is not None and form.is_valid():
        with refusals(form):
            update_group(group, actor=request.actor, **form.cleaned_data, **lists)
            return done(request, f"The group {form.cleaned_data['name']} is saved, wherever it is used.", "groups")
    return _page(request, form, builder, title=f"Edit {group.name}")


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def group_delete(request: OrganizationRequest, group_id: UUID) -> HttpResponse:
    group = find(Group.objects.for_organization(request.organization).select_related("organization"), pk=group_id)
    form = PlainForm(posted(request))
    if request.method == "POST":
        with refusals(form):
            delete_group(group, actor=request.actor)
            return done(request, f"The group {group.name} is deleted.", "groups")
    return show(
        request,
        "confirm.html",
        title="Delete group",
        crumbs=[("Groups", at(request, "groups"))],
        question=f"Delete the group {group.name}?",
        consequences=["It can only be deleted while no policy and no other group uses it."],
        button="Delete group",
        danger=True,
        back=at(request, "groups"),
        form=form,
    )


def _sent(request: OrganizationRequest, group: Group | None = None) -> tuple[GroupForm, RuleBuilder, bool]:
    """Form, rule builder, and whether the form wants to be saved."""
    initial = {"name": group.name, "is_default": group.is_default} if group else {}
    if request.method != "POST":
        lists = {"include": group.include, "require": group.require, "exclude": group.exclude} if group else {}
        return GroupForm(initial=initial), RuleBuilder.stored(request.organization, lists), False
    builder = RuleBuilder.sent(request.organization, request.POST)
    if builder.take_step(request.POST.get("step", "save")):
        return with_input(GroupForm(initial=initial), request.POST), builder, False
    form = GroupForm(request.POST, initial=initial)
    if builder.read() is None:
        form.add_error(None, "A rule is not complete. Nothing was saved; look at the marked row.")
    return form, builder, True


def _page(request: OrganizationRequest, form: GroupForm, builder: RuleBuilder, *, title: str) -> HttpResponse:
    back = at(request, "groups")
    return show(
        request,
        "access/group_form.html",
        title=title,
        crumbs=[("Groups", back)],
        form=form,
        builder=builder,
        back=back,
        live=True,
    )
