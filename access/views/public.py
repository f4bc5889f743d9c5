"""What the pages for end users share: who asks, cookies, rendering, errors shown as pages.

These pages live on team domains and below /cdn-cgi/access/ on application hosts, reached only through an edge
(controlplane.middleware.HostGuard). They need no JavaScript and no Django login.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from typing import Any, cast

from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import render

from access import sessions, tokens
from access.bearer import session_behind, unverified_audience
from access.models import Application
from access.routing import find_application
from access.stylesheet import page_script_url, public_script, public_stylesheet, stylesheet_url
from accounts.actor import Actor, ActorKind
from accounts.errors import DomainError, PermissionDenied
from accounts.http import View, declares
from accounts.login_design import design_of
from accounts.models import AccessSession, Organization
from accounts.permissions import Permission
from dataplane.wire.names import COOKIE_APP_SESSION, COOKIE_AUTH, H_TOKEN

# Binds a login under way to the browser that started it. The prefix keeps sibling hosts from planting one.
BROWSER_COOKIE = "__Host-CF_Session"
# The same value for answers that a provider's page posts to us (SAML): Lax cookies do not come with those.
POSTING_BROWSER_COOKIE = "__Host-CF_SAML"
POSTING_BROWSER_SECONDS = 900
BROWSER_COOKIE_SECONDS = 4 * 3600
_MAX_COOKIE_CHARACTERS = 200


class PublicRequest(HttpRequest):
    """A request as HostGuard leaves it: `organization` on every host, `application` on application hosts."""

    organization: Organization
    application: Application
    client_ip: str
    ray_id: str


PublicView = Callable[..., HttpResponse]


def public_page(*methods: str) -> Callable[[PublicView], View]:
    """A public view for these methods only; our own errors become a page of the same look."""

    def wrap(view: PublicView) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.method not in methods:
                return HttpResponseNotAllowed(methods)
            try:
                return view(cast(PublicRequest, request), *args, **kwargs)
            except DomainError as error:
                return show_error(cast(PublicRequest, request), error)

        return declares(Permission.PUBLIC)(guarded)

    return wrap


def show(
    request: PublicRequest, template: str, context: Mapping[str, Any] | None = None, *, status: int = 200
) -> HttpResponse:
    organization = getattr(request, "organization", None)
    look = design_of(organization.settings if organization is not None else {})
    shown = {"organization": organization, "stylesheet": stylesheet_url(), "look": look}
    shown |= {"page_script": page_script_url(), **(context or {})}
    response = render(request, f"access/public/{template}", shown, status=status)
    # The addresses of these pages carry one-time values: no other origin may see them.
    response["Referrer-Policy"] = "same-origin"
    return response


def show_error(request: PublicRequest, error: DomainError) -> HttpResponse:
    context = {"error": error, "reference": getattr(request, "ray_id", "")}
    response = show(request, "error.html", context, status=error.status)
    if error.status == 429:
        response["Retry-After"] = "600"
    return response


@declares(Permission.PUBLIC)
def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return show(cast(PublicRequest, request), "not_found.html", status=404)


def form_refused(request: HttpRequest) -> HttpResponse:
    """A form without its CSRF token: cookies switched off, or another site's form."""
    message = "The form could not be checked. Allow cookies for this site, go back, reload the page and try again."
    return show_error(cast(PublicRequest, request), PermissionDenied(message, code="form_not_checked"))


def redirect_to(url: str, *, status: int = 302) -> HttpResponse:
    response = HttpResponseRedirect(url)
    response.status_code = status
    response["Referrer-Policy"] = "same-origin"
    return response


# --- Who asks ---------------------------------------------------------------------------------------------


def team_session(request: PublicRequest, now: datetime) -> AccessSession | None:
    """The live session of this browser at the team domain."""
    return sessions.organization_session(request.organization, _cookie(request, COOKIE_AUTH), now=now)


def team_device(request: PublicRequest, now: datetime) -> str:
    return sessions.organization_device(request.organization, _cookie(request, COOKIE_AUTH), now=now)


def application_session(request: PublicRequest, now: datetime) -> AccessSession | None:
    """The live session behind the application token of a client (header) or browser (cookie).

    The token says which application of this host it is for; believing that only chooses what it is checked against.
    """
    token = request.headers.get(H_TOKEN) or _cookie(request, COOKIE_AUTH)
    hostname = request.get_host().lower().partition(":")[0]
    application = find_application(hostname, request.path_info, unverified_audience(token)) if token else None
    if application is None or application.organization_id != request.organization.id:
        return None
    try:
        return session_behind(application, token, now=now)
    except DomainError:
        return None


def app_session_cookie(request: PublicRequest) -> str:
    value = _cookie(request, COOKIE_APP_SESSION)
    return value if len(value) <= _MAX_COOKIE_CHARACTERS else ""


def browser_of(request: PublicRequest) -> str:
    """The pre-login cookie, or a new value for a browser without one (keep_browser sets it)."""
    value = _cookie(request, BROWSER_COOKIE)
    return value if 20 <= len(value) <= _MAX_COOKIE_CHARACTERS else secrets.token_urlsafe(32)


def posting_browser_of(request: PublicRequest) -> str:
    """The browser behind a cross-site POST; "" when this browser started no login that ends in one."""
    value = _cookie(request, POSTING_BROWSER_COOKIE)
    return value if 20 <= len(value) <= _MAX_COOKIE_CHARACTERS else ""


def visitor(request: PublicRequest) -> Actor:
    """Somebody who has not logged in (yet)."""
    return Actor(ActorKind.IDENTITY, "", "not logged in", request.client_ip)


def _cookie(request: PublicRequest, name: str) -> str:
    return request.COOKIES.get(name, "")


def parse_id(text: str) -> uuid.UUID:
    """A row's id as sent by a browser; the nil UUID, which no row has, for anything malformed."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return uuid.UUID(int=0)


# --- Cookies ----------------------------------------------------------------------------------------------


def keep_browser(response: HttpResponse, browser: str) -> None:
    response.set_cookie(
        BROWSER_COOKIE, browser, max_age=BROWSER_COOKIE_SECONDS, secure=True, httponly=True, samesite="Lax"
    )


def keep_posting_browser(response: HttpResponse, browser: str) -> None:
    response.set_cookie(
        POSTING_BROWSER_COOKIE, browser, max_age=POSTING_BROWSER_SECONDS, secure=True, httponly=True, samesite="None"
    )


def start_team_session(response: HttpResponse, session: AccessSession, *, now: datetime) -> None:
    """The organization token, and a fresh browser cookie: nothing from before the login stays valid (AC-39)."""
    response.set_cookie(
        COOKIE_AUTH,
        tokens.mint_organization_token(session, now=now),
        expires=session.expires_at,
        secure=True,
        httponly=True,
        samesite="Lax",
    )
    keep_browser(response, secrets.token_urlsafe(32))
    response.delete_cookie(POSTING_BROWSER_COOKIE, samesite="None")


def end_session_cookie(response: HttpResponse) -> None:
    response.delete_cookie(COOKIE_AUTH, samesite="Lax")


# --- The stylesheet -----------------------------------------------------------------------------------------


@public_page("GET", "HEAD")
def stylesheet(request: PublicRequest) -> HttpResponse:
    """Served below /cdn-cgi/access/, the only path of an application host that is ours."""
    response = HttpResponse(public_stylesheet()[0], content_type="text/css; charset=utf-8")
    response["Cache-Control"] = "public, max-age=86400"
    return response


@public_page("GET", "HEAD")
def script(request: PublicRequest) -> HttpResponse:
    """Passkeys in the browser; on team domains only."""
    response = HttpResponse(public_script()[0], content_type="text/javascript; charset=utf-8")
    response["Cache-Control"] = "public, max-age=86400"
    return response
