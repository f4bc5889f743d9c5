"""Service Auth, Mutual TLS: roots whose client certificates are accepted on hostnames of the organization."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from access.actions.client_authorities import (
    create_client_authority,
    delete_client_authority,
    set_revocations,
    update_client_authority,
)
from access.forms import ClientAuthorityForm, RevocationForm
from access.models import ClientAuthority, ClientHostname
from accounts.http import OrganizationRequest, requires
from accounts.pages import Crumbs, at, confirmed, done, find, list_page, posted, refusals, show
from accounts.permissions import Permission


@requires(Permission.ACCESS_READ)
@require_GET
def client_authorities(request: OrganizationRequest) -> HttpResponse:
    rows = ClientAuthority.objects.for_organization(request.organization)
    listing = list_page(request, rows, search=("name", "subject"))
    now = timezone.now()
    seconds = now.timestamp()
    return show(
        request,
        "access/client_authorities.html",
        title="Mutual TLS",
        crumbs=_crumbs(request)[:1],
        listing=listing,
        now=now,
        now_seconds=seconds,
    )


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def client_authority_add(request: OrganizationRequest) -> HttpResponse:
    form = ClientAuthorityForm(posted(request))
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            values = form.cleaned_data
            row = create_client_authority(request.organization, actor=request.actor, now=timezone.now(), **values)
            return done(request, f"{row.name} is added.", "client_authorities")
    return _page(request, form, title="Add a client certificate authority")


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def client_authority_edit(request: OrganizationRequest, root_id: UUID) -> HttpResponse:
    row = _own(request, root_id)
    forwarded = _forwarded(request, row.associated_hostnames)
    initial = {
        "name": row.name,
        "certificate": row.certificate + row.intermediates,
        "associated_hostnames": row.associated_hostnames,
        "forwarding": bool(forwarded) and forwarded == set(row.associated_hostnames),
    }
    form = ClientAuthorityForm(posted(request), initial=initial, is_new=False)
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            names = ("name", "associated_hostnames", "forwarding")
            values = {name: form.cleaned_data[name] for name in names}
            update_client_authority(row, actor=request.actor, **values)
            return done(request, f"{form.cleaned_data['name']} is saved.", "client_authorities")
    return _page(request, form, title=f"Edit {row.name}")


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def client_authority_delete(request: OrganizationRequest, root_id: UUID) -> HttpResponse:
    row = _own(request, root_id)
    return confirmed(
        request,
        lambda: delete_client_authority(row, actor=request.actor),
        said=f"{row.name} is deleted.",
        question=f"Delete {row.name}?",
        consequences=["Client certificates signed by it open nothing any more; running sessions are cut in seconds."],
        button="Delete authority",
        can_undo=True,
        title="Delete client certificate authority",
        crumbs=_crumbs(request),
    )


@requires(Permission.ACCESS_EDIT)
@require_http_methods(["GET", "POST"])
def client_authority_revocations(request: OrganizationRequest, root_id: UUID) -> HttpResponse:
    row = _own(request, root_id)
    form = RevocationForm(posted(request))
    if request.method == "POST" and form.is_valid():
        with refusals(form):
            set_revocations(row, actor=request.actor, now=timezone.now(), **form.cleaned_data)
            return done(request, f"The revocation lists of {row.name} are saved.", "client_authorities")
    back = at(request, "client_authorities")
    return show(
        request,
        "access/client_authority_form.html",
        title=f"Revocation lists of {row.name}",
        crumbs=_crumbs(request),
        form=form,
        back=back,
        button="Save lists",
        lists=[
            (entry, datetime.fromtimestamp(entry["next_update"], tz=UTC), len(entry["serials"]))
            for entry in row.revocations
        ],
    )


def _forwarded(request: OrganizationRequest, hostnames: list[str]) -> set[str]:
    rows = ClientHostname.objects.for_organization(request.organization)
    return set(
        rows.filter(hostname__in=hostnames, client_certificate_forwarding=True).values_list("hostname", flat=True)
    )


def _own(request: OrganizationRequest, root_id: UUID) -> ClientAuthority:
    rows = ClientAuthority.objects.for_organization(request.organization).select_related("organization")
    return find(rows, pk=root_id)


def _page(request: OrganizationRequest, form: ClientAuthorityForm, *, title: str) -> HttpResponse:
    back = at(request, "client_authorities")
    return show(
        request, "access/client_authority_form.html", title=title, crumbs=_crumbs(request), form=form, back=back
    )


def _crumbs(request: OrganizationRequest) -> Crumbs:
    return [("Service Auth", at(request, "service_tokens")), ("Mutual TLS", at(request, "client_authorities"))]
