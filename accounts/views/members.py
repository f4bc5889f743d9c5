"""My Team, Members: who uses this dashboard, in which role."""

from __future__ import annotations

from django.db.models import Q
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from accounts.actions.invitations import inviter_may
from accounts.actions.members import change_role, remove_member
from accounts.forms import RoleForm
from accounts.http import OrganizationRequest, requires
from accounts.models import Invitation, Membership
from accounts.pages import Filter, at, confirmed, done, find, list_page, posted, refusals, show
from accounts.permissions import Permission, Role, role_table

MAX_INVITATIONS_SHOWN = 100


@requires(Permission.MEMBERS_READ)
@require_GET
def members(request: OrganizationRequest) -> HttpResponse:
    rows = Membership.objects.for_organization(request.organization).select_related("user").order_by("user__email")
    known = [(role.value, role.value.title()) for role in Role]
    role = Filter("role", "Role", known, {value: Q(role=value) for value, _ in known})
    listing = list_page(request, rows, search=("user__email", "user__name"), filters=[role])
    return show(
        request,
        "accounts/members.html",
        title="Members",
        listing=listing,
        invitations=_open_invitations(request),
        roles=role_table(),
        now=timezone.now(),
    )


def _open_invitations(request: OrganizationRequest) -> list[tuple[Invitation, bool]]:
    """With whether the link would still work as far as the inviter goes."""
    rows = (
        Invitation.objects.for_organization(request.organization)
        .filter(accepted_at=None, withdrawn_at=None)
        .order_by("-created_at")[:MAX_INVITATIONS_SHOWN]
    )
    return [(row, inviter_may(row)) for row in rows]


@requires(Permission.MEMBERS_EDIT)
@require_http_methods(["GET", "POST"])
def member_change_role(request: OrganizationRequest, membership_id: int) -> HttpResponse:
    membership = _membership(request, membership_id)
    form = RoleForm(posted(request), initial={"role": membership.role})
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            change_role(membership, role=form.cleaned_data["role"], actor=request.actor)
            return done(request, f"The role of {membership.user.email} is changed.", "members")
    return _form(request, form, title=f"Role of {membership.user.email}", button="Change role")


@requires(Permission.MEMBERS_EDIT)
@require_http_methods(["GET", "POST"])
def member_remove(request: OrganizationRequest, membership_id: int) -> HttpResponse:
    membership = _membership(request, membership_id)
    email, own = membership.user.email, membership.user_id == request.user.pk
    return confirmed(
        request,
        lambda: remove_member(membership, actor=request.actor),
        said=f"{email} is no longer a member of {request.organization.name}.",
        to=reverse("home") if own else "",
        question=f"Remove {email} from {request.organization.name}?",
        consequences=[
            "They lose the dashboard of this organization at once. Their account and other organizations stay.",
            "API tokens they made are revoked, and invitations they sent stop working.",
        ],
        button="Remove member",
        crumbs=[("Members", at(request, "members"))],
    )


def _form(request: OrganizationRequest, form: RoleForm, *, title: str, button: str) -> HttpResponse:
    back = at(request, "members")
    return show(request, "form.html", title=title, crumbs=[("Members", back)], form=form, button=button, back=back)


def _membership(request: OrganizationRequest, membership_id: int) -> Membership:
    rows = Membership.objects.for_organization(request.organization).select_related("user", "organization")
    return find(rows, pk=membership_id)
