"""Application hosts: the end of a login (`authorized`) and the signed metadata clients discover the team by."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from access import tokens
from access.actions.logins import Admission, HandOverRefused, take_hand_over
from access.models import Application
from access.views.public import PublicRequest, app_session_cookie, public_page, redirect_to, show
from accounts.http import declares
from accounts.models import public_url
from accounts.permissions import Permission
from dataplane.wire.names import COOKIE_AUTH, H_METADATA

_SAME_SITE = {"strict": "Strict", "lax": "Lax", "none": "None"}


@public_page("GET", "HEAD")
def authorized(request: PublicRequest) -> HttpResponse:
    """Takes the one-time code of the team domain and sets the application token, then on to the page asked for."""
    try:
        admission = take_hand_over(
            request.organization,
            hostname=hostname_of(request),
            code=request.GET.get("nonce", ""),
            app_session=app_session_cookie(request),
            now=timezone.now(),
            ip=request.client_ip,
        )
    except HandOverRefused as error:
        page = {"error": error, "again": f"{public_url(hostname_of(request))}/", "reference": request.ray_id}
        return show(request, "error.html", page, status=error.status)
    response = redirect_to(f"{public_url(hostname_of(request))}{admission.redirect_path}")
    _set_token(response, admission)
    return response


def _set_token(response: HttpResponse, admission: Admission) -> None:
    """With Expires: clients take no other cookie for a token (access-client.md 6.1)."""
    application = admission.application
    same_site = _SAME_SITE.get(str(application.settings.get("same_site_cookie_attribute", "")).lower(), "Lax")
    response.set_cookie(
        COOKIE_AUTH,
        admission.token,
        expires=admission.expires_at,
        path=_cookie_path(application),
        secure=True,
        httponly=application.settings.get("http_only_cookie_attribute") is not False,
        samesite=same_site,  # type: ignore[arg-type]  # one of the three literals
    )


def _cookie_path(application: Application) -> str:
    wants_path = application.settings.get("path_cookie_attribute") is True
    return application.path if wants_path and application.path else "/"


@declares(Permission.PUBLIC)
def metadata(request: HttpRequest) -> HttpResponse:
    """Answers `Cf-Access-Metadata-Request` before any authentication (access-client.md 5.1); any method, no body."""
    application: Application = request.application  # type: ignore[attr-defined]
    response = HttpResponse(b"", content_type="text/plain")
    response[H_METADATA] = tokens.mint_metadata(application, hostname_of(request), now=timezone.now())
    return response


def hostname_of(request: HttpRequest) -> str:
    """Host without port, lower case. HostGuard has found an application by it."""
    return request.get_host().lower().partition(":")[0]
