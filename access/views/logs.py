"""Logs: access decisions with their trace, certificates; and Settings, Keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from access.actions.certificates import revoke_certificate
from access.models import AccessRequest, Certificate, TokenKey
from access.selectors import SELECTORS
from accounts.http import OrganizationRequest, requires
from accounts.pages import Filter, at, find, list_page, show, telling
from accounts.permissions import Permission
from accounts.tenancy import TenantQuerySet

_ACTIONS = (("login", "Login"), ("connect", "Connection"), ("certificate", "Certificate"), ("cut", "Session cut"))


@requires(Permission.LOGS_READ)
@require_GET
def access_log(request: OrganizationRequest) -> HttpResponse:
    filters = [
        Filter(
            "decision",
            "Decision",
            [("allowed", "Allowed"), ("denied", "Denied")],
            {"allowed": Q(allowed=True), "denied": Q(allowed=False)},
        ),
        Filter("action", "Action", _ACTIONS, {value: Q(action=value) for value, _ in _ACTIONS}),
    ]
    rows = AccessRequest.objects.for_organization(request.organization).order_by("-created_at")
    search = ("email", "application_label", "ray_id", "reason", "ip_address")
    listing = list_page(request, rows, search=search, filters=filters, counted=False)
    return show(request, "access/access_log.html", title="Access log", listing=listing)


@requires(Permission.LOGS_READ)
@require_GET
def access_log_entry(request: OrganizationRequest, request_id: UUID) -> HttpResponse:
    rows = AccessRequest.objects.for_organization(request.organization).select_related("application", "identity")
    entry = find(rows, pk=request_id)
    crumbs = [("Access log", at(request, "access_log"))]
    steps = trace_steps(entry.trace)
    return show(request, "access/access_log_entry.html", title="Decision", crumbs=crumbs, entry=entry, steps=steps)


@requires(Permission.LOGS_READ)
@require_GET
def certificates(request: OrganizationRequest) -> HttpResponse:
    now = timezone.now()
    valid = Q(status=Certificate.Status.ISSUED, revoked_at=None, valid_before__gt=now)
    states = Filter(
        "state",
        "State",
        [("valid", "Valid now"), ("revoked", "Revoked"), ("failed", "Failed")],
        {"valid": valid, "revoked": Q(revoked_at__isnull=False), "failed": Q(status=Certificate.Status.FAILED)},
    )
    rows = _certificates(request).select_related("application", "identity", "service_token").order_by("-created_at")
    search = (
        "serial",
        "key_id",
        "identity__email",
        "service_token__name",
        "application__name",
        "public_key_fingerprint",
    )
    listing = list_page(request, rows, search=search, filters=[states], counted=False)
    return show(request, "access/certificates.html", title="Certificates", listing=listing, now=now)


@requires(Permission.LOGS_READ)
@require_GET
def certificate_detail(request: OrganizationRequest, certificate_id: UUID) -> HttpResponse:
    rows = _certificates(request).select_related("application", "identity", "service_token", "authority")
    certificate = find(rows, pk=certificate_id)
    return show(
        request,
        "access/certificate_detail.html",
        title=f"Certificate {certificate.serial}",
        crumbs=[("Certificates", at(request, "certificates"))],
        certificate=certificate,
        now=timezone.now(),
    )


@requires(Permission.ACCESS_EDIT)
@require_POST
def certificate_revoke(request: OrganizationRequest, certificate_id: UUID) -> HttpResponse:
    certificate = find(_certificates(request).select_related("organization", "application"), pk=certificate_id)
    with telling(request):
        revoke_certificate(certificate, actor=request.actor)
        messages.success(request, f"Certificate {certificate.serial} is revoked.")
    return redirect(at(request, "certificate_detail", certificate.pk))


@requires(Permission.ACCESS_READ)
@require_GET
def token_keys(request: OrganizationRequest) -> HttpResponse:
    rows = TokenKey.objects.for_organization(request.organization).order_by("-created_at").defer("private_sealed")
    return show(
        request,
        "access/token_keys.html",
        title="Keys",
        listing=list_page(request, rows, search=("kid",)),
        jwks_url=f"{request.organization.team_url}/cdn-cgi/access/certs",
    )


@dataclass(frozen=True)
class PolicyStep:
    """One policy of a decision's trace, with the rules that were asked."""

    head: dict[str, Any]
    rules: list[dict[str, Any]]


def trace_steps(trace: Any) -> list[PolicyStep]:
    """The flat trace of access.evaluation, by policy. Entries of another shape stay as they are, as heads."""
    steps: list[PolicyStep] = []
    for entry in trace if isinstance(trace, list) else []:
        if not isinstance(entry, dict):
            continue
        if "selector" in entry and steps:
            label = _label(str(entry["selector"]))
            steps[-1].rules.append({**entry, "label": label})
        else:
            steps.append(PolicyStep(entry, []))
    return steps


def _label(selector: str) -> str:
    if selector == "mfa":
        return "Second factor"
    return SELECTORS[selector].label if selector in SELECTORS else selector


def _certificates(request: OrganizationRequest) -> TenantQuerySet[Certificate]:
    return Certificate.objects.for_organization(request.organization)
