"""The door of every dashboard route: who is asking, for which organization, with which permission.

`requires` marks a view with its Permission (tests/test_every_url.py walks the resolver and refuses unmarked routes).
Organization views live below /o/<team>/ and get an OrganizationRequest; a team the user is no member of is a 404.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, cast

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from accounts.actor import Actor, ActorKind
from accounts.models import Membership, Organization, User
from accounts.permissions import Permission, role_allows

View = Callable[..., HttpResponse]


class OrganizationRequest(HttpRequest):
    """A request of a signed-in member, as organization views receive it."""

    user: User
    organization: Organization
    membership: Membership
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


def requires(permission: Permission) -> Callable[[View], View]:
    """An organization page. The URL's `team` is resolved and taken out of the view's arguments."""

    def wrap(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, team: str, *args: Any, **kwargs: Any) -> HttpResponse:
            membership = (
                Membership.objects.select_related("organization")
                .filter(user=cast(User, request.user), organization__team_name=team)
                .first()
            )
            if membership is None:
                raise Http404
            if not role_allows(membership.role, permission):
                return render(request, "403.html", {"permission": permission, "role": membership.role}, status=403)
            return view(_bind(request, membership), *args, **kwargs)

        return declares(permission)(login_required(guarded))

    return wrap


def _bind(request: HttpRequest, membership: Membership) -> HttpRequest:
    bound = cast(OrganizationRequest, request)
    bound.organization = membership.organization
    bound.membership = membership
    bound.actor = Actor(ActorKind.USER, str(bound.user.pk), bound.user.email, bound.client_ip)
    bound.can = lambda permission: role_allows(membership.role, permission)  # type: ignore[method-assign]
    return bound
