"""Invitations: made, sent again and withdrawn by members; opened and accepted by the invited person."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from accounts.actions.invitations import (
    accept_invitation,
    check_invitation,
    find_invitation,
    invite_member,
    invited_person,
    renew_invitation,
    withdraw_invitation,
)
from accounts.allauth_adapter import remember_invitation
from accounts.errors import DomainError
from accounts.forms import InvitationForm
from accounts.http import OrganizationRequest, declares, requires
from accounts.models import Invitation, User
from accounts.pages import at, confirmed, done, find, posted, refusals, show, telling
from accounts.permissions import Permission, role_table


@requires(Permission.MEMBERS_EDIT)
@require_http_methods(["GET", "POST"])
def member_invite(request: OrganizationRequest) -> HttpResponse:
    form = InvitationForm(posted(request))
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            invitation = invite_member(
                request.organization,
                email=form.cleaned_data["email"],
                role=form.cleaned_data["role"],
                user=request.user,
                actor=request.actor,
            )
            return done(request, f"{invitation.email} is invited. The mail is on its way.", "members")
    back = at(request, "members")
    return show(
        request,
        "accounts/member_invite.html",
        title="Invite a member",
        crumbs=[("Members", back)],
        form=form,
        back=back,
        roles=role_table(),
    )


@requires(Permission.MEMBERS_EDIT)
@require_POST
def invitation_resend(request: OrganizationRequest, invitation_id: UUID) -> HttpResponse:
    invitation = _invitation(request, invitation_id)
    with telling(request):
        renew_invitation(invitation, user=request.user, actor=request.actor)
        messages.success(request, f"A new mail to {invitation.email} is on its way. The link before it is dead.")
    return redirect(at(request, "members"))


@requires(Permission.MEMBERS_EDIT)
@require_http_methods(["GET", "POST"])
def invitation_withdraw(request: OrganizationRequest, invitation_id: UUID) -> HttpResponse:
    invitation = _invitation(request, invitation_id)
    return confirmed(
        request,
        lambda: withdraw_invitation(invitation, actor=request.actor),
        said=f"The invitation of {invitation.email} is withdrawn.",
        question=f"Withdraw the invitation of {invitation.email}?",
        consequences=["The link in the mail stops working at once. You can invite them again."],
        button="Withdraw invitation",
        crumbs=[("Members", at(request, "members"))],
    )


@declares(Permission.PUBLIC)
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """What the mailed link opens. Looking changes nothing; accepting is a POST of the signed-in person."""
    if request.method not in {"GET", "HEAD", "POST"}:
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
    user = request.user if request.user.is_authenticated else None
    found = None
    try:
        found = find_invitation(token)
        if request.method == "POST" and user is not None:
            return _accept(request, found, user)
        check_invitation(found, timezone.now())
    except DomainError as error:
        return render(request, "accounts/invitation_ended.html", {"error": error}, status=error.status)
    page: dict[str, Any] = {"invitation": found, "fits": user is not None and user.email.lower() == found.email}
    if user is None:
        page["has_account"] = User.objects.filter(email=found.email).exists()
        remember_invitation(request, found)
    return render(request, "accounts/invitation.html", page)


def _accept(request: HttpRequest, found: Invitation, user: User) -> HttpResponse:
    actor = invited_person(user, getattr(request, "client_ip", None))
    membership = accept_invitation(found, user=user, actor=actor)
    organization = found.organization
    role = membership.get_role_display().lower()
    messages.success(request, f"Welcome to {organization.name}: you are a member now, as {role}.")
    return redirect("organization_home", team=organization.team_name)


def _invitation(request: OrganizationRequest, invitation_id: UUID) -> Invitation:
    rows = Invitation.objects.for_organization(request.organization).select_related("organization")
    return find(rows, pk=invitation_id)
