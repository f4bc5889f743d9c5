"""Access, Service Auth, tab SSH: certificate authorities of applications, and how hosts come to trust them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.db.models import Count, Q
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from access.actions.authorities import (
    activate_next_authority,
    ca_file,
    create_authority,
    delete_authorities,
    rotate_authority,
)
from access.actions.host_fetches import current_ca_digest
from access.actions.principals import release_principal
from access.forms import GenerateForm
from access.models import Application, HostFetch, PrincipalClaim, SshAuthority
from access.ssh_models import host_files_url
from access.views.applications import own_application
from access.views.host_files import script_response
from accounts.forms import TypedNameForm
from accounts.http import OrganizationRequest, requires
from accounts.pages import Crumbs, at, confirmed, done, find, list_page, posted, refusals, show, telling
from accounts.permissions import Permission
from accounts.tenancy import TenantQuerySet

SSHD_LINES = "PubkeyAuthentication yes\nTrustedUserCAKeys /etc/ssh/ca.pub"
PENALTIES_LINE = "PerSourcePenaltyExemptList 127.0.0.1,::1"
KRL_LINE = "RevokedKeys /etc/ssh/revoked.krl"
_LIVE = (SshAuthority.State.PENDING, SshAuthority.State.ACTIVE)
_MAX_CHOICES = 1000
# Hosts that were set up with our script ask every minute.
HOST_SILENT_AFTER = timedelta(hours=1)


@requires(Permission.ACCESS_READ)
@require_GET
def ssh_authorities(request: OrganizationRequest) -> HttpResponse:
    return _list(request, GenerateForm(applications=_without_authority(request)))


@requires(Permission.ACCESS_EDIT)
@require_POST
def ssh_authority_generate(request: OrganizationRequest) -> HttpResponse:
    form = GenerateForm(request.POST, applications=_without_authority(request))
    if form.is_valid():
        with refusals(form):
            application = own_application(request, UUID(form.cleaned_data["application"]))
            create_authority(application, algorithm=form.cleaned_data["algorithm"], actor=request.actor)
            text = f"The certificate authority of {application.name} is generated."
            return done(request, text, "ssh_authority_detail", application.pk)
    return _list(request, form)


@requires(Permission.ACCESS_READ)
@require_GET
def ssh_authority_detail(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    authorities = list(_authorities(request).filter(application=application).order_by("-created_at"))
    if not authorities:
        raise Http404
    claims = PrincipalClaim.objects.for_organization(request.organization).filter(application=application)
    listing = list_page(
        request, claims.select_related("identity").order_by("principal"), search=("principal", "identity__email")
    )
    active = next((item for item in authorities if item.state == SshAuthority.State.ACTIVE), None)
    return show(
        request,
        "access/ssh_authority_detail.html",
        title=f"SSH certificate of {application.name}",
        crumb=application.name,
        crumbs=_crumbs(request),
        application=application,
        authorities=authorities,
        active=active,
        pending=any(item.state == SshAuthority.State.PENDING for item in authorities),
        next_key=next((item for item in authorities if item.state == SshAuthority.State.NEXT), None),
        listing=listing,
        sshd_lines=SSHD_LINES,
        hosts=_hosts(request, application),
        **_host_files(application),
        live=True,
    )


@requires(Permission.ACCESS_READ)
@require_GET
def ssh_authority_file(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    """ca.pub: every live public key of the application's authority. Public keys only; the page still needs a login."""
    application = own_application(request, application_id)
    if not _authorities(request).filter(application=application).exclude(public_key="").exists():
        raise Http404
    response = HttpResponse(ca_file(application), content_type="text/plain; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="ca.pub"'
    return response


@requires(Permission.ACCESS_READ)
@require_GET
def ssh_host_script(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    """host-setup.sh, for people whose hosts reach no edge yet: read it, copy it there, run it."""
    application = own_application(request, application_id)
    if not _authorities(request).filter(application=application).exclude(public_key="").exists():
        raise Http404
    return script_response(application)


@requires(Permission.ACCESS_READ)
@require_GET
def ssh_hosts(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    """Which hosts fetched the CA file, when, and whether it was the newest: who would miss a rotation."""
    application = own_application(request, application_id)
    rows = HostFetch.objects.for_organization(request.organization).filter(application=application)
    current = current_ca_digest(application)
    listing = list_page(request, rows.order_by("-last_seen_at"), search=("host", "ip_address"))
    now = timezone.now()
    return show(
        request,
        "access/ssh_hosts.html",
        title=f"Hosts of {application.name}",
        crumb="Hosts",
        crumbs=[*_crumbs(request), (application.name, at(request, "ssh_authority_detail", application.pk))],
        application=application,
        listing=listing,
        entries=[(row, row.ca_sha256 == current, now - row.last_seen_at > HOST_SILENT_AFTER) for row in listing],
        **_host_files(application),
        live=True,
    )


@requires(Permission.ACCESS_EDIT)
@require_POST
def ssh_authority_rotate(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    with telling(request):
        rotate_authority(application, actor=request.actor)
        messages.success(
            request,
            "A next key is being made. Put the new ca.pub, which holds both keys, on every host before it signs.",
        )
    return redirect(at(request, "ssh_authority_detail", application.pk))


@requires(Permission.ACCESS_EDIT)
@require_POST
def ssh_authority_activate(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    with telling(request):
        activate_next_authority(application, actor=request.actor)
        messages.success(
            request, "The next key signs from now on. The old one retires when its certificates have expired."
        )
    return redirect(at(request, "ssh_authority_detail", application.pk))


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def ssh_authority_delete(request: OrganizationRequest, application_id: UUID) -> HttpResponse:
    application = own_application(request, application_id)
    if not _authorities(request).filter(application=application).exists():
        raise Http404
    return confirmed(
        request,
        lambda: delete_authorities(application, actor=request.actor),
        form=TypedNameForm(posted(request), name=application.name),
        said=f"The certificate authority of {application.name} is deleted.",
        to=at(request, "ssh_authorities"),
        question=f"Delete the SSH certificate authority of {application.name}?",
        consequences=[
            "No new certificates are signed. Hosts keep trusting the old public key until you take it out of their "
            "ca.pub; certificates already issued work there until they expire, within minutes.",
            "The private key is gone for good. A new authority has another key.",
        ],
        button="Delete certificate authority",
        crumbs=_crumbs(request),
        back=at(request, "ssh_authority_detail", application.pk),
    )


@requires(Permission.ACCESS_EDIT)
@require_POST
def ssh_principal_release(request: OrganizationRequest, claim_id: int) -> HttpResponse:
    claims = PrincipalClaim.objects.for_organization(request.organization)
    claim = find(claims.select_related("application", "identity", "organization"), pk=claim_id)
    application_id, principal = claim.application_id, claim.principal
    with telling(request):
        release_principal(claim, actor=request.actor)
        messages.success(request, f"The account name {principal} is free: the next person it fits may take it.")
    return redirect(at(request, "ssh_authority_detail", application_id))


def _host_files(application: Application) -> dict[str, Any]:
    """Where hosts fetch their two files (access/views/host_files.py), and how: sshd must never see half a list."""
    base = host_files_url(application.organization, application)
    authority = "--cacert edge-ca.pem " if settings.EDGE_CA_FILE else ""
    return {
        "ca_url": f"{base}/ca.pub",
        "krl_url": f"{base}/revoked.krl",
        "krl_line": KRL_LINE,
        "penalties_line": PENALTIES_LINE,
        "script_command": (
            f"curl -fsS {authority}-o host-setup.sh {base}/host-setup.sh\nless host-setup.sh\nsudo sh host-setup.sh"
        ),
        "krl_command": (
            f"curl -fsS {authority}-o /etc/ssh/revoked.new {base}/revoked.krl \\\n"
            "  && ssh-keygen -Q -l -f /etc/ssh/revoked.new >/dev/null \\\n"
            "  && mv /etc/ssh/revoked.new /etc/ssh/revoked.krl"
        ),
        "has_authority_file": bool(settings.EDGE_CA_FILE),
    }


def _hosts(request: OrganizationRequest, application: Application) -> dict[str, int]:
    """How many hosts fetch the files, and how many of them have the newest keys."""
    rows = HostFetch.objects.for_organization(request.organization).filter(application=application)
    recent = rows.filter(last_seen_at__gt=timezone.now() - HOST_SILENT_AFTER)
    counted: dict[str, int] = recent.aggregate(
        seen=Count("pk"), current=Count("pk", filter=Q(ca_sha256=current_ca_digest(application)))
    )
    return counted


def _list(request: OrganizationRequest, form: GenerateForm) -> HttpResponse:
    rows = _authorities(request).filter(state__in=_LIVE).select_related("application").order_by("application__name")
    return show(
        request,
        "access/ssh_authorities.html",
        title="Service Auth",
        form=form,
        listing=list_page(request, rows, search=("application__name", "application__hostname", "fingerprint")),
    )


def _without_authority(request: OrganizationRequest) -> TenantQuerySet[Application]:
    rows = Application.objects.for_organization(request.organization)
    return rows.exclude(Q(ssh_authorities__state__in=_LIVE))[:_MAX_CHOICES]


def _authorities(request: OrganizationRequest) -> TenantQuerySet[SshAuthority]:
    return SshAuthority.objects.for_organization(request.organization)


def _crumbs(request: OrganizationRequest) -> Crumbs:
    return [("Service Auth", at(request, "service_tokens")), ("SSH", at(request, "ssh_authorities"))]
