"""The organization's own look on its pages for people: colours, logo, and the one small script of those pages."""

from __future__ import annotations

from django.http import Http404, HttpResponse

from access.stylesheet import page_script
from access.views.public import PublicRequest, public_page
from accounts.login_design import design_of
from accounts.models import OrganizationLogo


@public_page("GET", "HEAD")
def team_stylesheet(request: PublicRequest) -> HttpResponse:
    css = design_of(request.organization.settings).stylesheet()
    return _cached(HttpResponse(css, content_type="text/css; charset=utf-8"))


@public_page("GET", "HEAD")
def logo(request: PublicRequest) -> HttpResponse:
    found = OrganizationLogo.objects.for_organization(request.organization).first()
    if found is None:
        raise Http404
    return found.response()


@public_page("GET", "HEAD")
def script(request: PublicRequest) -> HttpResponse:
    """Tells the server the viewer's zone and copies what has a copy button; pages work without it."""
    return _cached(HttpResponse(page_script()[0], content_type="text/javascript; charset=utf-8"))


def _cached(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "public, max-age=86400"
    return response
