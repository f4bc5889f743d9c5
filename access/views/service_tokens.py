"""Access, Service Auth, tab Service Tokens. Secrets are shown once, by the answer that made them."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from access.actions.service_tokens import (
    create_service_token,
    delete_service_token,
    refresh_service_token,
    rotate_service_token,
    set_service_token_enabled,
    update_service_token,
)
from access.forms import RotateForm, ServiceTokenForm
from access.models import EXPIRY_WARNING, ServiceToken
from accounts.http import OrganizationRequest, requires
from accounts.pages import Crumbs, at, confirmed, done, find, list_page, posted, refusals, show, telling
from accounts.permissions import Permission

_MAX_NAMED = 20


@requires(Permission.SERVICE_TOKENS_READ)
@require_GET
def service_tokens(request: OrganizationRequest) -> HttpResponse:
    rows = ServiceToken.objects.for_organization(request.organization)
    listing = list_page(request, rows, search=("name", "client_id"))
    now = timezone.now()
    entries = [(token, token.expires_soon(now), token.has_previous_secret(now)) for token in listing]
    ending = rows.filter(enabled=True, expires_at__gt=now, expires_at__lte=now + EXPIRY_WARNING).order_by("expires_at")
    return show(
        request,
        "access/service_tokens.html",
        title="Service Auth",
        listing=listing,
        entries=entries,
        ending=list(ending[:_MAX_NAMED]),
        now=now,
    )


@requires(Permission.SERVICE_TOKENS_EDIT)
@require_http_methods(["GET", "POST"])
def service_token_create(request: OrganizationRequest) -> HttpResponse:
    form = ServiceTokenForm(posted(request))
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            token, secret = create_service_token(request.organization, actor=request.actor, **form.cleaned_data)
            return _secret_page(request, token, secret, "Service token created")
    return _form(request, form, title="Create a service token", button="Generate token")


@requires(Permission.SERVICE_TOKENS_EDIT)
@require_http_methods(["GET", "POST"])
def service_token_edit(request: OrganizationRequest, token_id: UUID) -> HttpResponse:
    token = _token(request, token_id)
    form = ServiceTokenForm(
        posted(request), initial={"name": token.name, "duration_seconds": token.duration_seconds or ""}
    )
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            update_service_token(token, actor=request.actor, **form.cleaned_data)
            return done(request, f"{form.cleaned_data['name']} is saved.", "service_tokens")
    return _form(request, form, title=f"Edit {token.name}", button="Save")


@requires(Permission.SERVICE_TOKENS_EDIT)
@require_POST
def service_token_refresh(request: OrganizationRequest, token_id: UUID) -> HttpResponse:
    token = _token(request, token_id)
    with telling(request):
        refresh_service_token(token, actor=request.actor)
        messages.success(request, f"{token.name} is valid for its full time again, from now.")
    return redirect(at(request, "service_tokens"))


@requires(Permission.SERVICE_TOKENS_EDIT)
@require_http_methods(["GET", "POST"])
def service_token_rotate(request: OrganizationRequest, token_id: UUID) -> HttpResponse:
    token = _token(request, token_id)
    form = RotateForm(posted(request))
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            seconds = form.cleaned_data["overlap_seconds"]
            until = timezone.now() + timedelta(seconds=seconds) if seconds else None
            secret = rotate_service_token(token, actor=request.actor, previous_expires_at=until)
            token.refresh_from_db()
            return _secret_page(request, token, secret, "New secret")
    return _form(
        request,
        form,
        title=f"New secret for {token.name}",
        button="Make a new secret",
        lead="The client ID stays. The new secret is shown once, on the next page. Give it to every machine while the "
        "present one still works.",
    )


@requires(Permission.SERVICE_TOKENS_EDIT)
@require_POST
def service_token_disable(request: OrganizationRequest, token_id: UUID) -> HttpResponse:
    token = _token(request, token_id)
    with telling(request):
        set_service_token_enabled(token, enabled=False, actor=request.actor)
        messages.success(request, f"{token.name} is disabled: its connections are cut, its certificates revoked.")
    return redirect(at(request, "service_tokens"))


@requires(Permission.SERVICE_TOKENS_EDIT)
@require_POST
def service_token_enable(request: OrganizationRequest, token_id: UUID) -> HttpResponse:
    token = _token(request, token_id)
    with telling(request):
        set_service_token_enabled(token, enabled=True, actor=request.actor)
        messages.success(request, f"{token.name} works again, where policies include it.")
    return redirect(at(request, "service_tokens"))


@requires(Permission.SERVICE_TOKENS_EDIT)
@require_http_methods(["GET", "POST"])
def service_token_delete(request: OrganizationRequest, token_id: UUID) -> HttpResponse:
    token = _token(request, token_id)
    return confirmed(
        request,
        lambda: delete_service_token(token, actor=request.actor),
        said=f"{token.name} is deleted.",
        question=f"Delete the service token {token.name}?",
        consequences=[
            "Machines that use it are refused from now on, and their running connections are cut.",
            "This cannot be undone: secrets are never kept. Create a new token instead, or disable this one.",
        ],
        button="Delete service token",
        crumbs=_crumbs(request),
    )


def _secret_page(request: OrganizationRequest, token: ServiceToken, secret: str, title: str) -> HttpResponse:
    return show(
        request,
        "access/service_token_secret.html",
        title=title,
        crumbs=_crumbs(request),
        token=token,
        secret=secret,
        environment=f"TUNNEL_SERVICE_TOKEN_ID={token.client_id}\nTUNNEL_SERVICE_TOKEN_SECRET={secret}",
        headers=f"CF-Access-Client-Id: {token.client_id}\nCF-Access-Client-Secret: {secret}",
    )


def _form(
    request: OrganizationRequest,
    form: ServiceTokenForm | RotateForm,
    *,
    title: str,
    button: str,
    lead: str = "For machines: a client ID and a secret that a Service Auth policy accepts instead of a login.",
) -> HttpResponse:
    return show(
        request,
        "form.html",
        title=title,
        crumbs=_crumbs(request),
        form=form,
        button=button,
        back=at(request, "service_tokens"),
        lead=lead,
    )


def _crumbs(request: OrganizationRequest) -> Crumbs:
    return [("Service Auth", at(request, "service_tokens"))]


def _token(request: OrganizationRequest, token_id: UUID) -> ServiceToken:
    rows = ServiceToken.objects.for_organization(request.organization).select_related("organization")
    return find(rows, pk=token_id)
