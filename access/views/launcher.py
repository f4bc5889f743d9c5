"""The App Launcher: what the person may reach, who they are to this organization, and where they are logged in."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from django.db.models import Q, QuerySet
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone

from access.actions.consent import REQUEST_DAYS
from access.actions.logins import identity_actor
from access.decisions import decide_many
from access.evaluation import QUESTIONS, Decision
from access.login_links import LoginContext
from access.models import Application, ApprovalRequest
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

MAX_TILES = 200
_HOST = re.compile(r"[A-Za-z0-9.-]+(?::\d{1,5})?")
MAX_SESSIONS = 50
MAX_REQUESTS = 20


@public_page("GET", "HEAD")
def launcher(request: PublicRequest) -> HttpResponse:
    now = timezone.now()
    session = team_session(request, now)
    if session is None:
        return login_page(request, LoginContext(redirect_path="/"))
    tiles = _reachable(request, session, now)
    page = {
        "identity": session.identity,
        "applications": tiles,
        "requests": _own_requests(session, now),
        "current": session,
        "sessions": _live_sessions(session, now),
        "document": json.dumps(identity_document(session), indent=2, ensure_ascii=False, default=str),
    }
    response = show(request, "launcher.html", page)
    # Only the hosts that logos are on, and only on this page.
    cast(Any, response).csp_img_src = {origin for tile in tiles if (origin := _logo_origin(tile))}
    return response


@public_page("POST")
def end_session(request: PublicRequest) -> HttpResponse:
    """One of the person's own sessions; anybody else's does not exist here."""
    own = _required_session(request)
    session = _live_sessions_query(own, timezone.now()).filter(pk=parse_id(request.POST.get("session", ""))).first()
    if session is None:
        raise NotFound("This session has ended already.")
    revoke_session(session, actor=identity_actor(own, request.client_ip))
    response = redirect_to(reverse("public_launcher"), status=303)
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


def _reachable(request: PublicRequest, session: AccessSession, now: datetime) -> list[Application]:
    """Tiles: visible, on a real hostname, and let in by login method and policies right now."""
    applications = list(
        Application.objects.for_organization(request.organization)
        .select_related("organization")
        .prefetch_related("allowed_providers")
        .filter(app_launcher_visible=True)
        .exclude(hostname__startswith="*")[:MAX_TILES]
    )
    decisions = decide_many(applications, session=session, ip=request.client_ip, now=now)
    return [
        application
        for application in applications
        if _admits_provider(application, session) and _may_enter(decisions[application.pk])
    ]


def _logo_origin(application: Application) -> str:
    """ "https://host[:port]" of its logo; "" for none, and for what was stored before logos were checked."""
    try:
        parts = urlsplit(str(application.settings.get("logo_url") or ""))
        is_fit = parts.scheme == "https" and _HOST.fullmatch(parts.netloc)
    except ValueError:
        return ""
    return f"https://{parts.netloc}" if is_fit else ""


def _own_requests(session: AccessSession, now: datetime) -> list[ApprovalRequest]:
    """Temporary access that the person has now, and what they still wait for."""
    rows = ApprovalRequest.objects.for_organization(session.organization).select_related("application__organization")
    active = Q(status=ApprovalRequest.Status.APPROVED, ends_at__gt=now)
    waiting = Q(status=ApprovalRequest.Status.PENDING, created_at__gt=now - timedelta(days=REQUEST_DAYS))
    return list(rows.filter(active | waiting, identity=session.identity).order_by("-created_at")[:MAX_REQUESTS])


def _may_enter(decision: Decision) -> bool:
    """Also where something is asked for first: the tile leads to that question."""
    return decision.allowed or decision.reason in QUESTIONS


def _admits_provider(application: Application, session: AccessSession) -> bool:
    chosen = {provider.pk for provider in application.allowed_providers.all()}
    return not chosen or session.identity.provider_id in chosen


def _required_session(request: PublicRequest) -> AccessSession:
    session = team_session(request, timezone.now())
    if session is None:
        raise AuthenticationFailed("Your session has ended. Log in again.", code="not_logged_in")
    return session


def _live_sessions(session: AccessSession, now: datetime) -> list[AccessSession]:
    return list(_live_sessions_query(session, now).order_by("-created_at")[:MAX_SESSIONS])


def _live_sessions_query(session: AccessSession, now: datetime) -> QuerySet[AccessSession]:
    return (
        AccessSession.objects.for_organization(session.organization)
        .select_related("identity", "organization")
        .filter(identity=session.identity, revoked_at__isnull=True, expires_at__gt=now)
    )
