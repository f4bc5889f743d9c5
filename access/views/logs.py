"""Logs: access decisions with their trace, certificates; and Settings, Keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from access.actions.certificates import revoke_certificate
from access.log_shapes import ACCESS_BOOK, certificate_book
from access.models import AccessRequest, Certificate, TokenKey
from access.selectors import SELECTORS
from accounts.http import OrganizationRequest, requires
from accounts.log_pages import show_log
from accounts.pages import at, confirmed, find, list_page, show
from accounts.permissions import Permission
from accounts.tenancy import TenantQuerySet


@requires(Permission.LOGS_READ)
@require_GET
def access_log(request: OrganizationRequest) -> HttpResponse:
    return show_log(request, ACCESS_BOOK, AccessRequest.objects.for_organization(request.organization).defer("trace"))


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
    rows = _certificates(request).select_related("application", "identity", "service_token").defer("certificate")
    return show_log(request, certificate_book(request.organization, now), rows, {"now": now})


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
@require_http_methods(["GET", "POST"])
def certificate_revoke(request: OrganizationRequest, certificate_id: UUID) -> HttpResponse:
    rows = _certificates(request).select_related("organization", "application", "identity", "service_token")
    certificate = find(rows, pk=certificate_id)
    holder = certificate.identity or certificate.service_token
    return confirmed(
        request,
        lambda: revoke_certificate(certificate, actor=request.actor),
        said=f"Certificate {certificate.serial} is revoked.",
        question=f"Revoke certificate {certificate.serial} of {holder}?",
        consequences=[
            f"Hosts of {certificate.application.name} that use the revocation list refuse it from their next fetch on.",
            "This cannot be undone, and the holder can ask for another certificate at once: end their sessions or "
            "disable them to stop that.",
        ],
        button="Revoke certificate",
        crumbs=[("Certificates", at(request, "certificates"))],
        back=at(request, "certificate_detail", certificate.pk),
    )


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
            selector = str(entry["selector"])
            steps[-1].rules.append({**entry, "label": _label(selector), "actual": _actual(selector, entry)})
        else:
            steps.append(PolicyStep(entry, []))
    return steps


def _actual(selector: str, entry: dict[str, Any]) -> Any:
    """Of an Access group the trace keeps its name: what its rules found stands in the rows beneath it."""
    if selector != "group" or entry.get("problem"):
        return entry.get("actual")
    return "a member" if entry.get("verdict") == "match" else "not a member"


def _label(selector: str) -> str:
    if selector == "mfa":
        return "Second factor"
    return SELECTORS[selector].label if selector in SELECTORS else selector


def _certificates(request: OrganizationRequest) -> TenantQuerySet[Certificate]:
    return Certificate.objects.for_organization(request.organization)
