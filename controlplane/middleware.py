"""What every request passes: which host is it for, who vouches for its client address, how errors are shown."""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Callable
from typing import Any, cast

from django.conf import settings
from django.db import InternalError, OperationalError
from django.db.models import CharField
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import Resolver404, get_resolver

from access.routing import find_application
from accounts.errors import DomainError, TemporarilyUnavailable
from accounts.models import Organization
from accounts.prepared import Parameter, PreparedRows
from accounts.zones import activate_zone

log = logging.getLogger(__name__)
_ORGANIZATION = PreparedRows(lambda: Organization.objects.filter(team_name=Parameter("team_name", CharField())))
GetResponse = Callable[[HttpRequest], HttpResponse]

_EDGE_HEADERS = ("HTTP_SALLYPORT_EDGE_TOKEN", "HTTP_SALLYPORT_CLIENT_IP", "HTTP_SALLYPORT_RAY")
_FORWARDED = ("HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_FORWARDED")
# Endpoints for programs: no session, CSRF, messages. Each authenticates its callers itself.
_MACHINE_PREFIXES = ("/client/v4/", "/agent/v1/", "/cdn-cgi/access/scim/")
_MACHINE_PATHS = frozenset(
    {"/healthz", "/cdn-cgi/access/cert_sign", "/cdn-cgi/access/certs", "/cdn-cgi/access/metadata"}
)
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:{img_src}; font-src 'self'; "
    "connect-src 'self'; form-action {form_action}; frame-ancestors 'none'; base-uri 'none'; manifest-src 'self'"
)


class HostGuard:
    """Decides by Host which URLs exist, and whose word on the client address counts.

    Sets request.client_ip, request.ray_id, request.via_edge, and on team domains request.organization, on application
    hosts request.application. Dashboard hosts are reachable directly; team domains and application hosts only through
    an edge that shows EDGE_TOKEN. Anything else is a 404 that tells nothing.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        via_edge = _shows_edge_token(request)
        context = cast(Any, request)
        context.via_edge = via_edge
        peer = request.META.get("REMOTE_ADDR") or "127.0.0.1"
        context.client_ip = (request.META.get("HTTP_SALLYPORT_CLIENT_IP") or peer) if via_edge else peer
        context.ray_id = (request.META.get("HTTP_SALLYPORT_RAY") if via_edge else None) or secrets.token_hex(8)
        for name in _EDGE_HEADERS if via_edge else _EDGE_HEADERS + _FORWARDED:
            request.META.pop(name, None)
        if not self._place(request, via_edge):
            return HttpResponse("Nothing is served under this name.\n", status=404, content_type="text/plain")
        return self.get_response(request)

    def _place(self, request: HttpRequest, via_edge: bool) -> bool:
        host = request.META.get("HTTP_HOST", "").lower()
        name = host.rsplit(":", 1)[0] if ":" in host and not host.endswith("]") else host
        if name in settings.DASHBOARD_HOSTS or host in settings.DASHBOARD_HOSTS:
            return True
        if not via_edge:
            return False
        if "\0" in request.path_info or "%00" in request.META.get("QUERY_STRING", ""):
            # No name of ours has a NUL, and PostgreSQL answers one with an error instead of nothing found.
            return False
        context = cast(Any, request)
        suffix = f".{settings.ACCESS_DOMAIN}"
        if name.endswith(suffix):
            organization = _ORGANIZATION.first(team_name=name.removesuffix(suffix))
            context.organization = organization
            context.urlconf = "access.team_urls"
            return organization is not None
        application = find_application(name, request.path_info, request.GET.get("aud"))
        context.application = application
        context.organization = application.organization if application else None
        context.urlconf = "access.app_urls"
        return application is not None


class SecurityHeaders:
    """Strict Content-Security-Policy (no inline script or style) on every answer.

    Views that post to another origin (a login form that ends in a redirect to an application host) widen form-action
    by setting `response.csp_form_action` to the extra sources; a page with logos widens img-src by `csp_img_src`.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        extra = getattr(response, "csp_form_action", "")
        pictures = "".join(f" {source}" for source in sorted(getattr(response, "csp_img_src", ())))
        response.setdefault(
            "Content-Security-Policy", _CSP.format(form_action=f"'self' {extra}".strip(), img_src=pictures)
        )
        response.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
        response.setdefault("Cross-Origin-Opener-Policy", "same-origin")
        response.setdefault("X-Content-Type-Options", "nosniff")
        if not request.path_info.startswith(settings.STATIC_URL):
            response.setdefault("Cache-Control", "no-store")
        return response


class MachineShortcut:
    """Answers machine endpoints without the session, CSRF, message and login layers beneath (performance.md 1)."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        path = request.path_info
        if not path.startswith(_MACHINE_PREFIXES) and path not in _MACHINE_PATHS:
            return self.get_response(request)
        try:
            match = get_resolver(getattr(request, "urlconf", None)).resolve(path)
            request.resolver_match = match
            return cast(HttpResponse, match.func(request, *match.args, **match.kwargs))
        except (Resolver404, Http404):
            return api_error(404, 7003, f"No route for {path}.")
        except DomainError as error:
            return domain_error_json(request, error)
        except Exception:
            log.exception("machine endpoint failed", extra={"path": path})
            return api_error(500, 10013, "Internal error. The server's log has the details.")


class ViewersZone:
    """Times are shown in the viewer's zone (accounts/zones.py); machine endpoints have answered before this."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        activate_zone(request)
        return self.get_response(request)


class DomainErrors:
    """The one place where our errors become pages (machine endpoints: MachineShortcut, controlplane/api.py)."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        exception = bounded(exception)
        if not isinstance(exception, DomainError):
            return None
        if "application/json" in request.headers.get("Accept", ""):
            return domain_error_json(request, exception)
        return render(request, "error.html", {"error": exception}, status=exception.status)


def bounded(exception: Exception) -> Exception:
    """A database that takes no changes (read-only, disk full, a statement that took too long, two changes that met):
    nothing was saved, and trying again may help. Its own words are for the log alone (fault 8)."""
    if not isinstance(exception, OperationalError | InternalError):
        return exception
    log.error("the database refused", exc_info=exception)
    message = "The database does not take changes right now. Nothing was saved; try again in a moment."
    return TemporarilyUnavailable(message, code="database_unavailable")


def api_error(status: int, code: int, message: str) -> JsonResponse:
    """The public envelope for a failure (product.md 3.1); content type exactly application/json."""
    body = {"success": False, "errors": [{"code": code, "message": message}], "messages": [], "result": None}
    return JsonResponse(body, status=status)


def domain_error_json(request: HttpRequest, error: DomainError) -> JsonResponse:
    if request.path_info.startswith("/client/v4/"):
        return api_error(error.status, error.api_code, error.message)
    body = {"status": error.status, "reason": error.code, "message": error.message}
    response = JsonResponse(body, status=error.status)
    if error.status == 503:
        response["Retry-After"] = "2"
    return response


def _shows_edge_token(request: HttpRequest) -> bool:
    shown = request.META.get("HTTP_SALLYPORT_EDGE_TOKEN", "")
    return bool(shown) and hmac.compare_digest(shown.encode(), settings.EDGE_TOKEN.encode())
