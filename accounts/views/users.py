"""My Team, Users: identities as the login methods know them, with their sessions."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from accounts.actions.identities import disable_identity, enable_identity
from accounts.actions.sessions import revoke_identity_sessions, revoke_session
from accounts.http import OrganizationRequest, requires
from accounts.models import AccessSession, Identity
from accounts.pages import Filter, at, done, find, list_page, show, telling
from accounts.permissions import Permission

MAX_FAILED_SHOWN = 20


@requires(Permission.IDENTITY_READ)
@require_GET
def users(request: OrganizationRequest) -> HttpResponse:
    now = timezone.now()
    live = Q(sessions__revoked_at=None, sessions__expires_at__gt=now)
    rows = (
        Identity.objects.for_organization(request.organization)
        .select_related("provider")
        .annotate(live_sessions=Count("sessions", filter=live))
        .order_by("email", "id")
    )
    state = Filter(
        "state",
        "State",
        [("enabled", "Enabled"), ("disabled", "Disabled")],
        {"enabled": Q(disabled_at=None), "disabled": Q(disabled_at__isnull=False)},
    )
    listing = list_page(request, rows, search=("email", "name", "subject"), filters=[state])
    return show(request, "accounts/users.html", title="Users", listing=listing)


@requires(Permission.IDENTITY_READ)
@require_GET
def user_detail(request: OrganizationRequest, identity_id: UUID) -> HttpResponse:
    identity = _identity(request, identity_id)
    sessions = AccessSession.objects.for_organization(request.organization).filter(identity=identity)
    listing = list_page(request, sessions.order_by("-created_at"), search=("ip_address", "user_agent"))
    failed = identity.access_requests.filter(action="login", allowed=False)
    return show(
        request,
        "accounts/user_detail.html",
        title=str(identity),
        crumbs=[("Users", at(request, "users"))],
        identity=identity,
        listing=listing,
        authenticators=identity.authenticators.all(),
        failed=failed.order_by("-created_at")[:MAX_FAILED_SHOWN],
        can_read_logs=request.can(Permission.LOGS_READ),
        now=timezone.now(),
    )


@requires(Permission.IDENTITY_EDIT)
@require_POST
def user_disable(request: OrganizationRequest, identity_id: UUID) -> HttpResponse:
    identity = _identity(request, identity_id)
    with telling(request):
        disable_identity(identity, actor=request.actor)
        messages.success(request, f"{identity} is disabled: sessions ended, no new logins or certificates.")
    return redirect(at(request, "user_detail", identity.pk))


@requires(Permission.IDENTITY_EDIT)
@require_POST
def user_enable(request: OrganizationRequest, identity_id: UUID) -> HttpResponse:
    identity = _identity(request, identity_id)
    with telling(request):
        enable_identity(identity, actor=request.actor)
        messages.success(request, f"{identity} may log in again, where policies allow it.")
    return redirect(at(request, "user_detail", identity.pk))


@requires(Permission.IDENTITY_EDIT)
@require_POST
def user_revoke_sessions(request: OrganizationRequest, identity_id: UUID) -> HttpResponse:
    identity = _identity(request, identity_id)
    with telling(request):
        count = revoke_identity_sessions(identity, actor=request.actor)
        messages.success(request, f"{count} session{'' if count == 1 else 's'} of {identity} ended.")
    return redirect(at(request, "user_detail", identity.pk))


@requires(Permission.IDENTITY_EDIT)
@require_POST
def session_revoke(request: OrganizationRequest, session_id: UUID) -> HttpResponse:
    rows = AccessSession.objects.for_organization(request.organization).select_related("identity", "organization")
    session = find(rows, pk=session_id)
    with telling(request):
        revoke_session(session, actor=request.actor)
        return done(request, f"The session of {session.identity} is ended.", "user_detail", session.identity_id)
    return redirect(at(request, "user_detail", session.identity_id))


def _identity(request: OrganizationRequest, identity_id: UUID) -> Identity:
    rows = Identity.objects.for_organization(request.organization).select_related("provider", "organization")
    return find(rows, pk=identity_id)
