"""What SSH hosts fetch from the team domain: the CA file and the revocation list of one application.

Both are public: keys that verify, and serials. The audience tag in the path is the application's public name. Hosts
replace each file in one step (security.md 6.3: a half-written CA file or list locks everybody out).
"""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.utils import timezone

from access.actions.authorities import ca_file
from access.actions.certificates import revocation_list
from access.models import Application
from accounts.http import declares
from accounts.models import Organization
from accounts.permissions import Permission

CACHE_SECONDS = 30


@declares(Permission.PUBLIC)
def ca_pub(request: HttpRequest, aud: str) -> HttpResponse:
    """For TrustedUserCAKeys. 404 while the application has no authority: an empty file would lock everybody out."""
    if request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET", "HEAD"])
    content = ca_file(_application(request, aud))
    if not content:
        raise Http404("The application has no SSH authority yet.")
    return _file(content.encode(), "text/plain; charset=utf-8")


@declares(Permission.PUBLIC)
def revoked_krl(request: HttpRequest, aud: str) -> HttpResponse:
    """For RevokedKeys: a KRL of certificates that were revoked, or whose session or identity was, and still live."""
    if request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET", "HEAD"])
    return _file(revocation_list(_application(request, aud), now=timezone.now()), "application/octet-stream")


def _application(request: HttpRequest, aud: str) -> Application:
    organization: Organization = request.organization  # type: ignore[attr-defined]
    application = (
        Application.objects.for_organization(organization).select_related("organization").filter(aud=aud).first()
    )
    if application is None:
        raise Http404("No such application.")
    return application


def _file(content: bytes, content_type: str) -> HttpResponse:
    response = HttpResponse(content, content_type=content_type)
    response["Cache-Control"] = f"public, max-age={CACHE_SECONDS}"
    return response
