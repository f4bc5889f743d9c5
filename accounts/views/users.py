"""My Team, Users: identities as the login methods know them, with their sessions."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Count, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.actions.identities import disable_identity, enable_identity
from accounts.actions.sessions import revoke_identity_sessions, revoke_session
from accounts.devices import device_of
from accounts.http import OrganizationRequest, requires
from accounts.models import AccessSession, Identity, IdentityProvider
from accounts.pages import Crumbs, Filter, at, confirmed, done, find, list_page, show, telling
from accounts.permissions import Permission

MAX_SHOWN = 20


@requires(Permission.IDENTITY_READ)
@require_GET
def users(request: OrganizationRequest) -> HttpResponse:
    now = timezone.now()
    live = AccessSession.objects.filter(identity=OuterRef("pk"), revoked_at=None, expires_at__gt=now).order_by()
    # Counted for the rows of the page only: a join would count the sessions of everybody first.
    count = Subquery(live.values("identity").annotate(number=Count("pk")).values("number"))
    rows = (
        Identity.objects.for_organization(request.organization)
        .select_related("provider")
        .annotate(live_sessions=Coalesce(count, 0))
        .order_by("email", "id")
    )
    state = Filter(
        "state",
        "State",
        [("enabled", "Enabled"), ("disabled", "Disabled")],
        {"enabled": Q(disabled_at=None), "disabled": Q(disabled_at__isnull=False)},
    )
    providers = {str(row.pk): row.name for row in IdentityProvider.objects.for_organization(request.organization)}
    method = Filter("method", "Login method", list(providers.items()), {key: Q(provider_id=key) for key in providers})
    listing = list_page(request, rows, search=("email", "name", "subject"), filters=[state, method])
    return show(request, "accounts/users.html", title="Users", listing=listing)


@requires(Permission.IDENTITY_READ)
@require_GET
def user_detail(request: OrganizationRequest, identity_id: UUID) -> HttpResponse:
    identity = _identity(request, identity_id)
    sessions = AccessSession.objects.for_organization(request.organization).filter(identity=identity)
    listing = list_page(request, sessions.order_by("-created_at"), search=("ip_address", "user_agent"))
    return show(
        request,
        "accounts/user_detail.html",
        title=str(identity),
        crumbs=[("Users", at(request, "users"))],
        identity=identity,
        listing=listing,
        claims=identity.claims,
        authenticators=identity.authenticators.all(),
        now=timezone.now(),
        **(_history(identity) if request.can(Permission.LOGS_READ) else {}),
    )


def _history(identity: Identity) -> dict[str, Any]:
    """For those who may read logs: the newest entries that name this identity."""
    certificates = identity.certificates.select_related("application").order_by("-created_at", "-id")
    decisions = identity.access_requests.defer("trace", "facts").order_by("-created_at", "-id")
    return {
        "can_read_logs": True,
        "certificates": certificates[:MAX_SHOWN],
        "decisions": decisions[:MAX_SHOWN],
        "failed": decisions.filter(action="login", allowed=False)[:MAX_SHOWN],
    }


@requires(Permission.IDENTITY_EDIT)
@require_http_methods(["GET", "POST"])
def user_disable(request: OrganizationRequest, identity_id: UUID) -> HttpResponse:
    identity = _identity(request, identity_id)
    return confirmed(
        request,
        lambda: disable_identity(identity, actor=request.actor),
        said=f"{identity} is blocked: sessions ended, no new logins or certificates. Unblock undoes it.",
        question=f"Block {identity}?",
        consequences=[
            "All sessions end now; live connections are cut within seconds.",
            "No login, token or certificate is given to them until somebody here unblocks them, whatever policies and "
            f"{identity.provider.name} say.",
            *_not_blocked(identity),
        ],
        button="Block this person",
        crumbs=_crumbs(request, identity),
    )


@requires(Permission.IDENTITY_EDIT)
@require_POST
def user_enable(request: OrganizationRequest, identity_id: UUID) -> HttpResponse:
    identity = _identity(request, identity_id)
    with telling(request):
        enable_identity(identity, actor=request.actor)
        if identity.disabled_at is None:
            messages.success(request, f"{identity} may log in again, where policies allow it.")
        else:
            text = f"The block of {identity} is lifted. They stay out until {identity.provider.name} activates them."
            messages.success(request, text)
    return redirect(at(request, "user_detail", identity.pk))


@requires(Permission.IDENTITY_EDIT)
@require_http_methods(["GET", "POST"])
def user_revoke_sessions(request: OrganizationRequest, identity_id: UUID) -> HttpResponse:
    identity = _identity(request, identity_id)

    def end() -> HttpResponse:
        count = revoke_identity_sessions(identity, actor=request.actor)
        message = f"{count} session{'' if count == 1 else 's'} of {identity} ended."
        return done(request, message, "user_detail", identity.pk)

    return confirmed(
        request,
        end,
        question=f"End all sessions of {identity}?",
        consequences=[
            "Every browser and command-line client of this user is signed out; live connections are cut within "
            "seconds.",
            "They may log in again at once. To stop that, block this person.",
        ],
        button="End all sessions",
        crumbs=_crumbs(request, identity),
    )


@requires(Permission.IDENTITY_EDIT)
@require_http_methods(["GET", "POST"])
def session_revoke(request: OrganizationRequest, session_id: UUID) -> HttpResponse:
    rows = AccessSession.objects.for_organization(request.organization).select_related("identity", "organization")
    session = find(rows, pk=session_id)
    identity = session.identity
    device = f"{device_of(session.user_agent)} at {session.ip_address or 'an unknown address'}"

    def end() -> HttpResponse:
        message = "is ended" if revoke_session(session, actor=request.actor) else "had ended already"
        return done(request, f"The session of {identity} {message}.", "user_detail", identity.pk)

    return confirmed(
        request,
        end,
        question=f"End this session of {identity}?",
        consequences=[
            f"{device}: signed out of all applications, its live connections are cut within seconds.",
            "They may log in again there. Other sessions go on.",
        ],
        button="End session",
        crumbs=_crumbs(request, identity),
    )


def _not_blocked(identity: Identity) -> list[str]:
    """The same address at another login method is another user: say so, or the person comes in by that door."""
    same = Identity.objects.for_organization(identity.organization).filter(email=identity.email, disabled_at=None)
    names = same.exclude(pk=identity.pk).exclude(email="").order_by("provider__name").values_list("provider__name")
    others = ", ".join(name for (name,) in names[:5])
    return [f"{identity.email} is known from {others} too. Block that user as well."] if others else []


def _crumbs(request: OrganizationRequest, identity: Identity) -> Crumbs:
    return [("Users", at(request, "users")), (str(identity), at(request, "user_detail", identity.pk))]


def _identity(request: OrganizationRequest, identity_id: UUID) -> Identity:
    rows = Identity.objects.for_organization(request.organization).select_related("provider", "organization")
    return find(rows, pk=identity_id)
