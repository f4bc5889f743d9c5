"""The door of every dashboard route: who is asking, for which organization, with which permission.

`requires` marks a view with its Permission (tests/test_every_url.py walks the resolver and refuses unmarked routes).
Organization views live below /o/<team>/ and get an OrganizationRequest; a team the user is no member of is a 404.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, cast
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render, resolve_url
from django.utils import timezone

from accounts.actions.support import active_support_session, record_support_page
from accounts.actor import Actor, ActorKind
from accounts.api_requests import asks_for_request, show_request
from accounts.models import Membership, Organization, User
from accounts.permissions import SUPPORT_ROLE, Permission, permission_text, role_allows
from accounts.prepared import Parameter, PreparedRows
from accounts.repeats import answer_once, never_claim
from accounts.staff_factor import second_factor_first

View = Callable[..., HttpResponse]
_MEMBERSHIPS = PreparedRows(
    lambda: (
        Membership.objects.select_related("organization")
        .filter(user=Parameter("user", User._meta.pk))
        .order_by("organization__name")
    )
)


class OrganizationRequest(HttpRequest):
    """A request of a signed-in member, as organization views receive it."""

    user: User
    organization: Organization
    membership: Membership
    # All of the user, by the organizations' names; for support staff none.
    memberships: list[Membership]
    actor: Actor
    client_ip: str

    def can(self, permission: Permission) -> bool:  # bound in requires(); here for the type checker
        raise NotImplementedError


class MarkedView(Protocol):
    permission: Permission

    def __call__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse: ...


def declares(permission: Permission) -> Callable[[View], View]:
    """Mark a view whose own code checks the caller (public pages, edge and team-domain endpoints)."""

    def mark(view: View) -> View:
        cast(MarkedView, view).permission = permission
        return view

    return mark


def signed_in(view: View) -> View:
    """A dashboard page outside any organization: any signed-in user."""
    return declares(Permission.SIGNED_IN)(login_required(view))


def login_required(view: View) -> View:
    """To the sign-in page and back. What cannot be asked for again (a POST) leads back to the page it was sent from."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.user.is_authenticated:
            return view(request, *args, **kwargs)
        asked = request.method in {"GET", "HEAD"}
        back = {"next": request.get_full_path()} if asked else {"next": _page_before(request), "unsent": "1"}
        return HttpResponseRedirect(f"{resolve_url(settings.LOGIN_URL)}?{urlencode(back)}")

    return guarded


def _page_before(request: HttpRequest) -> str:
    """The page a form was on: of this host only, and never the address the form was sent to."""
    referrer = urlsplit(request.headers.get("Referer", ""))
    if referrer.scheme != request.scheme or referrer.netloc != request.get_host():
        return "/"
    return f"{referrer.path}?{referrer.query}" if referrer.query else referrer.path or "/"


def requires(permission: Permission) -> Callable[[View], View]:
    """An organization page. The URL's `team` is resolved and taken out of the view's arguments."""

    def wrap(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, team: str, *args: Any, **kwargs: Any) -> HttpResponse:
            user = cast(User, request.user)
            memberships = _MEMBERSHIPS.all(user=user.pk)
            membership = next((one for one in memberships if one.organization.team_name == team), None)
            if membership is None and user.is_staff:
                return _for_support(request, permission, user, team, lambda: view(request, *args, **kwargs))
            if membership is None:
                raise Http404
            if not role_allows(membership.role, permission):
                page = {"needed": permission_text(permission), "role": membership.get_role_display(), "team": team}
                return render(request, "403.html", page, status=403)
            actor = Actor(ActorKind.USER, str(user.pk), user.email, cast(OrganizationRequest, request).client_ip)
            bound = _bind(request, membership, actor)
            bound.memberships = memberships
            if asks_for_request(request):
                never_claim(bound)
                return show_request(bound, membership.organization, lambda: view(bound, *args, **kwargs))
            return answer_once(bound, lambda: view(bound, *args, **kwargs))

        return declares(permission)(login_required(guarded))

    return wrap


def _for_support(
    request: HttpRequest, permission: Permission, user: User, team: str, view: Callable[[], HttpResponse]
) -> HttpResponse:
    """Staff of the installation: in a support session they see what an auditor sees, and send nothing.

    The page is written into the organization's audit log first; without that there is no page.
    """
    session = active_support_session(user, team, timezone.now())
    if session is None:
        raise Http404
    asked = second_factor_first(request)
    if asked is not None:
        return asked
    if not role_allows(SUPPORT_ROLE, permission) or request.method not in {"GET", "HEAD"}:
        return render(request, "403.html", {"support_session": session}, status=403)
    actor = Actor(ActorKind.STAFF, str(user.pk), user.email, cast(OrganizationRequest, request).client_ip)
    is_part = request.headers.get("HX-Request") == "true"
    record_support_page(session, page=request.get_full_path(), is_part=is_part, actor=actor)
    cast(Any, request).support_session = session
    # Never stored: it only says which pages may be seen.
    _bind(request, Membership(user=user, organization=session.organization, role=SUPPORT_ROLE), actor)
    return view()


def _bind(request: HttpRequest, membership: Membership, actor: Actor) -> OrganizationRequest:
    bound = cast(OrganizationRequest, request)
    bound.organization = membership.organization
    bound.membership = membership
    bound.memberships = []
    bound.actor = actor
    bound.can = lambda permission: role_allows(membership.role, permission)  # type: ignore[method-assign]
    return bound
