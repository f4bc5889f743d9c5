"""Access, Groups."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.views.decorators.http import require_GET, require_http_methods

from access.actions.groups import create_group, delete_group, obstacle_to_deleting, update_group
from access.forms import GroupForm
from access.lint_context import findings_of_group
from access.models import Group
from access.policy_words import sentence
from access.rule_builder import RuleBuilder
from access.rule_text import RuleNames
from access.saved_tests import applications_using
from access.simulation import Proposal
from access.views.trials import COMPARE, REPLAY, REPLAY_DAYS, asked_step, kept_draft, proposed_group, start_trial
from accounts.http import OrganizationRequest, requires
from accounts.pages import at, confirmed, done, find, list_page, refusals, show, with_input
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
def group_add(request: OrganizationRequest) -> HttpResponse:
    form, builder, step = _sent(request)
    lists: dict[str, Any] | None = builder.read() if step == "save" else None
    if lists is not None and form.is_valid():
        with refusals(form):
            values = {name: value for name, value in form.cleaned_data.items() if name != "override_reason"}
            group = create_group(request.organization, actor=request.actor, **values, **lists)
            return done(request, f"The group {group.name} is added.", "groups")
    return _page(request, form, builder, title="Add a group")


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def group_edit(request: OrganizationRequest, group_id: UUID) -> HttpResponse:
    group = find(Group.objects.for_organization(request.organization).select_related("organization"), pk=group_id)
    form, builder, step = _sent(request, group)
    lists: dict[str, Any] | None = builder.read() if step else None
    if lists is not None and form.is_valid() and step in (COMPARE, REPLAY):
        users = applications_using(request.organization, group.pk)
        proposal = Proposal(users, group=proposed_group(group, {**form.cleaned_data, **lists}))
        answer = start_trial(request, form, step=step, title=f"Edit of the group {group.name}", proposal=proposal)
        if answer is not None:
            return answer
    elif lists is not None and form.is_valid():
        with refusals(form):
            update_group(group, actor=request.actor, **form.cleaned_data, **lists)
            return done(request, f"The group {form.cleaned_data['name']} is saved, wherever it is used.", "groups")
    return _page(request, form, builder, title=f"Edit {group.name}", group=group)


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def group_delete(request: OrganizationRequest, group_id: UUID) -> HttpResponse:
    group = find(Group.objects.for_organization(request.organization).select_related("organization"), pk=group_id)
    obstacle = obstacle_to_deleting(group)
    return confirmed(
        request,
        lambda: delete_group(group, actor=request.actor),
        said=f"The group {group.name} is deleted.",
        question=f"Delete the group {group.name}?",
        consequences=[] if obstacle else ["No policy and no other group uses it."],
        obstacle=obstacle,
        button="Delete group",
        can_undo=True,
        crumbs=[("Groups", at(request, "groups"))],
    )


def _sent(request: OrganizationRequest, group: Group | None = None) -> tuple[GroupForm, RuleBuilder, str]:
    """Form, rule builder, and the step asked for: "" (only shown), "compare" or "replay" (try it), or "save"."""
    initial = {"name": group.name, "is_default": group.is_default} if group else {}
    draft = kept_draft(request) if request.method != "POST" else None
    if draft is not None:
        return with_input(GroupForm(initial=initial), draft), RuleBuilder.sent(request.organization, draft), ""
    if request.method != "POST":
        lists = {"include": group.include, "require": group.require, "exclude": group.exclude} if group else {}
        return GroupForm(initial=initial), RuleBuilder.stored(request.organization, lists), ""
    builder = RuleBuilder.sent(request.organization, request.POST)
    if builder.take_step(request.POST.get("step", "save")):
        return with_input(GroupForm(initial=initial), request.POST), builder, ""
    form = GroupForm(request.POST, initial=initial)
    if builder.read() is None:
        form.add_error(None, "A rule is not complete. Nothing was saved; look at the marked row.")
    return form, builder, asked_step(request)


def _page(
    request: OrganizationRequest, form: GroupForm, builder: RuleBuilder, *, title: str, group: Group | None = None
) -> HttpResponse:
    back = at(request, "groups")
    rules = builder.readable()
    builder.sentence = sentence(builder.names, rules)
    if any(rules.values()):
        builder.findings = findings_of_group(request.organization, rules, group=group)
    return show(
        request,
        "access/group_form.html",
        title=title,
        crumbs=[("Groups", back)],
        form=form,
        builder=builder,
        back=back,
        live=True,
        can_try=group is not None,
        replay_days=REPLAY_DAYS,
    )
