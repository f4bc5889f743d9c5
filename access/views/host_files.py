"""What SSH hosts fetch from the team domain: the CA file and the revocation list of one application.

Both are public: keys that verify, and serials. The audience tag in the path is the application's public name. Hosts
replace each file in one step (security.md 6.3: a half-written CA file or list locks everybody out).
"""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.utils import timezone

from access.actions.authorities import ca_file
from access.actions.certificates import revocation_list
from access.actions.host_fetches import record_ca_fetch, record_krl_fetch
from access.host_setup import host_script
from access.models import Application
from access.ssh_models import host_files_url
from accounts.http import declares
from accounts.models import Organization
from accounts.permissions import Permission

CACHE_SECONDS = 30


@declares(Permission.PUBLIC)
def ca_pub(request: HttpRequest, aud: str) -> HttpResponse:
    """For TrustedUserCAKeys. 404 while the application has no authority: an empty file would lock everybody out."""
    if request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET", "HEAD"])
    application = _application(request, aud)
    content = ca_file(application)
    if not content:
        raise Http404("The application has no SSH authority yet.")
    if request.method == "GET":
        host, ip_address = request.GET.get("host", ""), _client_ip(request)
        sshd, now = request.GET.get("sshd", ""), timezone.now()
        record_ca_fetch(application, host=host, ip_address=ip_address, content=content, now=now, sshd=sshd)
    return _file(content.encode(), "text/plain; charset=utf-8")


@declares(Permission.PUBLIC)
def revoked_krl(request: HttpRequest, aud: str) -> HttpResponse:
    """For RevokedKeys: a KRL of certificates that were revoked, or whose session or identity was, and still live."""
    if request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET", "HEAD"])
    application, now = _application(request, aud), timezone.now()
    if request.method == "GET":
        host, ip_address = request.GET.get("host", ""), _client_ip(request)
        record_krl_fetch(application, host=host, ip_address=ip_address, now=now)
    return _file(revocation_list(application, now=now), "application/octet-stream")


@declares(Permission.PUBLIC)
def host_setup(request: HttpRequest, aud: str) -> HttpResponse:
    """The script that sets a host up; the same for everybody, without a secret."""
    if request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET", "HEAD"])
    return script_response(_application(request, aud))


def script_response(application: Application) -> HttpResponse:
    """host-setup.sh of one application."""
    path = Path(settings.EDGE_CA_FILE) if settings.EDGE_CA_FILE else None
    authority = path.read_text() if path is not None and path.is_file() else ""
    text = host_script(
        base_url=host_files_url(application.organization, application),
        application=application.hostname,
        edge_authority=authority,
    )
    response = _file(text.encode(), "text/x-shellscript; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="host-setup.sh"'
    return response


def _application(request: HttpRequest, aud: str) -> Application:
    organization: Organization = request.organization  # type: ignore[attr-defined]
    application = (
        Application.objects.for_organization(organization).select_related("organization").filter(aud=aud).first()
    )
    if application is None:
        raise Http404("No such application.")
    return application


def _client_ip(request: HttpRequest) -> str:
    found: str = request.client_ip  # type: ignore[attr-defined]
    return found


def _file(content: bytes, content_type: str) -> HttpResponse:
    response = HttpResponse(content, content_type=content_type)
    response["Cache-Control"] = f"public, max-age={CACHE_SECONDS}"
    return response
