"""My account: who the person is to this organization, where they are logged in, which certificates they got."""

from __future__ import annotations

import json
from datetime import datetime

from django.db.models import QuerySet
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone

from access.actions.logins import identity_actor
from access.login_links import LoginContext
from access.models import Certificate
from access.views.arrival import login_page
from access.views.identity import identity_document
from access.views.public import (
    PublicRequest,
    end_session_cookie,
    parse_id,
    public_page,
    redirect_to,
    show,
    team_session,
)
from accounts.actions.sessions import revoke_identity_sessions, revoke_session
from accounts.errors import AuthenticationFailed, NotFound
from accounts.models import AccessSession

MAX_SESSIONS = 50
MAX_CERTIFICATES = 20


@public_page("GET", "HEAD")
def account(request: PublicRequest) -> HttpResponse:
    now = timezone.now()
    session = team_session(request, now)
    if session is None:
        return login_page(request, LoginContext(redirect_path=reverse("public_my_account")))
    page = {
        "identity": session.identity,
        "current": session,
        "sessions": list(_live_sessions(session, now).order_by("-created_at")[:MAX_SESSIONS]),
        "certificates": _certificates(session),
        "document": json.dumps(identity_document(session), indent=2, ensure_ascii=False, default=str),
        "now": now,
    }
    return show(request, "my_account.html", page)


@public_page("POST")
def end_session(request: PublicRequest) -> HttpResponse:
    """One of the person's own sessions; anybody else's does not exist here."""
    own = _required_session(request)
    session = _live_sessions(own, timezone.now()).filter(pk=parse_id(request.POST.get("session", ""))).first()
    if session is None:
        raise NotFound("This session has ended already.")
    revoke_session(session, actor=identity_actor(own, request.client_ip))
    response = redirect_to(reverse("public_my_account"), status=303)
    if session.pk == own.pk:
        end_session_cookie(response)
    return response


@public_page("POST")
def end_all_sessions(request: PublicRequest) -> HttpResponse:
    own = _required_session(request)
    revoke_identity_sessions(own.identity, actor=identity_actor(own, request.client_ip))
    response = show(request, "signed_out.html", {"everywhere": True})
    end_session_cookie(response)
    return response


def _required_session(request: PublicRequest) -> AccessSession:
    session = team_session(request, timezone.now())
    if session is None:
        raise AuthenticationFailed("Your session has ended. Log in again.", code="not_logged_in")
    return session


def _certificates(session: AccessSession) -> list[Certificate]:
    rows = Certificate.objects.for_organization(session.organization).filter(identity=session.identity)
    return list(rows.select_related("application").defer("certificate").order_by("-created_at")[:MAX_CERTIFICATES])


def _live_sessions(session: AccessSession, now: datetime) -> QuerySet[AccessSession]:
    return (
        AccessSession.objects.for_organization(session.organization)
        .select_related("identity", "organization")
        .filter(identity=session.identity, revoked_at__isnull=True, expires_at__gt=now)
    )
