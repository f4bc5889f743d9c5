"""The door of the staff area. To everybody else it is not there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any, cast

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone

from accounts.actions.support import active_support_session, record_support_page
from accounts.actor import Actor
from accounts.http import declares, login_required
from accounts.models import Organization, SupportSession, User
from accounts.permissions import Permission
from accounts.staff import staff_actor
from accounts.staff_factor import second_factor_first

View = Callable[..., HttpResponse]


class StaffRequest(HttpRequest):
    """A request of a staff member, as views of the staff area receive it."""

    user: User
    actor: Actor


def staff_only(view: View) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not (request.user.is_active and request.user.is_staff):
            raise Http404
        asked = second_factor_first(request)
        if asked is not None:
            return asked
        cast(StaffRequest, request).actor = staff_actor(request)
        return view(request, *args, **kwargs)

    return declares(Permission.STAFF)(login_required(guarded))


def in_support_session(view: View) -> View:
    """For pages with an organization's data: without a running session they lead to where one is started."""

    @wraps(view)
    def guarded(request: StaffRequest, organization_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        organization = any_organization(organization_id)
        session = active_support_session(request.user, organization.team_name, timezone.now())
        if session is None:
            return HttpResponseRedirect(reverse("staff_organization", args=[organization.pk]))
        if request.method == "GET":
            record_support_page(session, page=request.get_full_path(), is_part=False, actor=request.actor)
        return view(request, session, *args, **kwargs)

    return staff_only(guarded)


def any_organization(organization_id: str) -> Organization:
    return get_object_or_404(Organization, pk=organization_id)


def staff_page(
    request: StaffRequest, template: str, *, title: str, session: SupportSession | None = None, **context: Any
) -> HttpResponse:
    status = context.pop("status", 200)
    return render(request, f"staff/{template}", {"title": title, "support_session": session, **context}, status=status)


def now() -> datetime:
    return timezone.now()
