"""Access, Service Auth, tab Service Tokens. Secrets are shown once, by the answer that made them."""

from __future__ import annotations

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
    update_service_token,
)
from access.forms import ServiceTokenForm
from access.models import ServiceToken
from accounts.forms import PlainForm
from accounts.http import OrganizationRequest, requires
from accounts.pages import Crumbs, at, done, find, list_page, posted, refusals, sent_once, show, telling
from accounts.permissions import Permission


@requires(Permission.SERVICE_TOKENS_READ)
@require_GET
def service_tokens(request: OrganizationRequest) -> HttpResponse:
    rows = ServiceToken.objects.for_organization(request.organization)
    listing = list_page(request, rows, search=("name", "client_id"))
    return show(request, "access/service_tokens.html", title="Service Auth", listing=listing, now=timezone.now())


@requires(Permission.SERVICE_TOKENS_EDIT)
@require_http_methods(["GET", "POST"])
@sent_once
def service_token_create(request: OrganizationRequest) -> HttpResponse:
    form = ServiceTokenForm(posted(request))
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            token, secret = create_service_token(request.organization, actor=request.actor, **form.cleaned_data)
            return _secret_page(request, token, secret, "Service token created")
    return _form(request, form, title="Create service token", button="Generate token")


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
@sent_once
def service_token_rotate(request: OrganizationRequest, token_id: UUID) -> HttpResponse:
    token = _token(request, token_id)
    form = PlainForm(posted(request))
    if request.method == "POST":
        with refusals(form):
            secret = rotate_service_token(token, actor=request.actor)
            return _secret_page(request, token, secret, "New secret")
    return show(
        request,
        "confirm.html",
        title="New secret",
        crumbs=_crumbs(request),
        question=f"Make a new secret for {token.name}?",
        consequences=["The present secret stops working at once. The client ID stays. The new secret is shown once."],
        button="Make a new secret",
        back=at(request, "service_tokens"),
        form=form,
    )


@requires(Permission.SERVICE_TOKENS_EDIT)
@require_http_methods(["GET", "POST"])
def service_token_delete(request: OrganizationRequest, token_id: UUID) -> HttpResponse:
    token = _token(request, token_id)
    form = PlainForm(posted(request))
    if request.method == "POST":
        with refusals(form):
            delete_service_token(token, actor=request.actor)
            return done(request, f"{token.name} is deleted.", "service_tokens")
    return show(
        request,
        "confirm.html",
        title="Delete service token",
        crumbs=_crumbs(request),
        question=f"Delete the service token {token.name}?",
        consequences=["Machines that use it are refused from now on, and their running connections are cut."],
        button="Delete service token",
        danger=True,
        back=at(request, "service_tokens"),
        form=form,
    )


def _secret_page(request: OrganizationRequest, token: ServiceToken, secret: str, title: str) -> HttpResponse:
    return show(
        request,
        "access/service_token_secret.html",
        title=title,
        crumbs=_crumbs(request),
        token=token,
        secret=secret,
        headers=f"CF-Access-Client-Id: {token.client_id}\nCF-Access-Client-Secret: {secret}",
    )


def _form(request: OrganizationRequest, form: ServiceTokenForm, *, title: str, button: str) -> HttpResponse:
    return show(
        request,
        "form.html",
        title=title,
        crumbs=_crumbs(request),
        form=form,
        button=button,
        back=at(request, "service_tokens"),
        lead="For machines: a client ID and a secret that a Service Auth policy accepts instead of a login.",
    )


def _crumbs(request: OrganizationRequest) -> Crumbs:
    return [("Service Auth", at(request, "service_tokens"))]


def _token(request: OrganizationRequest, token_id: UUID) -> ServiceToken:
    rows = ServiceToken.objects.for_organization(request.organization).select_related("organization")
    return find(rows, pk=token_id)
