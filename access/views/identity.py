"""Who am I, and sign me out: for people, applications and scripts."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, JsonResponse
from django.utils import timezone

from access.actions.logins import identity_actor
from access.views.public import (
    PublicRequest,
    application_session,
    end_session_cookie,
    public_page,
    redirect_to,
    show,
    team_session,
)
from accounts.actions.sessions import revoke_session
from accounts.models import AccessSession


@public_page("GET", "HEAD")
def get_identity(request: PublicRequest) -> HttpResponse:
    """The team domain's own session (product.md section 2)."""
    return _identity_answer(team_session(request, timezone.now()))


@public_page("GET", "HEAD")
def get_identity_on_application_host(request: PublicRequest) -> HttpResponse:
    return _identity_answer(application_session(request, timezone.now()))


@public_page("GET", "POST")
def logout(request: PublicRequest) -> HttpResponse:
    """Ends the session: every token of it, on every application host, from now on."""
    session = team_session(request, timezone.now())
    if session is not None:
        revoke_session(session, actor=identity_actor(session, request.client_ip))
    response = show(request, "signed_out.html")
    end_session_cookie(response)
    return response


@public_page("GET", "POST")
def logout_on_application_host(request: PublicRequest) -> HttpResponse:
    """The same session; its cookie at the team domain goes on the next hop."""
    session = application_session(request, timezone.now())
    if session is not None:
        revoke_session(session, actor=identity_actor(session, request.client_ip))
    response = redirect_to(f"{request.organization.team_url}/cdn-cgi/access/logout", status=303)
    end_session_cookie(response)
    return response


def identity_document(session: AccessSession) -> dict[str, Any]:
    identity = session.identity
    return {
        "id": str(identity.id),
        "user_uuid": str(identity.id),
        "account_id": session.organization_id,
        "name": identity.name,
        "email": identity.email,
        "email_verified": identity.email_verified,
        "idp": {"id": str(identity.provider_id), "type": identity.provider.type},
        "groups": identity.groups,
        "oidc_fields": identity.claims,
        "amr": session.all_methods,
        "auth_time": int(session.authenticated_at.timestamp()) if session.authenticated_at else None,
        "geo": {"country": session.country},
        "ip": session.ip_address,
        "iat": int(session.created_at.timestamp()),
        "exp": int(session.expires_at.timestamp()),
        "auth_status": "NONE",
        "common_name": "",
        "service_token_id": "",
        "service_token_status": False,
        "is_warp": False,
        "is_gateway": False,
        "version": 2,
    }


def _identity_answer(session: AccessSession | None) -> HttpResponse:
    if session is None:
        return JsonResponse(
            {"status": 401, "reason": "not_logged_in", "message": "There is no live session here. Log in first."},
            status=401,
        )
    return JsonResponse(identity_document(session))
