"""Settings, Organization: who of the installation's support staff may look in, and ending or allowing it."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from accounts.actions.organizations import update_organization
from accounts.actions.support import allow_support_session, end_support_session
from accounts.http import OrganizationRequest, requires
from accounts.models import SupportSession
from accounts.pages import at, done, find, telling
from accounts.permissions import Permission


@requires(Permission.ORGANIZATION_EDIT)
@require_POST
def support_consent(request: OrganizationRequest) -> HttpResponse:
    wanted = request.POST.get("support_needs_consent") == "on"
    update_organization(request.organization, actor=request.actor, support_needs_consent=wanted)
    said = "Support staff have to ask first." if wanted else "Support staff can start a session by themselves."
    return done(request, said, "organization_settings")


@requires(Permission.ORGANIZATION_EDIT)
@require_POST
def support_allow(request: OrganizationRequest, support_session_id: UUID) -> HttpResponse:
    session = _own(request, support_session_id)
    with telling(request):
        allow_support_session(session, actor=request.actor)
        messages.success(request, f"{session.staff_label} may look in now. Each page they open is in the audit log.")
    return redirect(at(request, "organization_settings"))


@requires(Permission.ORGANIZATION_EDIT)
@require_POST
def support_end(request: OrganizationRequest, support_session_id: UUID) -> HttpResponse:
    session = _own(request, support_session_id)
    ended = end_support_session(session, actor=request.actor)
    said = (
        f"The support session of {session.staff_label} is over." if ended else "That support session had ended before."
    )
    return done(request, said, "organization_settings")


def _own(request: OrganizationRequest, support_session_id: UUID) -> SupportSession:
    rows = SupportSession.objects.for_organization(request.organization).select_related("organization")
    return find(rows, pk=support_session_id)
